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


KINDS = ((1, 1), (0, 1), (1, 0), (0, 0))


def counts(labels, predicted):
    return [int(((labels == a) & (predicted == b)).sum()) for a, b in KINDS]


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
def test_tables_give_what_the_library_gives(metric):
    """On random tables of four, some with an empty row or column."""
    draw = np.random.default_rng(0)
    tables = draw.integers(6, size=(300, 4)) * (draw.random((300, 4)) < 0.7)
    for table in tables[tables[:, :3].sum(1) > 0]:
        labels, predicted = np.repeat(KINDS, table, axis=0).T
        assert scores._counts(labels, predicted).tolist() == table.tolist()
        value = measure(metric, labels, predicted)
        if metric == "f1":
            share = table[0] / table[:3].sum()
            assert value == pytest.approx(2 * share / (1 + share))
        elif table.all():
            assert scores._matthews_of_tables(*(table[:, None] / table.sum())).item() == pytest.approx(value)


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
    tp, fp, fn, tn = (((labels == a) & (predicted == b)).sum(-1) for a, b in KINDS)
    return (tp * tn - fp * fn) / np.sqrt(1.0 * (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))


def test_f1_has_wilsons_interval_of_its_share():
    labels, predicted = binary(n=61)
    hits, false_alarms, misses, _ = counts(labels, predicted)
    share = stats.binomtest(hits, hits + false_alarms + misses).proportion_ci(method="wilson")
    found = score("f1", labels, predicted, seed=0)
    assert (found.low, found.high) == pytest.approx((
        2 * share.low / (1 + share.low),
        2 * share.high / (1 + share.high),
    ))
    assert found.low < found.value < found.high


@pytest.mark.parametrize("metric", ["f1", "matthews"])
@pytest.mark.parametrize(("base", "right"), [(0.5, 0.7), (0.5, 0.9), (0.1, 0.9)])
@pytest.mark.parametrize("n_items", [10, 30])
def test_intervals_cover_the_truth(metric, base, right, n_items):
    """Percentiles of a bootstrap cover F1 in .44 and Matthews in .73 of these at worst, and .87 to .94 at 30 items."""
    rates = np.array([base * right, (1 - base) * (1 - right), base * (1 - right), (1 - base) * right])
    truth = by_hand(metric, *np.repeat(KINDS, np.round(rates * 1000).astype(int), axis=0).T)
    tables, hits, n_defined = np.random.default_rng(0).multinomial(n_items, rates, size=200), 0, 0
    for seed, table in enumerate(tables):
        labels, predicted = np.repeat(KINDS, table, axis=0).T
        found = score(metric, labels, predicted, seed=seed, n_draws=300)
        if found.low is not None:
            n_defined, hits = n_defined + 1, hits + (found.low <= truth <= found.high)
    assert n_defined > 60
    # .93 and Monte-Carlo error; with rare labels and few items the intervals are too wide rather than too narrow
    assert stats.binomtest(hits, n_defined, 0.935, alternative="less").pvalue > 0.005
    assert hits / n_defined > 0.89


@pytest.mark.parametrize("metric", ["f1", "matthews"])
@pytest.mark.parametrize("found", [True, False])
def test_one_positive_says_little(metric, found):
    """All samples of a bootstrap are alike here: [0, 0]."""
    labels = np.arange(30) == 7
    result = score(metric, labels.astype(int), (labels & found).astype(int), seed=0)
    assert result.value == float(found)
    assert result.low <= result.value <= result.high
    assert result.high - result.low > 0.4


def test_f1_of_nothing_is_not_defined():
    nothing = np.zeros(9, int)
    assert measure("f1", nothing, nothing) == 0
    assert score("f1", nothing, nothing, seed=0) == ("f1", None, None, None, 9)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["constant labels", "constant answers", "constant", "two items"])
def test_no_constant_input_breaks_an_interval(metric, kind):
    varying, still = np.array([0, 1] * 6), np.ones(12, int)
    labels = still if kind in ("constant labels", "constant") else varying
    predicted = still if kind in ("constant answers", "constant") else varying
    if kind == "two items":
        labels, predicted = labels[:2], predicted[:2]
    found = score(metric, labels, predicted, seed=0, n_draws=20)
    assert (found.value is None) == (found.low is None) == (found.high is None)
    assert found.value is None or found.low <= found.value + 1e-12
    assert found.value is None or found.value <= found.high + 1e-12


def test_an_interval_that_no_sample_gives_is_none():
    """Of two items a sample of one twice has no correlation; where all are so there are no limits."""
    pair = np.array([0, 1])
    found = {score("pearson", pair, pair, seed=seed, n_draws=1)[1:4] for seed in range(20)}
    assert found == {(None, None, None), (1.0, 1.0, 1.0)}


@pytest.mark.parametrize("metric", ["matthews", "pearson", "spearman"])
def test_other_measures_agree_with_a_bootstrap_where_items_are_many(metric):
    """scipy's own, with its own samples: limits within three standard errors of 400 draws."""
    labels, predicted = graded() if metric in ("pearson", "spearman") else binary()
    found = score(metric, labels, predicted, seed=0, n_draws=2000 if metric == "matthews" else 400)
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
