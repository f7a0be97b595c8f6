"""One cell of a sweep: train it, map it, measure weights and grammar; what is there under its key is left as it is."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from topographic.behaviour.minimal_pairs import minimal_pairs
from topographic.evaluation.mapping import (
    KINDS,
    Contrast,
    Mapped,
    ModelKind,
    check_choices,
    decided_by,
    is_kept,
    make_maps,
    map_folder,
)
from topographic.maps.summary import MapSummary
from topographic.objectives.weight_terms import WeightSmoothness
from topographic.recording import vision_layers
from topographic.runs.building import train_model
from topographic.runs.loading import load_model, load_vision_model, sites_and_layout
from topographic.runs.own_sheets import own_weight_sheets
from topographic.runs.recipe import Recipe
from topographic.stimuli import StimulusSet, load_minimal_pairs
from topographic.storage import code_version, digest, load_json, locked, save_json, sha256_of_file
from topographic.sweeps.choices import CellMaps, Mechanisms
from topographic.sweeps.mechanisms import laid_out_sheets, measure_mechanism
from topographic.sweeps.plan import Cell
from topographic.training.config import plain
from topographic.training.text.data import prepare_tokens

__all__ = [
    "Measures",
    "check_measures",
    "is_finished",
    "is_trained",
    "load_mechanisms",
    "load_pairs",
    "load_summary",
    "load_weights",
    "maps_folder",
    "run_cell",
    "save_checksums",
]

# sections that may say where units lie
_SAYS_WHERE = ("spatial", "smoothness", "neighbor_activations", "neighbor_weights")


@dataclass(frozen=True, eq=False)
class Measures:
    """What is measured on every cell, and what is shown for it, loaded when it is first needed.

    Parameters
    ----------
    maps : CellMaps
        Which maps.
    pairs : str, optional
        Minimal pairs, as `load_minimal_pairs` takes them.
    mechanisms : Mechanisms
        What is measured where mechanisms are compared.

    Examples
    --------
    >>> list(Measures(CellMaps(contrasts=["syntax"])).contrasts(Recipe()))
    ['sentences-words']
    """

    maps: CellMaps = field(default_factory=CellMaps)
    pairs: str | None = None
    mechanisms: Mechanisms = field(default_factory=Mechanisms)
    _checksums: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)

    @functools.cached_property
    def shown_pairs(self) -> StimulusSet | None:
        """The minimal pairs."""
        return None if self.pairs is None else load_minimal_pairs(self.pairs)

    def contrasts(self, recipe: Recipe) -> dict[str, Contrast]:
        """Contrasts of which maps are made, those of `topo map` by default, by their names in tables."""
        kind = _kind(recipe)
        found = {word: KINDS[kind].contrasts[word] for word in self.maps.contrasts or KINDS[kind].defaults}
        return {word if kind == "vision" else one.name: one for word, one in found.items()}

    def checksum(self, kind: ModelKind, stimuli: str) -> str:
        """Checksum of a stimulus set as it is today."""
        if (kind, stimuli) not in self._checksums:
            shown = KINDS[kind].show(stimuli, self.maps)
            self._checksums[kind, stimuli] = getattr(shown, "stimuli", shown).checksum
        return self._checksums[kind, stimuli]


def check_measures(cell: Cell, measures: Measures) -> None:
    """Refuse what the models of a sweep cannot be measured with, before any is trained."""
    kind, pairs = _kind(cell.recipe), measures.shown_pairs
    if pairs is not None and kind == "vision":
        raise ValueError(
            f"pairs={measures.pairs!r} and images.name={cell.recipe.images.name!r}; vision models read no pairs: leave "
            "pairs out"
        )
    if measures.mechanisms.is_on and (kind == "vision" or cell.recipe.data.validation_fraction == 0):
        raise ValueError(
            "mechanisms.sites are named; mechanisms are compared between language models with held-out text: leave "
            "them out, or set data.validation_fraction above 0"
        )
    check_choices(measures.maps, kind, cell.folder)


def run_cell(cell: Cell, measures: Measures) -> None:
    """Train, map and measure one cell in this process; what is there under its key stays as it is.

    Parameters
    ----------
    cell : Cell
        One of the cells that `plan_sweep` returns.
    measures : Measures
        What is measured on all of them.

    Raises
    ------
    ValueError, OSError, FloatingPointError
        As `train_model`, `make_maps` and `minimal_pairs` say; nothing of a failure is kept.
    """
    if "RANK" in os.environ and not is_trained(cell):
        train_model(cell.recipe)  # torchrun trains with several processes, and training itself locks the run
    if os.environ.get("RANK", "0") != "0":
        return
    # a second sweep in the same folder waits here, and then finds nothing left to do; training locks the run folder
    # as well, another file and always after this one, so that nobody waits for somebody who waits
    with locked(cell.folder.with_name(f"{cell.name}.cell"), wait=True):
        if not is_trained(cell):
            train_model(cell.recipe)
        if not is_finished(cell, measures):
            _measure(cell, measures)


def is_trained(cell: Cell) -> bool:
    """Whether a cell's training is finished."""
    record = cell.folder / "run.json"
    return record.is_file() and load_json(record).get("status") == "finished"


