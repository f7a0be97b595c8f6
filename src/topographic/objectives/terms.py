"""From a configuration to the objective: which terms a run adds to its task loss."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace

import torch
from torch import nn

from topographic.losses.pyramid import roomy_shape
from topographic.losses.weight_sheets import weight_sheets
from topographic.losses.wrappers import unwrapped
from topographic.objectives.config import (
    HasLossConfigs,
    HasNeighborConfigs,
    NeighborActivationsConfig,
    NeighborWeightsConfig,
    SmoothnessConfig,
    SpatialConfig,
    WeightSheetConfig,
    WiringConfig,
)
from topographic.objectives.neighbor_terms import NeighborActivations, NeighborWeights, WiringCost
from topographic.objectives.objective import Objective, SpatialCorrelation, Term
from topographic.objectives.weight_terms import SCHEDULES, WeightSheet, WeightSmoothness
from topographic.recording.placement import carried_sheets, own_layout
from topographic.recording.sites import modules_by_site, sites_among, suggested_sites
from topographic.sheets import LAYOUTS, permuted_grid

__all__ = ["configured_objective", "configured_weight_sheets", "smoothness_term", "spatial_term"]


def configured_objective(model: nn.Module, config: HasLossConfigs) -> Objective:
    """Everything a configuration adds to the task loss.

    Parameters
    ----------
    model : nn.Module
        Any model; if it has a method ``sheets``, that says where the units of its sites lie.
    config : RunConfig
        Or any dataclass with the fields ``spatial``, ``smoothness`` and ``training``, and perhaps
        ``neighbor_weights``, ``neighbor_activations`` and ``wiring``.

    Returns
    -------
    Objective
        Without a term if all weights are 0.

    Raises
    ------
    ValueError
        If no sites are named and the model carries no sheets, a pattern matches nothing, or weights do not fit their
        sheet.
    TypeError
        If a site of the smoothness term is no layer with weights.
    """
    terms: list[Term] = []
    if config.spatial.weight > 0:
        terms.append(spatial_term(model, config.spatial, seed=config.training.seed))
    if config.smoothness.is_on or config.smoothness.watches:
        terms.append(smoothness_term(config.smoothness, model))
    if isinstance(config, HasNeighborConfigs):
        sections = (config.neighbor_weights, config.neighbor_activations, config.wiring)
        terms += [_neighbor_term(section) for section in sections if section.weight > 0]
    return Objective(model, terms, accumulation=config.training.gradient_accumulation_steps)


def _neighbor_term(section: NeighborWeightsConfig | NeighborActivationsConfig | WiringConfig) -> Term:
    """The term of a section that is on, called as the section is in the log."""
    sites = section.sites or []
    if isinstance(section, WiringConfig):
        return WiringCost(sites, between_mm=section.between_mm, weight=section.weight)
    kind = NeighborWeights if isinstance(section, NeighborWeightsConfig) else NeighborActivations
    return kind(sites, weight=section.weight, metric=section.metric, contiguity=section.contiguity)


def spatial_term(model: nn.Module, config: SpatialConfig, *, seed: int) -> SpatialCorrelation:
    """Spatial correlation loss on the sheets of a model, as the configuration asks for it.

    Parameters
    ----------
    model : nn.Module
        Any model; if it has a method ``sheets``, that says where the units of its sites lie.
    config : SpatialConfig
        Sites, neighbourhoods and weight.
    seed : int
        What neighbourhoods are drawn from.

    Returns
    -------
    SpatialCorrelation
        The term.

    Raises
    ------
    ValueError
        If no sites are named and the model carries no sheets.
    """
    sites = config.sites if config.sites is not None else list(carried_sheets(model))
    if not sites:
        raise ValueError(
            f"{type(unwrapped(model)).__name__} carries no sheets and spatial.sites names none; set spatial.sites to "
            f"modules, for example [{suggested_sites(model)!r}], or spatial.weight to 0"
        )
    same = {one.name: getattr(config, one.name) for one in fields(config) if one.name not in ("sites", "layout")}
    return SpatialCorrelation(sites=sites, layout=own_layout(model, LAYOUTS[config.layout]), seed=seed, **same)


def smoothness_term(config: SmoothnessConfig, model: nn.Module | None = None) -> WeightSmoothness:
    """Smoothness of weights, as the configuration asks for it.

    Parameters
    ----------
    config : SmoothnessConfig
        Layers, blur, weight and its schedule.
    model : nn.Module, optional
        The model, as for `configured_weight_sheets`. With it, layers that do not fit their sheets are refused in the
        words of the configuration.

    Returns
    -------
    WeightSmoothness
        The term, called "smoothness" in the log. Where the weight is 0, only what is watched is left of it.

    Raises
    ------
    ValueError
        If there is neither a layer to train nor one to watch, or units do not fill a sheet that the blur fits on.
    TypeError
        If a layer has no weights.
    """
    sheets = []
    for place, entry in _entries(config):
        wanted = [one for one in _sheets_of(entry, config, model) if config.is_on or one.scale is None]
        if model is not None:
            for one in wanted:
                _check_room(model, one, place, config)
        sheets += wanted
    # a term of weight 0 would be left out, and with it what is only watched
    weight = config.weight if config.is_on else 1.0
    if config.is_on and config.schedule != "constant":
        weight = SCHEDULES[config.schedule](config.start_weight, config.weight, config.schedule_steps)
    return WeightSmoothness(sheets, weight=weight, reduction=config.reduction, name="smoothness")


def configured_weight_sheets(config: SmoothnessConfig, model: nn.Module | None = None) -> list[WeightSheet]:
    """Every sheet that a configuration names: ``sites``, ``sheets`` and, with scale None, ``watched``.

    Parameters
    ----------
    config : SmoothnessConfig
        Layers and blur; its weight is not looked at.
    model : nn.Module, optional
        Any model, wrapped or not: where a layout is permuted, the order depends on names and numbers of units.

    Returns
    -------
    list of WeightSheet
        Patterns as they are given; where a layout is permuted, one per layer, and per parameter of recurrent layers,
        whose sheets share the order.

    Raises
    ------
    ValueError
        If a layout is permuted and no model is given, or a pattern matches nothing.
    TypeError
        If a layer has no weights.
    """
    return [sheet for _, entry in _entries(config) for sheet in _sheets_of(entry, config, model)]


def _entries(config: SmoothnessConfig) -> Iterator[tuple[str, WeightSheetConfig]]:
    """What names sheets, each after the key it is given by."""
    if config.sites is not None:
        yield "sites", WeightSheetConfig(config.sites)
    yield from (("sheets", entry) for entry in config.sheets)
    if config.watched is not None:
        yield "watched", WeightSheetConfig(config.watched, scale=None)


def _sheets_of(entry: WeightSheetConfig, section: SmoothnessConfig, model: nn.Module | None) -> Iterator[WeightSheet]:
    for pattern in [entry.sites] if isinstance(entry.sites, str) else entry.sites:
        sheet = WeightSheet(
            pattern,
            kind=entry.kind or section.kind,
            scale=entry.scale,
            factor=entry.factor or section.factor,
            blur=entry.blur or section.blur,
            shape=entry.shape,
            parameters=entry.parameters,
        )
        if entry.layout == "grid":
            yield sheet
        elif model is None:
            raise ValueError(f"the layout of {pattern!r} is permuted, layer by layer; pass the model that it is for")
        else:
            for site, parameter, n_units in _laid_out(model, sheet):
                line = permuted_grid(n_units, site, seed=entry.layout_seed, shape=(1, n_units))
                order = tuple(line.positions_mm[:, 1].long().tolist())
                yield replace(sheet, sites=site, parameters=parameter, order=order)


def _check_room(model: nn.Module, sheet: WeightSheet, place: str, config: SmoothnessConfig) -> None:
    """Refuse units that no full sheet holds, or whose sheet is too small for the blur, with one that has room."""
    found = list(_laid_out(model, sheet)) if sheet.shape is None else []
    for site, _, n_units in found:
        try:
            _try(sheet, n_units)
        except ValueError as error:
            shape = roomy_shape(n_units, sheet.factor, sheet.blur)
            if shape is None:
                raise ValueError(f"site {site!r}: {error}") from error
            apart = None if all(other == n_units for *_, other in found) else site
            room = f"shape: [{shape[0]}, {shape[1]}]"
            raise ValueError(
                f"site {site!r}: {n_units} units fill no sheet that a blur of factor {_said(sheet.factor)} fits on; "
                f"leave cells of a larger one empty: {_words(sheet.sites, apart, room, place, config)}"
            ) from error


def _words(pattern: str, apart: str | None, room: str, place: str, config: SmoothnessConfig) -> str:
    """What to say on the command line so that all layers of a pattern, or one apart from them, have room."""
    if place == "sheets":
        others = f" in an entry of its own, and the other layers of {pattern} in further ones" if apart else ""
        return f"in smoothness.sheets, give {apart or pattern} {room}{others}"
    left = [other for other in getattr(config, place) if other != pattern]
    rest = f"'smoothness.{place}=[{', '.join(map(_in_yaml, left))}]'" if left else f"smoothness.{place}=null"
    scale = ", scale: null" if place == "watched" else ""
    entry = f"'smoothness.sheets=[{{sites: {_in_yaml(apart or pattern)}, {room}{scale}}}]'"
    others = f", with further entries for the other layers of {pattern}" if apart else ""
    return f"{rest} {entry}{others}{', beside the entries that are there' if config.sheets else ''}"


def _in_yaml(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w.*-]*", name) else json.dumps(name)


def _try(sheet: WeightSheet, n_units: int) -> None:
    sheet.loss(torch.zeros(n_units) if sheet.kind == "bias" else torch.zeros(n_units, 1))


def _said(factor: float | tuple[float, float]) -> str:
    return f"{factor:g}" if isinstance(factor, (int, float)) else " x ".join(f"{number:g}" for number in factor)


def _laid_out(model: nn.Module, sheet: WeightSheet) -> Iterator[tuple[str, str, int]]:
    """Site, parameter and number of units of every sheet that one stands for."""
    modules = modules_by_site(model)
    for site in sites_among(modules, [sheet.sites], type(model).__name__):
        try:
            found = weight_sheets(modules[site], sheet.kind, parameters=sheet.parameters)
        except (ValueError, TypeError) as error:
            raise type(error)(f"site {site!r}: {error}") from error
        yield from ((site, parameter, len(units)) for parameter, units in found.items())
