"""Brain-Score's measures of alignment, as functions of arrays; their folds are the caller's to choose."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from topographic.brain.folds import Folds
from topographic.brain.scores import pearson_r

__all__ = ["METRICS", "linear_cka", "ols_pearson", "rdm_similarity", "ridge_pearson"]


def ridge_pearson(
    features: Shaped[np.ndarray, "samples features"], targets: Shaped[np.ndarray, "rows targets"], folds: Folds
) -> Float[np.ndarray, "folds targets"]:
    """Held-out correlation of ridge regression as Brain-Score's ``ridge_pearsonr`` fits it.

    One alpha of ``10^-3 ... 10^3`` for all targets, by generalised (leave-one-out) cross-validation of the training
    samples. Its score is the median over targets, then the mean over folds.

    Parameters
    ----------
    features, targets : ndarray, shape (samples, columns)
        A model's and a recording's.
    folds : Folds
        Brain-Score's are `run_folds` by topic or story ("ridge") and shuffled ones ("linear-shuffle").

    Returns
    -------
    ndarray, shape (folds, targets)
        Correlations.

    References
    ----------
    Brain-Score Language 2.3 (``metrics/linear_predictivity``).
    """
    from sklearn.linear_model import RidgeCV

    return _held_out(lambda: RidgeCV(alphas=np.logspace(-3, 3, 7)), features, targets, folds)


def ols_pearson(
    features: Shaped[np.ndarray, "samples features"], targets: Shaped[np.ndarray, "rows targets"], folds: Folds
) -> Float[np.ndarray, "folds targets"]:
    """Held-out correlation of ordinary least squares (the solution of least norm), Brain-Score's ``linear_pearsonr``.

    Parameters and result as `ridge_pearson`.
    """
    from sklearn.linear_model import LinearRegression

    return _held_out(LinearRegression, features, targets, folds)


def _held_out(make: Callable[[], Any], features: np.ndarray, targets: np.ndarray, folds: Folds) -> np.ndarray:
    if len(features) != len(targets):
        raise ValueError(f"{len(features)} samples of features for {len(targets)} of the recording; expected as many")
    found = []
    for train, test in folds.pairs:
        predicted = make().fit(features[train], targets[train]).predict(features[test])
        found.append(pearson_r(targets[test], np.asarray(predicted).reshape(len(test), -1)))
    return np.stack(found)


def linear_cka(first: Shaped[np.ndarray, "samples features"], second: Shaped[np.ndarray, "rows targets"]) -> float:
    """Centred kernel alignment of linear kernels: ``|X'Y|^2 / (|X'X| |Y'Y|)``, columns centred.

    Biased: with few samples and many features it is far above 0 for unrelated data (as Brain-Score's is); compare it
    with that of permuted samples.

    Parameters
    ----------
    first, second : ndarray, shape (samples, columns)
        Two sets of responses to the same samples.

    Returns
    -------
    float
        From 0 to 1; NaN if either is constant.

    References
    ----------
    Kornblith et al. 2019.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(20, 3))
    >>> round(linear_cka(x, 2 * x[:, ::-1] + 1), 6)
    1.0
    """
    _check_pair(first, second)
    kernels = [(one - one.mean(axis=0)) @ (one - one.mean(axis=0)).T for one in (first, second)]
    size = np.linalg.norm(kernels[0]) * np.linalg.norm(kernels[1])
    return float((kernels[0] * kernels[1]).sum() / size) if size > 0 else float("nan")


def rdm_similarity(first: Shaped[np.ndarray, "samples features"], second: Shaped[np.ndarray, "rows targets"]) -> float:
    """Spearman's rho of two dissimilarity matrices, 1 - r between samples, upper triangles.

    Parameters
    ----------
    first, second : ndarray, shape (samples, columns)
        Two sets of responses to the same samples.

    Returns
    -------
    float
        From -1 to 1.

    Raises
    ------
    ValueError
        If a side has fewer than two columns, where correlation between samples is undefined (Brain-Score scores
        Tuckute2024 so, which has one).

    References
    ----------
    Kriegeskorte et al. 2008.
    """
    _check_pair(first, second)
    for one in (first, second):
        if one.shape[1] < 2:
            raise ValueError(f"{one.shape[1]} column: samples cannot be correlated; expected two columns or more")
    found: Any = spearmanr(pdist(first, "correlation"), pdist(second, "correlation"))
    return float(found.statistic)


def _check_pair(first: np.ndarray, second: np.ndarray) -> None:
    if len(first) != len(second) or len(first) < 3:
        raise ValueError(f"{len(first)} and {len(second)} samples; expected as many on both sides, 3 or more")


METRICS = {"ridge": ridge_pearson, "linear": ols_pearson, "cka": linear_cka, "rdm": rdm_similarity}
