"""How well labels are predicted: the measures of GLUE, each with an interval over the items."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats

from topographic.training.finetuning.glue import Task

__all__ = ["METRICS", "Score", "check_defined", "decide", "majority", "measure", "score"]

Values = Shaped[np.ndarray, " items"]
Counts = Float[np.ndarray, " draws"]


class Score(NamedTuple):
    """A measure with its interval; None where it is not defined."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n_items: int


def accuracy(labels: Values, predicted: Values) -> float:
    """Share of items that are labelled right."""
    return float(_sklearn().accuracy_score(labels, predicted))


def f1(labels: Values, predicted: Values) -> float:
    """Harmonic mean of precision and recall of label 1, ``2 TP / (2 TP + FP + FN)``."""
    return float(_sklearn().f1_score(labels, predicted, zero_division=0.0))


def matthews(labels: Values, predicted: Values) -> float:
    """Matthews' correlation coefficient, ``(TP TN - FP FN) / sqrt((TP + FP) (TP + FN) (TN + FP) (TN + FN))``."""
    if np.ptp(labels) == 0:
        return math.nan
    return float(_sklearn().matthews_corrcoef(labels, predicted))


def pearson(labels: Values, predicted: Values) -> float:
    """Pearson correlation."""
    return _correlation(stats.pearsonr, labels, predicted)


def spearman(labels: Values, predicted: Values) -> float:
    """Spearman's rank correlation."""
    return _correlation(stats.spearmanr, labels, predicted)


def measure(metric: str, labels: Values, predicted: Values) -> float:
    """One measure, without an interval."""
    return METRICS[metric](labels, predicted)


def score(
    metric: str, labels: Values, predicted: Values, *, seed: int, n_draws: int = 1000, confidence: float = 0.95
) -> Score:
    """One measure with its interval over the items.

    Parameters
    ----------
    metric : str
        One of `METRICS`.
    labels, predicted : ndarray, shape (items,)
        What is right, and what a model says.
    seed : int
        Decides the samples of the bootstrap.
    n_draws : int
        Samples of the bootstrap.
    confidence : float
        Level.

    Returns
    -------
    Score
        For accuracy with Wilson's interval, for others with the percentiles of a bootstrap over the items; samples
        on which the measure is not defined are left out. The interval says how much the number would change with
        other items, not with another seed of the model.
    """
    value, n_items = measure(metric, labels, predicted), len(labels)
    if math.isnan(value):
        return Score(metric, None, None, None, n_items)
    if metric == "accuracy":
        right = int((labels == predicted).sum())
        interval = stats.binomtest(right, n_items).proportion_ci(confidence, method="wilson")
        return Score(metric, value, float(interval.low), float(interval.high), n_items)
    samples = _resampled(metric, labels, predicted, np.random.default_rng(seed), n_draws)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(samples[np.isfinite(samples)], [tail, 100 - tail])
    return Score(metric, value, float(low), float(high), n_items)


def decide(task: Task, outputs: Float[np.ndarray, "items outputs"]) -> Values:
    """What a model's outputs say: the label with the largest one, or the score itself."""
    return outputs[:, 0] if task.is_regression else outputs.argmax(1)


def majority(task: Task, labels: Shaped[np.ndarray, " training"], n_items: int) -> Values:
    """Predictions without reading: the most frequent training label, or the mean score, for every item."""
    if task.is_regression:
        return np.full(n_items, labels.mean())
    return np.full(n_items, np.bincount(labels).argmax())


def check_defined(task: Task, labels: Values, where: str) -> None:
    """Refuse validation items on which a measure means nothing."""
    needy = [metric for metric in task.metrics if metric != "accuracy"]
    if needy and len(np.unique(labels)) < 2:
        raise ValueError(
            f"all {len(labels)} labels of {where} are {labels[0]}; {' and '.join(needy)} needs two different ones: "
            "give more validation items"
        )


def _resampled(metric: str, labels: Values, predicted: Values, generator: np.random.Generator, n_draws: int) -> Any:
    """The measure on samples of the items, drawn with replacement."""
    n_items = len(labels)
    if metric not in _OF_COUNTS:
        drawn = (generator.integers(n_items, size=n_items) for _ in range(n_draws))
        return np.array([measure(metric, labels[sample], predicted[sample]) for sample in drawn])
    # items are of four kinds only, so a sample of them is a sample of counts
    counts = np.array([((labels == 1) == is_one) & ((predicted == 1) == says_one) for is_one, says_one in _KINDS]).sum(
        1
    )
    with np.errstate(invalid="ignore"):
        return _OF_COUNTS[metric](*generator.multinomial(n_items, counts / n_items, size=n_draws).T.astype(float))


def _f1_of_counts(hits: Counts, false_alarms: Counts, misses: Counts, _rejections: Counts) -> Counts:
    return 2 * hits / (2 * hits + false_alarms + misses)


def _matthews_of_counts(hits: Counts, false_alarms: Counts, misses: Counts, rejections: Counts) -> Counts:
    ones, zeros = hits + misses, false_alarms + rejections
    said_ones, said_zeros = hits + false_alarms, misses + rejections
    product = ones * zeros * said_ones * said_zeros
    found = (hits * rejections - false_alarms * misses) / np.sqrt(product)
    return np.where((said_ones * said_zeros == 0) & (ones * zeros > 0), 0.0, found)


def _correlation(of: Callable[..., Any], labels: Values, predicted: Values) -> float:
    if np.ptp(labels) == 0 or np.ptp(predicted) == 0:
        return math.nan
    return float(of(labels, predicted).statistic)


def _sklearn() -> Any:
    try:
        import sklearn.metrics
    except ImportError as error:
        raise ImportError(
            "scores of fine-tuning need scikit-learn, which is not installed; run `pip install 'topographic[train]'`"
        ) from error
    return sklearn.metrics


_KINDS = ((True, True), (False, True), (True, False), (False, False))
_OF_COUNTS: dict[str, Callable[..., Any]] = {"f1": _f1_of_counts, "matthews": _matthews_of_counts}
METRICS: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}
