"""Smoothness: two definitions in circulation, which are different numbers and are named apart."""

from collections.abc import Callable

import numpy as np

from topographic.maps.curves import DistanceCurve

__all__ = ["SMOOTHNESS", "correlation_range", "difference_rise"]


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


SMOOTHNESS: dict[str, Callable[[DistanceCurve], float]] = {"toponets": correlation_range, "tdann": difference_rise}
