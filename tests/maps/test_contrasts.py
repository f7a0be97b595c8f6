import numpy as np
import pytest
from scipy.stats import ttest_ind

from topographic.maps import condition_map, contrast_name, effect_size_map, t_map
from topographic.recording import readout
from topographic.sheets import Sheet, grid, permuted_grid


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
