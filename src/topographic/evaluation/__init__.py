"""What a paper measures: a subject, suites of parts, results that are kept under a key."""

from topographic.evaluation.choices import Choices, Shown
from topographic.evaluation.evaluate import evaluate, subject_of
from topographic.evaluation.results import Findings, NotMeasurable, Picture, Results, Table
from topographic.evaluation.subject import LanguageSubject, VisionSubject

__all__ = [
    "Choices",
    "Findings",
    "LanguageSubject",
    "NotMeasurable",
    "Picture",
    "Results",
    "Shown",
    "Table",
    "VisionSubject",
    "evaluate",
    "subject_of",
]