def is_finished(cell: Cell, measures: Measures) -> bool:
    """Whether nothing is left to do for a cell."""
    if not is_trained(cell) or _checksums(cell) is None:
        return False
    contrasts = measures.contrasts(cell.recipe).values()
    mapped = all(_is_mapped(cell, measures, one, width) for one in contrasts for width in measures.maps.fwhm_mm)
    weighed = not cell.recipe.smoothness.names_layers or load_weights(cell) is not None
    compared = not measures.mechanisms.is_on or load_mechanisms(cell, measures) is not None
    return mapped and weighed and compared and (measures.pairs is None or load_pairs(cell, measures) is not None)


def maps_folder(run: str | Path, fwhm_mm: float) -> Path:
    """Where the maps of one readout are kept."""
    folder = Path(run) / "maps"
    return folder / f"fwhm_{fwhm_mm:g}" if fwhm_mm else folder


def load_summary(cell: Cell, measures: Measures, contrast: Contrast, fwhm_mm: float) -> MapSummary | None:
    """Numbers of one contrast, if they were measured as the sweep asks, on this model and what is shown today."""
    if not _is_mapped(cell, measures, contrast, fwhm_mm):
        return None
    return MapSummary.from_json(load_json(map_folder(maps_folder(cell.folder, fwhm_mm), contrast) / "summary.json"))


def load_weights(cell: Cell) -> float | None:
    """How rough the trained weights are, if that was measured."""
    content = _load(cell.folder / "weights.json", _weights_key(cell))
    return None if content is None else content["mean"]


def load_pairs(cell: Cell, measures: Measures) -> dict[str, Any] | None:
    """Accuracy on minimal pairs, if it was measured on these very pairs."""
    return _load(cell.folder / "minimal_pairs.json", _pairs_key(cell, measures))


def load_mechanisms(cell: Cell, measures: Measures) -> dict[str, dict[str, float]] | None:
    """Numbers of the model as it was trained ("trained") and, where that was asked for, laid out afterwards."""
    return _load(cell.folder / "mechanisms.json", _mechanisms_key(cell, measures))


def save_checksums(cell: Cell, model: Mapping[str, str]) -> None:
    """Note the checksums of weights, reader and sheets that `make_maps` took of a cell's model."""
    save_json(cell.folder / "identity.json", {"key": _identity_key(cell), "model": dict(model)})


def _measure(cell: Cell, measures: Measures) -> None:
    """Whatever has another key than it should have; all of it is written when it is there, so no failure is kept."""
    recipe, kind = cell.recipe, _kind(cell.recipe)
    made: list[Mapped] = []
    model, reader = load_vision_model(cell.folder) if kind == "vision" else load_model(cell.folder)
    sites = sites_and_layout(model, cell.folder, default=vision_layers if kind == "vision" else None)
    for fwhm_mm in measures.maps.fwhm_mm:
        folder = maps_folder(cell.folder, fwhm_mm)
        make_maps(model, reader, kind, *sites, measures.maps.at(fwhm_mm), folder, tell=made.append)
    save_checksums(cell, made[0].decided_by["model"])
    if recipe.smoothness.names_layers and load_weights(cell) is None:
        # the sheets that the recipe names, of a control too, which is not trained for them
        with torch.no_grad():
            losses = WeightSmoothness(own_weight_sheets(model, recipe.smoothness)).losses(model)
        sheets = {site: loss.item() for site, loss in losses.items()}
        mean = sum(sheets.values()) / len(sheets)
        save_json(cell.folder / "weights.json", {"key": _weights_key(cell), "mean": mean, "sheets": sheets})
    if measures.mechanisms.is_on and load_mechanisms(cell, measures) is None:
        compared = _compared(cell, measures.mechanisms, model, reader)
        save_json(cell.folder / "mechanisms.json", {"key": _mechanisms_key(cell, measures), **compared})
    if measures.shown_pairs is not None and load_pairs(cell, measures) is None:
        scores = minimal_pairs(model, reader, measures.shown_pairs, batch_size=measures.maps.batch_size)
        found = {"overall": scores.overall(), "phenomena": scores.by_phenomenon()}
        about = {"pairs": measures.pairs, "checksum": measures.shown_pairs.checksum}
        save_json(cell.folder / "minimal_pairs.json", {"key": _pairs_key(cell, measures), **about, **found})


