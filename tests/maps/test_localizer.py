import json

import numpy as np
import pytest
from torch import nn

from topographic.interventions import ablate
from topographic.maps import control_fdr, effect_size_map, localizer, select, select_top, t_map
from topographic.maps.independence import item_digest
from topographic.maps.localizer import LENGTHS, LOCALIZER_RULES, load_or_localize, localize, localizer_maps
from topographic.recording import Responses
from topographic.sheets import permuted_grid

SHEETS = {site: permuted_grid((10, 10), site) for site in ("one", "two")}
PATCHES = {
    site: ((sheet.positions_mm[:, 0] < 4) & (sheet.positions_mm[:, 1] < 3)).numpy() for site, sheet in SHEETS.items()
}


def planted(respond, seed=0, *, effect=2.0, length_slope=0.0, n=80, overlap=True):
    """Two sheets; a patch of 12 units on each prefers condition a. Nonwords (b) are longer."""
    rng = np.random.default_rng(seed)
    is_a = np.arange(n) % 2 == 0
    n_tokens = rng.integers(8, 14, n) + np.where(is_a, 0, 2 if overlap else 10)
    found = {}
    for site, sheet in SHEETS.items():
        values = rng.standard_normal((n, 100)) + length_slope * n_tokens[:, None]
        values += effect * np.outer(is_a, PATCHES[site])
        found[site] = respond(
            values, sheet=sheet, site=site, n_tokens=n_tokens, runs=["odd", "odd", "even", "even"] * 20
        )
    return found


def dice(selections):
    masks = np.concatenate([selections[site].mask for site in SHEETS])
    truth = np.concatenate([PATCHES[site] for site in SHEETS])
    return 2 * (masks & truth).sum() / (masks.sum() + truth.sum())


def false_positives(selections):
    return np.mean(np.concatenate([selections[site].mask[~PATCHES[site]] for site in SHEETS]))


@pytest.mark.parametrize(("rule", "level"), [("q", None), ("top", 0.12), ("effect_size", 1.0)])
def test_every_rule_finds_the_planted_patches(respond, rule, level):
    found = localize(planted(respond), "a", "b", rule=rule, level=level)
    assert dice(found) > 0.9
    assert false_positives(found) < 0.03
    assert all(found[site].sheet == SHEETS[site] for site in SHEETS)


def test_rules_are_those_of_the_maps(respond):
    responses = planted(respond)
    maps = control_fdr({site: t_map(one, "a", "b") for site, one in responses.items()})
    for site in SHEETS:
        np.testing.assert_array_equal(localize(responses, "a", "b")[site].mask, select(maps[site]).mask)
        np.testing.assert_array_equal(localize(responses, "a", "b", rule="top")[site].mask, select_top(maps)[site].mask)
        strong = effect_size_map(responses[site], "a", "b").values > 0.8
        np.testing.assert_array_equal(localize(responses, "a", "b", rule="effect_size")[site].mask, strong)
    reverse = localize(responses, "b", "a")
    assert not any((reverse[site].mask & PATCHES[site]).any() for site in SHEETS), "the other side of zero"


def test_without_an_effect_nothing_is_selective(respond):
    """Family of 200 units under the global null: a false discovery anywhere in 5 % of data sets."""
    alarms = [
        any(one.n_selected for one in localize(planted(respond, seed, effect=0.0), "a", "b").values())
        for seed in range(100)
    ]
    # one-sided at q < .05: about 2.5 %; the 99.9 % quantile of binomial(100, .05) is 13
    assert np.mean(alarms) <= 0.12


@pytest.mark.parametrize("rule", ["q", "effect_size"])
def test_units_that_follow_length_are_not_language_units(respond, rule):
    """Every unit outside the patches falls with the number of tokens, of which nonwords have more."""
    responses = planted(respond, 3, length_slope=-0.8)
    naive = localize(responses, "a", "b", rule=rule)
    assert false_positives(naive) > 0.5, "without care, most units pass for language units"
    regressed = localize(responses, "a", "b", rule=rule, length="regressed")
    assert false_positives(regressed) < 0.03
    assert dice(regressed) > 0.8
    # fewer items are left, so d is noisier: the level that means as much is higher
    matched = localize(responses, "a", "b", rule=rule, length="matched", level=None if rule == "q" else 1.2)
    assert false_positives(matched) < 0.03
    assert regressed["one"].provenance["length"] == "regressed"


