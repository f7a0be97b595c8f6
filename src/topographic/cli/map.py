"""`topo map`: the maps of a trained run, or of any model laid out on sheets."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from topographic.evaluation.choices import MapChoices

if TYPE_CHECKING:
    from topographic.evaluation.mapping import Mapped, ModelKind
    from topographic.maps import MapSummary

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
    contrast: str | None = None
    """A contrast of your own in place of those above, by its conditions: a-b, or several as a+b-c."""
    stimuli: str | None = None
    """Your stimuli for it: a .csv or .tsv file with the columns text, condition and perhaps run and labels, or a .json
    file of a stimulus set; by default the set of the library that has these conditions."""

    def __post_init__(self) -> None:
        """Refuse words that leave open what is compared."""
        super().__post_init__()
        if self.stimuli is not None and self.contrast is None:
            raise ValueError(
                f"stimuli={self.stimuli} without contrast; expected two of its conditions too: contrast=a-b"
            )
        if self.contrast is not None and self.contrasts is not None:
            raise ValueError(f"contrast={self.contrast} beside contrasts={self.contrasts}; give one of the two")


def map_model(command: MapCommand) -> "list[MapSummary]":
    """Make the maps that are not there yet, and say where they lie."""
    print(f"reading {command.run}", flush=True)  # first of all: torch takes seconds to load
    from topographic.evaluation.mapping import check_choices, make_maps
    from topographic.layouts import is_layout
    from topographic.recording import vision_layers
    from topographic.runs.folder import require_finished
    from topographic.runs.loading import load_model, load_vision_model, sites_and_layout
    from topographic.stimuli import stimuli_from

    run = Path(command.run)
    require_finished(run)
    kind = _kind(command)  # says first of all that a source is not there
    if command.out is None and not ((run / "model").is_dir() or is_layout(run)):
        raise ValueError(f"{command.run} is no run folder (it has no model/); say where the maps go: --out FOLDER")
    check_choices(command, kind, command.run)
    stimuli = None if command.stimuli is None else stimuli_from(command.stimuli)
    is_vision = kind == "vision"
    model, reader = load_vision_model(run) if is_vision else load_model(command.run, command.tokenizer)
    default = vision_layers if is_vision else None
    sites, layout = sites_and_layout(model, command.run, command.sites, command.layout, default=default)
    folder = Path(command.out) if command.out is not None else run / "maps"
    own = {"contrast": command.contrast, "stimuli": stimuli}
    summaries = make_maps(
        model, reader, kind, sites, layout, command, folder, **own, tell=lambda made: print(_sentence(made))
    )
    print("\n".join(headlines(summaries[0])))
    is_run = (run / "model").is_dir()
    print("next: topo " + (f"report {shlex.quote(command.run)}" if is_run else _evaluation_of(command.run)))
    return summaries


def _evaluation_of(source: str) -> str:
    """How to evaluate what is no run; results of a layout go into its own folder."""
    from topographic.layouts import is_layout

    return f"evaluate {shlex.quote(source)} " + ("suite=layout" if is_layout(source) else "out=FOLDER")


def headlines(summary: "MapSummary") -> list[str]:
    """The three numbers that one looks at first: is the map smooth, does the contrast separate, in how many units."""
    lines = []
    told = (
        ("Moran's I", summary.morans_i, summary.morans_i.unit_null),
        ("|t|", summary.mean_abs_t, summary.mean_abs_t.label_null),
    )
    for name, number, null in told:
        beside = "" if null is None else f" (by chance {null.mean:.3f}, p = {null.p:.3g})"
        lines.append(f"{summary.contrast}: mean {name} {number.value:.3f}{beside}")
    n_units = sum(row.n_units for row in summary.rows)
    share = sum(row.fraction_significant * row.n_units for row in summary.rows) / n_units
    return [*lines, f"{summary.contrast}: {100 * share:.1f} % of {n_units} units with q < .05"]


def _sentence(made: "Mapped") -> str:
    name, again = made.summary.contrast, f" (in place of others: {made.changed})" if made.changed else ""
    if made.was_there:
        return f"{name}: there already: {made.folder}"
    if made.low_level is None:
        return f"{name}: {made.folder}{again}"
    pixels, power = (row.mean_abs_t.value for row in made.low_level.rows)
    mean_t = f"mean |t| {made.summary.mean_abs_t.value:.1f}, of pixels {pixels:.1f}, of power spectra {power:.1f}"
    return f"{name}: {mean_t}: {made.folder}{again}"


def _kind(command: MapCommand) -> "ModelKind":
    """By the folder, or by the contrasts for a model that is on the hub."""
    from topographic.evaluation.mapping import KINDS
    from topographic.runs.loading import kind_of

    asked = set(command.contrasts or ()) & set(KINDS["vision"].contrasts) and not Path(command.run).exists()
    return "vision" if kind_of(command.run) == "vision" or asked else "language"
