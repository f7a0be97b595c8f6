"""Curves over checkpoints, whose neighbours are not independent: which of two others explains more of one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from topographic.maps import NotMeasurable

__all__ = [
    "Curves",
    "Explained",
    "RelationEnd",
    "compare_explained",
    "interval_over_series",
    "r_squared",
    "relation_end",
]

_FEWEST = 8  # checkpoints: two blocks or more, and a line through each draw
_CONFIDENCE = 0.95


class Curves(NamedTuple):
    """One series of checkpoints in their order: what is to be explained, and the two that explain it."""

    explained: Float[np.ndarray, " checkpoints"]
    first: Float[np.ndarray, " checkpoints"]
    second: Float[np.ndarray, " checkpoints"]


class Explained(NamedTuple):
    """R2 of one curve on each of two others, mean over series, and their difference, each with its interval."""

    first: tuple[float, float, float]
    second: tuple[float, float, float]
    difference: tuple[float, float, float]
    p: float
    n_series: int
    n_checkpoints: int
    block: int


def compare_explained(series: Sequence[Curves], *, n_draws: int = 1999, seed: int = 0) -> Explained:
    """R2 of one curve on two competitors, with intervals that respect the order of checkpoints.

    ``R2 = corr(explained, competitor)^2`` over the checkpoints of a series, averaged over series. Every draw takes
    blocks of a quarter of the checkpoints that follow one another (moving blocks) from every series, with the three
    curves together, and with three series or more also draws the series. An interval is the value plus or minus
    Student's t times the standard deviation over draws, with as many degrees of freedom as all series have whole
    blocks, less one; p is of the difference, two-sided.

    The null hypothesis: the curve follows both competitors equally closely.

    Parameters
    ----------
    series : sequence of Curves
        One per seed or model.
    n_draws : int
        Draws of the bootstrap.
    seed : int
        Of the draws.

    Returns
    -------
    Explained
        Each number with low and high (95 %).

    Raises
    ------
    NotMeasurable
        If there are fewer than 8 checkpoints in a series, or a curve does not change.

    Notes
    -----
    Percentiles of the same draws are too narrow: 8 to 26 % false differences at 5 % with one series of 12 to 31
    checkpoints. Two curves that rise together have a large R2 whatever drives them; only the difference says which one
    is followed more closely.

    References
    ----------
    Künsch 1989, Ann Stat 17 (moving blocks).

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> first, second = draw.standard_normal((2, 16))
    >>> found = compare_explained([Curves(first + 0.1 * second, first, second)], n_draws=99)
    >>> bool(found.difference[0] > 0.5)
    True
    """
    curves = [Curves(*(np.asarray(one, dtype=np.float64) for one in entry)) for entry in series]
    if not curves:
        raise NotMeasurable("no series of checkpoints; give at least one")
    for one in curves:
        if len(one.explained) < _FEWEST:
            raise NotMeasurable(f"{len(one.explained)} checkpoints; expected {_FEWEST} or more for blocks of them")
        if any(not np.isfinite(curve).all() or np.ptp(curve) == 0 for curve in one):
            raise NotMeasurable("a curve is constant or has no number at some checkpoint; measure it at all of them")
    source = np.random.default_rng(seed)
    n_series, shortest = len(curves), min(len(one.explained) for one in curves)
    values = np.array([[r_squared(one.explained, side) for side in one[1:]] for one in curves]).mean(axis=0)
    draws = np.stack([_drawn(one, source, n_draws) for one in curves])  # series, draws, two
    if n_series >= 3:
        picked = source.integers(0, n_series, (n_series, n_draws))
        draws = draws[picked, np.arange(n_draws)]
    freedom = sum(len(one.explained) // _block(len(one.explained)) for one in curves) - 1
    both = draws.mean(axis=0)
    found = np.column_stack([both, both[:, 0] - both[:, 1]])
    points = np.array([*values, values[0] - values[1]])
    spread = found.std(axis=0, ddof=1)
    reach = stats.t.ppf((1 + _CONFIDENCE) / 2, freedom) * spread
    p = 1.0 if spread[2] == 0 else float(2 * stats.t.sf(abs(points[2]) / spread[2], freedom))
    triples = [
        (float(point), float(point - wide), float(point + wide)) for point, wide in zip(points, reach, strict=True)
    ]
    least = (0.0, 0.0, -1.0)  # what R2 and their difference can be
    first, second, difference = (
        (point, max(low, end), min(high, 1.0)) for (point, low, high), end in zip(triples, least, strict=True)
    )
    return Explained(first, second, difference, p, n_series, shortest, _block(shortest))


class RelationEnd(NamedTuple):
    """After which checkpoint a curve no longer follows another, with its interval, and p against never."""

    place: int
    low: int
    high: int
    p: float
    slope: float
    r_squared: float
    n_series: int


def relation_end(
    explained: Float[np.ndarray, "series checkpoints"],
    competitor: Float[np.ndarray, "series checkpoints"],
    *,
    n_draws: int = 999,
    seed: int = 0,
) -> RelationEnd:
    """The checkpoint after which a curve no longer follows another.

    ``y[s, t] = a[s] + b x[s, min(t, c)] + e[s, t]``: one slope and one end c for all series of a group, c where the
    sum of squares is smallest, with four checkpoints or more up to it and three or more after it. p: how often the
    line without an end and residuals drawn anew give as large a ratio of both sums of squares; residuals are drawn as
    a first-order autoregression with the memory of those that are left. The interval of c (95 %) is of such residuals
    around the fitted curve.

    The null hypothesis: one slope holds for all checkpoints, about which residuals wander.

    Parameters
    ----------
    explained, competitor : ndarray, shape (series, checkpoints)
        Seeds of one model measured at the same checkpoints.
    n_draws : int
        Draws of residuals.
    seed : int
        Of the draws.

    Returns
    -------
    RelationEnd
        Places among the checkpoints, the slope before the end, and the share of variance within series explained.

    Raises
    ------
    NotMeasurable
        If there are fewer than 8 checkpoints, or a curve does not change.

    Notes
    -----
    False ends at 5 %: 3 to 7 % with three series of 12 to 31 checkpoints and a memory up to .8, 9 % with a single one
    of that memory.

    Examples
    --------
    >>> x = np.linspace(0, 1, 16)[None]
    >>> noise = 0.01 * np.random.default_rng(0).standard_normal(16)
    >>> relation_end(np.minimum(x, x[:, [7]]) + noise, x, n_draws=99).place
    7
    """
    y, x = (np.asarray(one, dtype=np.float64) for one in (explained, competitor))
    n_series, n = y.shape
    if n < _FEWEST:
        raise NotMeasurable(f"{n} checkpoints; expected {_FEWEST} or more for blocks of them")
    if not (np.isfinite(y).all() and np.isfinite(x).all()) or np.ptp(y, axis=1).min() == 0 or np.ptp(x) == 0:
        raise NotMeasurable("a curve is constant or has no number at some checkpoint; measure it at all of them")
    candidates = [*range(3, n - 3), n - 1]
    held = np.stack([_centred(x[:, np.minimum(np.arange(n), end)]) for end in candidates])  # ends, series, checkpoints
    scale = np.maximum(np.square(held).sum(axis=(1, 2)), 1e-300)

    def sums_of_squares(curves: np.ndarray) -> np.ndarray:
        own = _centred(curves)
        along = np.einsum("est,...st->...e", held, own)
        return np.square(own).sum(axis=(-1, -2))[..., None] - np.square(along) / scale

    def fitted(which: int) -> np.ndarray:
        slope = (held[which] * _centred(y)).sum() / scale[which]
        return y.mean(axis=1, keepdims=True) + slope * held[which]

    source = np.random.default_rng(seed)
    own = sums_of_squares(y)
    best = int(own[:-1].argmin())

    def drawn(which: int) -> np.ndarray:
        # degrees of freedom: an intercept of each series, the slope, and the end
        left = _centred(y - fitted(which)) * np.sqrt(y.size / max(1, y.size - n_series - 2))
        return fitted(which) + _wandering(left, source, n_draws)

    def ratio(sums: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(sums[..., -1], 1e-300) / np.maximum(sums[..., :-1].min(axis=-1), 1e-300))

    p = (1 + int((ratio(sums_of_squares(drawn(-1))) >= ratio(own[None])).sum())) / (n_draws + 1)
    ends = np.array(candidates)[sums_of_squares(drawn(best)).argmin(axis=-1)]
    low, high = np.percentile(ends, [2.5, 97.5], method="nearest")
    slope = float((held[best] * _centred(y)).sum() / scale[best])
    share = 1 - float(own[best] / np.square(_centred(y)).sum())
    return RelationEnd(candidates[best], int(low), int(high), p, slope, share, n_series)


def _centred(curves: np.ndarray) -> np.ndarray:
    return curves - curves.mean(axis=-1, keepdims=True)


def _wandering(left: np.ndarray, source: np.random.Generator, n_draws: int) -> Float[np.ndarray, "draws series n"]:
    """Residuals drawn anew, neighbours as alike as those that are given (autoregressive, of order one)."""
    n_series, n = left.shape
    memory = (left[:, 1:] * left[:, :-1]).sum() / max(np.square(left).sum(), 1e-300)
    # an estimate of so few neighbours is too small (Marriott & Pope 1954)
    memory = float(np.clip(memory + (1 + 4 * max(memory, 0.0)) / n, 0.0, 0.95))
    steps = source.standard_normal((n_draws, n_series, n)) * left.std()
    found = np.empty_like(steps)
    found[..., 0] = steps[..., 0]
    for place in range(1, n):
        found[..., place] = memory * found[..., place - 1] + np.sqrt(1 - memory**2) * steps[..., place]
    return found


def r_squared(
    explained: Float[np.ndarray, "*any n"], competitor: Float[np.ndarray, "*any n"]
) -> Float[np.ndarray, "*any"]:
    """Squared correlation along the last axis; 0 where one of both does not change."""
    y, x = (one - one.mean(axis=-1, keepdims=True) for one in (explained, competitor))
    scale = (y * y).sum(axis=-1) * (x * x).sum(axis=-1)
    return np.where(scale > 0, (x * y).sum(axis=-1) ** 2 / np.where(scale > 0, scale, 1.0), 0.0)


def interval_over_series(values: Float[np.ndarray, " series"]) -> tuple[float, float, float]:
    """Mean of one number over series and its interval (Student's t); no interval of a single series."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1) * stats.sem(values))
    return mean, mean - reach, mean + reach


def _block(n_checkpoints: int) -> int:
    return -(-n_checkpoints // 4)


def _drawn(one: Curves, source: np.random.Generator, n_draws: int) -> Float[np.ndarray, "draws 2"]:
    """R2 on both competitors in checkpoints drawn block by block."""
    n, block = len(one.explained), _block(len(one.explained))
    starts = source.integers(0, n - block + 1, (n_draws, -(-n // block)))
    places = (starts[..., None] + np.arange(block)).reshape(n_draws, -1)[:, :n]
    return np.column_stack([r_squared(one.explained[places], side[places]) for side in one[1:]])
