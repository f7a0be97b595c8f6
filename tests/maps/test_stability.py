from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from topographic.maps.localizer import LENGTHS, LOCALIZER_RULES, localize, localizer_maps
from topographic.maps.references import NotMeasurable
from topographic.maps.stability import split_half, split_half_stability
from topographic.recording import Responses
from topographic.sheets import grid, permuted_grid
from topographic.stimuli import StimulusSet

RUNS = ["1", "1", "2", "2", "3", "3", "4", "4"]


@pytest.fixture
def responses(respond):
    """Site "real" has ten selective units of thirty-six, "noise" has none."""
    rng = np.random.default_rng(0)
    found = {}
    for site, effect in (("real", 2.0), ("noise", 0.0)):
        values = rng.standard_normal((96, 36))
        values[::2, :10] += effect
        found[site] = respond(values, site=site, runs=RUNS * 12)
    return found


def test_halves_share_no_run_and_leave_nothing_out(responses):
    first, second = split_half(responses)
    assert set(first["real"].stimuli.runs) == {"1", "3"}
    assert set(second["noise"].stimuli.runs) == {"2", "4"}
    assert {*first["real"].stimuli.items} | {*second["real"].stimuli.items} == {*responses["real"].stimuli.items}
    rows = [responses["real"].stimuli.items.index(item) for item in second["real"].stimuli.items]
    np.testing.assert_array_equal(second["real"].values, responses["real"].values[rows])


def test_one_run_is_divided_within_conditions(respond):
    conditions = ["a", "a", "a", "b", "b", "b", "b", "b"]
    one = respond(np.arange(32).reshape(8, 4), conditions=conditions, runs=["1"] * 8)
    first, second = split_half({"x": one})
    assert first["x"].stimuli.conditions == ("a", "a", "b", "b", "b")
    assert second["x"].stimuli.items == ("item 1", "item 4", "item 6")


def test_agreement_is_dice_and_correlation(responses):
    rows = {row.site: row for row in split_half_stability(responses, "a", "b", n_draws=200)}
    assert list(rows) == ["real", "noise", "all"]
    halves = split_half(responses)
    first, second = (localize(half, "a", "b") for half in halves)
    t_first, t_second = (localizer_maps(half, "a", "b") for half in halves)
    both, sizes = 0, [0, 0]
    for site in responses:
        shared = (first[site].mask & second[site].mask).sum()
        both, sizes = both + shared, [sizes[0] + first[site].n_selected, sizes[1] + second[site].n_selected]
        assert (rows[site].n_first, rows[site].n_second) == (first[site].n_selected, second[site].n_selected)
        expected = np.corrcoef(t_first[site].values, t_second[site].values)[0, 1]
        assert rows[site].correlation.value == pytest.approx(expected, abs=1e-6)
    assert rows["all"].dice.value == pytest.approx(2 * both / sum(sizes))
    together = [np.concatenate([half[site].values for site in responses]) for half in (t_first, t_second)]
    assert rows["all"].correlation.value == pytest.approx(np.corrcoef(*together)[0, 1], abs=1e-6)


def test_a_real_network_is_stable_and_noise_is_not(responses):
    options = {"rule": "top", "level": 10 / 72, "n_draws": 400}
    real, noise, everything = (one.to_row() for one in split_half_stability(responses, "a", "b", **options))
    assert real["dice"] > 0.9
    assert real["dice_p"] == real["correlation_p"] == 1 / 401
    assert noise["correlation_p"] > 0.01
    assert abs(noise["correlation"]) < 0.5 < 0.8 < real["correlation"]
    assert everything["dice_p"] == 1 / 401
    assert real["correlation_null"] == pytest.approx(0.0, abs=0.05)
    assert real["dice_null"] < 0.3


def test_one_relabelling_serves_all_sites(responses):
    """A site shown twice agrees with its twin draw by draw; two sites drawn apart would be less variable together."""
    twice = {name: replace(responses["noise"], site=name) for name in ("one", "two")}
    one, two, both = (row.correlation for row in split_half_stability(twice, "a", "b", n_draws=50))
    np.testing.assert_allclose(one.label_null.draws, two.label_null.draws)
    np.testing.assert_allclose(one.label_null.draws, both.label_null.draws, atol=1e-6)


SHEETS = {site: permuted_grid(196, site, shape=(14, 14), seed=index) for index, site in enumerate("xyz")}


