"""One cell of a sweep: train it, map it, measure weights and grammar; whatever is there already is left as it is."""

import os
from pathlib import Path
from typing import Any

import torch

from topographic.objectives.weight_terms import WeightSmoothness
from topographic.runs.building import train_model
from topographic.runs.loading import load_model, load_vision_model
from topographic.runs.own_sheets import own_weight_sheets
from topographic.storage import load_json, locked, save_json
from topographic.sweeps.measure import CellMaps, check_maps, map_cell, missing_maps
from topographic.sweeps.plan import Cell

__all__ = ["check_measures", "is_finished", "is_trained", "load_pairs", "load_weights", "run_cell"]


def check_measures(cell: Cell, maps: CellMaps, pairs: str | None) -> None:
    """Refuse what the models of a sweep cannot be measured with, before any is trained."""
    if pairs is not None and cell.recipe.counted == "images":
        raise ValueError(
            f"pairs={pairs!r} and images.name={cell.recipe.images.name!r}; vision models read no pairs: leave pairs out"
        )
    check_maps(cell, maps)


def run_cell(cell: Cell, maps: CellMaps, pairs: str | None) -> None:
    """Train, map and measure one cell in this process."""
    if "RANK" in os.environ:  # torchrun trains with several processes, one of them measures
        if not is_trained(cell):
            train_model(cell.recipe)
        if os.environ["RANK"] == "0":
            _measure(cell, maps, pairs)
        return
    # a second sweep in the same folder waits here, and then finds nothing left to do
    with locked(cell.folder.with_name(f"{cell.name}.cell"), wait=True):
        if not is_trained(cell):
            train_model(cell.recipe)
        _measure(cell, maps, pairs)


def _measure(cell: Cell, maps: CellMaps, pairs: str | None) -> None:
    for fwhm_mm in maps.fwhm_mm:
        missing = missing_maps(cell, maps, fwhm_mm)
        if missing:
            map_cell(cell, maps, fwhm_mm, missing)
    if load_weights(cell) is None:
        _measure_weights(cell)
    if pairs is not None and load_pairs(cell, pairs) is None:
        _measure_pairs(cell, pairs, maps.batch_size)


def is_trained(cell: Cell) -> bool:
    """Whether a cell's training is finished."""
    record = cell.folder / "run.json"
    return record.is_file() and load_json(record).get("status") == "finished"


def load_weights(cell: Cell) -> float | None:
    """How rough the trained weights are, if that was measured."""
    path = cell.folder / "weights.json"
    return load_json(path)["mean"] if path.is_file() else None


def load_pairs(cell: Cell, pairs: str) -> dict[str, Any] | None:
    """Accuracy on minimal pairs, if it was measured."""
    path = pairs_file(cell)
    content = load_json(path) if path.is_file() else {}
    return content if content.get("pairs") == pairs else None


def pairs_file(cell: Cell) -> Path:
    """Where accuracies are kept."""
    return cell.folder / "minimal_pairs.json"


def is_finished(cell: Cell, maps: CellMaps, pairs: str | None) -> bool:
    """Whether nothing is left to do for a cell."""
    mapped = is_trained(cell) and not any(missing_maps(cell, maps, fwhm_mm) for fwhm_mm in maps.fwhm_mm)
    weighed = not cell.recipe.smoothness.names_layers or load_weights(cell) is not None
    return mapped and weighed and (pairs is None or load_pairs(cell, pairs) is not None)


def _measure_weights(cell: Cell) -> None:
    """The loss of the sheets that the recipe names, of a control too, which is not trained for it."""
    smoothness = cell.recipe.smoothness
    if not smoothness.names_layers:
        return
    model = load_vision_model(cell.folder)[0] if cell.recipe.counted == "images" else load_model(cell.folder)[0]
    with torch.no_grad():
        losses = WeightSmoothness(own_weight_sheets(model, smoothness)).losses(model)
    sheets = {site: loss.item() for site, loss in losses.items()}
    save_json(cell.folder / "weights.json", {"mean": sum(sheets.values()) / len(sheets), "sheets": sheets})


def _measure_pairs(cell: Cell, pairs: str, batch_size: int) -> None:
    from topographic.behaviour import minimal_pairs
    from topographic.stimuli import load_minimal_pairs

    model, tokenizer = load_model(cell.folder)
    shown = load_minimal_pairs(pairs)
    scores = minimal_pairs(model, tokenizer, shown, batch_size=batch_size)
    save_json(
        pairs_file(cell),
        {
            "pairs": pairs,
            "checksum": shown.checksum,
            "overall": scores.overall(),
            "phenomena": scores.by_phenomenon(),
        },
    )
