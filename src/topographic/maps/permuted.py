"""Null maps of a map that has no labels to permute: its own values elsewhere, and noise in their place."""

from dataclasses import replace

import numpy as np

from topographic.maps.nulls import stream
from topographic.maps.unit_map import UnitMap

__all__ = ["noise_floor", "permuted_null"]


def permuted_null(unit_map: UnitMap, *, n_draws: int, seed: int = 0) -> UnitMap:
    """The map with the null "unit": its values permuted over the units that have one.

    ``m*_u = m_pi(u)``, with ``pi`` a random permutation of the units whose value is not NaN.

    Parameters
    ----------
    unit_map : UnitMap
        Any map of units; for a smoothed map permute the units before the smoothing instead.
    n_draws : int
        Number of permutations, at least 2.
    seed : int
        Seed. Maps of one site that miss the same units get the same permutations.

    Returns
    -------
    UnitMap
        The same map with ``nulls["unit"]``, shape (n_draws, units), NaN where the map is NaN; its other
        nulls are kept.

    Raises
    ------
    ValueError
        If there are fewer than 2 draws, or the map is a readout.
    """
    present = _present(unit_map, n_draws)
    generator = stream(seed, "unit", unit_map.site)
    draws = np.full((n_draws, len(present)), np.nan, dtype=np.float32)
    for draw in draws:
        draw[present] = unit_map.values[generator.permutation(np.flatnonzero(present))]
    return replace(unit_map, nulls={**unit_map.nulls, "unit": draws})


def noise_floor(unit_map: UnitMap, *, n_draws: int, seed: int = 0) -> UnitMap:
    """The map with the null "floor": white noise on the same units.

    ``m*_u ~ N(mean(m), sd(m)^2)``, independent, for the units whose value is not NaN.

    Parameters
    ----------
    unit_map : UnitMap
        Any map of units.
    n_draws : int
        Number of noise maps, at least 2.
    seed : int
        Seed.

    Returns
    -------
    UnitMap
        The same map with ``nulls["floor"]``, shape (n_draws, units), NaN where the map is NaN; its other
        nulls are kept.

    Raises
    ------
    ValueError
        If there are fewer than 2 draws, or the map is a readout.
    """
    present = _present(unit_map, n_draws)
    values = unit_map.values[present].astype(np.float64)
    mean, sd = (values.mean(), values.std()) if len(values) else (0.0, 0.0)
    draws = np.full((n_draws, len(present)), np.nan, dtype=np.float32)
    noise = stream(seed, "floor", unit_map.site).standard_normal((n_draws, len(values)))
    draws[:, present] = mean + sd * noise
    return replace(unit_map, nulls={**unit_map.nulls, "floor": draws})


def _present(unit_map: UnitMap, n_draws: int) -> np.ndarray:
    if n_draws < 2:
        raise ValueError(f"n_draws={n_draws}; expected at least 2 draws (200 give p down to .005)")
    if unit_map.sheet.is_readout:
        raise ValueError(
            f"the map at {unit_map.site!r} is a readout, whose sites are not exchangeable: the smoothing ties "
            "neighbours together; permute the units before the readout"
        )
    return ~np.isnan(unit_map.values)
