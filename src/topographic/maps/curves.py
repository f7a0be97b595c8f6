"""What happens with distance: pairwise correlation of responses, pairwise difference of a map."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from topographic.maps.nulls import check_seed
from topographic.maps.unit_map import UnitMap
from topographic.recording.responses import Responses
from topographic.sheets import Sheet, distances

__all__ = [
    "DistanceCurve",
    "Pairs",
    "correlation_by_distance",
    "difference_by_distance",
    "sample_units",
    "standardised",
    "unit_length",
]

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
    units, standard = standardised(responses, seed)
    pairs = Pairs(responses.sheet, units, n_bins=n_bins, max_distance_mm=max_distance_mm)
    return pairs.correlation(standard)


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
    units = sample_units(np.flatnonzero(~np.isnan(unit_map.values)), unit_map.site, seed)
    values = unit_map.values[units].astype(np.float64)
    pairs = Pairs(unit_map.sheet, units, n_bins=n_bins, max_distance_mm=max_distance_mm)
    return pairs.difference(values)


def standardised(
    responses: Responses, seed: int
) -> tuple[Int[np.ndarray, " units"], Float[np.ndarray, "stimuli units"]]:
    """Units that vary, and their responses with mean 0 and length 1: products of columns are correlations."""
    values = responses.values.astype(np.float64)
    units = sample_units(np.flatnonzero(np.ptp(values, axis=0) > 0), responses.site, seed)
    return units, unit_length(values[:, units])


def unit_length(values: Float[np.ndarray, "stimuli units"]) -> Float[np.ndarray, "stimuli units"]:
    """Columns with mean 0 and length 1."""
    centred = values - values.mean(axis=0)
    return centred / np.sqrt(np.square(centred).sum(axis=0))


def sample_units(units: np.ndarray, site: str, seed: int) -> np.ndarray:
    """All units that can be compared, or a sample of them where they are too many for all their pairs."""
    check_seed(seed)
    if len(units) < 2:
        raise ValueError(f"{len(units)} units at {site!r} can be compared; expected at least 2 with values that vary")
    if len(units) <= _MAX_UNITS:
        return units
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(units, _MAX_UNITS, replace=False))


class Pairs:
    """All pairs of some units, sorted into bins by their distance once for any number of quantities."""

    def __init__(
        self, sheet: Sheet, units: Int[np.ndarray, " units"], *, n_bins: int, max_distance_mm: float | None = None
    ) -> None:
        if n_bins < 1:
            raise ValueError(f"n_bins={n_bins}; expected at least 1")
        positions = sheet.positions_mm[torch.from_numpy(units)]
        starts = range(0, len(units), _ROWS_AT_ONCE)
        # a unit is paired with the units after it only
        self.blocks = [(slice(start, start + _ROWS_AT_ONCE), slice(start, None)) for start in starts]
        gaps = []
        for rows, columns in self.blocks:
            gap = distances(positions[rows], positions[columns], period_mm=sheet.period_mm).numpy()
            counted = np.arange(gap.shape[1]) > np.arange(gap.shape[0])[:, None]
            gaps.append(np.where(counted if max_distance_mm is None else counted & (gap <= max_distance_mm), gap, -1))
        between = np.concatenate([gap[gap >= 0] for gap in gaps])
        if not len(between):
            raise ValueError(
                f"sheet {sheet.name!r}: no pair of units within max_distance_mm={max_distance_mm}; widen it"
            )
        self.edges_mm = np.histogram_bin_edges(between, bins=n_bins)
        # bin 0 holds what is not counted; the last bin its upper edge too
        self.bins = [np.minimum(np.searchsorted(self.edges_mm, gap, side="right"), n_bins) * (gap >= 0) for gap in gaps]
        self.bins = [bins.ravel().astype(np.min_scalar_type(n_bins)) for bins in self.bins]
        self.n_pairs = np.sum([np.bincount(bins, minlength=n_bins + 1)[1:] for bins in self.bins], axis=0)

    def correlation(self, standard: Float[np.ndarray, "stimuli units"]) -> DistanceCurve:
        """Mean correlation, of responses as `standardised` gives them."""
        return self._curve(lambda rows, columns: standard[:, rows].T @ standard[:, columns])

    def difference(self, values: Float[np.ndarray, " units"]) -> DistanceCurve:
        """Mean absolute difference of a map."""
        return self._curve(lambda rows, columns: np.abs(values[rows, None] - values[columns]))

    def _curve(self, pairwise: Callable[[slice, slice], np.ndarray]) -> DistanceCurve:
        """Mean of a quantity in every bin; ``pairwise`` gives its values for some rows and columns of all pairs."""
        n_bins = len(self.n_pairs)
        total = np.zeros(n_bins)
        for (rows, columns), bins in zip(self.blocks, self.bins, strict=True):
            total += np.bincount(bins, weights=pairwise(rows, columns).ravel(), minlength=n_bins + 1)[1:]
        means = np.divide(total, self.n_pairs, out=np.full(n_bins, np.nan), where=self.n_pairs > 0)
        return DistanceCurve(self.edges_mm, means, self.n_pairs)
