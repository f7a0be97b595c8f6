"""Lesion and stimulate chosen units of any model, undone by construction."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from topographic.interventions.controls import Selections, one_per_site
from topographic.interventions.stimulation import as_direction
from topographic.maps import Selection, UnitMap
from topographic.recording import Responses, edit
from topographic.recording.placement import check_places
from topographic.sheets.expectations import expect_number, expect_whole

__all__ = ["ABLATIONS", "ablate", "drive"]


@contextlib.contextmanager
def ablate(
    model: nn.Module,
    selections: Selections,
    *,
    mode: str = "zero",
    responses: Mapping[str, Responses] | None = None,
    seed: int = 0,
    relayout: bool = False,
) -> Iterator[None]:
    """Silence chosen units while the block runs.

    ``a_u -> 0`` ("zero"), ``a_u -> mean over stimuli of r_u`` ("mean"), or ``a_u -> r_su`` with one
    random stimulus ``s`` per sequence, the same for all its units ("resample").

    Parameters
    ----------
    model : nn.Module
        Any model.
    selections : Selection, sequence of Selection, or mapping of site to Selection
        Units to silence; several selections of one site are joined.
    mode : {"zero", "mean", "resample"}
        What takes the place of their activity.
    responses : mapping of str to Responses, optional
        Recorded responses per site, needed by "mean" and "resample": of the units, without readout, and pooled to the
        scale of one token ("sum" is not).
    seed : int
        Seed of "resample".
    relayout : bool
        Whether the selections were made, on purpose, on other sheets than those the model carries.

    Yields
    ------
    None
        The model itself is changed until the block ends, also by an exception.

    Raises
    ------
    ValueError
        If a mask was made on readout sites or on another sheet than the model carries, a site has another width than
        its mask, nothing is selected, the mode is unknown, or responses are missing, read out or summed over tokens.
    TypeError
        If the selections are none, or the model is not loaded.

    Notes
    -----
    The published ablation script zeroes columns (inputs) of two weight matrices by a mask of output
    units in another order; here the activity of the sheet itself is replaced.
    """
    if mode not in ABLATIONS:
        raise ValueError(f"mode={mode!r}; expected one of {sorted(ABLATIONS)}")
    expect_whole("seed", seed)
    functions = {}
    for site, mask in _masks_by_site(model, selections, relayout=relayout).items():
        values = None
        if mode != "zero":
            if responses is None or site not in responses:
                raise ValueError(f"mode={mode!r} needs recorded responses of {site!r}: pass responses=record(...)")
            values = _values_of_units(responses[site], len(mask))
        generator = torch.Generator().manual_seed(seed)
        functions[site] = _replacing(site, mask, lambda a, v=values, g=generator: ABLATIONS[mode](a, v, g))
    with edit(model, functions):
        yield


@contextlib.contextmanager
def drive(
    model: nn.Module,
    selections: Selections | None = None,
    *,
    strength: float = 1.0,
    direction: Mapping[str, UnitMap] | None = None,
    relayout: bool = False,
) -> Iterator[None]:
    """Add activity to chosen units while the block runs.

    ``a_u -> a_u + strength * m_u`` at the chosen units, with ``m`` the direction map (1 everywhere by
    default). With ``m`` the difference of two condition means, strength 1 drives towards the first
    condition and -1 suppresses it; with ``m`` of `micro_stimulation` it is a spread around a place. On the sheet of an
    adaptor the stream of the model gets ``strength * m Q^-1 S`` (see `topographic.layouts.rebased`).

    Parameters
    ----------
    model : nn.Module
        Any model.
    selections : Selection, sequence of Selection, or mapping of site to Selection, optional
        Units to drive; by default all where a direction is not 0.
    strength : float
        Factor, in units of the direction map or, without one, of activation.
    direction : mapping of str to UnitMap, optional
        Per site, how much to add to each unit at strength 1.
    relayout : bool
        As in `ablate`.

    Yields
    ------
    None
        The model itself is changed until the block ends, also by an exception.

    Raises
    ------
    ValueError
        As `ablate`; also if the strength is not finite, a site has no direction, or that has no value at some units.
    """
    expect_number("strength", strength, "a finite factor", least=-math.inf)
    if selections is None:
        if not direction:
            raise ValueError("neither selections nor a direction; say which units to drive")
        selections = [
            Selection(site, as_direction(one).values != 0, one.sheet, "where the direction is not 0")
            for site, one in direction.items()
        ]
    functions = {}
    for site, mask in _masks_by_site(model, selections, relayout=relayout).items():
        amount = torch.full((len(mask),), float(strength))
        if direction is not None:
            if site not in direction:
                raise ValueError(f"no direction for site {site!r}; directions are given for {sorted(direction)}")
            unit_map = direction[site]
            if unit_map.sheet.is_readout or unit_map.sheet.n_units != len(mask):
                raise ValueError(
                    f"the direction map of {site!r} is not one of its {len(mask)} units; make it unsmoothed"
                )
            amount = strength * torch.from_numpy(as_direction(unit_map).values)
        functions[site] = _replacing(site, mask, lambda a, amount=amount: a + amount.to(a))
    with edit(model, functions):
        yield


def _masks_by_site(model: nn.Module, selections: Any, *, relayout: bool) -> dict[str, Tensor]:
    chosen = one_per_site(selections)
    for selection in chosen:
        if selection.sheet.is_readout:
            raise ValueError(
                f"the selection at {selection.site!r} was made on readout sites, not on units; "
                "make the map without readout (fwhm_mm=0) and select again"
            )
    if not any(selection.n_selected for selection in chosen):
        raise ValueError("no unit is selected; loosen the rule that made the selection")
    check_places(model, ((one.site, one.sheet) for one in chosen), "the selection", relayout=relayout)
    return {selection.site: torch.from_numpy(selection.mask.copy()) for selection in chosen}


def _values_of_units(responses: Responses, n_units: int) -> Tensor:
    """Responses that can stand in the place of activity: one column per unit, on the scale of one token."""
    site, pooling = responses.site, responses.provenance.get("pooling")
    if responses.sheet.is_readout:
        raise ValueError(
            f"responses at {site!r} are a readout, whose columns are sites of the sheet; expected those of the units: "
            "pass what record() returned, before readout()"
        )
    if pooling == "sum":
        raise ValueError(
            f"responses at {site!r} are summed over tokens (pooling='sum'); expected the scale of one token: "
            "record with pooling='mean' or 'last'"
        )
    values = torch.from_numpy(responses.values)
    if values.shape[1] != n_units:
        raise ValueError(f"responses at {site!r} have {values.shape[1]} units; the mask has {n_units}")
    return values


def _replacing(site: str, mask: Tensor, new: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def change(activations: Tensor) -> Tensor:
        axis = 1 if activations.ndim == 4 else -1  # the channels of feature maps are the units
        if activations.shape[axis] != len(mask):
            raise ValueError(
                f"site {site!r} has {activations.shape[axis]} units and its selection {len(mask)}; "
                "use the sheets the model was recorded with"
            )
        last = activations.movedim(axis, -1)
        return torch.where(mask.to(activations.device), new(last), last).movedim(-1, axis)

    return change


def _zero(activations: Tensor, values: Tensor | None, generator: torch.Generator) -> Tensor:
    return torch.zeros_like(activations)


def _mean(activations: Tensor, values: Tensor, generator: torch.Generator) -> Tensor:
    return values.mean(0).to(activations).expand_as(activations)


def _resample(activations: Tensor, values: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(len(values), (activations.shape[0],), generator=generator)
    rows = values[drawn].to(activations)
    between = [1] * (activations.ndim - 2)
    return rows.view(len(drawn), *between, -1).expand_as(activations)


ABLATIONS = {"zero": _zero, "mean": _mean, "resample": _resample}
