import numpy as np
import pytest
from scipy import stats

from topographic.maps import Selection, select, t_map
from topographic.maps.clusters import cluster_mass_test, clusters
from topographic.maps.localizer import localize, localizer_maps
from topographic.maps.profiles import cross_fitted_profile, held_out, ordering_counts, response_profile
from topographic.maps.stability import split_half
from topographic.maps.thresholds import control_fdr, select_top
from topographic.recording.readout import readout
from topographic.sheets import grid

CONDITIONS = ("sentences", "words", "jabberwocky", "nonwords")
STRENGTH = {"sentences": 3.0, "words": 2.0, "jabberwocky": 0.5, "nonwords": 0.0}
NETWORK = np.arange(64) < 12


@pytest.fixture
def responses(respond):
    """Two sheets of 64 units; the first twelve of each respond S > W > J > N."""
    rng = np.random.default_rng(0)
    conditions = CONDITIONS * 40
    found = {}
    for site in ("one", "two"):
        values = rng.standard_normal((160, 64))
        values += np.outer([STRENGTH[condition] for condition in conditions], NETWORK)
        found[site] = respond(values, site=site, conditions=conditions, runs=["odd"] * 80 + ["even"] * 80)
    return found


@pytest.fixture
def network(responses):
    first, _ = split_half(responses)
    return list(localize(first, "sentences", "nonwords").values())


def test_the_planted_profile_is_found_on_other_items(responses, network):
    profile = response_profile(held_out(responses, network), network, name="network")
    assert profile.conditions == CONDITIONS
    assert profile.ordering == "S>W>J>N"
    assert profile.n_units == sum(one.n_selected for one in network)
    np.testing.assert_allclose(profile.means, [3.0, 2.0, 0.5, 0.0], atol=0.25)
    truth = np.array([3.0, 2.0, 0.5, 0.0]) * np.mean(np.concatenate([NETWORK[one.mask] for one in network]))
    assert ((profile.low < truth) & (truth < profile.high)).sum() >= 3


def test_means_are_over_units_of_all_sites_then_items(responses):
    chosen = [Selection(site, np.arange(64) < n, grid(64, site), "by hand") for site, n in (("one", 3), ("two", 20))]
    profile = response_profile(responses, chosen)
    together = np.concatenate([responses[one.site].values[:, one.mask] for one in chosen], axis=1).astype(float)
    for index, condition in enumerate(CONDITIONS):
        rows = np.array(responses["one"].stimuli.conditions) == condition
        assert profile.means[index] == pytest.approx(together[rows].mean())
    alone = response_profile(responses, chosen[1], ["words"])
    assert alone.means[0] == pytest.approx(responses["two"].values[1::4, :20].mean(), rel=1e-5)
    assert alone.conditions == ("words",)


def test_absolute_comes_before_the_mean(responses):
    chosen = Selection("one", NETWORK, grid(64, "one"), "by hand")
    profile = response_profile(responses, chosen, absolute=True)
    assert profile.means[3] == pytest.approx(np.abs(responses["one"].values[3::4, :12]).mean(), rel=1e-5)
    assert profile.means[3] > 0.7, "noise about 0 has a large mean magnitude"
    assert profile.to_rows()[0]["absolute"] is True


def test_intervals_are_studentised(responses):
    """The formula on other samples, and near Student's t where items are many and normal."""
    chosen = Selection("one", NETWORK, grid(64, "one"), "by hand")
    profile = response_profile(responses, chosen, n_bootstrap=20000)
    per_item, rng = responses["one"].values[:, :12].astype(float).mean(1), np.random.default_rng(1)
    for index in range(4):
        values = per_item[index::4]
        error = stats.sem(values)
        drawn = rng.choice(values, (20000, 40))
        t = (drawn.mean(1) - values.mean()) / stats.sem(drawn, axis=1)
        low, high = values.mean() - np.percentile(t, [97.5, 2.5]) * error
        assert (profile.low[index], profile.high[index]) == pytest.approx((low, high), abs=0.1 * error)
        expected = stats.t.interval(0.95, 39, values.mean(), error)
        assert (profile.low[index], profile.high[index]) == pytest.approx(expected, abs=0.5 * error)


LOGNORMAL = {5: 0.85, 10: 0.87, 20: 0.89, 60: 0.90}  # reached: .88, .89, .93, .92