def _compared(cell: Cell, choices: Mechanisms, model: Any, reader: Any) -> dict[str, dict[str, float]]:
    """Numbers of a trained model and, where its block is named for that, of the same laid out afterwards."""
    tokens, n_windows = prepare_tokens(cell.recipe.data, reader), choices.n_windows
    if tokens.validation is None:
        raise ValueError(f"cell {cell.name}: no text is held out; set data.validation_fraction above 0")
    held_out = [tokens.validation[index] for index in range(min(n_windows, len(tokens.validation)))]
    found = {"trained": measure_mechanism(model, reader, held_out, choices)}
    if cell.label in choices.laid_out:
        shown = [tokens.train[index] for index in range(min(4 * n_windows, len(tokens.train)))]
        sheets = laid_out_sheets(model, shown, list(choices.sites.values()))
        found["laid out"] = measure_mechanism(model, reader, held_out, choices, sheets=sheets)
    return found


def _kind(recipe: Recipe) -> ModelKind:
    return "vision" if recipe.counted == "images" else "language"


def _load(file: Path, key: str | None) -> dict[str, Any] | None:
    """What was kept under just this key."""
    content = load_json(file) if key is not None and file.is_file() else {}
    return content if content.get("key") == key and content else None


def _checksums(cell: Cell) -> dict[str, str] | None:
    """What `save_checksums` noted, if it was of these very files."""
    content = _load(cell.folder / "identity.json", _identity_key(cell))
    return None if content is None else content["model"]


def _identity_key(cell: Cell) -> str:
    """What decides these checksums: files stand for the model, so that a sweep need not load it to know its cells."""
    files = sorted(path for path in (cell.folder / "model").glob("*") if path.is_file())
    sums = {path.name: _sha256(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files}
    sheets = [plain(getattr(cell.recipe, name)) for name in _SAYS_WHERE]
    return digest([code_version("topographic.runs.loading"), sums, sheets])


@functools.cache
def _sha256(path: Path, _size: int, _changed_ns: int) -> str:
    return sha256_of_file(path)


def _is_mapped(cell: Cell, measures: Measures, contrast: Contrast, fwhm_mm: float) -> bool:
    model, folder = _checksums(cell), map_folder(maps_folder(cell.folder, fwhm_mm), contrast)
    if model is None or not folder.is_dir():
        return False
    shown = measures.checksum(_kind(cell.recipe), contrast.stimuli)
    return is_kept(folder, decided_by(model, shown, contrast, measures.maps.at(fwhm_mm)))


def _weights_key(cell: Cell) -> str | None:
    model, code = _checksums(cell), code_version("topographic.runs.own_sheets")
    return None if model is None else digest([code, model, plain(cell.recipe.smoothness)])


def _pairs_key(cell: Cell, measures: Measures) -> str | None:
    model, shown, code = _checksums(cell), measures.shown_pairs, code_version("topographic.behaviour.minimal_pairs")
    decided = None if model is None or shown is None else [code, model, shown.checksum, measures.maps.batch_size]
    return None if decided is None else digest(decided)


def _mechanisms_key(cell: Cell, measures: Measures) -> str | None:
    model, code = _checksums(cell), code_version("topographic.sweeps.mechanisms")
    choices = dataclasses.asdict(measures.mechanisms)
    choices["laid_out"] = cell.label in measures.mechanisms.laid_out
    return None if model is None else digest([code, model, choices, plain(cell.recipe.data)])
