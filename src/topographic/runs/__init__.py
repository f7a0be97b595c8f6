"""A run folder: its recipe, its model, its state.

Names are fetched when they are first used, so that reading a recipe does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topographic.runs.building import train_model, trained
    from topographic.runs.loading import (
        kind_of,
        load,
        load_diffusion_model,
        load_model,
        load_speech_encoder,
        load_tokenizer,
        load_vision_model,
        sites_and_layout,
    )
    from topographic.runs.recipe import DiffusionSection, ModelConfig, Recipe, read_recipe, write_recipe

__all__ = [
    "DiffusionSection",
    "ModelConfig",
    "Recipe",
    "kind_of",
    "load",
    "load_diffusion_model",
    "load_model",
    "load_speech_encoder",
    "load_tokenizer",
    "load_vision_model",
    "read_recipe",
    "sites_and_layout",
    "train_model",
    "trained",
    "write_recipe",
]

_FILES = {
    "building": ("train_model", "trained"),
    "loading": (
        "kind_of",
        "load",
        "load_diffusion_model",
        "load_model",
        "load_speech_encoder",
        "load_tokenizer",
        "load_vision_model",
        "sites_and_layout",
    ),
    "recipe": ("DiffusionSection", "ModelConfig", "Recipe", "read_recipe", "write_recipe"),
}


def __getattr__(name: str) -> Any:
    """Import the file that holds a name."""
    for file, names in _FILES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
