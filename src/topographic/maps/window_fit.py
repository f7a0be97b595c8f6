"""Fits of integration windows: a power law and an exponential, mixed, for many units at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Real

__all__ = ["WindowFit", "fit_windows", "window_curve"]

_LOWER, _UPPER = np.zeros(3), np.array([10.0, 10.0, 1.0])  # of a, b and c
_RATES = np.concatenate([[0.0], np.geomspace(0.02, 10, 23)])  # where the search for a and b starts
_BATCH = 4096  # units searched at once; bounds memory at about 100 MB
_N_STEPS = 200


@dataclass(frozen=True, eq=False)
class WindowFit:
    """What was fitted to the windows of some units."""

    a: Float[np.ndarray, " units"]  # exponent of the power law: the larger, the faster it falls
    b: Float[np.ndarray, " units"]  # rate of the exponential, per word
    c: Float[np.ndarray, " units"]  # share of the power law
    rmse: Float[np.ndarray, " units"]  # root mean square of what the curve leaves over


def window_curve(
    lags: Sequence[int | float] | Real[np.ndarray, " lags"],
    a: Float[np.ndarray, " units"],
    b: Float[np.ndarray, " units"],
    c: Float[np.ndarray, " units"],
) -> Float[np.ndarray, "units lags"]:
    """Window of each unit by formula.

    ``theta(d) = c (d + 1)^(-a) + (1 - c) exp(-b d)``

    Parameters
    ----------
    lags : sequence of float, shape (lags,)
        Words since the swap, at least 0.
    a, b, c : ndarray, shape (units,)
        As in `WindowFit`.

    Returns
    -------
    ndarray, shape (units, lags)
        1 at lag 0.

    References
    ----------
    Skrill & Norman-Haignere 2023, NeurIPS 36.
    """
    lags = np.asarray(lags, dtype=np.float64)
    a, b, c = (np.asarray(parameter, dtype=np.float64)[:, None] for parameter in (a, b, c))
    return c * np.exp(-a * np.log1p(lags)) + (1 - c) * np.exp(-b * lags)


def fit_windows(
    windows: Float[np.ndarray, "units lags"], lags: Sequence[int | float] | Real[np.ndarray, " lags"]
) -> WindowFit:
    """Least-squares fit of every window.

    ``min over a, b in [0, 10], c in [0, 1] of sum_d (w(d) - c (d + 1)^(-a) - (1 - c) exp(-b d))^2``

    Parameters
    ----------
    windows : ndarray, shape (units, lags)
        Windows, 1 at lag 0; rows that hold NaN are not fitted.
    lags : sequence of float, shape (lags,)
        Words since the swap, at least 0; at least 4 different ones.

    Returns
    -------
    WindowFit
        Parameters and rest of every unit, NaN for units that were not fitted.

    Raises
    ------
    ValueError
        If the lags are fewer than 4, negative or not as many as the windows have.

    Notes
    -----
    For given a and b the best c has a closed form, so the fit starts from the best of a grid of a and b
    and cannot end in another valley than the lowest of the grid; the published code starts all units
    at a = b = 1, c = 0.5. From there on it is Levenberg-Marquardt within the bounds, all units at once.
    """
    windows, lags = np.asarray(windows, dtype=np.float64), np.asarray(lags, dtype=np.float64)
    if len(np.unique(lags)) < 4 or lags.min() < 0 or windows.shape[1:] != lags.shape:
        raise ValueError(
            f"windows of shape {windows.shape} with lags {lags.tolist()}; expected one column per lag and at least 4 "
            "different lags from 0 up: three parameters cannot be told apart by fewer"
        )
    known = ~np.isnan(windows).any(axis=1)
    parameters, rmse = np.full((len(windows), 3), np.nan), np.full(len(windows), np.nan)
    if known.any():
        fits = [_refined(windows[known], lags, start) for start in _starts(windows[known], lags)]
        costs = np.stack([cost for _, cost in fits])
        best = costs.argmin(axis=0)
        parameters[known] = np.stack([theta for theta, _ in fits])[best, np.arange(len(best))]
        rmse[known] = np.sqrt(costs.min(axis=0) / len(lags))
    a, b, c = parameters.T.copy()
    return WindowFit(a, b, c, rmse)


def _starts(
    windows: Float[np.ndarray, "units lags"], lags: Float[np.ndarray, " lags"]
) -> list[Float[np.ndarray, "units 3"]]:
    """Where to start: the best of the grid with the power law falling first, that with the exponential, and the middle.

    The sum of squares has a valley for either order, and which is the lower one differs between units.
    """
    a, b = (rates.ravel() for rates in np.meshgrid(_RATES, _RATES, indexing="ij"))
    power_falls_first = a * np.log(2) > b
    parts = np.array_split(windows, -(-len(windows) // _BATCH))
    starts = [
        np.concatenate([_best_of_rates(part, lags, a[order], b[order]) for part in parts])
        for order in (power_falls_first, ~power_falls_first)
    ]
    return [*starts, np.tile([1.0, 1.0, 0.5], (len(windows), 1))]


def _best_of_rates(
    windows: Float[np.ndarray, "units lags"],
    lags: Float[np.ndarray, " lags"],
    a: Float[np.ndarray, " rates"],
    b: Float[np.ndarray, " rates"],
) -> Float[np.ndarray, "units 3"]:
    """Best pair of rates, each pair with the share that suits it best."""
    exponential = window_curve(lags, a, b, np.zeros_like(a))
    gap = window_curve(lags, a, b, np.ones_like(a)) - exponential  # the curve is exponential + share * gap
    size = np.square(gap).sum(axis=1)
    along = windows @ gap.T - (exponential * gap).sum(axis=1)
    share = np.clip(np.divide(along, size, out=np.zeros_like(along), where=size > 0), 0, 1)
    cost = np.square(exponential).sum(axis=1) - 2 * windows @ exponential.T - 2 * share * along + share**2 * size
    best = cost.argmin(axis=1)
    return np.stack([a[best], b[best], share[np.arange(len(best)), best]], axis=1)


def _refined(
    windows: Float[np.ndarray, "units lags"], lags: Float[np.ndarray, " lags"], start: Float[np.ndarray, "units 3"]
) -> tuple[Float[np.ndarray, "units 3"], Float[np.ndarray, " units"]]:
    """Levenberg-Marquardt within the bounds: a parameter that a bound stops is left out of the step."""
    theta, cost = start.copy(), np.square(windows - window_curve(lags, *start.T)).sum(axis=1)
    damping = np.full(len(theta), 1e-3)
    moving = np.arange(len(theta))
    for _ in range(_N_STEPS):
        gradient, hessian = _slopes(windows[moving], lags, theta[moving])
        stopped = ((theta[moving] <= _LOWER) & (gradient > 0)) | ((theta[moving] >= _UPPER) & (gradient < 0))
        trial = np.clip(theta[moving] - _step(gradient, hessian, damping[moving], stopped), _LOWER, _UPPER)
        trial_cost = np.square(windows[moving] - window_curve(lags, *trial.T)).sum(axis=1)
        gain = cost[moving] - trial_cost
        better = moving[gain > 0]
        theta[better], cost[better] = trial[gain > 0], trial_cost[gain > 0]
        damping[moving] = np.where(gain > 0, damping[moving] / 10, damping[moving] * 10).clip(1e-12)
        has_settled = ((gain > 0) & (gain <= 1e-12 * cost[moving] + 1e-24)) | (damping[moving] > 1e10)
        moving = moving[~has_settled]
        if not len(moving):
            break
    return theta, cost


def _slopes(
    windows: Float[np.ndarray, "units lags"], lags: Float[np.ndarray, " lags"], theta: Float[np.ndarray, "units 3"]
) -> tuple[Float[np.ndarray, "units 3"], Float[np.ndarray, "units 3 3"]]:
    """Gradient and Gauss-Newton Hessian of half the sum of squares."""
    a, b, c = (parameter[:, None] for parameter in theta.T)
    power, exponential = np.exp(-a * np.log1p(lags)), np.exp(-b * lags)
    rest = c * power + (1 - c) * exponential - windows
    jacobian = np.stack([-c * np.log1p(lags) * power, -(1 - c) * lags * exponential, power - exponential], axis=1)
    return np.einsum("upl,ul->up", jacobian, rest), jacobian @ jacobian.transpose(0, 2, 1)


def _step(
    gradient: Float[np.ndarray, "units 3"],
    hessian: Float[np.ndarray, "units 3 3"],
    damping: Float[np.ndarray, " units"],
    stopped: Bool[np.ndarray, "units 3"],
) -> Float[np.ndarray, "units 3"]:
    """Damped Newton step of the parameters that may move, none of the others."""
    free = ~stopped
    curvature = np.where(free[:, :, None] & free[:, None, :], hessian, 0.0)
    diagonal = np.einsum("upp->up", curvature)  # a view
    diagonal += damping[:, None] * np.maximum(diagonal, 1e-9) + np.where(stopped, 1.0, 0.0)
    return np.linalg.solve(curvature, np.where(free, gradient, 0.0)[..., None])[..., 0]
