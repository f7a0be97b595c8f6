"""Two groups of items compared unit by unit: Welch's t and Cohen's d, for one labelling or for many at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import stdtr

__all__ = [
    "STATISTICS",
    "Moments",
    "Statistic",
    "cohens_d",
    "group_moments",
    "grouped_p",
    "residual_moments",
    "side_means",
    "signed_moments",
    "welch_p",
    "welch_t",
]

# below this share of the mean square a variance is rounding error of the sums it was computed from
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance of two groups of items, unit by unit."""

    condition_mean: Float[np.ndarray, "*draws units"]
    condition_variance: Float[np.ndarray, "*draws units"]
    baseline_mean: Float[np.ndarray, "*draws units"]
    baseline_variance: Float[np.ndarray, "*draws units"]
    n_condition: int | Int[np.ndarray, "draws 1"]  # one number each where labellings differ in it
    n_baseline: int | Int[np.ndarray, "draws 1"]


Statistic = Callable[[Moments], np.ndarray]


def group_moments(
    values: Float[np.ndarray, "*batch items units"], in_condition: Bool[np.ndarray, "draws items"]
) -> Moments:
    """Moments of both groups under every labelling, from sums.

    With ``A`` the 0/1 labelling, ``sum_1 = A X`` and ``square_1 = A X^2``; what is left of the totals
    belongs to the baseline; ``variance = (square - sum^2 / n) / (n - 1)``. Two matrix products serve
    any number of labellings. Where labels move with whole groups of items, labellings may differ in ``n``.
    """
    values = values.astype(np.float64, copy=False)
    labels = in_condition.astype(np.float64)
    counts = in_condition.sum(1)
    n_condition = int(counts[0]) if (counts == counts[0]).all() else counts[:, None]
    n_baseline = in_condition.shape[1] - n_condition
    squares = np.square(values)
    sum_1, square_1 = labels @ values, labels @ squares
    sum_2 = values.sum(-2, keepdims=True) - sum_1
    square_2 = squares.sum(-2, keepdims=True) - square_1
    return Moments(
        sum_1 / n_condition,
        _variance(sum_1, square_1, n_condition),
        sum_2 / n_baseline,
        _variance(sum_2, square_2, n_baseline),
        n_condition,
        n_baseline,
    )


def _variance(total: np.ndarray, square: np.ndarray, n_items: int | np.ndarray) -> np.ndarray:
    scatter = square - total**2 / n_items
    # a labelling that leaves one item on a side knows no variance of it
    return np.where(scatter > _ROUNDING * np.abs(square), scatter, 0.0) / np.maximum(n_items - 1, 1)


def signed_moments(
    residuals: Float[np.ndarray, "items units"],
    in_condition: Bool[np.ndarray, " items"],
    signs: Float[np.ndarray, "draws items"],
) -> Moments:
    """Moments of both groups when every item has its residual times a sign, for every draw of the signs.

    ``sum_c = (S A_c) E`` with ``A_c`` the group's 0/1 diagonal; the squares are the same in every draw.
    """
    (mean_1, variance_1, n_1), (mean_2, variance_2, n_2) = (
        _signed_side(residuals[side], signs[:, side]) for side in (in_condition, ~in_condition)
    )
    return Moments(mean_1, variance_1, mean_2, variance_2, n_1, n_2)


def residual_moments(
    means: Float[np.ndarray, "2 draws units"],
    squares: Float[np.ndarray, "2 draws units"],
    n_condition: int,
    n_baseline: int,
) -> Moments:
    """Moments of both groups from their means and the sums of squares about them, condition first."""
    variance_1, variance_2 = (
        np.where(square > _ROUNDING * n * np.square(mean), square, 0.0) / (n - 1)
        for mean, square, n in zip(means, squares, (n_condition, n_baseline), strict=True)
    )
    return Moments(means[0], variance_1, means[1], variance_2, n_condition, n_baseline)