def smooth_sheets(generator, sigma, n_items=40):
    """Sheets of 14 x 14 whose neighbours respond alike to the same items, in two runs; half the items are "a"."""
    stimuli = StimulusSet(
        "smooth",
        tuple(f"item {index}" for index in range(n_items)),
        ("a", "b") * (n_items // 2),
        ("1",) * (n_items // 2) + ("2",) * (n_items // 2),
    )
    values = {}
    for site, sheet in SHEETS.items():
        columns, rows = np.rint(sheet.positions_mm.numpy()).astype(int).T
        noise = gaussian_filter(generator.standard_normal((n_items, 14, 14)), sigma, axes=(1, 2), mode="wrap")
        values[site] = (noise / noise.std())[:, rows - rows.min(), columns - columns.min()]
    return {site: Responses(site, one, SHEETS[site], stimuli) for site, one in values.items()}


@pytest.mark.parametrize("sigma", [1.5, 3.0])
@pytest.mark.unchecked
def test_calibrated_on_smooth_sheets(sigma):
    """Against permuted units Dice and r reject in .17 to .47 of these populations, in which no label means anything."""
    rng, p = np.random.default_rng(1), []
    for seed in range(300):
        options = {"rule": "top", "level": 0.1, "n_draws": 39, "seed": seed}
        everything = split_half_stability(smooth_sheets(rng, sigma), "a", "b", **options)[-1]
        p.append([everything.dice.label_null.p, everything.correlation.label_null.p])
    for rejected in (np.array(p) <= 0.05).sum(0).tolist():
        low, high = stats.binomtest(rejected, 300).proportion_ci(0.99)
        assert low <= 0.05 <= high, rejected


@pytest.mark.parametrize("rule", LOCALIZER_RULES)
def test_a_planted_region_of_a_smooth_sheet_is_stable(rule):
    rng, p = np.random.default_rng(2), []
    region = (SHEETS["x"].positions_mm.numpy() < 5).all(1)
    for seed in range(20):
        shown = smooth_sheets(rng, 1.5)
        values = shown["x"].values.copy()
        values[::2, region] += 2.0
        shown["x"] = replace(shown["x"], values=values)
        level = 0.05 if rule == "top" else None  # the usual 1 % are six units of a region of more than twenty
        options = {"rule": rule, "level": level, "n_draws": 99, "seed": seed}
        planted, *_, everything = split_half_stability(shown, "a", "b", **options)
        p.append([planted.dice.label_null.p, planted.correlation.label_null.p, everything.correlation.label_null.p])
    assert (np.array(p) <= 0.05).mean(0).min() >= 0.9


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rule", LOCALIZER_RULES)
def test_the_draw_that_is_the_observed_labelling_is_what_the_localizer_finds(monkeypatch, respond, rule, length):
    """Whatever the rule and the treatment of length: map, mask and agreement are those observed."""
    rng = np.random.default_rng(0)
    n_tokens = rng.integers(3, 7, 96)
    shown = {}
    for site in ("one", "two"):
        values = rng.standard_normal((96, 36)) + np.outer(n_tokens, rng.standard_normal(36))
        values[::2, :8] += 1.5
        shown[site] = respond(values, site=site, runs=RUNS * 12, n_tokens=n_tokens)
    monkeypatch.setattr(
        "topographic.maps.stability.relabel", lambda labels, blocks, n_draws, generator: np.tile(labels, (n_draws, 1))
    )
    options = {"rule": rule, "length": length, "n_draws": 2, "level": {"q": 0.05, "top": 0.1, "effect_size": 0.8}[rule]}
    rows = split_half_stability(shown, "a", "b", **options)
    assert rows[-1].n_first > 2
    assert rows[-1].n_second > 2
    for row in rows:
        assert row.dice.label_null.draws == pytest.approx(row.dice.value)
        assert row.correlation.label_null.draws == pytest.approx(row.correlation.value, abs=1e-5)


def test_runs_that_hold_one_side_only_have_no_null(respond):
    conditions, runs = ["a", "b"] * 4 + ["a"] * 4 + ["b", "a"] * 2 + ["b"] * 4, ["1"] * 8 + ["2"] * 4
    runs += ["3"] * 4 + ["4"] * 4
    shown = {"x": respond(np.random.default_rng(0).standard_normal((20, 4)), conditions=conditions, runs=runs)}
    with pytest.raises(NotMeasurable, match=r"every run of the second half of .* holds one side of the contrast only"):
        split_half_stability(shown, "a", "b", n_draws=9)


def test_the_seed_is_that_of_the_null(responses):
    rows = [split_half_stability(responses, "a", "b", n_draws=20, seed=seed)[0].to_row() for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


def test_nothing_selected_is_nan_and_not_zero(respond):
    one = respond(np.random.default_rng(0).standard_normal((32, 36)), runs=["odd", "odd", "even", "even"] * 8)
    row = split_half_stability({"site": one}, "a", "b", rule="effect_size", level=50.0, n_draws=5)[0].to_row()
    assert (row["n_first"], row["n_second"]) == (0, 0)
    assert np.isnan(row["dice"])
    assert row["dice_p"] is None
    assert row["correlation_p"] is not None


def test_what_halves_need(respond):
    with pytest.raises(ValueError, match="has 1 item and cannot be divided"):
        split_half({"x": respond(np.ones((1, 4)))})
    by_run = respond(np.random.default_rng(0).standard_normal((8, 4)), conditions=["a"] * 4 + ["b"] * 4)
    with pytest.raises(ValueError, match=r"has no condition 'b'; it has \['a'\]"):
        split_half_stability({"x": by_run}, "a", "b")


def test_a_unit_without_a_value_is_left_out(responses, respond):
    """One that a half tells apart without error has no t there; the others agree as if it were not there."""
    exact = responses["real"].values.copy()
    exact[:, 20] = np.arange(96) % 2
    others = np.delete(exact, 20, axis=1)
    with pytest.warns(UserWarning, match="1 of 36 units at 'real'"):
        with_exact = split_half_stability({"real": respond(exact, site="real", runs=RUNS * 12)}, "a", "b", n_draws=9)[0]
    without = split_half_stability({"real": respond(others, site="real", runs=RUNS * 12)}, "a", "b", n_draws=9)[0]
    assert with_exact.to_row() == without.to_row()


PASSAGES = {"labels": {"passage": [str(item // 5) for item in range(80)]}, "conditions": ["a"] * 40 + ["b"] * 40}


def passages(rng, sheet, respond, sampled_by="passage", site="x"):
    """16 passages of 5 items, 8 in either condition, that share half of their variance over a smooth sheet."""

    def smooth(n):
        noise = gaussian_filter(rng.standard_normal((n, 8, 8)), 1.5, axes=(1, 2), mode="wrap").reshape(n, -1)
        return noise / noise.std()

    values = (smooth(80) + smooth(16).repeat(5, axis=0)).astype(np.float32)
    return {site: respond(values, sheet=sheet, site=site, runs=["1"] * 80, sampled_by=sampled_by, **PASSAGES)}


def test_halves_of_one_run_share_no_passage(respond):
    rng = np.random.default_rng(0)
    first, second = split_half(passages(rng, grid((8, 8)), respond))
    mine, theirs = ({*half["x"].stimuli.labels["passage"]} for half in (first, second))
    assert not mine & theirs
    assert (len(mine), len(theirs)) == (8, 8)
    assert set(first["x"].stimuli.conditions) == set(second["x"].stimuli.conditions) == {"a", "b"}


@pytest.mark.unchecked
def test_passages_are_exchanged_whole(respond):
    """Where the set does not say that passages were sampled the same populations are called stable far too often."""
    rng, n, rejected = np.random.default_rng(5), 150, {"passage": 0, None: 0}
    for seed in range(n):
        for by in rejected:
            shown = passages(rng, grid((8, 8)), respond, by)
            (found, _) = split_half_stability(shown, "a", "b", rule="top", level=0.1, n_draws=99, seed=seed)
            rejected[by] += found.correlation.label_null.p <= 0.05
            if by:
                assert found.correlation.label_null.n_draws == 69, "the 70 ways to choose 4 of 8 passages, but for one"
    assert stats.binomtest(rejected["passage"], n).proportion_ci(0.999).low <= 0.05
    assert rejected[None] > 0.3 * n


def test_a_planted_region_is_stable_over_passages(respond):
    rng, found = np.random.default_rng(6), 0
    for seed in range(20):
        shown = passages(rng, grid((8, 8)), respond)
        values = shown["x"].values.copy()
        values[:40, :20] += 6.0
        shown["x"] = replace(shown["x"], values=values)
        one, _ = split_half_stability(shown, "a", "b", rule="top", level=0.1, n_draws=99, seed=seed)
        found += one.correlation.label_null.p <= 0.05
    assert found >= 16


def test_halves_that_share_passages_are_not_compared(respond):
    rng = np.random.default_rng(0)
    about = {"labels": {"word": [str(item // 2) for item in range(40)]}, "sampled_by": "word"}
    shown = respond(rng.standard_normal((40, 9)), conditions=["a"] * 20 + ["b"] * 20, runs=["1", "2"] * 20, **about)
    with pytest.raises(NotMeasurable, match="20 entries of 'word' have items in both halves of 'planted'"):
        split_half_stability({"x": shown}, "a", "b", n_draws=9)


def test_too_few_entries_are_not_measurable(respond):
    rng = np.random.default_rng(0)
    about = {"labels": {"word": [str(item // 5) for item in range(40)]}, "sampled_by": "word"}
    runs = [run for run in "1234" for _ in range(10)]  # of which each holds two words of one side
    shown = respond(rng.standard_normal((40, 9)), conditions=["a"] * 20 + ["b"] * 20, runs=runs, **about)
    with pytest.raises(NotMeasurable, match="was sampled by 'word' and has 1 labellings of its entries"):
        split_half_stability({"x": shown}, "a", "b", rule="top", n_draws=9)
    alone = {"labels": {"word": ["w"] * 4}, "sampled_by": "word", "conditions": ["a"] * 4, "runs": ["1"] * 4}
    with pytest.raises(ValueError, match="has 1 entry of 'word' of a kind and cannot be divided"):
        split_half({"x": respond(np.ones((4, 2)), **alone)})