@pytest.mark.parametrize("n_items", LOGNORMAL)
@pytest.mark.parametrize("kind", ["normal", "lognormal"])
@pytest.mark.unchecked
def test_the_interval_covers_the_truth(respond, kind, n_items):
    """Percentiles of a bootstrap cover the mean of 5 and 10 normal items in .83 and .90."""
    rng, hits, n_sheets, at_once = np.random.default_rng(3), 0, 60, 12
    chosen, truth = Selection("site", np.ones(2, bool), grid(2), "all"), 0.0 if kind == "normal" else np.exp(0.5)
    names = tuple(f"condition {index}" for index in range(at_once))  # each a sample of its own
    for seed in range(n_sheets):
        drawn = rng.standard_normal(n_items * at_once)
        values = np.repeat(drawn if kind == "normal" else np.exp(drawn), 2).reshape(-1, 2)
        shown = {"site": respond(values, sheet=chosen.sheet, conditions=names * n_items)}
        profile = response_profile(shown, chosen, n_bootstrap=400, seed=seed)
        hits += int(((profile.low <= truth) & (truth <= profile.high)).sum())
    low, high = stats.binomtest(hits, n_sheets * at_once).proportion_ci(0.99)
    if kind == "normal":
        assert low <= 0.95 <= high + 0.01, hits
    else:
        assert high > LOGNORMAL[n_items] + 0.01
        assert hits / (n_sheets * at_once) > LOGNORMAL[n_items]


def grouped(rng, respond, n_groups, *, declared=True, at_once=12):
    """Conditions of groups of five items that share half of their variance; the truth is 0."""
    groups = np.repeat(np.arange(n_groups * at_once), 5)
    drawn = rng.standard_normal(n_groups * at_once)[groups] + rng.standard_normal(len(groups))
    about = {"labels": {"passage": groups.astype(str)}, "sampled_by": "passage" if declared else None}
    names = [f"condition {group % at_once}" for group in groups]
    return {"site": respond(np.repeat(drawn[:, None], 2, axis=1), sheet=grid(2), conditions=names, **about)}


@pytest.mark.parametrize(("n_groups", "covers"), [(5, 0.95), (8, 0.95), (20, 0.95)])
@pytest.mark.unchecked
def test_intervals_over_groups_cover_the_truth_and_over_their_items_do_not(respond, n_groups, covers):
    rng, chosen, n_sheets = np.random.default_rng(7), Selection("site", np.ones(2, bool), grid(2), "all"), 50
    hits = {True: 0, False: 0}
    for seed in range(n_sheets):
        for declared in hits:
            shown = grouped(rng, respond, n_groups, declared=declared)
            profile = response_profile(shown, chosen, n_bootstrap=400, seed=seed)
            hits[declared] += int(((profile.low <= 0) & (profile.high >= 0)).sum())
    n = n_sheets * 12
    low, high = stats.binomtest(hits[True], n).proportion_ci(0.99)
    assert low <= covers <= high + 0.01, hits
    assert hits[False] / n < 0.85, hits


def test_groups_of_one_item_are_items(respond):
    rng = np.random.default_rng(8)
    about = {"conditions": ["a"] * 12, "labels": {"word": [f"{index:02d}" for index in range(12)]}}
    values = rng.standard_normal((12, 3))
    chosen = Selection("site", np.ones(3, bool), grid(3), "all")
    limits = [
        response_profile({"site": respond(values, sheet=chosen.sheet, sampled_by=by, **about)}, chosen, seed=1)
        for by in ("word", None)
    ]
    assert (limits[0].low, limits[0].high) == (limits[1].low, limits[1].high)
    one = {**about, "labels": {"word": ["w"] * 12}, "sampled_by": "word"}
    with pytest.raises(ValueError, match=r"condition 'a' has 1 word in .*, which was sampled by it; an"):
        response_profile({"site": respond(values, sheet=chosen.sheet, **one)}, chosen)