def test_matched_items_depend_on_the_seed_alone(respond):
    responses = planted(respond, 4)
    masks = [localizer_maps(responses, "a", "b", length="matched", seed=seed)["one"].values for seed in (0, 0, 1)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rule", LOCALIZER_RULES)
def test_provenance_names_rule_length_and_items(respond, rule, length):
    responses = planted(respond)
    found = localize(responses, "a", "b", rule=rule, length=length)["two"]
    provenance = json.loads(json.dumps(found.provenance))
    assert (provenance["localizer_rule"], provenance["length"]) == (rule, length)
    assert provenance["level"] == LOCALIZER_RULES[rule].level
    assert provenance["items"] == sorted(item_digest(item) for item in responses["two"].stimuli.items)


def test_items_of_other_conditions_chose_nothing(respond):
    values = np.random.default_rng(0).standard_normal((9, 100))
    one = respond(values, sheet=SHEETS["one"], site="one", conditions=["a", "b", "c"] * 3)
    items = localize({"one": one}, "a", "b")["one"].provenance["items"]
    assert items == sorted(item_digest(f"item {index}") for index in (0, 1, 3, 4, 6, 7))


def test_a_readout_selects_sites_which_interventions_refuse(respond):
    found = localize(planted(respond), "a", "b", fwhm_mm=2.0)["one"]
    assert found.sheet.is_readout
    with pytest.raises(ValueError, match="was made on readout sites, not on units"), ablate(nn.Identity(), found):
        pass


def test_what_a_localizer_refuses(respond):
    responses = planted(respond)
    with pytest.raises(ValueError, match=r"rule='best'; expected one of \['effect_size', 'q', 'top'\]"):
        localize(responses, "a", "b", rule="best")
    with pytest.raises(ValueError, match=r"length='short'; expected one of \['matched', 'none', 'regressed'\]"):
        localize(responses, "a", "b", length="short")
    with pytest.raises(ValueError, match=r"statistic='z'; expected one of \['cohens_d', 'welch_t'\]"):
        localizer_maps(responses, "a", "b", statistic="z")
    with pytest.raises(ValueError, match=r"level=-1.0; expected an effect size above 0"):
        localize(responses, "a", "b", rule="effect_size", level=-1.0)
    with pytest.raises(ValueError, match="no sites to localize in"):
        localize({}, "a", "b")
    other = {**responses, "two": responses["two"].take(np.arange(40))}
    with pytest.raises(ValueError, match="the sites saw 2 different stimulus sets"):
        localize(other, "a", "b")


def test_stimuli_with_one_condition(respond):
    lonely = {site: one.take(np.arange(0, 80, 2)) for site, one in planted(respond).items()}
    with pytest.raises(ValueError, match=r"has no condition 'b'; it has \['a'\]"):
        localize(lonely, "a", "b")


@pytest.mark.parametrize("length", LENGTHS)
def test_fewer_items_than_the_test_needs(respond, length):
    few = {site: one.take(np.array([0, 1, 2])) for site, one in planted(respond).items()}
    with pytest.raises(ValueError, match="needs at least 2"):
        localize(few, "a", "b", length=length)


def test_responses_that_are_nan(respond):
    values = np.zeros((4, 100))
    values[1, 7] = np.nan
    with pytest.raises(ValueError, match="hold NaN or infinity in 1 of 100 units"):
        respond(values, sheet=SHEETS["one"])


@pytest.fixture
def cached(respond, tmp_path):
    """Localize through the cache; counts how often the model is asked."""
    responses = planted(respond)
    calls = []

    def respond_now():
        calls.append(1)
        return responses

    def run(respond=respond_now, **changes):
        given = {"model_checksum": "abc", "sheets": SHEETS, "stimuli": responses["one"].stimuli} | changes
        return load_or_localize(respond, "a", "b", cache_folder=tmp_path, **given)

    run.calls, run.responses = calls, responses
    return run


def test_a_network_is_localized_once(cached):
    first, second = cached(rule="top", level=0.1), cached(rule="top", level=0.1)
    assert len(cached.calls) == 1
    expected = localize(cached.responses, "a", "b", rule="top", level=0.1)
    for site in SHEETS:
        for found in (first, second):
            np.testing.assert_array_equal(found[site].mask, expected[site].mask)
            assert found[site].sheet == SHEETS[site]
            assert found[site].rule == expected[site].rule
    assert second["one"].provenance == json.loads(json.dumps(expected["one"].provenance))


def test_weights_rule_layout_and_stimuli_are_in_the_key(cached, respond):
    cached()
    cached(model_checksum="abd")
    cached(rule="top")
    cached(rule="top", level=0.02)
    cached(length="regressed")
    assert len(cached.calls) == 5
    elsewhere = {site: permuted_grid((10, 10), site, seed=1) for site in SHEETS}
    moved = {site: Responses(site, one.values, elsewhere[site], one.stimuli) for site, one in cached.responses.items()}
    assert cached(lambda: moved, sheets=elsewhere)["one"].sheet == elsewhere["one"]
    fewer = {site: one.take(np.arange(40)) for site, one in cached.responses.items()}
    assert cached(lambda: fewer, stimuli=fewer["one"].stimuli)["one"].provenance["n_condition"] == 20


def test_a_changed_localizer_localizes_again(cached, monkeypatch):
    cached()
    monkeypatch.setattr(localizer, "code_version", lambda module: f"another {module}")
    cached()
    assert len(cached.calls) == 2
    cached()
    assert len(cached.calls) == 2


def test_one_process_localizes_and_the_others_wait(cached, tmp_path):
    cached()
    (folder,) = (file.parent for file in tmp_path.glob("*/network.json"))
    assert (tmp_path / f".{folder.name}.lock").is_file()
    assert sorted(file.name for file in folder.iterdir()) == ["0.safetensors", "1.safetensors", "network.json"]


def test_the_order_of_the_sites_is_part_of_the_key(cached):
    cached()
    turned = dict(reversed(SHEETS.items()))
    found = cached(sheets=turned)
    assert list(found) == ["two", "one"]
    assert len(cached.calls) == 2


def test_an_unfinished_network_is_made_again(cached, tmp_path):
    cached()
    (index,) = tmp_path.glob("*/network.json")
    index.unlink()
    cached()
    assert len(cached.calls) == 2


def test_recordings_that_do_not_fit_the_key(cached):
    elsewhere = {site: permuted_grid((10, 10), site, seed=1) for site in SHEETS}
    with pytest.raises(ValueError, match=r"the sheet given for 'one' is not the one it was recorded with \(2 sites"):
        cached(sheets=elsewhere)
    with pytest.raises(ValueError, match=r"the sheet given for 'two' is not .* \(1 sites differ\)"):
        cached(sheets={"one": SHEETS["one"]})
    with pytest.raises(ValueError, match="give the stimuli that were recorded"):
        cached(stimuli=cached.responses["one"].stimuli.take(range(4)))
