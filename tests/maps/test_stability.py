import numpy as np
import pytest

from topographic.maps.localizer import localize, localizer_maps
from topographic.maps.stability import split_half, split_half_stability

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
    # ten of thirty-six by chance: Dice has the mean n_2 / units (hypergeometric)
    assert real["dice_null"] == pytest.approx(
        2 * real["n_first"] * real["n_second"] / 36 / (real["n_first"] + real["n_second"]), abs=0.03
    )
    assert real["correlation_null"] == pytest.approx(0.0, abs=0.05)
    assert real["correlation_null_sd"] == pytest.approx(1 / np.sqrt(35), rel=0.15)


def test_the_null_keeps_the_sizes_of_the_sheets(responses):
    """A network that is all on one sheet overlaps by its size even at random; the null of "all" says so."""
    everything = split_half_stability(responses, "a", "b", rule="top", level=10 / 72, n_draws=400)[-1]
    assert everything.dice.unit_null.mean > 0.2, "units shuffled over both sheets would give 10 / 72"


def test_calibrated_where_halves_agree_by_chance_only(respond):
    rng, p = np.random.default_rng(7), []
    for seed in range(100):
        one = respond(rng.standard_normal((32, 36)), runs=["odd", "odd", "even", "even"] * 8)
        rows = split_half_stability({"site": one}, "a", "b", rule="top", level=0.25, n_draws=39, seed=seed)
        p.append(rows[0].correlation.unit_null.p)
    # binomial(100, .05): 99.9 % lie at 12 or below
    assert np.mean(np.array(p) <= 0.05) <= 0.12


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
