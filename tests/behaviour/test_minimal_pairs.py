import inspect
import math

import numpy as np
import pytest
import torch
from scipy import stats

from topographic.behaviour.minimal_pairs import MinimalPairScores, accuracy_interval, minimal_pairs
from topographic.behaviour.surprisal import token_log_probabilities
from topographic.stimuli import StimulusSet


def pairs_of(*paradigms):
    """A set with (paradigm, phenomenon, number of pairs)."""
    rows = [(paradigm, phenomenon, f"{paradigm}/{n}") for paradigm, phenomenon, size in paradigms for n in range(size)]
    twice = [row for row in rows for _ in range(2)]
    return StimulusSet(
        name="made up",
        items=tuple(f"{condition} {pair}" for _, _, pair in rows for condition in ("good", "bad")),
        conditions=("good", "bad") * len(rows),
        labels={
            "paradigm": tuple(row[0] for row in twice),
            "phenomenon": tuple(row[1] for row in twice),
            "pair": tuple(row[2] for row in twice),
        },
    )


def test_log_probabilities_are_sums_over_the_tokens_of_each_side(gpt2, tokenizer, own_pairs):
    scores = minimal_pairs(gpt2, tokenizer, own_pairs)
    tokens = token_log_probabilities(gpt2, tokenizer, own_pairs.items)
    sums = np.array([text.sum() for text in tokens])
    np.testing.assert_allclose(scores.good, sums[::2], rtol=1e-5)
    np.testing.assert_allclose(scores.bad, sums[1::2], rtol=1e-5)
    assert scores.good.dtype == scores.bad.dtype == np.float64
    np.testing.assert_array_equal(scores.correct, sums[::2] > sums[1::2])
    rows = scores.pair_rows()
    assert len(rows) == 64
    assert rows[9] == {
        "pair": "own_agreement_across_phrase/1",
        "paradigm": "own_agreement_across_phrase",
        "phenomenon": "subject_verb_agreement",
        "sentence_good": "The lamps above the stair were broken.",
        "sentence_bad": "The lamps above the stair was broken.",
        "log_probability_good": scores.good[9],
        "log_probability_bad": scores.bad[9],
        "correct": bool(scores.correct[9]),
    }


def test_planted_preferences_are_found(bigrams, tokenizer, own_pairs):
    """A bigram model of the good (bad) sentences gets everything right (wrong)."""
    names = ["own_agreement_adjacent", "own_determiner_adjacent", "own_determiner_across_adjective"]
    local = own_pairs.select(paradigm=names)
    lover = minimal_pairs(bigrams(local.items[::2]), tokenizer, local)
    hater = minimal_pairs(bigrams(local.items[1::2]), tokenizer, local)
    assert (lover.accuracy, hater.accuracy) == (1.0, 0.0)
    assert [row["accuracy"] for row in lover.to_rows()] == [1.0] * 6
    assert [row["accuracy"] for row in hater.to_rows()] == [0.0] * 6


def test_one_planted_paradigm_moves_its_own_row_only(bigrams, tokenizer, own_pairs):
    """Good sentences of one paradigm, bad ones of another: labels that slipped by a row would show."""
    names = ["own_determiner_adjacent", "own_agreement_adjacent"]
    chosen = own_pairs.select(paradigm=names)
    taught = [*chosen.select(paradigm=names[0], condition="good").items]
    taught += chosen.select(paradigm=names[1], condition="bad").items
    accuracies = {
        row["name"]: row["accuracy"] for row in minimal_pairs(bigrams(taught), tokenizer, chosen).by_paradigm()
    }
    assert accuracies == {names[0]: 1.0, names[1]: 0.0}


def test_items_may_stand_in_any_order(gpt2, tokenizer, own_pairs):
    shuffled = own_pairs.take(np.random.default_rng(0).permutation(len(own_pairs)))
    expected = {row["pair"]: row for row in minimal_pairs(gpt2, tokenizer, own_pairs).pair_rows()}
    for row in minimal_pairs(gpt2, tokenizer, shuffled).pair_rows():
        assert row["sentence_good"] == expected[row["pair"]]["sentence_good"]
        assert row["log_probability_good"] == pytest.approx(expected[row["pair"]]["log_probability_good"], abs=1e-4)
        assert row["log_probability_bad"] == pytest.approx(expected[row["pair"]]["log_probability_bad"], abs=1e-4)


def test_published_protocol_pads_each_side_for_itself(gpt2, tokenizer, own_pairs):
    scores = minimal_pairs(gpt2, tokenizer, own_pairs, protocol="published", batch_size=16)
    for found, side in ((scores.good, own_pairs.items[::2]), (scores.bad, own_pairs.items[1::2])):
        alone = token_log_probabilities(gpt2, tokenizer, side, protocol="published", batch_size=16)
        np.testing.assert_allclose(found, [tokens.sum() for tokens in alone], rtol=1e-5)
    assert scores.protocol == "published"
    assert not np.allclose(scores.good, minimal_pairs(gpt2, tokenizer, own_pairs).good, rtol=1e-2)


