"""A number over replicates (seeds), and its difference between models that share them."""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

__all__ = ["PairedDifference", "Replicates", "over_replicates", "paired_difference"]

_MOST_EXACT = 16


@dataclass(frozen=True)
class Replicates:
    """A number over replicates.

    Parameters
    ----------
    n : int
        Replicates.
    mean, sd : float
        Mean and standard deviation (ddof 1); the latter NaN for one replicate.
    low, high : float
        Interval of Student's t for the mean; NaN for one replicate.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """A number of one model less that of another, replicate by replicate.

    Parameters
    ----------
    difference : Replicates
        Of the differences.
    p_t : float
        Two-sided, paired t test; NaN for one pair, or where all differences are equal.
    p_sign_flip : float
        Two-sided: the share of all choices of signs under which the mean difference is at least as far from zero.
        It cannot be below ``2 / 2^n``; NaN for one pair.
    """

    difference: Replicates
    p_t: float
    p_sign_flip: float


def over_replicates(values: Iterable[float], *, confidence: float = 0.95) -> Replicates:
    """Mean, standard deviation and interval of a number over replicates.

    ``mean +- t(1 - (1 - confidence) / 2; n - 1) sd / sqrt(n)``
    """
    found = np.array(list(values), dtype=np.float64)
    if not found.size or not np.isfinite(found).all():
        raise ValueError(
            f"{found.size} values, {int(np.isfinite(found).sum())} of them finite; expected at least one, all finite: "
            "leave out replicates that were not measured"
        )
    n, mean = len(found), float(found.mean())
    if n == 1:
        return Replicates(1, mean, math.nan, math.nan, math.nan)
    sd = float(found.std(ddof=1))
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * sd / math.sqrt(n)
    return Replicates(n, mean, sd, mean - half, mean + half)


def paired_difference(
    values: Mapping[Any, float], references: Mapping[Any, float], *, confidence: float = 0.95
) -> PairedDifference | None:
    """Difference between two models over the replicates that both have.

    Notes
    -----
    The t test supposes normal differences, the sign flips only symmetric ones (Fisher's randomization of a paired
    design). Flips are enumerated up to 16 pairs; for more, 65536 choices of signs are drawn with a fixed seed, and
    ``p = (1 + reached) / (1 + drawn)``.
    """
    shared = [key for key in values if key in references]
    if not shared:
        return None
    differences = np.array([values[key] - references[key] for key in shared], dtype=np.float64)
    summary = over_replicates(differences, confidence=confidence)
    if summary.n == 1:
        return PairedDifference(summary, math.nan, math.nan)
    varied = summary.sd > 1e-12 * max(1.0, abs(summary.mean))
    t = abs(summary.mean) / (summary.sd / math.sqrt(summary.n)) if varied else math.nan
    p_t = float(2 * stats.t.sf(t, summary.n - 1))
    return PairedDifference(summary, p_t, _sign_flip(differences))


def _sign_flip(differences: np.ndarray) -> float:
    n = len(differences)
    if n <= _MOST_EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
        drawn = 0
    else:
        generator = np.random.default_rng(0)
        signs = generator.choice((1.0, -1.0), size=(2**_MOST_EXACT, n))
        drawn = 1  # the observed choice of signs counts as one of the draws
    observed = abs(differences.sum())
    reached = np.abs(signs @ differences) >= observed * (1 - 1e-9)
    return float((drawn + reached.sum()) / (drawn + len(signs)))
