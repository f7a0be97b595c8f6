"""What a paper measures: a subject, suites of parts, results that are kept under a key."""

from topographic.evaluation.choices import Choices, Shown
from topographic.evaluation.evaluate import evaluate, subject_of
from topographic.evaluation.results import Findings, NotMeasurable, Results, Table

__all__ = [
    "Choices",
    "Findings",
    "NotMeasurable",
    "Results",
    "Shown",
    "Table",
    "evaluate",
    "subject_of",
]
