"""Whatever made a selection, it knows the items that chose its units."""

from dataclasses import replace

import numpy as np
import pytest

from topographic.maps import Selection, UnitMap
from topographic.maps.clusters import cluster_mass_test, clusters
from topographic.maps.contrasts import condition_map, effect_size_map, t_map
from topographic.maps.independence import check_independent, chosen_by, item_digest
from topographic.maps.length import length_adjusted_map
from topographic.maps.localizer import localize
from topographic.maps.profiles import response_profile
from topographic.maps.stability import split_half
from topographic.maps.thresholds import control_fdr, select, select_top
from topographic.sheets import grid


@pytest.fixture
def responses(respond):
    """Of three conditions; a patch of the sheet answers to one of them."""
    values = np.random.default_rng(0).standard_normal((48, 100))
    values[::3, :20] += 2.0
    return respond(
        values, conditions=("a", "b", "c") * 16, runs=["1"] * 24 + ["2"] * 24, n_tokens=np.arange(48) % 5 + 3
    )


def strongest(unit_map):
    return Selection("site", unit_map.values > np.quantile(unit_map.values, 0.9), unit_map.sheet, "by hand")


WAYS = {
    "select": lambda one: select(control_fdr({"site": t_map(one, "a", "b")})["site"]),
    "select_top": lambda one: select_top({"site": t_map(one, "a", "b")}, 0.1)["site"],
    "select_top of d": lambda one: select_top({"site": effect_size_map(one, "a", "b")}, 0.1)["site"],
    "adjusted": lambda one: select_top({"site": length_adjusted_map(one, "a", "b")}, 0.1)["site"],
    "one condition": lambda one: select_top({"site": condition_map(one, ["a", "b"])}, 0.1)["site"],
    "clusters": lambda one: clusters(t_map(one, "a", "b"), threshold=1.0, min_units=2)[0],
    "cluster_mass_test": lambda one: (
        cluster_mass_test({"s": t_map(one, "a", "b", n_draws=9)}, threshold=1.0)[0].selection
    ),
    "localize": lambda one: localize({"site": one}, "a", "b")["site"],
    "by hand": lambda one: replace(strongest(t_map(one, "a", "b")), provenance=t_map(one, "a", "b").provenance),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_selection_remembers_its_items(tmp_path, responses, way):
    first, second = (half["site"] for half in split_half({"site": responses}))
    way(first).save(tmp_path / "selection.safetensors")
    chosen = Selection.load(tmp_path / "selection.safetensors")
    used = chosen_by(chosen, responses.stimuli.items)
    conditions, runs = np.array(responses.stimuli.conditions), np.array(responses.stimuli.runs)
    np.testing.assert_array_equal(used, (runs == "1") & (conditions != "c"))
    check_independent(second, chosen)
    check_independent(responses.take(np.flatnonzero(~used)), chosen)
    with pytest.raises(ValueError, match=r"(32|16) of \d+ items chose the units at 'site' themselves"):
        check_independent(responses, chosen)
    with pytest.raises(ValueError, match=r"cross_fitted_profile\), or pass circular=True"):
        response_profile({"site": responses}, chosen)
    assert response_profile({"site": responses}, chosen, circular=True).n_items.tolist() == [16, 16, 16]


def test_maps_that_decide_together_share_their_items(respond):
    """A unit is among the top because of all maps, so that the items of each have chosen it."""
    rng = np.random.default_rng(0)
    maps = {site: t_map(respond(rng.standard_normal((8, 9)), site=site), "a", "b") for site in ("one", "two")}
    maps["two"] = replace(maps["two"], provenance={"items": [item_digest("another")]})
    for found in (select_top(maps, 0.5), {site: select(one, q=1.0) for site, one in control_fdr(maps).items()}):
        for one in found.values():
            assert chosen_by(one, ["item 0", "another", "new"]).tolist() == [True, True, False]


def test_what_is_said_of_selections_that_name_no_items(responses):
    by_hand = Selection("site", np.arange(100) < 3, grid(100, "site"), "by hand")
    check_independent(responses, by_hand)
    with pytest.raises(ValueError, match="'site' does not say by which items it was made; make it from a map of t_map"):
        chosen_by(by_hand, ["item"])
    # files of before maps remembered their items name the set only, of which any part may have chosen
    older = replace(by_hand, provenance={"stimuli": {"name": "planted", "checksum": "of a part"}})
    with pytest.raises(ValueError, match="48 of 48 items chose the units"):
        check_independent(responses, older)
    check_independent(responses, replace(by_hand, provenance={"stimuli": {"name": "another", "checksum": "other"}}))
    assert "items" not in select_top({"x": UnitMap("x", np.arange(4.0), grid(4), "t")})["x"].provenance
