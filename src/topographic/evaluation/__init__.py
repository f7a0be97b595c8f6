"""What a paper measures: a subject, suites of parts, results that are kept under a key.

Names are fetched when they are first used, so that the choices of a command are read without loading torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topographic.evaluation.brain_score import brain_score_subject
    from topographic.evaluation.choices import Choices, MapChoices, Shown
    from topographic.evaluation.contrasts import contrast
    from topographic.evaluation.evaluating import evaluate, evaluate_subject, subject_of
    from topographic.evaluation.mapping import make_maps
    from topographic.evaluation.parts.patches import patch_lesions, patch_steering
    from topographic.evaluation.results import Findings, NotMeasurable, Results, Table

__all__ = [
    "Choices",
    "Findings",
    "MapChoices",
    "NotMeasurable",
    "Results",
    "Shown",
    "Table",
    "brain_score_subject",
    "contrast",
    "evaluate",
    "evaluate_subject",
    "make_maps",
    "patch_lesions",
    "patch_steering",
    "subject_of",
]

_FILES = {
    "brain_score": ("brain_score_subject",),
    "choices": ("Choices", "MapChoices", "Shown"),
    "contrasts": ("contrast",),
    "evaluating": ("evaluate", "evaluate_subject", "subject_of"),
    "mapping": ("make_maps",),
    "parts.patches": ("patch_lesions", "patch_steering"),
    "results": ("Findings", "NotMeasurable", "Results", "Table"),
}


def __getattr__(name: str) -> Any:
    """Import the file that holds a name."""
    for file, names in _FILES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
