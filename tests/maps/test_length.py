import numpy as np
import pytest
from scipy import stats

from topographic.maps import NotMeasurable, control_fdr, select
from topographic.maps.length import length_adjusted_map, match_length
from topographic.recording.readout import readout

N_UNITS = 30


def confounded(respond, seed, *, slope=0.0, effect=0.0, n=60, gap=4, spread=6):
    """Condition a has more tokens than b; every unit follows the tokens, the first third also the condition."""
    rng = np.random.default_rng(seed)
    is_a = np.arange(n) % 2 == 0
    n_tokens = rng.integers(5, 5 + spread, n) + gap * is_a
    values = rng.standard_normal((n, N_UNITS)) + slope * n_tokens[:, None]
    values[:, : N_UNITS // 3] += effect * is_a[:, None]
    return respond(values, n_tokens=n_tokens, runs=["odd", "odd", "even", "even"] * (n // 4))


def test_the_adjusted_t_is_that_of_least_squares(respond):
    one = confounded(respond, 0, slope=0.7, effect=1.0)
    is_a = np.array(one.stimuli.conditions) == "a"
    design = np.column_stack([np.ones(60), is_a, one.n_tokens]).astype(float)
    values = one.values.astype(np.float64)
    weights, rest, *_ = np.linalg.lstsq(design, values, rcond=None)
    s = np.sqrt(rest / 57)
    t = weights[1] / (s * np.sqrt(np.linalg.inv(design.T @ design)[1, 1]))
    adjusted = length_adjusted_map(one, "a", "b")
    np.testing.assert_allclose(adjusted.values, t, rtol=1e-4)
    np.testing.assert_allclose(adjusted.p, 2 * stats.t.sf(np.abs(t), 57), rtol=1e-3)
    np.testing.assert_allclose(
        length_adjusted_map(one, "a", "b", statistic="cohens_d").values, weights[1] / s, rtol=1e-4
    )
    np.testing.assert_allclose(length_adjusted_map(one, "b", "a").values, -adjusted.values, rtol=1e-5)
    assert adjusted.statistic == "adjusted_t"
    assert length_adjusted_map(one, "a", "b", statistic="cohens_d").p is None


def test_only_the_items_of_the_contrast_count(respond):
    one = confounded(respond, 1, slope=0.5)
    stimuli_conditions = ["a", "b", "c"] * 20
    three = respond(one.values, n_tokens=one.n_tokens, conditions=stimuli_conditions)
    kept = np.flatnonzero(np.array(stimuli_conditions) != "c")
    expected = length_adjusted_map(three.take(kept), "a", "b")
    np.testing.assert_array_equal(length_adjusted_map(three, "a", "b").values, expected.values)


def test_the_readout_comes_before_the_contrast(respond):
    one = confounded(respond, 2, slope=0.5)
    smoothed = length_adjusted_map(one, "a", "b", fwhm_mm=2.0)
    assert smoothed.sheet.is_readout
    np.testing.assert_array_equal(smoothed.values, length_adjusted_map(readout(one, 2.0), "a", "b").values)


def false_alarms(p):
    return np.mean(np.concatenate(p) < 0.05)


def test_length_alone_makes_no_unit_selective(respond):
    """Planted truth: units follow length, not the condition; 40 data sets of 30 units."""
    adjusted, naive = [], []
    for seed in range(40):
        one = confounded(respond, seed, slope=0.5)
        adjusted.append(length_adjusted_map(one, "a", "b").p)
        # what subtracting the within-condition slope and testing the rest would say
        is_a = np.array(one.stimuli.conditions) == "a"
        inner = one.n_tokens - np.where(is_a, one.n_tokens[is_a].mean(), one.n_tokens[~is_a].mean())
        slope = inner @ one.values / (inner @ inner)
        rest = one.values - np.outer(one.n_tokens, slope)
        naive.append(stats.ttest_ind(rest[is_a], rest[~is_a], equal_var=False).pvalue)
    # 1200 tests: 5 % +- 3 standard errors
    assert abs(false_alarms(adjusted) - 0.05) < 0.02
    assert false_alarms(naive) > 0.15, "the trap that the adjusted map avoids"


def test_units_that_do_nothing_get_zero(respond):
    values = np.zeros((20, 4))
    values[:, 1] = 3.0
    one = respond(values, n_tokens=np.arange(20) % 5 + 3)
    adjusted = length_adjusted_map(one, "a", "b")
    assert (adjusted.values == 0).all()
    assert (adjusted.p == 1).all()


def test_matched_items_have_equal_lengths(respond):
    one = confounded(respond, 3, slope=1.0)
    kept = match_length({"x": one, "y": one}, "a", "b", seed=1)
    lengths = [
        sorted(kept["x"].n_tokens[np.array(kept["x"].stimuli.conditions) == name].tolist()) for name in ("a", "b")
    ]
    assert lengths[0] == lengths[1]
    counts = [np.bincount(one.n_tokens[np.array(one.stimuli.conditions) == name], minlength=20) for name in ("a", "b")]
    assert len(lengths[0]) == np.minimum(*counts).sum() > 4, "no more is thrown away than needs be"
    assert kept["x"].stimuli == kept["y"].stimuli
    order = [one.stimuli.items.index(item) for item in kept["x"].stimuli.items]
    assert order == sorted(order)
    np.testing.assert_array_equal(kept["x"].values, one.values[order])


def test_matching_draws_by_its_seed(respond):
    one = {"x": confounded(respond, 4)}
    items = [match_length(one, "a", "b", seed=seed)["x"].stimuli.items for seed in (0, 0, 1)]
    assert items[0] == items[1] != items[2]


def test_what_length_needs(respond):
    values = np.random.default_rng(0).standard_normal((8, 4))
    with pytest.raises(
        NotMeasurable, match=r"only 0 items of a \(5 to 5 tokens\) have as many tokens as one of b \(9 to 9"
    ):
        match_length({"x": respond(values, n_tokens=[5, 9] * 4)}, "a", "b")
    with pytest.raises(NotMeasurable, match="whose number of tokens does not vary within a condition"):
        length_adjusted_map(respond(values, n_tokens=[5, 9] * 4), "a", "b")
    bare = respond(values)
    with pytest.raises(ValueError, match="carry no n_tokens, so length cannot be handled"):
        match_length({"x": bare}, "a", "b")
    with pytest.raises(ValueError, match="carry no n_tokens"):
        length_adjusted_map(bare, "a", "b")


def test_a_real_difference_survives(respond):
    one = confounded(respond, 5, slope=0.5, effect=3.0)
    chosen = select(control_fdr({"x": length_adjusted_map(one, "a", "b")})["x"])
    assert chosen.mask[:10].sum() >= 9
    assert chosen.mask[10:].sum() <= 2


def test_p_of_sampled_groups_is_that_of_their_means(respond):
    rng = np.random.default_rng(0)
    groups = np.arange(60) // 5
    values, n_tokens = rng.standard_normal((60, 4)) + rng.standard_normal((12, 4))[groups], rng.integers(5, 12, 60)
    about = {"conditions": np.where(groups % 2, "a", "b"), "runs": ["1"] * 60}
    whole = respond(values, n_tokens=n_tokens, labels={"speaker": groups.astype(str)}, sampled_by="speaker", **about)
    seen = whole.values.astype(float).reshape(12, 5, 4).mean(1)
    design = np.column_stack([np.ones(12), np.arange(12) % 2, n_tokens.reshape(12, 5).mean(1)])
    weights, rest, *_ = np.linalg.lstsq(design, seen, rcond=None)
    t = weights[1] / np.sqrt(rest / 9 * np.linalg.inv(design.T @ design)[1, 1])
    found = length_adjusted_map(whole, "a", "b")
    np.testing.assert_allclose(found.p, 2 * stats.t.sf(np.abs(t), 9), rtol=1e-5)
    alone = length_adjusted_map(respond(values, n_tokens=n_tokens, **about), "a", "b")
    np.testing.assert_array_equal(found.values, alone.values)
