"""Words of sentences, predicted: folds that keep sentences and word types apart, scores with intervals over sentences.

Words of one sentence are no independent samples. What is drawn anew here are sentences, never words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from topographic.brain.encoding import encode
from topographic.brain.folds import Folds
from topographic.maps.nulls import check_draws, stream

__all__ = [
    "GroupedScore",
    "grouped_correlation",
    "grouped_gain",
    "grouped_ridge",
    "held_out_words",
    "likelihood_gain",
    "sentence_and_type_folds",
    "usable_words",
    "without_controls",
]

DEFAULT_ALPHAS = tuple(float(10**power) for power in range(7))
_LEVEL = (2.5, 97.5)


@dataclass(frozen=True, eq=False)
class GroupedScore:
    """A number with its 95 % interval over sentences, and what a sign flip of sentences says of it.

    Parameters
    ----------
    value, low, high : float
        The number, and the interval of the bootstrap of sentences (percentiles).
    p : float
        One-sided: how often as much comes of flipping the signs of sentences at random; NaN where nothing is flipped.
    n_words, n_groups : int
        Words and sentences.
    """

    value: float
    low: float
    high: float
    p: float
    n_words: int
    n_groups: int


def sentence_and_type_folds(
    groups: Shaped[np.ndarray, " words"], types: Shaped[np.ndarray, " words"], n_folds: int = 5, *, seed: int = 0
) -> Folds:
    """Folds that test words whose sentence *and* whose type were never seen.

    Sentences are dealt to ``k`` sets and types to ``k`` sets, types with many words first. Of each of the ``k * k``
    cells the words are tested that lie in it, by a model fitted on words of other sets of sentences and other sets of
    types. Every word is tested once, and fitted on about ``(1 - 1/k)^2`` of the words.

    Parameters
    ----------
    groups : ndarray, shape (words,)
        Sentence of each word.
    types : ndarray, shape (words,)
        Word type of each word.
    n_folds : int
        Number of sets of either kind.
    seed : int
        Seed of both dealings.

    Returns
    -------
    Folds
        At most ``n_folds ** 2`` of them.

    Raises
    ------
    ValueError
        If there are fewer sentences or types than folds.

    Examples
    --------
    >>> words = np.array(["a", "b", "c", "d"] * 4)
    >>> sentence_and_type_folds(np.repeat(np.arange(4), 4), words, 2)
    Folds('other sentences and other word types', 4 folds)
    """
    cells = []
    for name, labels in (("sentences", np.asarray(groups)), ("word types", np.asarray(types))):
        found, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        if not 2 <= n_folds <= len(found):
            raise ValueError(f"n_folds={n_folds} for {len(found)} {name}; expected from 2 to {len(found)}")
        order = stream(seed, f"folds of {name}").permutation(len(found))
        order = order[np.argsort(-sizes[order], kind="stable")]
        fold_of, held = np.empty(len(found), dtype=int), np.zeros(n_folds)
        for one in order:
            fold_of[one] = held.argmin()
            held[fold_of[one]] += sizes[one]
        cells.append(fold_of[index])
    group_fold, type_fold = cells
    pairs = []
    for first in range(n_folds):
        for second in range(n_folds):
            tested = (group_fold == first) & (type_fold == second)
            fitted = (group_fold != first) & (type_fold != second)
            if tested.any() and fitted.any():
                pairs.append((np.flatnonzero(fitted), np.flatnonzero(tested)))
    return Folds("other sentences and other word types", tuple(pairs))


def grouped_correlation(
    observed: Float[np.ndarray, " words"],
    predicted: Float[np.ndarray, " words"],
    groups: Shaped[np.ndarray, " words"],
    *,
    beside: Float[np.ndarray, " words"] | None = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> GroupedScore:
    """Pearson's r of held-out predictions, with its interval over sentences.

    Parameters
    ----------
    observed, predicted : ndarray, shape (words,)
        A measure and its held-out predictions, of all folds together.
    groups : ndarray, shape (words,)
        Sentence of each word.
    beside : ndarray, shape (words,), optional
        Other predictions: the value is then ``r(predicted) - r(beside)``.
    n_draws : int
        Bootstrap draws of sentences.
    seed : int
        Seed.

    Returns
    -------
    GroupedScore
        Without p. NaN where predictions do not vary.
    """
    check_draws(n_draws, seed, least=2)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    n_groups = int(group.max()) + 1
    drawn = stream(seed, "bootstrap").multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_draws)
    counts = np.concatenate([np.ones((1, n_groups), dtype=int), drawn])
    found = _correlations(observed, predicted, group, counts)
    if beside is not None:
        found = found - _correlations(observed, beside, group, counts)
    low, high = np.nanpercentile(found[1:], _LEVEL) if np.isfinite(found[1:]).any() else (np.nan, np.nan)
    return GroupedScore(float(found[0]), float(low), float(high), float("nan"), len(group), n_groups)


def grouped_gain(
    gains: Float[np.ndarray, " words"], groups: Shaped[np.ndarray, " words"], *, n_draws: int = 1000, seed: int = 0
) -> GroupedScore:
    """Mean gain per word, with its interval over sentences and a test by flipping signs of whole sentences.

    Parameters
    ----------
    gains : ndarray, shape (words,)
        By how much one model predicts a held-out word better than another: log-likelihood, squared error.
    groups : ndarray, shape (words,)
        Sentence of each word.
    n_draws : int
        Bootstrap draws and sign flips.
    seed : int
        Seed.

    Returns
    -------
    GroupedScore
        Its p is one-sided, ``(1 + #{draw >= value}) / (n_draws + 1)``.
    """
    check_draws(n_draws, seed, least=2)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = np.bincount(group, weights=gains), np.bincount(group)
    n = len(sizes)
    value = float(gains.mean())
    drawn = stream(seed, "bootstrap").multinomial(n, np.full(n, 1 / n), size=n_draws)
    low, high = np.percentile(drawn @ sums / (drawn @ sizes), _LEVEL)
    signs = 1.0 - 2.0 * stream(seed, "flips").integers(0, 2, (n_draws, n))
    flipped = signs @ sums / len(gains)
    p = (1 + int((flipped >= value - 1e-9 * abs(value)).sum())) / (n_draws + 1)
    return GroupedScore(value, float(low), float(high), p, len(gains), n)


def likelihood_gain(
    measure: Float[np.ndarray, " words"],
    controls: Mapping[str, Float[np.ndarray, " words"]],
    added: Mapping[str, Float[np.ndarray, " words"]],
    folds: Folds,
) -> Float[np.ndarray, " words"]:
    """How much more probable every held-out word's measure is with the added columns than without.

    ``log N(y | X b, s^2)`` with ``b`` of least squares and ``s^2`` the mean squared residual of the training words,
    once with controls alone and once with ``added`` as well; the difference, in nats.

    Parameters
    ----------
    measure : ndarray, shape (words,)
        Reading times, or potentials.
    controls, added : mapping of str to ndarray, shape (words,)
        Length, log frequency, position, each also of the words before; surprisal, also of the words before.
    folds : Folds
        Of whole sentences or texts.

    Returns
    -------
    ndarray, shape (words,)
        NaN where a word was never tested.

    Raises
    ------
    ValueError
        If something is not finite, or there are more columns than training words.

    References
    ----------
    Goodkind & Bicknell 2018; Wilcox et al. 2020.
    """
    tables = {
        "controls": np.column_stack([np.ones(len(measure)), *controls.values()]),
        "both": np.column_stack([np.ones(len(measure)), *controls.values(), *added.values()]),
    }
    if not (np.isfinite(tables["both"]).all() and np.isfinite(measure).all()):
        raise ValueError("a measure or predictor is not finite; leave out the words that lack one (`usable_words`)")
    found = {}
    for name, table in tables.items():
        likelihood = np.full(len(measure), np.nan)
        for train, test in folds.pairs:
            if len(train) <= table.shape[1] + 1:
                raise ValueError(f"{len(train)} training words for {table.shape[1]} columns; expected more words")
            centre, scale = table[train].mean(axis=0), table[train].std(axis=0)
            centre[0], scale[0] = 0.0, 1.0
            scaled = (table - centre) / np.where(scale > 0, scale, 1.0)
            weights = np.linalg.lstsq(scaled[train], measure[train], rcond=None)[0]
            variance = np.square(measure[train] - scaled[train] @ weights).sum() / (len(train) - table.shape[1])
            error = np.square(measure[test] - scaled[test] @ weights)
            likelihood[test] = -0.5 * (np.log(2 * np.pi * variance) + error / variance)
        found[name] = likelihood
    return found["both"] - found["controls"]


def held_out_words(
    features: Shaped[np.ndarray, "words features"],
    targets: Shaped[np.ndarray, "rows measures"],
    folds: Folds,
    *,
    controls: Shaped[np.ndarray, "others controls"] | None = None,
    groups: Shaped[np.ndarray, " words"] | None = None,
    alphas: Sequence[float] | np.ndarray = DEFAULT_ALPHAS,
) -> Float[np.ndarray, "rows measures"]:
    """Held-out predictions of ridge regression, one alpha per measure by leaving training words out.

    Parameters
    ----------
    features : ndarray, shape (words, features)
        z-scored by the training words of each fold.
    targets : ndarray, shape (words, measures)
        Potentials, reading times.
    folds : Folds
        `run_folds` of whole sentences, `sentence_and_type_folds`.
    controls : ndarray, shape (words, controls), optional
        Fitted by least squares, and features to what these leave of features and measures: with a penalty on controls,
        features would be credited with what it keeps controls from saying.
    groups : ndarray, shape (words,), optional
        Words of one, such as the sentences of a topic, are left out together when alpha is chosen; one by one without.
    alphas : sequence of float
        Penalties tried.

    Returns
    -------
    ndarray, shape (words, measures)
        NaN where a word is never tested.

    Raises
    ------
    ValueError
        If numbers of words differ, or something is not finite.

    Notes
    -----
    Words left out one at a time share their sentence with training words, so alpha may be a little small; no held-out
    word is touched by that. Sentences of one topic share so much that alpha would be far too small: give their groups.

    Examples
    --------
    >>> from topographic.brain import run_folds
    >>> x = np.random.default_rng(0).normal(size=(60, 3))
    >>> predicted = held_out_words(x, x[:, :1] * 2, run_folds(np.repeat(np.arange(6), 10)))
    >>> bool(np.corrcoef(predicted[:, 0], x[:, 0])[0, 1] > 0.99)
    True
    """
    from sklearn.linear_model import RidgeCV

    features = np.asarray(features, dtype=np.float64)
    fixed = np.empty((len(features), 0)) if controls is None else np.asarray(controls, dtype=np.float64)
    if features.ndim != 2 or targets.ndim != 2 or not len(features) == len(targets) == len(fixed):
        of_controls = "" if controls is None else f", controls {fixed.shape}"
        raise ValueError(
            f"features {features.shape} and measures {targets.shape}{of_controls}; expected as many words in all"
        )
    if not all(np.isfinite(one).all() for one in (features, targets, fixed)):
        raise ValueError("a feature or measure is not finite; leave out the words that lack one (`usable_words`)")
    found, largest = np.full(targets.shape, np.nan), np.abs(features).max(axis=0)
    for train, test in folds.pairs:
        own, left = (without_controls(fixed, one, train) for one in (features, targets))
        # a column that is a mixture of the controls leaves nothing but rounding errors
        scale = own[train].std(axis=0)
        scaled = own / np.where(scale > 1e-9 * largest, scale, np.inf)
        if groups is None:
            model = RidgeCV(alphas=np.asarray(alphas, dtype=np.float64), alpha_per_target=True)
            model.fit(scaled[train], left[train])
            said = np.asarray(model.predict(scaled[test])).reshape(len(test), -1)
        else:
            said = np.zeros((len(test), targets.shape[1]))
            varied = left[train].std(axis=0) > 1e-9 * np.abs(targets).max(axis=0)  # of others controls say all
            if varied.any():
                one_fold = Folds(folds.name, ((train, test),))
                said[:, varied] = grouped_ridge(scaled, left[:, varied], groups, one_fold, alphas)[test]
        found[test] = targets[test] - left[test] + said
    return found


def grouped_ridge(
    values: np.ndarray,
    observed: np.ndarray,
    groups: Shaped[np.ndarray, " rows"],
    folds: Folds,
    alphas: Sequence[float] | np.ndarray,
) -> np.ndarray:
    """Held-out predictions of `encode`, which chooses penalties by folds of whole groups."""
    # small predictions beside a mean would be lost in single precision
    options: dict[str, Any] = {"keep_predictions": True, "dtype": "float64", "progress": False}
    return np.asarray(encode(values, observed, runs=groups, folds=folds, alphas=alphas, **options).predictions)


def without_controls(
    controls: Shaped[np.ndarray, "words controls"],
    values: Shaped[np.ndarray, "rows columns"],
    fitted: Shaped[np.ndarray, " fitted"] | None = None,
) -> Float[np.ndarray, "rows columns"]:
    """What least squares from controls and a constant, fitted on all rows or these, leave in all rows."""
    rows = np.arange(len(controls)) if fitted is None else fitted
    centre, scale = controls[rows].mean(axis=0), controls[rows].std(axis=0)
    design = np.column_stack([np.ones(len(controls)), (controls - centre) / np.where(scale > 0, scale, 1.0)])
    return values - design @ np.linalg.lstsq(design[rows], values[rows], rcond=None)[0]


def usable_words(*columns: Mapping[str, Float[np.ndarray, " words"]]) -> Bool[np.ndarray, " words"]:
    """Words of which every column has a value."""
    return np.all([np.isfinite(one) for some in columns for one in some.values()], axis=0)


def _correlations(
    observed: np.ndarray, predicted: np.ndarray, group: np.ndarray, counts: np.ndarray
) -> Float[np.ndarray, " draws"]:
    """Correlation of every resampling of groups, from sums per group."""
    x, y = observed - np.mean(observed), predicted - np.mean(predicted)
    n, sx, sy, sxx, syy, sxy = (
        counts @ np.bincount(group, weights=one) for one in (np.ones(len(x)), x, y, x * x, y * y, x * y)
    )
    size = np.sqrt(np.maximum(sxx - sx**2 / n, 0) * np.maximum(syy - sy**2 / n, 0))
    varied = size > 1e-12 * np.sqrt(np.maximum(sxx * np.square(np.mean(predicted)) * n, 1e-300))
    return np.divide(sxy - sx * sy / n, size, out=np.full(size.shape, np.nan), where=varied)