def test_few_or_equal_items_have_an_interval_too(respond):
    chosen = Selection("site", np.ones(4, bool), grid(4), "all")
    two = np.array([1.0, 3.0])
    profile = response_profile({"site": respond(np.outer(two, np.ones(4)), conditions=["a"] * 2)}, chosen)
    assert (profile.low[0], profile.high[0]) == pytest.approx(stats.t.interval(0.95, 1, 2.0, stats.sem(two)))
    still = response_profile({"site": respond(np.ones((8, 4)), conditions=["a"] * 8)}, chosen)
    assert (still.low[0], still.means[0], still.high[0]) == (1, 1, 1)
    one_differs = np.outer(np.arange(6) == 0, np.ones(4)).astype(float)
    profile = response_profile({"site": respond(one_differs, conditions=["a"] * 6)}, chosen)
    assert profile.low[0] < 1 / 6 < profile.high[0]


def test_the_seed_draws_the_samples(responses):
    chosen = Selection("one", NETWORK, grid(64, "one"), "by hand")
    limits = [response_profile(responses, chosen, seed=seed, n_bootstrap=50).low.tolist() for seed in (0, 0, 1)]
    assert limits[0] == limits[1] != limits[2]


def test_rows(responses, network):
    rows = response_profile(held_out(responses, network), network, name="network").to_rows()
    assert [row["condition"] for row in rows] == list(CONDITIONS)
    assert set(rows[0]) == {"units", "n_units", "absolute", "condition", "n_items", "mean", "low", "high"}
    assert rows[2]["n_items"] == 20
    assert all(row["low"] < row["mean"] < row["high"] for row in rows)


def test_items_that_chose_the_units_are_refused(responses, network):
    with pytest.raises(ValueError, match="40 of 160 items chose the units at 'one' themselves"):
        response_profile(responses, network)
    assert response_profile(responses, network, circular=True).means[0] > 2
    by_other_means = select(control_fdr({"one": t_map(responses["one"], "sentences", "nonwords")})["one"])
    with pytest.raises(ValueError, match="80 of 160 items chose the units"):
        response_profile(responses, by_other_means)


def test_circular_profiles_find_what_is_not_there(respond):
    """Why independence is asked for: noise alone looks selective on the items that chose it."""
    rng = np.random.default_rng(5)
    noise = {
        "site": respond(rng.standard_normal((40, 400)), conditions=["a", "b"] * 20, runs=["1", "1", "2", "2"] * 10)
    }
    first, _ = split_half(noise)
    chosen = localize(first, "a", "b", rule="top", level=0.05)["site"]
    circular = response_profile(first, chosen, circular=True)
    honest = response_profile(held_out(noise, chosen), chosen)
    assert circular.low[0] > circular.high[1]
    assert abs(honest.means[0] - honest.means[1]) < 0.3 < circular.means[0] - circular.means[1]


def choose_by_t(part):
    return list(select_top({site: t_map(one, "a", "b") for site, one in part.items()}, 0.05).values())


def choose_by_mass(part):
    maps = {site: t_map(one, "a", "b", n_draws=9) for site, one in part.items()}
    return cluster_mass_test(maps, threshold=1.0, sign="positive")[0].selection


@pytest.mark.parametrize("choose", [choose_by_t, choose_by_mass])
@pytest.mark.unchecked
def test_noise_has_no_profile(respond, smooth_noise, choose):
    """Units chosen on a part of the items, profiled on all: refused, and with reason. Cross-fitted there is nothing."""
    rng, sheet, circular, honest, gaps = np.random.default_rng(6), grid(144, "site"), 0, 0, []
    for _ in range(20):
        values = smooth_noise(rng, 40, sheet, fwhm_mm=1.5)
        noise = {"site": respond(values / values.std(), sheet=sheet, runs=["1", "1", "2", "2"] * 10)}
        chosen = choose({"site": noise["site"].take(np.arange(30))})
        with pytest.raises(ValueError, match="30 of 40 items chose the units"):
            response_profile(noise, chosen)
        a, b = response_profile(noise, chosen, circular=True).to_rows()
        circular += a["low"] > b["high"]
        a, b = cross_fitted_profile(noise, choose).to_rows()
        honest += a["low"] > b["high"] or b["low"] > a["high"]
        # the interval of a difference of two means of independent items
        half = np.hypot(a["high"] - a["low"], b["high"] - b["low"]) / 2
        gaps.append(abs(a["mean"] - b["mean"]) <= half)
    assert circular >= 3, "the double dip finds what is not there"
    assert honest == 0
    assert sum(gaps) >= 18


