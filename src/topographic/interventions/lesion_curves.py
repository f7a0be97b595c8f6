"""How much a lesion costs by its size: patches that grow around a peak, each beside its own controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from torch import nn

from topographic.interventions.lesions import LesionEffect, corrected_p, lesion_effects
from topographic.interventions.measures import Measure
from topographic.maps import NotMeasurable, Selection, UnitMap
from topographic.recording import Responses
from topographic.sheets import Sheet, adjacency
from topographic.sheets.expectations import expect_whole

__all__ = ["LesionCurve", "grown_patch", "lesion_curve"]


@dataclass(frozen=True, eq=False)
class LesionCurve:
    """Effects of lesions of every size.

    Parameters
    ----------
    effects : mapping of int to list of LesionEffect
        By number of units: what `lesion_effects` found.
    unmeasured : mapping of int to str
        Sizes for which there are no controls, and why.
    """

    effects: Mapping[int, list[LesionEffect]]
    unmeasured: Mapping[int, str] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """A row per size, measure and kind; "p (corrected)" over all of them (max-T)."""
        every = [one for effects in self.effects.values() for one in effects]
        rows = [one.to_row() | {"p (corrected)": p} for one, p in zip(every, corrected_p(every), strict=True)]
        sizes = [size for size, effects in self.effects.items() for _ in effects]
        return pd.DataFrame(rows).assign(size=sizes) if rows else pd.DataFrame(columns=["size"])


def grown_patch(unit_map: UnitMap, n_units: int) -> Selection:
    """Connected units around the peak of a map, that of the largest value among those that touch added at each step.

    Parameters
    ----------
    unit_map : UnitMap
        Map of the units of one sheet.
    n_units : int
        Units of the patch; patches of fewer lie inside those of more.

    Returns
    -------
    Selection
        The patch.

    Raises
    ------
    ValueError
        If there are fewer units, or fewer that are connected with the peak.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> grown_patch(UnitMap("h.0", np.array([0.0, 3, 2, 1, 5, 1]), grid((2, 3)), "t"), 3).mask.astype(int)
    array([0, 1, 1, 0, 1, 0])
    """
    expect_whole("n_units", n_units, 1)
    graph, values = adjacency(unit_map.sheet, "rook"), np.where(np.isnan(unit_map.values), -np.inf, unit_map.values)
    mask, border = np.zeros(len(values), bool), np.zeros(len(values), bool)
    border[values.argmax()] = True
    for _ in range(n_units):
        reached = np.flatnonzero(border & np.isfinite(values))
        if not len(reached):
            raise ValueError(
                f"the peak at {unit_map.site!r} is connected with {int(mask.sum())} units that have a value; expected "
                f"{n_units}: choose a smaller patch"
            )
        unit = reached[values[reached].argmax()]
        mask[unit], border[unit] = True, False
        beside = graph.indices[graph.indptr[unit] : graph.indptr[unit + 1]]
        border[beside] |= ~mask[beside]
    rule = f"{n_units} units around the peak of {unit_map.statistic}"
    return Selection(unit_map.site, mask, unit_map.sheet, rule, dict(unit_map.provenance))


def lesion_curve(
    model: nn.Module,
    unit_map: UnitMap,
    sizes: Sequence[int],
    measure: Measure,
    *,
    removed: Mapping[str, Responses] | None = None,
    sheets: Mapping[str, Sheet] | None = None,
    tolerance: float = 0.1,
    mode: str = "zero",
    responses: Mapping[str, Responses] | None = None,
    n_draws: int = 99,
    seed: int = 0,
    relayout: bool = False,
) -> LesionCurve:
    """Dose and response: silence a patch around the peak of a map, larger and larger, beside controls of each size.

    Parameters
    ----------
    model : nn.Module
        Any model; of a `rebased` one the map is that of a sheet, ``<site>.sheet``.
    unit_map : UnitMap
        What chooses the patch (`grown_patch`); made from other stimuli than those of the measure.
    sizes : sequence of int
        Numbers of units.
    measure, mode, responses, n_draws, seed, relayout
        As in `lesion_effects`.
    removed : mapping of site to Responses, optional
        Activity at tokens; with it controls are matched in norm and variance of what they take away too.
    sheets : mapping of site to Sheet, optional
        Sheets that controls draw from; that of the map alone by default.
    tolerance : float
        Of the match.

    Returns
    -------
    LesionCurve
        Effects by size, and the sizes for which no controls are to be had.

    Raises
    ------
    ValueError
        If there is no size or one comes twice; as `grown_patch` and `lesion_effects`.
    """
    sizes = [int(size) for size in sizes]
    if not sizes or len(set(sizes)) < len(sizes):
        raise ValueError(f"sizes={sizes}; expected different numbers of units, at least one")
    found: dict[int, list[LesionEffect]] = {}
    unmeasured: dict[int, str] = {}
    patches = {size: grown_patch(unit_map, size) for size in sorted(sizes)}
    for size, patch in patches.items():
        try:
            found[size] = lesion_effects(
                model,
                patch,
                {unit_map.site: unit_map.sheet} if sheets is None else sheets,
                measure,
                mode=mode,
                responses=responses,
                removed=removed,
                tolerance=tolerance,
                n_draws=n_draws,
                seed=seed,
                relayout=relayout,
            )
        except NotMeasurable as reason:  # no room, or no match
            unmeasured[size] = str(reason)
    return LesionCurve(found, unmeasured)
