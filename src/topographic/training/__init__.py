"""Making a model topographic with transformers' Trainer.

Names are fetched when they are first used, so that reading a configuration loads neither torch nor Trainer. The names
of `topographic.objectives` are here too, because a recipe and an objective are usually wanted together.
"""

import importlib
from typing import TYPE_CHECKING, Any

from topographic import objectives

if TYPE_CHECKING:
    from topographic.objectives import (
        SCHEDULES,
        Draw,
        Objective,
        SmoothnessConfig,
        SpatialConfig,
        SpatialCorrelation,
        Term,
        WeightSheet,
        WeightSheetConfig,
        WeightSmoothness,
        check_finite,
        configured_objective,
        configured_weight_sheets,
        cosine_schedule,
        linear_schedule,
        smoothness_term,
        spatial_term,
    )
    from topographic.training.config import DataConfig, ImageConfig, RunConfig, TrainingConfig
    from topographic.training.finetuning.classifiers import load_classifier
    from topographic.training.finetuning.fine_tune import LabelledSplits, fine_tune, open_task, whole_epochs
    from topographic.training.finetuning.glue import TASKS, Task
    from topographic.training.finetuning.labelled import LabelledDataConfig, LabelledItems, read_labelled
    from topographic.training.finetuning.scores import METRICS, Score, score
    from topographic.training.folder import RunState, run_state
    from topographic.training.images import LabelledImages, load_image_split, open_images, train_on_images
    from topographic.training.material import Material
    from topographic.training.run import train, train_on
    from topographic.training.text.data import PackedTokens, Tokens, prepare_tokens
    from topographic.training.text.tokenizer import load_tokenizer, train_tokenizer
    from topographic.training.trainer import TopographicTrainer

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
    "RunState",
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
    "load_image_split",
    "load_tokenizer",
    "open_images",
    "open_task",
    "prepare_tokens",
    "read_labelled",
    "run_state",
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
    "text.data": ("PackedTokens", "Tokens", "prepare_tokens"),
    "text.tokenizer": ("load_tokenizer", "train_tokenizer"),
    "config": ("DataConfig", "ImageConfig", "RunConfig", "TrainingConfig"),
    "folder": ("RunState", "run_state"),
    "images": ("LabelledImages", "load_image_split", "open_images", "train_on_images"),
    "finetuning.classifiers": ("load_classifier",),
    "finetuning.fine_tune": ("LabelledSplits", "fine_tune", "open_task", "whole_epochs"),
    "finetuning.glue": ("TASKS", "Task"),
    "finetuning.labelled": ("LabelledDataConfig", "LabelledItems", "read_labelled"),
    "finetuning.scores": ("METRICS", "Score", "score"),
    "material": ("Material",),
    "run": ("train", "train_on"),
    "trainer": ("TopographicTrainer",),
}


def __getattr__(name: str) -> Any:
    """Import the file that holds a name."""
    for file, names in _FILES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{file}"), name)
    if name in __all__:
        return getattr(objectives, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
