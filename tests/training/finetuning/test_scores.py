"""Every measure against its formula or another library, every interval against scipy or a repetition."""

import math
import sys
from functools import partial

import numpy as np
import pytest
from scipy import stats

from topographic.behaviour.minimal_pairs import accuracy_interval
from topographic.training.finetuning import scores
from topographic.training.finetuning.glue import TASKS
from topographic.training.finetuning.scores import METRICS, check_defined, decide, majority, measure, score


def binary(seed: int = 0, n: int = 200, right: float = 0.7):
    draw = np.random.default_rng(seed)
    labels = draw.integers(2, size=n)
    return labels, np.where(draw.random(n) < right, labels, 1 - labels)


def graded(seed: int = 0, n: int = 80):
    draw = np.random.default_rng(seed)
    labels = np.round(draw.uniform(0, 5, n), 1)
    return labels, labels + draw.normal(0, 2, n)


def counts(labels, predicted):
    return [int(((labels == a) & (predicted == b)).sum()) for a, b in ((1, 1), (0, 1), (1, 0), (0, 0))]


def by_hand(metric, labels, predicted):
    """The formulas, from the counts of a table of four."""
    true_positive, false_positive, false_negative, true_negative = counts(labels, predicted)
    if metric == "accuracy":
        return (true_positive + true_negative) / len(labels)
    if metric == "f1":
        return 2 * true_positive / (2 * true_positive + false_positive + false_negative)
    sides = [
        true_positive + false_positive,
        true_positive + false_negative,
        true_negative + false_positive,
        true_negative + false_negative,
    ]
    return (true_positive * true_negative - false_positive * false_negative) / math.sqrt(math.prod(sides))


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews"])
@pytest.mark.parametrize("seed", [0, 1])
def test_classes_are_scored_by_the_formula(metric, seed):
    labels, predicted = binary(seed)
    assert measure(metric, labels, predicted) == pytest.approx(by_hand(metric, labels, predicted), abs=1e-12)


@pytest.mark.parametrize("metric", ["f1", "matthews"])
def test_counts_give_what_the_library_gives(metric):
    """On random tables of four, some with an empty row or column."""
    draw = np.random.default_rng(0)
    tables = draw.integers(6, size=(300, 4)) * (draw.random((300, 4)) < 0.7)
    tables = tables[tables[:, :3].sum(1) > 0].astype(float)
    with np.errstate(invalid="ignore"):
        found = scores._OF_COUNTS[metric](*tables.T)
    kinds = ((1, 1), (0, 1), (1, 0), (0, 0))
    for table, value in zip(tables, found, strict=True):
        labels, predicted = np.repeat(kinds, table.astype(int), axis=0).T
        assert value == pytest.approx(measure(metric, labels, predicted), abs=1e-12, nan_ok=True), table


def test_matthews_is_the_correlation_of_the_labels():
    labels, predicted = binary()
    assert measure("matthews", labels, predicted) == pytest.approx(stats.pearsonr(labels, predicted).statistic)


def test_scores_are_correlated():
    labels, predicted = graded()
    assert measure("pearson", labels, predicted) == pytest.approx(np.corrcoef(labels, predicted)[0, 1])
    ranks = [stats.rankdata(values) for values in (labels, predicted)]
    assert measure("spearman", labels, predicted) == pytest.approx(np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize("metric", METRICS)
def test_the_right_answer_scores_one(metric):
    labels = graded()[0] if metric in ("pearson", "spearman") else binary()[0]
    assert measure(metric, labels, labels) == pytest.approx(1)
    assert score(metric, labels, labels, seed=0, n_draws=20).high == pytest.approx(1)


@pytest.mark.parametrize("metric", METRICS)
def test_guesses_that_never_change(metric):
    labels = graded()[0] if metric in ("pearson", "spearman") else binary()[0]
    value = measure(metric, labels, np.zeros_like(labels))
    if metric in ("pearson", "spearman"):
        assert math.isnan(value)
        assert score(metric, labels, np.zeros_like(labels), seed=0)[1:4] == (None, None, None)
    else:
        assert value == ((labels == 0).mean() if metric == "accuracy" else 0)
    if metric == "matthews":
        assert math.isnan(measure(metric, np.zeros_like(labels), labels))


def test_accuracy_has_wilsons_interval():
    labels, predicted = binary(n=61)
    found = score("accuracy", labels, predicted, seed=0)
    right = np.array([(labels == predicted).sum()])
    low, high = accuracy_interval(right, np.array([61]))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.n_items == 61
    assert found.low < found.value < found.high


def along_the_last_axis(metric, labels, predicted, axis):
    """The formulas again, for many samples at once."""
    if metric in ("pearson", "spearman"):
        pair = [stats.rankdata(side, axis=-1) if metric == "spearman" else side for side in (labels, predicted)]
        x, y = (side - side.mean(-1, keepdims=True) for side in pair)
        return (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    tp, fp, fn, tn = (((labels == a) & (predicted == b)).sum(-1) for a, b in ((1, 1), (0, 1), (1, 0), (0, 0)))
    if metric == "f1":
        return 2 * tp / (2 * tp + fp + fn)
    return (tp * tn - fp * fn) / np.sqrt(1.0 * (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))


@pytest.mark.parametrize("metric", ["f1", "matthews", "pearson", "spearman"])
def test_other_measures_have_a_bootstrap(metric):
    """scipy's own, with its own samples: limits within three standard errors of 400 draws."""
    labels, predicted = graded() if metric in ("pearson", "spearman") else binary()
    found = score(metric, labels, predicted, seed=0, n_draws=2000 if metric in ("f1", "matthews") else 400)
    expected = stats.bootstrap(
        (labels, predicted),
        partial(along_the_last_axis, metric),
        paired=True,
        vectorized=True,
        n_resamples=9999,
        method="percentile",
        random_state=np.random.default_rng(1),
    ).confidence_interval
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.1 * width)
    assert found.high == pytest.approx(expected.high, abs=0.1 * width)
    assert found.low < found.value < found.high


def test_the_seed_decides_the_interval():
    labels, predicted = graded()
    one, two, three = (score("pearson", labels, predicted, seed=seed, n_draws=50) for seed in (0, 0, 1))
    assert one == two
    assert one.value == three.value
    assert one != three


def test_outputs_become_labels_or_scores():
    outputs = np.array([[0.1, 0.9, 0.3], [2.0, -1.0, 1.0]], np.float32)
    assert decide(TASKS["mnli"], outputs).tolist() == [1, 0]
    assert decide(TASKS["stsb"], outputs[:, :1]).tolist() == outputs[:, 0].tolist()


def test_the_majority_is_the_baseline():
    assert majority(TASKS["mnli"], np.array([2, 1, 2, 0]), 3).tolist() == [2, 2, 2]
    assert majority(TASKS["stsb"], np.array([1.0, 4.0]), 2).tolist() == [2.5, 2.5]


@pytest.mark.parametrize(("task", "metrics"), [("cola", "matthews"), ("mrpc", "f1"), ("stsb", "pearson and spearman")])
def test_one_label_only_is_refused_where_it_leaves_nothing_to_measure(task, metrics):
    labels = np.full(7, 1)
    with pytest.raises(ValueError, match=f"all 7 labels of the dev set are 1; {metrics} needs two different ones"):
        check_defined(TASKS[task], labels, "the dev set")
    check_defined(TASKS[task], np.array([1, 1, 0]), "the dev set")
    check_defined(TASKS["sst2"], labels, "the dev set")


def test_without_scikit_learn_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ImportError, match=r"need scikit-learn, which is not installed; run `pip install 'topo"):
        measure("accuracy", *binary())
