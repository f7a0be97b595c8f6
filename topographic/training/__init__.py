"""Making a model topographic.

Names are fetched when they are first used, so that somebody with a training loop of their own can import
`Objective` without transformers' Trainer coming along.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topographic.training.classifiers import load_classifier
    from topographic.training.config import (
        DataConfig,
        ImageConfig,
        RunConfig,
        SmoothnessConfig,
        SpatialConfig,
        TrainingConfig,
        WeightSheetConfig,
    )
    from topographic.training.data import PackedTokens, Tokens, prepare_tokens
    from topographic.training.finetuning import LabelledSplits, fine_tune, open_task, whole_epochs
    from topographic.training.finite import check_finite
    from topographic.training.glue import TASKS, Task
    from topographic.training.images import LabelledImages, open_images, train_on_images
    from topographic.training.labelled import LabelledDataConfig, LabelledItems, read_labelled
    from topographic.training.material import Material
    from topographic.training.objective import Draw, Objective, SpatialCorrelation, Term
    from topographic.training.run import train, train_on
    from topographic.training.scores import METRICS, Score, score
    from topographic.training.terms import (
        configured_objective,
        configured_weight_sheets,
        smoothness_term,
        spatial_term,
    )
    from topographic.training.tokenizer import load_tokenizer, train_tokenizer
    from topographic.training.trainer import TopographicTrainer
    from topographic.training.weight_terms import (
        SCHEDULES,
        WeightSheet,
        WeightSmoothness,
        cosine_schedule,
        linear_schedule,
    )

__all__ = [
    "METRICS",
    "SCHEDULES",
    "TASKS",
    "DataConfig",
    "Draw",
    "ImageConfig",
    "LabelledDataConfig",
    "LabelledImages",
    "LabelledItems",
    "LabelledSplits",
    "Material",
    "Objective",
    "PackedTokens",
    "RunConfig",
    "Score",
    "SmoothnessConfig",
    "SpatialConfig",
    "SpatialCorrelation",
    "Task",
    "Term",
    "Tokens",
    "TopographicTrainer",
    "TrainingConfig",
    "WeightSheet",
    "WeightSheetConfig",
    "WeightSmoothness",
    "check_finite",
    "configured_objective",
    "configured_weight_sheets",
    "cosine_schedule",
    "fine_tune",
    "linear_schedule",
    "load_classifier",
    "load_tokenizer",
    "open_images",
    "open_task",
    "prepare_tokens",
    "read_labelled",
    "score",
    "smoothness_term",
    "spatial_term",
    "train",
    "train_on",
    "train_on_images",
    "train_tokenizer",
    "whole_epochs",
]

_FILES = {
    "classifiers": ("load_classifier",),
    "config": (
        "DataConfig",
        "ImageConfig",
        "RunConfig",
        "SmoothnessConfig",
        "SpatialConfig",
        "TrainingConfig",
        "WeightSheetConfig",
    ),
    "data": ("PackedTokens", "Tokens", "prepare_tokens"),
    "images": ("LabelledImages", "open_images", "train_on_images"),
    "finite": ("check_finite",),
    "objective": ("Draw", "Objective", "SpatialCorrelation", "Term"),
    "finetuning": ("LabelledSplits", "fine_tune", "open_task", "whole_epochs"),
    "glue": ("TASKS", "Task"),
    "labelled": ("LabelledDataConfig", "LabelledItems", "read_labelled"),
    "material": ("Material",),
    "run": ("train", "train_on"),
    "scores": ("METRICS", "Score", "score"),
    "terms": ("configured_objective", "configured_weight_sheets", "smoothness_term", "spatial_term"),
    "tokenizer": ("load_tokenizer", "train_tokenizer"),
    "trainer": ("TopographicTrainer",),
    "weight_terms": ("SCHEDULES", "WeightSheet", "WeightSmoothness", "cosine_schedule", "linear_schedule"),
}


def __getattr__(name: str) -> Any:
    """Import the file that holds a name."""
    for file, names in _FILES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
