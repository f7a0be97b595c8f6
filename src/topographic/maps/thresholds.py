"""From maps to selections: correction over all sites, and the rules that choose units."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Bool
from scipy.stats import false_discovery_control

from topographic.maps.collection import Maps
from topographic.maps.independence import items_of_all
from topographic.maps.selection import Selection
from topographic.maps.unit_map import UnitMap
from topographic.recording.by_site import by_site

__all__ = ["SIGNS", "control_fdr", "select", "select_top"]


def control_fdr(maps: Mapping[str, UnitMap]) -> Maps:
    """Benjamini-Hochberg adjusted p over all units of all sites together.

    ``q_(i) = min over j >= i of p_(j) n / j``

    Parameters
    ----------
    maps : mapping of site to UnitMap
        Maps with p.

    Returns
    -------
    Maps
        The same maps with q. Units without a p (NaN) are not counted and keep NaN.

    Raises
    ------
    ValueError
        If there are no maps, or one has no p.

    References
    ----------
    Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57.
    """
    if not maps:
        raise ValueError("no maps to correct; expected {site: UnitMap}: give at least one")
    bare = [site for site, unit_map in maps.items() if unit_map.p is None]
    if bare:
        raise ValueError(f"the map at {bare[0]!r} has no p; expected maps made by t_map: compute that one")
    p = np.concatenate([unit_map.p for unit_map in maps.values() if unit_map.p is not None])
    q = np.full_like(p, np.nan)
    tested = ~np.isnan(p)
    q[tested] = false_discovery_control(p[tested])
    parts = np.split(q, np.cumsum([unit_map.sheet.n_units for unit_map in maps.values()])[:-1])
    items = items_of_all(maps)
    return Maps({
        site: replace(unit_map, q=part, provenance={**unit_map.provenance, **items})
        for (site, unit_map), part in zip(maps.items(), parts, strict=True)
    })


@by_site(dict)
def select(unit_map: UnitMap, *, q: float = 0.05, sign: str = "positive") -> Selection:
    """Units that pass a false discovery rate.

    Parameters
    ----------
    unit_map : UnitMap or mapping of site to UnitMap
        Map with q (`control_fdr`); of several, a selection of each.
    q : float
        Units with an adjusted p below this are chosen.
    sign : {"positive", "negative", "both"}
        Which side of zero.

    Returns
    -------
    Selection
        The chosen units.

    Raises
    ------
    ValueError
        If the map has no q, or q or sign is not one of those possible.
    """
    if unit_map.q is None:
        raise ValueError(f"the map at {unit_map.site!r} has no q; correct all maps together with control_fdr first")
    if not 0 < q <= 1:
        raise ValueError(f"q={q}; expected a rate above 0 and at most 1, such as 0.05")
    mask = (unit_map.q < q) & _side(unit_map, sign)
    rule = f"q < {q:g} and {unit_map.statistic} {_SIDE_WORDS[sign]}"
    return Selection(unit_map.site, mask, unit_map.sheet, rule, unit_map.provenance)


def select_top(maps: Mapping[str, UnitMap], fraction: float = 0.01, *, sign: str = "positive") -> dict[str, Selection]:
    """The most extreme units over all sites together.

    Parameters
    ----------
    maps : mapping of site to UnitMap
        Maps of one statistic.
    fraction : float
        Share of all units with a value, above 0 and at most 1; at least one unit is chosen.
    sign : {"positive", "negative", "both"}
        Largest, smallest, or largest absolute values. Only units on that side of zero are chosen,
        so fewer than asked for where there are not enough.

    Returns
    -------
    dict of site to Selection
        One selection per site, which may be empty. Of equal values the earlier unit is chosen.

    Raises
    ------
    ValueError
        If there are no maps, or fraction or sign is not one of those possible.
    """
    if not maps:
        raise ValueError("no maps to choose from; expected {site: UnitMap}: give at least one")
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction}; expected a share above 0 and at most 1, such as 0.01")
    on_side = np.concatenate([_side(unit_map, sign) for unit_map in maps.values()])
    strength = np.concatenate([np.abs(unit_map.values) for unit_map in maps.values()])
    n_chosen = max(1, round(fraction * int((~np.isnan(strength)).sum())))
    order = np.argsort(np.where(on_side, -strength, np.inf), kind="stable")[:n_chosen]
    chosen = np.zeros(len(strength), dtype=bool)
    chosen[order] = on_side[order]
    items = items_of_all(maps)
    masks = np.split(chosen, np.cumsum([unit_map.sheet.n_units for unit_map in maps.values()])[:-1])
    return {
        site: Selection(
            unit_map.site,
            mask,
            unit_map.sheet,
            f"top {fraction:.3g} of all units by {unit_map.statistic}, {_SIDE_WORDS[sign]}",
            {**unit_map.provenance, **items},
        )
        for (site, unit_map), mask in zip(maps.items(), masks, strict=True)
    }


def _side(unit_map: UnitMap, sign: str) -> Bool[np.ndarray, " units"]:
    if sign not in SIGNS:
        raise ValueError(f"sign={sign!r}; expected one of {sorted(SIGNS)}")
    return SIGNS[sign](unit_map.values)


SIGNS = {
    "positive": lambda values: values > 0,
    "negative": lambda values: values < 0,
    "both": lambda values: values != 0,
}

_SIDE_WORDS = {"positive": "> 0", "negative": "< 0", "both": "either side"}
