"""What a run was trained with: the sheets that its own configuration names, for models that carry none."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from topographic.cli.arguments import parse_mapping
from topographic.losses import sheet_shape
from topographic.recording import find_sites
from topographic.sheets import LAYOUTS, Layout, Sheet, grid
from topographic.training.config import SmoothnessConfig, SpatialConfig
from topographic.training.terms import configured_weight_sheets
from topographic.training.weight_terms import WeightSheet

__all__ = ["OwnSections", "own_sections", "own_weight_sheets", "placed", "smooth_sites", "trained_sites"]


@dataclass(frozen=True)
class OwnSections:
    """The sections of a run's ``config.yaml`` that say where units lie; None where it has none."""

    spatial: SpatialConfig | None = None
    """The spatial loss."""
    smoothness: SmoothnessConfig | None = None
    """The smoothness of weights."""


def own_sections(run: str | Path) -> OwnSections:
    """Read the configuration of a run.

    Parameters
    ----------
    run : str or Path
        A run folder, or anything else, which has no sections.

    Returns
    -------
    OwnSections
        What the file says, with defaults for what it leaves out.

    Raises
    ------
    ValueError
        If the file says what no configuration can.
    """
    file = Path(run) / "config.yaml"
    if not file.is_file() or not (file.parent / "model").is_dir():
        return OwnSections()
    written = yaml.safe_load(file.read_text(encoding="utf-8"))
    content: dict[str, Any] = written if isinstance(written, dict) else {}
    sections = {name: content[name] for name in ("spatial", "smoothness") if isinstance(content.get(name), Mapping)}
    try:
        return parse_mapping("train", OwnSections, sections)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def trained_sites(model: nn.Module, own: OwnSections) -> tuple[list[str], Layout] | None:
    """Where a run's configuration lays units on sheets, the spatial loss before the smoothness of weights.

    Parameters
    ----------
    model : nn.Module
        Its model.
    own : OwnSections
        Its configuration.

    Returns
    -------
    (list of str, callable) or None
        Names or wildcards of sites and their layout, as `record` takes them; None if neither section names any.
    """
    if own.spatial is not None and own.spatial.sites is not None:
        return own.spatial.sites, LAYOUTS[own.spatial.layout]
    return None if own.smoothness is None else smooth_sites(model, own.smoothness)


def smooth_sites(model: nn.Module, smoothness: SmoothnessConfig) -> tuple[list[str], Layout] | None:
    """Layers whose output units lie on the sheets of their weights.

    Parameters
    ----------
    model : nn.Module
        Any model.
    smoothness : SmoothnessConfig
        Its weight is not looked at, so that a control has the sites of what it is compared with.

    Returns
    -------
    (list of str, callable) or None
        Names of sites and their layout, as `record` takes them; None if there are none, for example because only
        input units lie on sheets, whose activity is no output of the layer.
    """
    of_site = {one.sites: one for one in reversed(own_weight_sheets(model, smoothness)) if one.kind != "input"}

    def layout(n_units: int, name: str) -> Sheet:
        return placed(of_site[name], n_units, name)

    return (find_sites(model, list(of_site)), layout) if of_site else None


def own_weight_sheets(model: nn.Module, smoothness: SmoothnessConfig) -> list[WeightSheet]:
    """Sheets of weights that a configuration names, layer by layer.

    Parameters
    ----------
    model : nn.Module
        Any model.
    smoothness : SmoothnessConfig
        Its weight is not looked at.

    Returns
    -------
    list of WeightSheet
        ``sites`` is one layer's name in each. Those that are only watched come in where there are no others.

    Raises
    ------
    ValueError
        If a pattern matches nothing.
    """
    named = configured_weight_sheets(smoothness, model)
    named = [one for one in named if one.scale is not None] or named
    found: dict[tuple[str, ...], WeightSheet] = {}
    for one in named:
        for site in find_sites(model, one.sites):
            found.setdefault((site, one.kind, one.parameters), replace(one, sites=site))
    return list(found.values())


def placed(weights: WeightSheet, n_units: int, name: str) -> Sheet:
    """Where the units of a sheet of weights lie.

    Parameters
    ----------
    weights : WeightSheet
        With shape and order.
    n_units : int
        Number of units.
    name : str
        Name for the sheet.

    Returns
    -------
    Sheet
        Cells 1 mm apart; those that are empty have no position.

    Raises
    ------
    ValueError
        If the units do not fit the shape.
    """
    rows, columns = weights.shape or sheet_shape(n_units)
    if rows * columns < n_units:
        raise ValueError(f"sheet {name!r}: {n_units} units and {rows} x {columns} cells; give a shape with as many")
    cells = list(range(n_units) if weights.order is None else weights.order)
    return Sheet(name, grid((rows, columns)).positions_mm[cells], extent_mm=(float(rows), float(columns)))