def test_ties_are_wrong_and_counted(gpt2, tokenizer):
    same = pairs_of(("p", "q", 3))
    items = ("A dog.", "A dog.", *same.items[2:])
    scores = minimal_pairs(gpt2, tokenizer, StimulusSet("ties", items, same.conditions, labels=same.labels))
    assert scores.n_ties == 1
    assert not scores.correct[0]


def test_rows_are_means_over_paradigms():
    """Unequal sizes: a mean over pairs would give 5/14."""
    pairs = pairs_of(("a", "x", 8), ("b", "x", 4), ("c", "y", 2))
    right = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0], bool)
    scores = MinimalPairScores(pairs, good=np.where(right, -1.0, -3.0), bad=np.full(14, -2.0))
    table = {(row["level"], row["name"]): row for row in scores.to_rows()}
    assert list(table) == [
        ("all", "all"),
        *[("phenomenon", name) for name in "xy"],
        *[("paradigm", name) for name in "abc"],
    ]
    assert table["paradigm", "a"]["accuracy"] == 0.5
    assert table["paradigm", "b"]["accuracy"] == 0.25
    assert table["phenomenon", "x"]["accuracy"] == pytest.approx(0.375)
    assert table["all", "all"]["accuracy"] == scores.accuracy == pytest.approx(0.25)
    assert [table[key]["n_pairs"] for key in table] == [14, 12, 2, 8, 4, 2]
    assert [table[key]["n_paradigms"] for key in table] == [3, 2, 1, 1, 1, 1]
    assert [table[key]["phenomenon"] for key in table] == ["", "x", "y", "x", "x", "y"]
    wilson = stats.binomtest(4, 8).proportion_ci(method="wilson")
    assert (table["paradigm", "a"]["low"], table["paradigm", "a"]["high"]) == pytest.approx((wilson.low, wilson.high))
    assert "accuracy 0.250 [" in repr(scores)
    assert "over 3 paradigms, 14 pairs, 0 ties, protocol 'bos'" in repr(scores)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (37, 100), (707, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_interval_of_one_paradigm_is_wilsons(k, n, confidence):
    wilson = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    found = accuracy_interval(np.array([k]), np.array([n]), confidence=confidence)
    assert found == pytest.approx((wilson.low, wilson.high), abs=1e-12)


def test_interval_of_like_paradigms_is_wilsons_of_all_pairs():
    wilson = stats.binomtest(90, 120).proportion_ci(method="wilson")
    assert accuracy_interval(np.array([30, 30, 30]), np.array([40, 40, 40])) == pytest.approx((wilson.low, wilson.high))
    perfect = stats.binomtest(120, 120).proportion_ci(method="wilson")
    assert accuracy_interval(np.array([40, 80]), np.array([40, 80]))[0] < perfect.low
    assert accuracy_interval(np.array([60, 60]), np.array([60, 60])) == pytest.approx((perfect.low, 1.0))


def test_interval_of_a_mean_agrees_with_a_bootstrap_within_paradigms():
    rng = np.random.default_rng(0)
    n = np.array([1000, 400, 200])
    k = np.array([700, 300, 90])
    drawn = rng.binomial(n, k / n, size=(20000, 3)) / n
    expected = np.quantile(drawn.mean(1), [0.025, 0.975])
    assert accuracy_interval(k, n) == pytest.approx(tuple(expected), abs=0.002)


@pytest.mark.parametrize(
    ("p", "n"), [((0.95, 0.6, 0.8, 0.5), (40, 40, 40, 40)), ((0.99,) * 8, (8,) * 8), ((0.9, 0.55), (1000, 20))]
)
def test_interval_covers_the_truth_about_as_often_as_it_says(p, n):
    rng = np.random.default_rng(1)
    p, n = np.array(p), np.array(n)
    limits = np.array([accuracy_interval(rng.binomial(n, p), n) for _ in range(1500)])
    covered = ((limits[:, 0] <= p.mean()) & (p.mean() <= limits[:, 1])).mean()
    assert 0.925 < covered < 0.985


@pytest.mark.parametrize(("n_pairs", "n_paradigms"), [(5, 10), (5, 67), (10, 10), (10, 67), (20, 67), (50, 10)])
def test_interval_covers_over_many_unlike_paradigms_of_few_pairs(n_pairs, n_paradigms):
    """With the variance divided by n pairs in place of n - 1 it covered .91 to .93 at 5 pairs."""
    rng = np.random.default_rng(n_paradigms)
    n = np.full(n_paradigms, n_pairs)
    for a, b in ((2, 2), (8, 2), (0.9, 0.3)):
        truths = rng.beta(a, b, (2000, n_paradigms))
        limits = np.array([accuracy_interval(rng.binomial(n, p), n) for p in truths])
        covered = (limits[:, 0] <= truths.mean(1)) & (truths.mean(1) <= limits[:, 1])
        exact = stats.binomtest(int(covered.sum()), len(truths)).proportion_ci()
        assert exact.high >= 0.945, (a, b)
        assert exact.low <= 0.965, (a, b)


def test_interval_of_paradigms_of_one_pair_is_wilsons_of_all():
    wilson = stats.binomtest(7, 10).proportion_ci(method="wilson")
    found = accuracy_interval(np.array([1] * 7 + [0] * 3), np.ones(10, int))
    assert found == pytest.approx((wilson.low, wilson.high))


def test_confidence_widens_the_intervals(gpt2, tokenizer, own_pairs):
    narrow, wide = (minimal_pairs(gpt2, tokenizer, own_pairs, confidence=c).overall() for c in (0.5, 0.99))
    assert narrow["accuracy"] == wide["accuracy"]
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]
    with pytest.raises(ValueError, match=r"confidence=95\.0; expected a level between 0 and 1"):
        minimal_pairs(gpt2, tokenizer, own_pairs, confidence=95.0)