def _signed_side(residuals: np.ndarray, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    n_items, total = len(residuals), signs @ residuals
    return total / n_items, _variance(total, np.square(residuals).sum(0), n_items), n_items


def side_means(
    values: Float[np.ndarray, "items units"],
    in_condition: Bool[np.ndarray, " items"],
    groups: Int[np.ndarray, " items"],
) -> tuple[Float[np.ndarray, "means units"], Bool[np.ndarray, " means"], Int[np.ndarray, " means"]]:
    """Mean of every group's items on each side of a contrast, with the side and the group of each mean."""
    cells, cell = np.unique(2 * groups + in_condition, return_inverse=True)
    means = np.zeros((len(cells), values.shape[1]))
    np.add.at(means, cell, values)
    return means / np.bincount(cell)[:, None], cells % 2 == 1, cells // 2


def grouped_p(
    values: Float[np.ndarray, "items units"],
    in_condition: Bool[np.ndarray, " items"],
    groups: Int[np.ndarray, " items"],
) -> Float[np.ndarray, " units"] | None:
    """Two-sided p of each unit when groups of items were sampled: a test of the groups' means.

    Of Welch over the means of the groups on each side; of the paired t test where every group has items on both
    sides. None where a side has one group, or there is one pair: then nothing says how groups vary.
    """
    means, on_condition, group = side_means(values, in_condition, groups)
    n_condition = int(on_condition.sum())
    if min(n_condition, len(means) - n_condition) < 2:
        return None
    if (np.bincount(group)[np.unique(group)] < 2).any():
        return welch_p(group_moments(means, on_condition[None]))[0]
    # the means come by group, the baseline first
    difference, size = means[1::2] - means[::2], np.square(means).mean(0)
    center, rest = difference.mean(0), difference.var(0, ddof=1)
    rest = np.where(rest > _ROUNDING * size, rest, 0.0)
    differs = np.square(center) > _ROUNDING * size
    exact = np.where(differs, np.inf, 0.0)
    t = np.divide(np.abs(center), np.sqrt(rest / len(difference)), out=exact, where=rest > 0)
    return 2.0 * stdtr(len(difference) - 1, -t)


def welch_t(moments: Moments) -> Float[np.ndarray, "*draws units"]:
    """Welch's t of each unit, for groups of unequal variance.

    ``t = (m_1 - m_2) / sqrt(s_1^2 / n_1 + s_2^2 / n_2)``; infinite where the means differ and neither group varies.

    Notes
    -----
    Variances are unbiased (ddof 1), as in Welch's test and in scipy. The code released with TDANN (Margalit et al.
    2024, Neuron 112) divides by the number of items (ddof 0): its t is larger, by ``sqrt(n / (n - 1))`` where both
    groups have ``n`` items, which matters to thresholds taken from there where items are few.

    References
    ----------
    Welch 1947, Biometrika 34.
    """
    error = moments.condition_variance / moments.n_condition + moments.baseline_variance / moments.n_baseline
    return _relative_to(np.sqrt(error), moments)


def welch_p(moments: Moments) -> Float[np.ndarray, "*draws units"]:
    """Two-sided p value of `welch_t`, with the degrees of freedom of Welch and Satterthwaite.

    ``df = (a + b)^2 / (a^2 / (n_1 - 1) + b^2 / (n_2 - 1))`` with ``a = s_1^2 / n_1``, ``b = s_2^2 / n_2``.
    """
    # relative to their sum, so that neither square underflows
    first = moments.condition_variance / moments.n_condition
    second = moments.baseline_variance / moments.n_baseline
    error = first + second
    share = np.divide(first, error, out=np.full_like(error, 0.5), where=error > 0)
    freedom = 1.0 / (share**2 / (moments.n_condition - 1) + (1 - share) ** 2 / (moments.n_baseline - 1))
    t = np.abs(welch_t(moments))
    return np.where(error > 0, 2.0 * stdtr(freedom, -t), np.where(np.isinf(t), 0.0, 1.0))


def cohens_d(moments: Moments) -> Float[np.ndarray, "*draws units"]:
    """Cohen's d of each unit, with the pooled standard deviation.

    ``d = (m_1 - m_2) / sqrt(((n_1 - 1) s_1^2 + (n_2 - 1) s_2^2) / (n_1 + n_2 - 2))``

    References
    ----------
    Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, ch. 2.
    """
    free_1, free_2 = moments.n_condition - 1, moments.n_baseline - 1
    pooled = (free_1 * moments.condition_variance + free_2 * moments.baseline_variance) / (free_1 + free_2)
    return _relative_to(np.sqrt(pooled), moments)


def _relative_to(error: np.ndarray, moments: Moments) -> Float[np.ndarray, "*draws units"]:
    """Difference of the means by its error: where there is none, infinite with a difference and 0 without."""
    difference = moments.condition_mean - moments.baseline_mean
    exact = np.zeros_like(difference)
    if not error.all():
        size = np.square(moments.condition_mean) + np.square(moments.baseline_mean)
        differs = np.square(difference) > _ROUNDING * size
        exact[differs] = np.copysign(np.inf, difference[differs])
    return np.divide(difference, error, out=exact, where=error > 0)


STATISTICS: dict[str, Statistic] = {"welch_t": welch_t, "cohens_d": cohens_d}
