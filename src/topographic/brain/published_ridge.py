"""Ridge regression as LITcoder (after Huth et al.) fits it, for comparison with its published numbers.

For everything else use `encode`: this one has no intercept, squares its penalty, and shrinks its scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = ["PublishedRidge", "fit_published_ridge"]


PUBLISHED_ALPHAS = tuple(float(10.0**power) for power in range(-1, 9))


@dataclass(frozen=True, eq=False)
class PublishedRidge:
    """Weights, the penalty of each target, and the mean inner score of each penalty."""

    weights: Float[np.ndarray, "features targets"]
    alphas: Float[np.ndarray, " targets"]
    inner_scores: Float[np.ndarray, "alphas targets"]

    def predict(self, features: Float[np.ndarray, "samples features"]) -> Float[np.ndarray, "samples targets"]:
        """Predictions, without an intercept."""
        return features @ self.weights


def fit_published_ridge(
    features: Float[np.ndarray, "samples features"],
    targets: Float[np.ndarray, "samples targets"],
    *,
    alphas: Sequence[float] | np.ndarray = PUBLISHED_ALPHAS,
    n_inner_folds: int = 5,
    normalize_alphas: bool = False,
    score: str = "r",
) -> PublishedRidge:
    """LITcoder's ridge: ``w = V diag(s / (s^2 + a^2)) U' y`` with ``X = U s V'``, a chosen per target.

    Parameters
    ----------
    features, targets : ndarray, shape (samples, columns)
        Not centred here, and no intercept is fitted.
    alphas : sequence of float
        Penalties; their squares are what ridge regression usually calls alpha.
    n_inner_folds : int
        Contiguous folds, without a gap, over which scores are averaged.
    normalize_alphas : bool
        Multiply penalties by the largest singular value of whatever is being fitted.
    score : {"r", "r2"}
        What chooses: ``r (n - 1) / n`` times ``sd / (sd + 1e-8)`` of both sides, as the published z-scores make it, or
        the signed root of R2 about the mean.

    Returns
    -------
    PublishedRidge
        Weights and penalties per target, equal to the published code's.

    Raises
    ------
    ValueError
        If the score is none of the two.
    """
    if score not in INNER_SCORES:
        raise ValueError(f"score={score!r}; expected one of {sorted(INNER_SCORES)}")
    grid = np.asarray(alphas, dtype=np.float64)
    scores = np.zeros((len(grid), targets.shape[1]))
    for test in np.array_split(np.arange(len(features)), n_inner_folds):
        train = np.setdiff1d(np.arange(len(features)), test)
        u, s, vt = _svd(features[train])
        rotated, projected = u.T @ targets[train], features[test] @ vt.T
        for row, alpha in enumerate(grid * (s[0] if normalize_alphas else 1.0)):
            predicted = (projected * (s / (s**2 + alpha**2))) @ rotated
            scores[row] += np.nan_to_num(INNER_SCORES[score](targets[test], predicted)) / n_inner_folds
    chosen = grid[scores.argmax(axis=0)]
    u, s, vt = _svd(features)
    penalty = chosen * (s[0] if normalize_alphas else 1.0)
    weights = vt.T @ (s[:, None] / (s[:, None] ** 2 + penalty**2) * (u.T @ targets))
    return PublishedRidge(weights, chosen, scores)


def _svd(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u, s, vt = np.linalg.svd(features, full_matrices=False)
    kept = s > 1e-10
    return u[:, kept], s[kept], vt[kept]


def _published_r(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    def scored(values: np.ndarray) -> np.ndarray:
        return (values - values.mean(axis=0)) / (values.std(axis=0, ddof=1) + 1e-8)

    return (scored(observed) * scored(predicted)).mean(axis=0)


def _signed_root_of_r2(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    r2 = 1 - (observed - predicted).var(axis=0, ddof=1) / observed.var(axis=0, ddof=1)
    return np.sqrt(np.abs(r2)) * np.sign(r2)


INNER_SCORES = {"r": _published_r, "r2": _signed_root_of_r2}
