"""What happens with distance: pairwise correlation of responses, pairwise difference of a map."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from topographic.maps.unit_map import UnitMap
from topographic.recording.responses import Responses
from topographic.sheets import Sheet, distances

__all__ = ["DistanceCurve", "correlation_by_distance", "difference_by_distance"]

# above this many units the pairs of a seeded sample of them are used: 8.4 million pairs, 130 MB
_MAX_UNITS = 4096
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class DistanceCurve:
    """Mean of a quantity over pairs of units, by the distance between them.

    Parameters
    ----------
    edges_mm : ndarray, shape (edges,)
        Edges of the bins in mm, one more than there are bins. A bin holds its lower edge, the last
        one its upper edge too.
    values : ndarray, shape (bins,)
        Mean over the pairs of each bin; NaN where there is none.
    n_pairs : ndarray of int, shape (bins,)
        Number of pairs in each bin.
    """

    edges_mm: Float[np.ndarray, " edges"]
    values: Float[np.ndarray, " bins"]
    n_pairs: Int[np.ndarray, " bins"]

    @property
    def centres_mm(self) -> Float[np.ndarray, " bins"]:
        """Middle of each bin."""
        return (self.edges_mm[1:] + self.edges_mm[:-1]) / 2


def correlation_by_distance(
    responses: Responses, *, n_bins: int = 15, max_distance_mm: float | None = None, seed: int = 0
) -> DistanceCurve:
    """Mean Pearson correlation of two units' responses, by the distance between the units.

    ``c(b) = mean of r_ij over pairs with d_ij in bin b``

    Parameters
    ----------
    responses : Responses
        Responses of one site. Units that never vary have no correlation and are left out.
    n_bins : int
        Bins of equal width between the smallest and the largest distance.
    max_distance_mm : float, optional
        Leave out pairs further apart.
    seed : int
        Chooses the units on sheets of more than 4096; below that all pairs are used.

    Returns
    -------
    DistanceCurve
        Correlation, in [-1, 1]. Distances on a torus go the shorter way round; on a mesh they are
        straight lines, not geodesics.

    Raises
    ------
    ValueError
        If fewer than two units vary, or no pair is near enough.

    References
    ----------
    Margalit et al. 2024, Neuron 112 (TDANN); Deb et al. 2025, TopoNets, ICLR.
    """
    values = responses.values.astype(np.float64)
    units = np.flatnonzero(np.ptp(values, axis=0) > 0)
    units = _sample(units, responses.site, seed)
    standard = values[:, units] - values[:, units].mean(axis=0)
    standard /= np.sqrt(np.square(standard).sum(axis=0))
    return _by_distance(
        responses.sheet,
        units,
        lambda rows: standard[:, rows].T @ standard,
        n_bins=n_bins,
        max_distance_mm=max_distance_mm,
    )


def difference_by_distance(
    unit_map: UnitMap, *, n_bins: int = 9, max_distance_mm: float | None = None, seed: int = 0
) -> DistanceCurve:
    """Mean absolute difference of a map between two units, by the distance between them.

    ``c(b) = mean of |x_i - x_j| over pairs with d_ij in bin b``

    Parameters
    ----------
    unit_map : UnitMap
        Map of a tuning, for example t. Units whose value is NaN are left out.
    n_bins, max_distance_mm, seed
        As in `correlation_by_distance`; nine bins as in the code released with TDANN.

    Returns
    -------
    DistanceCurve
        Difference, in units of the map.

    Raises
    ------
    ValueError
        If fewer than two units have a value, or no pair is near enough.

    References
    ----------
    Margalit et al. 2024, Neuron 112 (TDANN).
    """
    units = _sample(np.flatnonzero(~np.isnan(unit_map.values)), unit_map.site, seed)
    values = unit_map.values[units].astype(np.float64)
    return _by_distance(
        unit_map.sheet,
        units,
        lambda rows: np.abs(values[rows, None] - values),
        n_bins=n_bins,
        max_distance_mm=max_distance_mm,
    )


def _sample(units: np.ndarray, site: str, seed: int) -> np.ndarray:
    if len(units) < 2:
        raise ValueError(f"{len(units)} units at {site!r} can be compared; expected at least 2 with values that vary")
    if len(units) <= _MAX_UNITS:
        return units
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(units, _MAX_UNITS, replace=False))


def _by_distance(
    sheet: Sheet,
    units: Int[np.ndarray, " units"],
    pairwise: Callable[[slice], np.ndarray],
    *,
    n_bins: int,
    max_distance_mm: float | None,
) -> DistanceCurve:
    """Bin every pair once; ``pairwise`` gives some rows of the matrix of pairs."""
    if n_bins < 1:
        raise ValueError(f"n_bins={n_bins}; expected at least 1")
    positions = sheet.positions_mm[torch.from_numpy(units)]
    between, values = [], []
    for start in range(0, len(units), _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, len(units)))
        gap = distances(positions[rows], positions, period_mm=sheet.period_mm).numpy()
        later = np.arange(len(units)) > np.arange(rows.start, rows.stop)[:, None]
        near = later if max_distance_mm is None else later & (gap <= max_distance_mm)
        between.append(gap[near])
        values.append(pairwise(rows)[near])
    gaps, pairs = np.concatenate(between), np.concatenate(values)
    if not len(gaps):
        raise ValueError(f"sheet {sheet.name!r}: no pair of units within max_distance_mm={max_distance_mm}; widen it")
    edges = np.histogram_bin_edges(gaps, bins=n_bins)
    n_pairs, _ = np.histogram(gaps, edges)
    total, _ = np.histogram(gaps, edges, weights=pairs)
    means = np.divide(total, n_pairs, out=np.full(n_bins, np.nan), where=n_pairs > 0)
    return DistanceCurve(edges, means, n_pairs)
