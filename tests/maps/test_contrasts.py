import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from topographic.maps import (
    clusters,
    condition_map,
    contrast_name,
    control_fdr,
    effect_size_map,
    morans_i,
    select,
    summarize,
    t_map,
)
from topographic.recording import Responses, readout
from topographic.sheets import Sheet, grid, permuted_grid
from topographic.stimuli import StimulusSet


@pytest.fixture
def responses(respond):
    values = np.random.default_rng(0).standard_normal((40, 24)) * 3 + 5
    values[:10] += np.linspace(-2, 2, 24)
    n_tokens = np.arange(40) % 4 + 3
    sheet = permuted_grid(24, "site", shape=(4, 6))
    kinds = {"length": ["x"] * 40, "kind": [["long", "short"][k % 3 == 0] for k in range(40)]}
    return respond(values, conditions=["a", "b", "c", "d"] * 10, sheet=sheet, n_tokens=n_tokens, labels=kinds)


def test_t_and_p_equal_scipy(responses):
    values = responses.values.astype(np.float64)
    found = t_map(responses, "a", "c")
    expected = ttest_ind(values[0::4], values[2::4], equal_var=False)
    np.testing.assert_allclose(found.values, expected.statistic, rtol=1e-6)
    np.testing.assert_allclose(found.p, expected.pvalue, rtol=1e-9)
    assert (found.site, found.sheet, found.statistic, found.q, found.nulls) == (
        "site",
        responses.sheet,
        "welch_t",
        None,
        {},
    )
    swapped = t_map(responses, "c", "a")
    np.testing.assert_allclose(swapped.values, -found.values, rtol=1e-6)


def test_conditions_can_be_pooled(responses):
    values = responses.values.astype(np.float64)
    pooled = np.isin(np.arange(40) % 4, [0, 3])
    expected = ttest_ind(values[pooled], values[1::4], equal_var=False).statistic
    np.testing.assert_allclose(t_map(responses, ["a", "d"], ("b",)).values, expected, rtol=1e-6)


def test_effect_size_equals_its_definition(responses):
    values = responses.values.astype(np.float64)
    one, other = values[0::4], values[2::4]
    pooled = np.sqrt((9 * one.var(0, ddof=1) + 9 * other.var(0, ddof=1)) / 18)
    found = effect_size_map(responses, "a", "c", n_draws=3)
    np.testing.assert_allclose(found.values, (one.mean(0) - other.mean(0)) / pooled, rtol=1e-6)
    assert (found.statistic, found.p) == ("cohens_d", None)
    assert found.nulls["label"].shape == (3, 24)
    # with groups of one size d is t times sqrt(2 / n), under the label null as well
    t = t_map(responses, "a", "c", n_draws=3)
    np.testing.assert_allclose(found.nulls["label"], t.nulls["label"] * np.sqrt(2 / 10), rtol=1e-5)


def test_condition_map_is_the_mean(responses):
    found = condition_map(responses, "b")
    np.testing.assert_allclose(found.values, responses.values[1::4].mean(0), rtol=1e-6)
    assert (found.statistic, found.provenance["n_condition"]) == ("mean_response", 10)
    np.testing.assert_allclose(
        condition_map(responses, ["b", "c"]).values,
        (condition_map(responses, "b").values + condition_map(responses, "c").values) / 2,
        rtol=1e-6,
    )
    seen = readout(responses, 2.0, normalized=False)
    through = condition_map(responses, "b", fwhm_mm=2.0, normalized=False)
    np.testing.assert_allclose(through.values, seen.values[1::4].mean(0), rtol=1e-5)
    assert through.sheet == seen.sheet


def test_the_contrast_is_taken_after_the_readout(responses):
    for normalized in (True, False):  # which scales every site and changes no t
        seen = readout(responses, 2.0, normalized=normalized)
        values = seen.values.astype(np.float64)
        found = t_map(responses, "a", "c", fwhm_mm=2.0)
        expected = ttest_ind(values[0::4], values[2::4], equal_var=False).statistic
        np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-5)
        assert found.sheet == seen.sheet
        assert found.sheet.is_readout
    effect = effect_size_map(responses, "a", "c", fwhm_mm=2.0)
    np.testing.assert_allclose(effect.values, expected * np.sqrt(2 / 10), rtol=1e-4, atol=1e-5)


