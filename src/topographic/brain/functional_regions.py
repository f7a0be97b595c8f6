"""Parcels, individual regions and what they do, on any sheet, in funROI's words: defined and measured on other runs.

A subject is a brain, or a model among others trained with other seeds; a sheet is its surface.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from topographic.maps import Selection, UnitMap
from topographic.sheets import adjacent_pairs

__all__ = ["group_parcels", "region_dice", "region_effects", "regions_in_parcels"]


def group_parcels(
    selections: Sequence[Selection], *, least_overlap: float = 0.2, least_units: int = 5
) -> Int[np.ndarray, " units"]:
    """Parcels in which most subjects have some of their selected units (group-constrained, GcSS).

    The share of subjects that selected each unit is averaged with that of its neighbours; from every unit one walks to
    the neighbour with the largest share until none is larger, and units that reach one top are a parcel (a watershed).

    Parameters
    ----------
    selections : sequence of Selection
        One per subject, on the same sheet.
    least_overlap : float
        Units that a smaller share of the subjects selected belong to no parcel.
    least_units : int
        Smaller parcels are dropped.

    Returns
    -------
    ndarray of int, shape (units,)
        0 outside parcels, then from 1, the largest first.

    Raises
    ------
    ValueError
        If there are fewer than two subjects, or their sheets differ.

    References
    ----------
    Fedorenko et al. 2010, J. Neurophysiol. 104; Julian et al. 2012, NeuroImage 60; funROI 1.1.
    """
    if len(selections) < 2:
        raise ValueError(f"{len(selections)} subject; parcels are where subjects agree: give two or more")
    sheet = selections[0].sheet
    if any(one.sheet.checksum != sheet.checksum for one in selections):
        raise ValueError("subjects have different sheets; expected one sheet for all")
    if not 0 < least_overlap <= 1:
        raise ValueError(f"least_overlap={least_overlap}; expected a share above 0, at most 1")
    share = np.mean([one.mask for one in selections], axis=0)
    pairs = adjacent_pairs(sheet).numpy()
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    degree = np.bincount(pairs[:, 0], minlength=sheet.n_units)
    smooth = (share + np.bincount(pairs[:, 0], share[pairs[:, 1]], sheet.n_units)) / (1 + degree)
    # ties are broken by number, so that no walk is endless
    height = np.empty(sheet.n_units, dtype=np.int64)
    height[np.lexsort((-np.arange(sheet.n_units), smooth))] = np.arange(sheet.n_units)
    uphill = np.arange(sheet.n_units)
    for unit, other in pairs[np.argsort(height[pairs[:, 1]], kind="stable")]:
        if height[other] > height[unit]:
            uphill[unit] = other
    while not np.array_equal(uphill, uphill[uphill]):
        uphill = uphill[uphill]
    inside = smooth >= least_overlap
    tops, index, sizes = np.unique(uphill[inside], return_inverse=True, return_counts=True)
    kept = [top for top in np.argsort(-sizes, kind="stable") if sizes[top] >= least_units]
    number = np.zeros(len(tops), dtype=np.int64)
    number[kept] = np.arange(1, len(kept) + 1)
    labels = np.zeros(sheet.n_units, dtype=np.int64)
    labels[inside] = number[index]
    return labels


def regions_in_parcels(
    unit_map: UnitMap, parcels: Int[np.ndarray, " units"], *, share: float = 0.1
) -> dict[int, Selection]:
    """Individual functional regions: in each parcel the share of units with the largest values of a localizer map.

    Parameters
    ----------
    unit_map : UnitMap
        Localizer map of one subject; its provenance may name the runs it was made of (``"runs"``).
    parcels : ndarray of int, shape (units,)
        Parcel of every unit, 0 for none.
    share : float
        Of the units of a parcel, at least one.

    Returns
    -------
    dict of int to Selection
        By parcel.

    Raises
    ------
    ValueError
        If there is no parcel, not one entry per unit, or the share is none.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> found = regions_in_parcels(UnitMap("a", np.arange(20.0), grid(20), "t"), np.repeat([1, 2], 10))
    >>> {parcel: int(one.mask.argmax()) for parcel, one in found.items()}
    {1: 9, 2: 19}
    """
    parcels = np.asarray(parcels)
    if parcels.shape != unit_map.values.shape or not (parcels > 0).any():
        raise ValueError(
            f"parcels of shape {parcels.shape} for {len(unit_map.values)} units, {int(parcels.max(initial=0))} of "
            "them; expected one entry per unit, from 1 in parcels"
        )
    if not 0 < share <= 1:
        raise ValueError(f"share={share}; expected a share of each parcel above 0, at most 1")
    found = {}
    for parcel in np.unique(parcels[parcels > 0]).tolist():
        members = np.flatnonzero((parcels == parcel) & np.isfinite(unit_map.values))
        if not len(members):
            continue
        n_chosen = max(1, round(share * len(members)))
        mask = np.zeros(len(parcels), dtype=bool)
        mask[members[np.argsort(-unit_map.values[members], kind="stable")[:n_chosen]]] = True
        rule = f"top {share:.0%} of parcel {parcel} by {unit_map.statistic}"
        found[parcel] = Selection(unit_map.site, mask, unit_map.sheet, rule, {**unit_map.provenance, "parcel": parcel})
    return found


def region_effects(
    regions: Mapping[Any, Selection], effects: Mapping[str, UnitMap], *, runs: Sequence[Any], defined_on: Sequence[Any]
) -> pd.DataFrame:
    """Mean effect of every condition in every region, from runs that did not define it.

    Parameters
    ----------
    regions : mapping to Selection
        By parcel (`regions_in_parcels`).
    effects : mapping of str to UnitMap
        By condition, of the same sheet.
    runs, defined_on : sequence
        Runs that the effects and the regions were made of.

    Returns
    -------
    DataFrame
        ``region``, ``condition``, ``units``, ``mean``, ``sd`` over units.

    Raises
    ------
    ValueError
        If a run is in both: the largest of noise are large, and an effect measured where it was chosen is no effect.
    """
    if shared := sorted({*map(str, runs)} & {*map(str, defined_on)}):
        raise ValueError(
            f"run {shared[0]} both defined the regions and measures them; use other runs, or even and odd ones in turn"
        )
    rows = []
    for region, selection in regions.items():
        for condition, one in effects.items():
            if one.sheet.checksum != selection.sheet.checksum:
                raise ValueError(f"effect {condition!r} lies on another sheet than region {region}; expected the same")
            values = one.values[selection.mask].astype(np.float64)
            rows.append({
                "region": region,
                "condition": condition,
                "units": selection.n_selected,
                "mean": float(values.mean()),
                "sd": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
            })
    return pd.DataFrame(rows)


def region_dice(first: Mapping[Any, Selection], second: Mapping[Any, Selection]) -> dict[Any, float]:
    """Dice overlap of regions of the same names, ``2 |A and B| / (|A| + |B|)``; by the first's names that both have."""
    found: dict[Any, float] = {}
    for name in first:
        if name in second:
            both = first[name].mask & second[name].mask
            found[name] = float(2 * both.sum() / max(1, first[name].n_selected + second[name].n_selected))
    return found
