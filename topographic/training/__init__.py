"""Making a model topographic.

Names are fetched when they are first used, so that somebody with a training loop of their own can import
`Objective` without transformers' Trainer coming along.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topographic.training.config import DataConfig, RunConfig, SpatialConfig, TrainingConfig
    from topographic.training.data import PackedTokens, Tokens, prepare_tokens
    from topographic.training.objective import Draw, Objective, SpatialCorrelation, Term, check_finite
    from topographic.training.run import spatial_objective, train
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
    "SCHEDULES",
    "DataConfig",
    "Draw",
    "Objective",
    "PackedTokens",
    "RunConfig",
    "SpatialConfig",
    "SpatialCorrelation",
    "Term",
    "Tokens",
    "TopographicTrainer",
    "TrainingConfig",
    "WeightSheet",
    "WeightSmoothness",
    "check_finite",
    "cosine_schedule",
    "linear_schedule",
    "load_tokenizer",
    "prepare_tokens",
    "spatial_objective",
    "train",
    "train_tokenizer",
]

_FILES = {
    "config": ("DataConfig", "RunConfig", "SpatialConfig", "TrainingConfig"),
    "data": ("PackedTokens", "Tokens", "prepare_tokens"),
    "objective": ("Draw", "Objective", "SpatialCorrelation", "Term", "check_finite"),
    "run": ("spatial_objective", "train"),
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