def test_published_readout(shared, respond):
    """t through our readout equals t of the published smoothed responses, site by site."""
    golden = np.load(shared / "golden" / "readout_28x28_fwhm2.npz")
    sheet = Sheet("golden", golden["positions_mm"])
    values, smoothed = golden["activations"], golden["smoothed"]
    found = t_map(respond(values, sheet=sheet), "a", "b", fwhm_mm=float(golden["fwhm_mm"]))
    expected = ttest_ind(smoothed[::2], smoothed[1::2], equal_var=False).statistic
    place = {tuple(position): site for site, position in enumerate(found.sheet.positions_mm.long().tolist())}
    order = [place[x, y] for x, y in zip(golden["site_x"].tolist(), golden["site_y"].tolist(), strict=True)]
    np.testing.assert_allclose(found.values[order], expected, rtol=1e-4, atol=1e-4)


def test_units_that_do_not_vary(respond):
    values = np.random.default_rng(0).standard_normal((20, 9))
    values[:, 4] = 0.1
    found = t_map(respond(values), "a", "b", n_draws=5)
    assert (found.values[4], found.p[4]) == (0, 1)
    assert (found.nulls["label"][:, 4] == 0).all()
    assert effect_size_map(respond(values), "a", "b").values[4] == 0


@pytest.fixture
def with_exact(respond):
    """Nine noisy units, of which unit 4 has one value for every item of a condition."""
    values = np.random.default_rng(0).standard_normal((20, 9))
    values[:, 4] = np.arange(20) % 2
    return respond(values)


@pytest.mark.parametrize(("make", "statistic"), [(t_map, "welch_t"), (effect_size_map, "cohens_d")])
def test_units_that_are_told_apart_without_error(with_exact, respond, make, statistic):
    """They once had t = 0 and p = 1, as if they told nothing apart."""
    with pytest.warns(UserWarning, match=f"1 of 9 units at 'site' have one value in .*: their {statistic} is infinite"):
        found = make(with_exact, "a", "b", n_draws=5)
    without = make(respond(np.delete(with_exact.values, 4, axis=1)), "a", "b", n_draws=5)
    assert np.flatnonzero(np.isnan(found.values)).tolist() == [4]
    np.testing.assert_array_equal(np.delete(found.values, 4), without.values)
    for null, maps in found.nulls.items():
        assert np.flatnonzero(np.isnan(maps).any(axis=0)).tolist() == [4], null
    np.testing.assert_array_equal(np.sort(np.delete(found.nulls["unit"], 4, axis=1)), np.sort(without.nulls["unit"]))
    np.testing.assert_array_equal(np.delete(found.nulls["label"], 4, axis=1), without.nulls["label"])


def test_they_are_missing_in_everything_that_follows(with_exact, respond):
    """FDR, selections, clusters, Moran's I and summaries are those of the other units."""
    with pytest.warns(UserWarning, match="1 of 9 units"):
        found = control_fdr({"site": t_map(with_exact, "a", "b", n_draws=9)})["site"]
    others = control_fdr({"site": t_map(respond(np.delete(with_exact.values, 4, axis=1)), "a", "b")})["site"]
    assert np.isnan(found.p[4])
    np.testing.assert_allclose(np.delete(found.q, 4), others.q)
    assert not select(found, q=1.0, sign="both").mask[4]
    assert not any(one.mask[4] for one in clusters(found, threshold=0.0, min_units=1))
    assert np.isfinite(morans_i(found).unit_null.z)
    with pytest.warns(UserWarning, match="1 of 9 units"):
        summary = summarize({"site": with_exact}, "a", "b", n_draws=9)
    assert summary.mean_abs_t.value == pytest.approx(np.abs(others.values).mean(), rel=1e-6)
    assert np.isfinite([summary.rows[0].max_abs_d, summary.mean_abs_t.label_null.mean, summary.morans_i.value]).all()


