"""`topo map`: the maps of a trained run, or of any model laid out on sheets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from topographic.evaluation.mapping import KINDS, MapChoices, Mapped, ModelKind, check_choices, make_maps
from topographic.layouts import is_layout
from topographic.maps import MapSummary
from topographic.recording import vision_layers
from topographic.runs.folder import require_finished
from topographic.runs.loading import kind_of, load_model, load_vision_model, sites_and_layout

__all__ = ["MapCommand", "map_model"]


@dataclass(frozen=True)
class _Source:
    """The first word of the command."""

    run: str
    """A run folder, or the name, folder or .gguf file of any Hugging Face causal model; or a vision model's."""


@dataclass(frozen=True)
class MapCommand(MapChoices, _Source):
    """Record a model's responses to contrasts and test their maps."""

    sites: list[str] | str | None = None
    """Wildcard over module names, or several in brackets; by default the sheets a topographic model carries, or those
    that its run names (spatial.sites, else smoothness.sites and sheets), or the layers of a vision model that TopoNets
    lays on sheets."""
    layout: Literal["grid", "permuted_grid"] | None = None
    """Layout of sites for which the model carries no sheet; by default as the run was trained with, or grid where sites
    are named here."""
    tokenizer: str | None = None
    """Name or folder of a tokenizer, for a model that has none beside it."""
    out: str | None = None
    """Folder for the maps; RUN/maps by default, needed for a model that is no run."""


def map_model(command: MapCommand) -> list[MapSummary]:
    """Make the maps that are not there yet, and say where they lie."""
    run = Path(command.run)
    require_finished(run)
    kind = _kind(command)  # says first of all that a source is not there
    if command.out is None and not ((run / "model").is_dir() or is_layout(run)):
        raise ValueError(f"{command.run} is no run folder (it has no model/); say where the maps go: --out FOLDER")
    check_choices(command, kind, command.run)
    is_vision = kind == "vision"
    model, reader = load_vision_model(run) if is_vision else load_model(command.run, command.tokenizer)
    default = vision_layers if is_vision else None
    sites, layout = sites_and_layout(model, command.run, command.sites, command.layout, default=default)
    folder = Path(command.out) if command.out is not None else run / "maps"
    return make_maps(model, reader, kind, sites, layout, command, folder, tell=lambda made: print(_sentence(made)))


def _sentence(made: Mapped) -> str:
    name, again = made.summary.contrast, f" (in place of others: {made.changed})" if made.changed else ""
    if made.was_there:
        return f"{name}: there already: {made.folder}"
    if made.low_level is None:
        return f"{name}: {made.folder}{again}"
    pixels, power = (row.mean_abs_t.value for row in made.low_level.rows)
    mean_t = f"mean |t| {made.summary.mean_abs_t.value:.1f}, of pixels {pixels:.1f}, of power spectra {power:.1f}"
    return f"{name}: {mean_t}: {made.folder}{again}"


def _kind(command: MapCommand) -> ModelKind:
    """By the folder, or by the contrasts for a model that is on the hub."""
    asked = set(command.contrasts or ()) & set(KINDS["vision"].contrasts) and not Path(command.run).exists()
    return "vision" if kind_of(command.run) == "vision" or asked else "language"