def test_cross_fitting_averages_the_halves(responses):
    def choose(part):
        return localize(part, "sentences", "nonwords").values()

    first, second = split_half(responses)
    both = cross_fitted_profile(responses, choose, ["words", "sentences"], name="network", seed=3)
    halves = [
        response_profile(shown, list(choose(choosing)), ["words", "sentences"], seed=3)
        for choosing, shown in ((first, second), (second, first))
    ]
    for of in ("means", "low", "high"):
        np.testing.assert_allclose(getattr(both, of), np.mean([getattr(one, of) for one in halves], axis=0))
    assert both.n_items.tolist() == [40, 40]
    assert both.conditions == ("words", "sentences")
    assert max(one.n_units for one in halves) <= both.n_units < sum(one.n_units for one in halves)
    assert cross_fitted_profile(responses, choose).ordering == "S>W>J>N"


def test_cross_fitting_refuses_a_choice_that_looks_ahead(responses, network):
    with pytest.raises(ValueError, match="items chose the units"):
        cross_fitted_profile(responses, lambda _: network)


def test_clusters_remember_their_items_too(responses):
    first, second = split_half(responses)
    maps = localizer_maps(first, "sentences", "nonwords")
    found = [cluster for one in maps.values() for cluster in clusters(one, min_units=4)]
    assert len(found) == 2
    assert found[0].mask[NETWORK].sum() >= 8
    with pytest.raises(ValueError, match="chose the units"):
        response_profile(first, found[0])
    profiles = [response_profile(second, cluster) for cluster in found]
    assert ordering_counts(profiles) == {"S>W>J>N": 2}


def test_orderings_are_counted_most_frequent_first(respond):
    def profile(means):
        values = np.tile(means, 3)[:, None] + np.zeros((6, 4))
        one = respond(values, conditions=["sand", "salt"] * 3)
        return response_profile({"site": one}, Selection("site", np.ones(4, bool), grid(4), "all"))

    counts = ordering_counts([profile([2.0, 1.0]), profile([1.0, 2.0]), profile([0.0, 2.0])])
    assert list(counts.items()) == [("salt>sand", 2), ("sand>salt", 1)], "initials coincide: whole names"


def test_held_out_keeps_whole_runs(responses, network):
    kept = held_out(responses, network)
    assert set(kept["two"].stimuli.runs) == {"even"}
    assert len(kept["one"].stimuli) == 80, "items of conditions that chose nothing stay out with their run"
    everything = list(localize(responses, "sentences", "nonwords").values())
    with pytest.raises(ValueError, match=r"every run of .* holds items that chose the units"):
        held_out(responses, everything)
    with pytest.raises(ValueError, match="does not say by which items it was made"):
        held_out(responses, Selection("one", NETWORK, grid(64, "one"), "by hand"))


def test_masks_of_readout_sites_do_not_fit_units(responses):
    first, second = split_half(responses)
    sites = localize(first, "sentences", "nonwords", fwhm_mm=2.0)["one"]
    with pytest.raises(ValueError, match="is of 64 readout sites and the responses are those of 64 units"):
        response_profile(second, sites)
    smoothed = {site: readout(one, 2.0) for site, one in second.items()}
    assert response_profile(smoothed, sites).ordering == "S>W>J>N"


def test_what_a_profile_refuses(responses):
    chosen = Selection("one", NETWORK, grid(64, "one"), "by hand")
    with pytest.raises(ValueError, match="no unit is selected"):
        response_profile(responses, Selection("one", np.zeros(64, bool), grid(64, "one"), "none"))
    with pytest.raises(ValueError, match="no responses at 'three', where 12 units are selected"):
        response_profile(responses, Selection("three", NETWORK, grid(64, "three"), "by hand"))
    with pytest.raises(ValueError, match="condition 'music' has 0 items"):
        response_profile(responses, chosen, ["sentences", "music"])
    with pytest.raises(ValueError, match="condition 'sentences' has 1 items"):
        response_profile({"one": responses["one"].take(np.arange(4))}, chosen)
    with pytest.raises(ValueError, match="seed=-1; expected 0 or more"):
        response_profile(responses, chosen, seed=-1)
    with pytest.raises(ValueError, match="n_bootstrap=1"):
        response_profile(responses, chosen, n_bootstrap=1)
    elsewhere = Selection("one", NETWORK, grid(64, "one", shape=(4, 16)), "another layout")
    with pytest.raises(ValueError, match="on another sheet; make both with the same layout"):
        response_profile(responses, elsewhere)
