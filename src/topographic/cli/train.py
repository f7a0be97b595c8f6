"""`topo train`: from a recipe to a run folder."""

from pathlib import Path
from typing import Any

from topographic.runs.recipe import Recipe

__all__ = ["Recipe", "train"]


def train(command: Recipe) -> Path:
    """Train, or go on where an interrupted run stopped, and say what comes next."""
    from topographic.runs.building import train_model

    folder, model = train_model(command)
    words = "" if command.counted == "images" else _sites_to_map(command, model)
    print(f"finished: {folder}; next: topo map {folder}{words}")
    return folder


def _sites_to_map(command: Recipe, model: Any) -> str:
    """Words that `topo map` needs for a model that carries no sheets, where its configuration names none."""
    from topographic.recording import FIRST_MLP_LAYERS
    from topographic.runs.own_sheets import OwnSections, trained_sites

    carried = hasattr(model, "sheets") and model.sheets()
    if carried or trained_sites(model, OwnSections(command.spatial, command.smoothness)) is not None:
        return ""
    return f" sites='{FIRST_MLP_LAYERS.get(model.config.model_type, 'PATTERN')}'"
