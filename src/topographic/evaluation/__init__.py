"""What a paper measures: a subject, suites of parts, results that are kept under a key."""

from topographic.evaluation.choices import Choices, Shown
from topographic.evaluation.evaluate import evaluate, subject_of
from topographic.evaluation.mapping import MapChoices, make_maps
from topographic.evaluation.results import Findings, NotMeasurable, Results, Table

__all__ = [
    "Choices",
    "Findings",
    "MapChoices",
    "NotMeasurable",
    "Results",
    "Shown",
    "Table",
    "evaluate",
    "make_maps",
    "subject_of",
]
