"""How well a recording is predicted, whether by chance, and what subjects' scores are worth in a group."""

from collections.abc import Mapping
from itertools import product

import numpy as np
from jaxtyping import Float, Shaped
from scipy.stats import false_discovery_control

from topographic.maps.nulls import check_draws, stream

__all__ = [
    "group_sign_flip",
    "p_among_draws",
    "pearson_r",
    "r2_score",
    "shift_test",
]


def pearson_r(
    observed: Shaped[np.ndarray, "samples targets"], predicted: Shaped[np.ndarray, "samples targets"]
) -> Float[np.ndarray, " targets"]:
    """Correlation of each column with its prediction; NaN where either is constant."""
    first = observed - observed.mean(axis=0, dtype=np.float64)
    second = predicted - predicted.mean(axis=0, dtype=np.float64)
    size = np.sqrt(np.square(first).sum(axis=0) * np.square(second).sum(axis=0))
    scale = np.sqrt(
        np.square(observed).sum(axis=0, dtype=np.float64) * np.square(predicted).sum(axis=0, dtype=np.float64)
    )
    varied = size > 1e-12 * scale  # a constant column differs from its mean by rounding errors
    return np.divide((first * second).sum(axis=0), size, out=np.full(size.shape, np.nan), where=varied)


def r2_score(
    observed: Shaped[np.ndarray, "samples targets"], predicted: Shaped[np.ndarray, "samples targets"]
) -> Float[np.ndarray, " targets"]:
    """``1 - sum (y - yhat)^2 / sum (y - mean(y))^2`` per column: below 0 where worse than the mean; NaN if constant."""
    residual = np.square(observed - predicted.astype(np.float64)).sum(axis=0)
    total = np.square(observed - observed.mean(axis=0, dtype=np.float64)).sum(axis=0)
    varied = total > 1e-24 * np.square(observed).sum(axis=0, dtype=np.float64)
    return 1 - np.divide(residual, total, out=np.full(total.shape, np.nan), where=varied)


def p_among_draws(
    values: Float[np.ndarray, " targets"], draws: Float[np.ndarray, "draws targets"], correction: str = "bh"
) -> tuple[Float[np.ndarray, " targets"], Float[np.ndarray, " targets"]]:
    """One-sided p of each value among its draws, and p corrected over targets: "bh" (q) or "max_t" (family-wise).

    ``p = (1 + #{draw >= value}) / (draws + 1)``; max_t compares with the largest target of each draw. NaN stays NaN.
    """
    if correction not in ("bh", "max_t"):
        raise ValueError(f"correction={correction!r}; expected 'bh' or 'max_t'")
    tested = np.isfinite(values) & np.isfinite(draws).all(axis=0)
    p, corrected = np.full(len(values), np.nan), np.full(len(values), np.nan)
    if tested.any():
        reached = draws[:, tested] >= values[tested]
        p[tested] = (1 + reached.sum(axis=0)) / (len(draws) + 1)
        if correction == "bh":
            corrected[tested] = false_discovery_control(p[tested])
        else:
            largest = draws[:, tested].max(axis=1)
            corrected[tested] = (1 + (largest[:, None] >= values[tested]).sum(axis=0)) / (len(draws) + 1)
    return p, corrected


def shift_test(
    observed: Shaped[np.ndarray, "samples targets"],
    predicted: Shaped[np.ndarray, "samples targets"],
    *,
    n_draws: int = 199,
    least_shift: int = 10,
    correction: str = "bh",
    seed: int = 0,
) -> tuple[Float[np.ndarray, " targets"], Float[np.ndarray, " targets"]]:
    """P of the correlation with predictions of *one held-out recording*, against circular shifts of the predictions.

    The null hypothesis: where in time the predictions lie beside the recording does not matter.

    Parameters
    ----------
    observed, predicted : ndarray, shape (samples, targets)
        A recording and what a model that saw none of it predicts.
    n_draws : int
        Number of shifts drawn.
    least_shift : int
        Shifts nearer than this to none are left out, in samples.
    correction : {"bh", "max_t"}
        Over targets.
    seed : int
        Seed.

    Returns
    -------
    p, corrected : ndarray, shape (targets,)
        One-sided.

    Raises
    ------
    ValueError
        If the recording is too short to be shifted.

    Notes
    -----
    Not for predictions gathered over cross-validation folds: there every recording helped to fit the models that
    predict the others, fold scores are correlated, and shifting predictions calls 11 to 13 % of autocorrelated noise
    significant at 5 %. `significance` fits again in every draw.
    """
    check_draws(n_draws, seed, least=2)
    n = len(observed)
    if n <= 2 * least_shift + 1:
        raise ValueError(f"{n} samples cannot be shifted by {least_shift} or more; give a longer recording")
    shifts = stream(seed, "shift").integers(least_shift, n - least_shift + 1, n_draws)
    first = observed - observed.mean(axis=0, dtype=np.float64)
    second = predicted - predicted.mean(axis=0, dtype=np.float64)
    spectrum = np.fft.rfft(first, axis=0) * np.conj(np.fft.rfft(second, axis=0))
    # all shifts at once; both norms are those of every shift
    products = np.fft.irfft(spectrum, n=n, axis=0)
    return p_among_draws((first * second).sum(axis=0), products[shifts], correction)


def group_sign_flip(
    scores: Float[np.ndarray, "subjects targets"], *, n_draws: int = 9999, correction: str = "max_t", seed: int = 0
) -> Mapping[str, np.ndarray | bool]:
    """Mean score over subjects against 0 by flipping the signs of whole subjects.

    The null hypothesis: scores of subjects lie around 0 symmetrically, all targets of one together.

    Parameters
    ----------
    scores : ndarray, shape (subjects, targets)
        A score that is 0 on average if there is nothing: r, unique variance, difference from a control.
    n_draws : int
        Flips drawn; all of them are used, exactly, where there are no more than this.
    correction : {"max_t", "bh"}
        Over targets.
    seed : int
        Seed.

    Returns
    -------
    mapping
        "mean", "t", "p", "corrected" per target, and "exact".

    Raises
    ------
    ValueError
        If there are fewer than three subjects.
    """
    n = len(scores)
    if n < 3:
        raise ValueError(f"{n} subjects; expected 3 or more for a test over subjects (5 for p = .05)")
    exact = 2**n - 1 <= n_draws
    if exact:
        signs = np.array(list(product((1.0, -1.0), repeat=n)))[1:]
    else:
        signs = 1.0 - 2.0 * stream(seed, "flips").integers(0, 2, (n_draws, n))
    square = np.square(scores).mean(axis=0)

    def t_of(mean: np.ndarray) -> np.ndarray:
        variance = np.maximum((square - np.square(mean)) * n / (n - 1), np.finfo(float).tiny)
        return mean / np.sqrt(variance / n)

    t = t_of(scores.mean(axis=0))
    # a flip within rounding of the observed one counts as equal
    p, corrected = p_among_draws(t - 1e-9 * np.abs(t), t_of(signs @ scores / n), correction)
    return {"mean": scores.mean(axis=0), "t": t, "p": p, "corrected": corrected, "exact": exact}