def relabelled(pairs, **changes):
    return StimulusSet(**{
        "name": pairs.name,
        "items": pairs.items,
        "conditions": pairs.conditions,
        "labels": pairs.labels,
        **changes,
    })


def test_sets_that_are_no_pairs_are_refused(gpt2, tokenizer):
    pairs = pairs_of(("a", "x", 2))
    half = {key: column for key, column in pairs.labels.items() if key != "phenomenon"}
    two_terms = {**pairs.labels, "phenomenon": ("x", "x", "y", "y")}
    for broken, match in (
        (relabelled(pairs, labels=half), r"'made up' has no label phenomenon; it has \['pair', 'paradigm'\]"),
        (relabelled(pairs, conditions=("good", "good", "good", "bad")), "second or unknown condition 'good'"),
        (relabelled(pairs, conditions=("good", "odd", "good", "bad")), "second or unknown condition 'odd'"),
        (pairs.take([0, 1, 2]), "pair 'a/1' of 'made up' has no bad sentence"),
        (pairs.take([0, 1, 3]), "pair 'a/1' of 'made up' has no good sentence"),
        (relabelled(pairs, labels=two_terms), "paradigm 'a' of 'made up' belongs to 'x' and to 'y'"),
    ):
        with pytest.raises(ValueError, match=match):
            minimal_pairs(gpt2, tokenizer, broken)


def test_what_is_no_set_and_no_level_is_refused(gpt2, tokenizer, own_pairs):
    unchecked = inspect.unwrap(minimal_pairs)
    message = r"^pairs is a list of 1 tuple; expected a StimulusSet: load_minimal_pairs\('blimp'\), or such a set"
    with pytest.raises(TypeError, match=message):
        unchecked(gpt2, tokenizer, [("good", "bad")])
    with pytest.raises(TypeError, match=r"^model is the string 'gpt2'; expected a Module"):
        inspect.unwrap(token_log_probabilities)("gpt2", tokenizer, ["a"])
    for confidence in (0.0, 1.0, float("nan"), 95.0):
        with pytest.raises(ValueError, match=f"confidence={confidence}; expected a level between 0 and 1"):
            unchecked(gpt2, tokenizer, own_pairs, confidence=confidence)
    for correct, pairs in (([0], [0]), ([3], [2]), ([-1], [2]), ([], [])):
        with pytest.raises(ValueError, match="expected at least one pair, all or fewer correct"):
            accuracy_interval(np.array(correct, int), np.array(pairs, int))


def test_scores_that_do_not_fit_are_refused(gpt2, tokenizer, own_pairs):
    pairs = pairs_of(("a", "x", 2))
    with pytest.raises(ValueError, match="good has 3 values for 2 pairs"):
        MinimalPairScores(pairs, good=np.zeros(3), bad=np.zeros(3))
    with pytest.raises(ValueError, match="not good and bad sentences in turn"):
        MinimalPairScores(pairs.take([1, 0, 2, 3]), good=np.zeros(2), bad=np.zeros(2))
    with pytest.raises(ValueError, match="1 of 2 good sentences have a log-probability that is NaN or infinite"):
        MinimalPairScores(pairs, good=np.array([np.nan, 0.0]), bad=np.zeros(2))
    weight = gpt2.transformer.h[0].mlp.c_fc.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = math.nan
    with pytest.raises(ValueError, match="check the model's weights"):
        minimal_pairs(gpt2, tokenizer, own_pairs)
    with torch.no_grad():
        weight.copy_(kept)
