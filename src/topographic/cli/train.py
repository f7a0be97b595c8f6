"""`topo train`: from a recipe to a run folder."""

import shlex
from pathlib import Path
from typing import Any

from topographic.runs.recipe import Recipe

__all__ = ["Recipe", "train"]


def train(command: Recipe) -> Path:
    """Train, or go on where an interrupted run stopped, and say what comes next."""
    from topographic.runs.building import train_model

    _require_folder(command.run)
    folder, model = train_model(command)
    words = "" if command.counted == "images" else _sites_to_map(command, model)
    command_word = "map" if command.diffusion.condition is None else "sample"
    print(f"finished: {folder}; next: topo {command_word} {shlex.quote(str(folder))}{words}")
    return folder


def _require_folder(run: str) -> None:
    """Refuse a text where a folder for the run is meant: what is said first is the run."""
    from topographic.training.text.corpus import READERS

    if not run:
        return  # which is refused with the folders
    path, texts = Path(run), tuple(READERS)
    advice = f"expected a folder for the run; if it is the text, say data.text={shlex.quote(run)}"
    if path.is_file() or path.name.lower().removesuffix(".gz").endswith(texts):
        raise ValueError(f"run={run} is a file; {advice}")
    is_run = any((path / name).exists() for name in ("config.yaml", "run.json", "model"))
    if path.is_dir() and not is_run and any(file.name.lower().endswith(texts) for file in path.iterdir()):
        raise ValueError(f"run={run} is a folder of texts; {advice}")


def _sites_to_map(command: Recipe, model: Any) -> str:
    """Words that `topo map` needs for a model that carries no sheets, where its configuration names none."""
    from topographic.recording import FIRST_MLP_LAYERS, suggested_sites
    from topographic.runs.own_sheets import OwnSections, trained_sites

    carried = hasattr(model, "sheets") and model.sheets()
    neighbors = (command.neighbor_activations, command.neighbor_weights)
    own = OwnSections(command.spatial, command.smoothness, None, *neighbors)
    if carried or trained_sites(model, own) is not None:
        return ""
    return f" sites={shlex.quote(FIRST_MLP_LAYERS.get(model.config.model_type) or suggested_sites(model))}"
