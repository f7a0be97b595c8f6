"""Smoothness: two definitions in circulation, which are different numbers and are named apart."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from topographic.maps.curves import DistanceCurve, Pairs, sample_units, standardised, unit_length
from topographic.maps.nulls import check_draws, stream
from topographic.maps.references import Referenced, against_nulls, compare
from topographic.maps.unit_map import UnitMap
from topographic.recording.responses import Responses

__all__ = [
    "SMOOTHNESS",
    "ResponseSmoothness",
    "correlation_range",
    "difference_rise",
    "response_smoothness",
    "tuning_smoothness",
]


def correlation_range(curve: DistanceCurve) -> float:
    """Smoothness as in TopoNets: how far correlation falls with distance.

    ``max_b c(b) - min_b c(b)`` over the bins that hold a pair.

    Parameters
    ----------
    curve : DistanceCurve
        Correlation by distance (`correlation_by_distance`).

    Returns
    -------
    float
        0 for a flat curve; at most 2.

    Notes
    -----
    The paper does not state its bins. Narrow bins at long distances hold few pairs, and their scatter
    counts as smoothness: compare curves of equal bins only.

    References
    ----------
    Deb et al. 2025, TopoNets, ICLR, arXiv:2501.16396.
    """
    return float(np.nanmax(curve.values) - np.nanmin(curve.values))


def difference_rise(curve: DistanceCurve) -> float:
    """Smoothness as in TDANN: how much less neighbours differ in tuning than units far apart.

    ``(max_b c(b) - c(first)) / max_b c(b)`` over the bins before the first empty one.

    Parameters
    ----------
    curve : DistanceCurve
        Absolute difference in tuning by distance (`difference_by_distance`).

    Returns
    -------
    float
        In [0, 1]: 0 if near units differ as much as any, 1 if they do not differ at all.

    Raises
    ------
    ValueError
        If the first bin is empty, or the curve is negative somewhere and so no difference.

    Notes
    -----
    The released code calls every flat curve perfectly smooth (1), also that of a map without any
    structure; here it is 0 by the formula, and 1 only where all differences are zero.

    References
    ----------
    Margalit et al. 2024, Neuron 112; spacetorch/utils/spatial_utils.py.
    """
    empty = np.flatnonzero(np.isnan(curve.values))
    values = curve.values[: empty[0]] if len(empty) else curve.values
    if not len(values):
        raise ValueError("the first bin of the curve is empty; expected pairs in it: use fewer bins")
    if values.min() < 0:
        raise ValueError(
            f"the curve falls to {values.min():.3g}; expected absolute differences: use difference_by_distance"
        )
    return float((values.max() - values[0]) / values.max()) if values.max() > 0 else 1.0


@dataclass(frozen=True, eq=False)
class ResponseSmoothness:
    """How far the correlation of responses falls with distance, beside what chance makes of it.

    Parameters
    ----------
    smoothness : Referenced
        `correlation_range` of the curve, of white noise on the sheet (floor) and of the same responses with
        the units of the sheet permuted (unit null).
    curve : DistanceCurve
        Correlation by distance.
    unit_curve : DistanceCurve or None
        Mean of the curves of the permuted sheets; None without draws.
    """

    smoothness: Referenced
    curve: DistanceCurve
    unit_curve: DistanceCurve | None


def response_smoothness(
    responses: Responses, *, n_bins: int = 15, n_draws: int = 0, seed: int = 0
) -> ResponseSmoothness:
    """Smoothness of responses as in TopoNets, with the floor and the unit null of its curve.

    The null hypothesis of the unit null: it does not matter which unit lies in which place.

    Parameters
    ----------
    responses : Responses
        Responses of one site.
    n_bins, seed
        As in `correlation_by_distance`; the seed is also that of the nulls.
    n_draws : int
        Draws of floor and unit null; 0 for none, otherwise at least 2.

    Returns
    -------
    ResponseSmoothness
        The number with its references, and the curves.

    Raises
    ------
    ValueError
        As `correlation_by_distance`.

    Notes
    -----
    The highest less the lowest of some means is above 0 for any responses, the more so the fewer items there
    are and the fewer pairs the last bins hold; floor and unit null say by how much.
    """
    check_draws(n_draws, seed)
    units, standard = standardised(responses, seed)
    pairs = Pairs(responses.sheet, units, n_bins=n_bins)
    curve = pairs.correlation(standard)
    value = correlation_range(curve)
    if not n_draws:
        return ResponseSmoothness(Referenced(value), curve, None)
    generator = stream(seed, "unit", responses.site)
    permuted = [pairs.correlation(standard[:, generator.permutation(len(units))]) for _ in range(n_draws)]
    generator = stream(seed, "floor", responses.site)
    noise = (generator.standard_normal(standard.shape) for _ in range(n_draws))
    floor = [correlation_range(pairs.correlation(unit_length(one))) for one in noise]
    unit = compare(value, np.array([correlation_range(one) for one in permuted]))
    mean = DistanceCurve(curve.edges_mm, np.mean([one.values for one in permuted], axis=0), curve.n_pairs)
    drawn = {"floor": compare(value, np.array(floor)), "unit": unit}
    return ResponseSmoothness(Referenced(value, drawn), curve, mean)


def tuning_smoothness(unit_map: UnitMap, *, n_bins: int = 9, seed: int = 0) -> Referenced:
    """Smoothness of a map of tuning as in TDANN, beside the nulls that the map carries.

    Parameters
    ----------
    unit_map : UnitMap
        Map of a tuning, for example t.
    n_bins, seed
        As in `difference_by_distance`.

    Returns
    -------
    Referenced
        `difference_rise` of the map and of its null maps.

    Raises
    ------
    ValueError
        As `difference_by_distance` and `difference_rise`.
    """
    units = sample_units(np.flatnonzero(~np.isnan(unit_map.values)), unit_map.site, seed)
    pairs = Pairs(unit_map.sheet, units, n_bins=n_bins)
    return against_nulls(
        unit_map, lambda maps: np.array([difference_rise(pairs.difference(one)) for one in maps[:, units]])
    )


SMOOTHNESS: dict[str, Callable[[DistanceCurve], float]] = {"toponets": correlation_range, "tdann": difference_rise}