def test_a_draw_that_tells_a_unit_apart_is_as_large_as_any(respond):
    """Among six labellings of four items one has the two items of a unit that answers to these alone."""
    values = np.random.default_rng(0).standard_normal((4, 9))
    values[:, 0] = [1, 1, 0, 0]
    found = t_map(respond(values, runs=["1"] * 4), "a", "b", n_draws=40)
    assert found.values[0] == 0
    assert np.isfinite(found.nulls["label"]).all()
    extreme = np.abs(found.nulls["label"][:, 0]) > 0
    assert 5 < extreme.sum() < 30
    np.testing.assert_array_equal(np.abs(found.nulls["label"])[extreme].argmax(axis=1), 0)


def shown(respond, items, values):
    responses = respond(values)
    stimuli = StimulusSet("shown", items, responses.stimuli.conditions, responses.stimuli.runs)
    return Responses("site", values.astype(np.float32), responses.sheet, stimuli)


def test_items_against_themselves(respond):
    """t was 0 everywhere without a word; a word in two contexts is not one item twice."""
    noise = np.random.default_rng(0).standard_normal((12, 9))
    twice = np.repeat(noise[:6], 2, axis=0)
    names = [f"item {number // 2}" for number in range(12)]
    with pytest.raises(
        ValueError, match=r"the two sides of the contrast hold the same items \('item 0', \.\.\.\): noth"
    ):
        t_map(shown(respond, names, twice + 1e-4 * noise), "a", "b")
    t_map(shown(respond, names, noise), "a", "b")
    some = twice.copy()
    some[4:] = noise[4:]
    with pytest.warns(UserWarning, match="4 of 12 items of the contrast are on both of its sides: they hide"):
        t_map(shown(respond, names, some), "a", "b")


def test_one_item_again_and_again(respond):
    """Units that tell two texts apart perfectly, each shown six times, once had t = 0."""
    rng = np.random.default_rng(0)
    values = np.tile(rng.standard_normal((2, 9)), (6, 1))
    with pytest.raises(ValueError, match=r"hold one item each, again and again .* give conditions of different items"):
        t_map(shown(respond, ["a b", "c d"] * 6, values), "a", "b")
    contexts = rng.standard_normal((12, 9))
    t_map(shown(respond, ["bank", "shore"] * 6, contexts), "a", "b")


def test_massive_activations_keep_their_digits(respond):
    values = (1e5 + 0.1 * np.random.default_rng(0).standard_normal((20, 9))).astype(np.float32)
    expected = ttest_ind(values[::2].astype(float), values[1::2].astype(float), equal_var=False)
    found = t_map(respond(values), "a", "b", n_draws=2)
    np.testing.assert_allclose(found.values, expected.statistic, rtol=1e-6)
    np.testing.assert_allclose(found.p, expected.pvalue, rtol=1e-7)
    assert 0.2 < np.abs(found.nulls["label"]).mean() < 2


def test_it_remembers_how_it_was_made(responses):
    found = t_map(responses, "a", ["b", "c"], fwhm_mm=1.0, n_draws=4, exchangeable=("run", "kind"), seed=9).provenance
    assert (found["condition"], found["baseline"]) == (["a"], ["b", "c"])
    assert (found["n_condition"], found["n_baseline"]) == (10, 20)
    assert (found["fwhm_mm"], found["n_draws"], found["seed"]) == (1.0, 4, 9)
    assert found["exchangeable"] == ["run", "kind"]
    assert found["n_exchangeable"] == 30
    assert found["stimuli"] == {"name": "planted", "checksum": responses.stimuli.checksum}
    assert found["n_tokens"] == {"condition": 3.0, "baseline": 4.5, "p": pytest.approx(0, abs=1e-6)}
    assert contrast_name("a", ["b", "c"]) == "a-b+c"


