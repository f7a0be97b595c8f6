"""What a run was trained with: the sheets that its own configuration names, for models that carry none."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from topographic.losses import sheet_shape
from topographic.objectives.config import (
    NeighborActivationsConfig,
    NeighborWeightsConfig,
    SmoothnessConfig,
    SpatialConfig,
    WiringConfig,
)
from topographic.objectives.terms import configured_weight_sheets
from topographic.objectives.weight_terms import WeightSheet
from topographic.recording import find_sites
from topographic.runs.recipe import read_sections
from topographic.sheets import LAYOUTS, Layout, Sheet, grid
from topographic.training.config import ImageConfig

__all__ = ["OwnSections", "own_sections", "own_weight_sheets", "placed", "smooth_sites", "trained_sites"]


@dataclass(frozen=True)
class OwnSections:
    """The sections of a run's ``config.yaml`` that say where units lie and what was shown; None where it has none."""

    spatial: SpatialConfig | None = None
    """The spatial loss."""
    smoothness: SmoothnessConfig | None = None
    """The smoothness of weights."""
    images: ImageConfig | None = None
    """The images, of a vision model."""
    neighbor_activations: NeighborActivationsConfig | None = None
    """Adjacent units that respond alike."""
    neighbor_weights: NeighborWeightsConfig | None = None
    """Adjacent units with like weights."""
    wiring: WiringConfig | None = None
    """The length of wires."""


def own_sections(run: str | Path) -> OwnSections:
    """Read the configuration of a run."""
    file = Path(run) / "config.yaml"
    if not file.is_file() or not (file.parent / "model").is_dir():
        return OwnSections()
    return read_sections(file, OwnSections)


def trained_sites(model: nn.Module, own: OwnSections) -> tuple[list[str], Layout] | None:
    """Where a run's configuration lays units on sheets: the spatial loss, else smooth weights, else like neighbours."""
    if own.spatial is not None and own.spatial.sites is not None:
        return own.spatial.sites, LAYOUTS[own.spatial.layout]
    if own.smoothness is not None and (found := smooth_sites(model, own.smoothness)) is not None:
        return found
    for section in (own.neighbor_activations, own.neighbor_weights):
        if section is not None and section.sites is not None:
            return find_sites(model, section.sites), grid
    return None


def smooth_sites(model: nn.Module, smoothness: SmoothnessConfig) -> tuple[list[str], Layout] | None:
    """Layers whose output units lie on the sheets of their weights."""
    of_site = {one.sites: one for one in reversed(own_weight_sheets(model, smoothness)) if one.kind != "input"}

    def layout(n_units: int, name: str) -> Sheet:
        return placed(of_site[name], n_units, name)

    return (find_sites(model, list(of_site)), layout) if of_site else None


def own_weight_sheets(model: nn.Module, smoothness: SmoothnessConfig) -> list[WeightSheet]:
    """Sheets of weights that a configuration names, layer by layer."""
    named = configured_weight_sheets(smoothness, model)
    named = [one for one in named if one.scale is not None] or named
    found: dict[tuple[str, ...], WeightSheet] = {}
    for one in named:
        for site in find_sites(model, one.sites):
            found.setdefault((site, one.kind, one.parameters), replace(one, sites=site))
    return list(found.values())


def placed(weights: WeightSheet, n_units: int, name: str) -> Sheet:
    """Where the units of a sheet of weights lie."""
    rows, columns = weights.shape or sheet_shape(n_units)
    if rows * columns < n_units:
        raise ValueError(f"sheet {name!r}: {n_units} units and {rows} x {columns} cells; give a shape with as many")
    cells = list(range(n_units) if weights.order is None else weights.order)
    return Sheet(name, grid((rows, columns)).positions_mm[cells], extent_mm=(float(rows), float(columns)))
