"""How well labels are predicted: the measures of GLUE, each with an interval over the items."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import stats

from topographic.training.finetuning.glue import Task

__all__ = ["METRICS", "Score", "check_defined", "decide", "majority", "measure", "score"]

Values = Shaped[np.ndarray, " items"]
Shares = Float[np.ndarray, " tables"]
Limits = tuple[float, float]
Undefined = tuple[None, None]


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

    Accuracy: Wilson's interval. F1: it is ``2 J / (1 + J)`` with ``J = TP / (TP + FP + FN)`` the share of right ones
    among the items that are of label 1 or said to be, so that Wilson's interval of ``J`` gives that of F1. Matthews:
    the middle of the measure over tables of four drawn from ``Dirichlet(counts + 1 / 2)``, the posterior under
    Jeffreys' prior, and the value itself. Correlations: percentiles of a bootstrap over the items.

    Parameters
    ----------
    metric : str
        One of `METRICS`.
    labels, predicted : ndarray, shape (items,)
        What is right, and what a model says.
    seed : int
        Decides what is drawn.
    n_draws : int
        Tables or samples that are drawn.
    confidence : float
        Level.

    Returns
    -------
    Score
        None where the measure is not defined: Matthews with one label only, F1 where no item is of label 1 or said to
        be, correlations with what does not vary or varies in no sample. The interval says how much the number would
        change with other items, not with another seed of the model.

    Notes
    -----
    Coverage at 10 to 300 items, measured at several rates: Wilson's .94 to .99, Matthews .93 to .98, where a bootstrap
    covers .44 to .95 and .73 to .95. Limits are apart at the borders too, where all samples of a bootstrap are alike.

    References
    ----------
    Wilson 1927, J. Am. Stat. Assoc. 22; for Jeffreys' prior Brown, Cai & DasGupta 2001, Stat. Sci. 16; for the
    bootstrap Efron & Tibshirani 1993.
    """
    value, n_items = measure(metric, labels, predicted), len(labels)
    if math.isnan(value):
        return Score(metric, None, None, None, n_items)
    low, high = _INTERVALS.get(metric, partial(_bootstrap, metric))(
        labels, predicted, confidence, np.random.default_rng(seed), n_draws
    )
    return Score(metric, None if low is None else value, low, high, n_items)


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


def _wilson(right: int, n_items: int, confidence: float) -> Limits:
    found = stats.binomtest(right, n_items).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def _accuracy_limits(labels: Values, predicted: Values, confidence: float, *_: Any) -> Limits:
    return _wilson(int((labels == predicted).sum()), len(labels), confidence)


def _f1_limits(labels: Values, predicted: Values, confidence: float, *_: Any) -> Limits | Undefined:
    hits, false_alarms, misses, _rejections = _counts(labels, predicted).tolist()
    if not hits + false_alarms + misses:
        return None, None
    low, high = _wilson(hits, hits + false_alarms + misses, confidence)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def _matthews_limits(
    labels: Values, predicted: Values, confidence: float, generator: np.random.Generator, n_draws: int
) -> Limits:
    counts = _counts(labels, predicted)
    value = matthews(labels, predicted)
    low, high = _middle(_matthews_of_tables(*generator.dirichlet(counts + 0.5, size=n_draws).T), confidence)
    return min(low, value), max(high, value)


def _matthews_of_tables(hits: Shares, false_alarms: Shares, misses: Shares, rejections: Shares) -> Shares:
    product = (hits + misses) * (false_alarms + rejections) * (hits + false_alarms) * (misses + rejections)
    return (hits * rejections - false_alarms * misses) / np.sqrt(product)


def _bootstrap(
    metric: str, labels: Values, predicted: Values, confidence: float, generator: np.random.Generator, n_draws: int
) -> Limits | Undefined:
    """Percentiles over samples of the items with replacement, those left out in which the measure is not defined."""
    n_items = len(labels)
    drawn = (generator.integers(n_items, size=n_items) for _ in range(n_draws))
    samples = np.array([measure(metric, labels[sample], predicted[sample]) for sample in drawn])
    samples = samples[np.isfinite(samples)]
    return _middle(samples, confidence) if len(samples) else (None, None)


def _middle(draws: Float[np.ndarray, " draws"], confidence: float) -> Limits:
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(draws, [tail, 100 - tail]).tolist()
    return low, high


def _counts(labels: Values, predicted: Values) -> Int[np.ndarray, " 4"]:
    """Hits, false alarms, misses and right rejections of label 1."""
    kinds = ((True, True), (False, True), (True, False), (False, False))
    return np.array([(((labels == 1) == one) & ((predicted == 1) == says)).sum() for one, says in kinds])


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


_INTERVALS: dict[str, Callable[..., Limits | Undefined]] = {
    "accuracy": _accuracy_limits,
    "f1": _f1_limits,
    "matthews": _matthews_limits,
}
METRICS: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}