@pytest.mark.parametrize(("lengths", "p"), [([4, 7] * 10, 0.0), ([4, 4] * 10, 1.0), ([4, 4, 5, 5] * 5, 1.0)])
def test_a_difference_in_length_is_noticed(respond, lengths, p):
    responses = respond(np.random.default_rng(0).standard_normal((20, 9)), n_tokens=np.array(lengths))
    assert t_map(responses, "a", "b").provenance["n_tokens"]["p"] == pytest.approx(p)


def test_length_exchanges_within_bins_of_tokens(responses, respond):
    # a and b are never equally long here, so nothing can move
    with pytest.raises(ValueError, match="no label can be exchanged within run x length: every block"):
        t_map(responses, "a", "b", n_draws=2, exchangeable=("run", "length"))
    # lengths 1 to 15 for a, 11 to 25 for b, in bins of about as many items; only where both occur can labels move
    lengths = np.r_[np.arange(1, 16), np.arange(11, 26)]
    values = np.random.default_rng(0).standard_normal((30, 9))
    mixed = respond(values, conditions=["a"] * 15 + ["b"] * 15, n_tokens=lengths, runs=["1"] * 30)
    found = t_map(mixed, "a", "b", n_draws=20, exchangeable="length")
    assert 8 <= found.provenance["n_exchangeable"] <= 12
    # up to ten different counts are bins of their own: here 5 is shared, 4 and 6 are not
    few = respond(values, conditions=["a"] * 15 + ["b"] * 15, n_tokens=np.array([4] * 10 + [5] * 10 + [6] * 10))
    assert t_map(few, "a", "b", n_draws=2, exchangeable=["length"]).provenance["n_exchangeable"] == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"condition": "z"}, r"stimulus set 'planted' has no condition 'z'; it has \['a', 'b', 'c', 'd'\]"),
        ({"baseline": ["b", "y"]}, "has no condition 'y'"),
        ({"condition": []}, "no condition given; stimulus set 'planted' has"),
        ({"condition": ["a", "b"], "baseline": ["b", "c"]}, r"\['b'\] on both sides of the contrast"),
        ({"n_draws": 1}, "n_draws=1; expected 0 for no nulls, or at least 2"),
        ({"n_draws": -5}, "n_draws=-5; expected 0"),
        ({"n_draws": 2, "exchangeable": ("item",)}, r"has no column 'item' to exchange within; it has \['kind', "),
        ({"n_draws": 2, "seed": -1}, "seed=-1; expected 0 or more"),
        ({"seed": -1}, "seed=-1; expected 0 or more"),
        ({"fwhm_mm": -2.0}, "fwhm_mm=-2.0; expected"),
        ({"fwhm_mm": float("nan")}, "fwhm_mm=nan; expected"),
    ],
)
def test_bad_requests(responses, arguments, message):
    with pytest.raises(ValueError, match=message):
        t_map(responses, **{"condition": "a", "baseline": "b", **arguments})


def test_a_variance_needs_two_items(respond):
    responses = respond(np.random.default_rng(0).standard_normal((5, 9)), conditions=["a", "a", "b", "c", "c"])
    with pytest.raises(ValueError, match=r"condition 'b' has 1 item in .*2 a, 1 b, 2 c.*; a variance needs at least 2"):
        t_map(responses, "a", "b")
    t_map(responses, "a", ["b", "c"])


def test_nothing_to_exchange(respond):
    """Every run holds one condition: run and condition cannot be told apart."""
    responses = respond(np.random.default_rng(0).standard_normal((8, 9)), runs=["1", "2"] * 4)
    with pytest.raises(ValueError, match=r"no label can be exchanged within run: every block .* one side"):
        t_map(responses, "a", "b", n_draws=2)
    t_map(responses, "a", "b", n_draws=2, exchangeable=())
    t_map(responses, "a", "b")


def test_length_needs_tokens(respond):
    with pytest.raises(ValueError, match="responses at 'site' carry no n_tokens to bin; leave 'length' out"):
        t_map(respond(np.eye(9)), "a", "b", n_draws=2, exchangeable=("length",))


def test_the_nulls_of_a_readout_begin_before_it(responses):
    seen = readout(responses, 2.0)
    t_map(seen, "a", "b")
    for arguments in ({"n_draws": 2}, {"fwhm_mm": 1.0}):
        with pytest.raises(ValueError, match="responses at 'site' are a readout already"):
            t_map(seen, "a", "b", **arguments)


def test_a_sheet_of_its_own(respond):
    """Order of units does not matter: the same population on a permuted sheet gives the same value at each place."""
    values = np.random.default_rng(0).standard_normal((12, 24))
    regular, permuted = grid((4, 6)), permuted_grid((4, 6), "p")
    place = (permuted.positions_mm @ permuted.positions_mm.new_tensor([6.0, 1.0])).long().numpy()
    one = t_map(respond(values, sheet=regular), "a", "b", fwhm_mm=2.0)
    other = t_map(respond(values[:, place], sheet=permuted), "a", "b", fwhm_mm=2.0)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-5, atol=1e-6)


# groups of items

PASSAGES = {"passage": [str(k // 4) for k in range(32)]}
BY_PASSAGE = ["a" if k < 16 else "b" for k in range(32)]


def test_labels_move_with_groups_and_the_result_says_how_far(respond):
    values = np.random.default_rng(0).standard_normal((32, 9))
    about = {"conditions": BY_PASSAGE, "labels": PASSAGES, "runs": ["1"] * 32}
    found = t_map(respond(values, sampled_by="passage", **about), "a", "b", n_draws=200)
    assert found.nulls["label"].shape == (69, 9)
    assert found.nulls["unit"].shape == (200, 9)
    said = found.provenance
    assert (said["sampled_by"], said["n_groups"], said["n_exchangeable"]) == ("passage", 8, 32)
    assert said["smallest_p"] == pytest.approx(1 / 35)
    assert 10 ** said["log10_relabellings"] == pytest.approx(70)
    # naming the column is as good as declaring it, where its entries lie in one condition each
    named = t_map(respond(values, **about), "a", "b", n_draws=200, exchangeable=("passage",))
    np.testing.assert_array_equal(named.nulls["label"], found.nulls["label"])
    np.testing.assert_array_equal(named.p, found.p)
    # t itself does not know of groups, p is that of their means
    items = respond(values, **{**about, "labels": None})
    np.testing.assert_array_equal(found.values, t_map(items, "a", "b").values)
    means = values.astype(np.float32).reshape(8, 4, 9).mean(1, dtype=np.float64)
    np.testing.assert_allclose(found.p, ttest_ind(means[:4], means[4:], equal_var=False).pvalue, rtol=1e-6)
    assert said["p"] == "of the means of each passage"


def test_pairs_are_exchanged_within(respond):
    values = np.random.default_rng(0).standard_normal((20, 9))
    pairs = {"pair": [str(k // 2) for k in range(20)]}
    one = respond(values, labels=pairs, sampled_by="pair", runs=["1"] * 20)
    found = t_map(one, "a", "b", n_draws=50)
    assert found.provenance["log10_relabellings"] == pytest.approx(10 * np.log10(2))
    same = t_map(replace(one, stimuli=replace(one.stimuli, sampled_by=None)), "a", "b", exchangeable=("pair",))
    np.testing.assert_array_equal(found.values, same.values)
    seen = values.astype(np.float32).astype(float)
    np.testing.assert_allclose(found.p, ttest_rel(seen[::2], seen[1::2]).pvalue, rtol=1e-6)


def test_groups_of_unequal_size(respond):
    values = np.random.default_rng(0).standard_normal((12, 9))
    groups = {"word": list("aabbbcddeeff")}
    one = respond(values, conditions=list("aaaaabbbbbbb"), labels=groups, sampled_by="word", runs=["1"] * 12)
    found = t_map(one, "a", "b", n_draws=20)
    assert found.nulls["label"].shape == (14, 9)
    assert np.isfinite(found.nulls["label"]).all()
    assert np.isfinite(effect_size_map(one, "a", "b", n_draws=20).nulls["label"]).all()


def test_one_group_a_side_is_refused(respond):
    values = np.random.default_rng(0).standard_normal((12, 9))
    about = {"labels": {"speaker": list("xy") * 6}, "sampled_by": "speaker", "runs": ["1"] * 12}
    with pytest.raises(
        ValueError, match=r"no label can be exchanged between groups .* 'speaker', and there are 2 label"
    ):
        t_map(respond(values, **about), "a", "b", n_draws=9)
    found = t_map(respond(values, **about), "a", "b")
    assert found.p is None
    assert found.provenance["p"] == "none: a side has one speaker"


def test_a_column_that_varies_between_conditions_only_is_noticed(respond):
    values = np.random.default_rng(0).standard_normal((32, 9))
    about = {"conditions": BY_PASSAGE, "runs": ["1"] * 32}
    with pytest.warns(UserWarning, match=r"label 'passage' .* 8 entries for 32 items: .* sampled_by='passage'"):
        t_map(respond(values, labels=PASSAGES, **about), "a", "b")
    silent = [
        {"labels": PASSAGES, "sampled_by": "passage"},
        {"labels": {"class": BY_PASSAGE, "run": ["x", "y"] * 16, "own": [str(k) for k in range(32)]}},
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for labels in silent:
            t_map(respond(values, **labels, **about), "a", "b")


def test_which_null_by_default(respond):
    values = np.random.default_rng(0).standard_normal((40, 9))
    unequal = ["a", "b", "b", "b"] * 10
    uneven = respond(values, conditions=["a"] * 8 + ["b"] * 12 + ["a"] * 2 + ["b"] * 18)
    made = {
        "equal": t_map(respond(values), "a", "b", n_draws=3),
        "asked": t_map(respond(values), "a", "b", n_draws=3, null="wild"),
        "unequal": t_map(respond(values, conditions=unequal), "a", "b", n_draws=3),
        "labels": t_map(respond(values, conditions=unequal), "a", "b", n_draws=3, null="labels"),
        "uneven": t_map(uneven, "a", "b", n_draws=3),
    }
    assert [name for name, one in made.items() if "wild" in one.nulls] == ["asked", "unequal"]
    np.testing.assert_array_equal(made["unequal"].nulls["label"], made["labels"].nulls["label"])
    summary = summarize({"site": respond(values, conditions=unequal)}, "a", "b", n_draws=3)
    assert "wild" in summary.maps["site"].nulls
    assert set(summary.morans_i.nulls) == {"floor", "unit", "label"}
    with pytest.raises(ValueError, match="null='wild' with sides that are mixed differently in run"):
        t_map(uneven, "a", "b", n_draws=3, null="wild")
    with pytest.raises(ValueError, match="null='none'; expected 'labels', 'wild'"):
        t_map(uneven, "a", "b", null="none")


def test_pictures_of_one_person_keep_together():
    """Forty people of whom some have several pictures, and as many single things: no effect, and people differ."""
    people = [f"person {number // 2}" for number in range(40)]
    things = [f"thing {number}" for number in range(40)]
    runs = [("odd", "even")[int(one.split()[1]) % 2] for one in people] + ["odd", "even"] * 20
    labels = {"exemplar": people + things}
    stimuli = StimulusSet("seen", [str(n) for n in range(80)], ["faces"] * 40 + ["objects"] * 40, runs, labels=labels)
    declared, found = replace(stimuli, sampled_by="exemplar"), {True: 0, False: 0}
    sheet = grid(16, "seen")
    for seed in range(60):
        draw = np.random.default_rng(seed)
        offsets = {one: draw.normal(size=16) * 2 for one in people}
        values = np.array([offsets.get(one, 2 * draw.normal(size=16)) for one in people + things])
        values = (values + 0.3 * draw.normal(size=values.shape)).astype(np.float32)
        for is_declared, one in ((True, declared), (False, stimuli)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = t_map(Responses("seen", values, sheet, one), "faces", "objects", n_draws=39, seed=seed)
            largest = np.abs(made.nulls["label"]).max(1)
            found[is_declared] += (1 + (largest >= np.abs(made.values).max()).sum()) / 40 <= 0.05
    assert found[True] <= 8, "at .05 of 60, three standard errors above 3"
