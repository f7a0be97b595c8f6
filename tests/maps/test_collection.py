import numpy as np
import pytest

from topographic.maps import (
    Maps,
    Numbers,
    UnitMap,
    clusters,
    condition_map,
    control_fdr,
    effect_size_map,
    morans_i,
    select,
    select_top,
    t_map,
)
from topographic.recording.responses import Responses
from topographic.sheets import Sheet, grid
from topographic.stimuli import StimulusSet

SITES = ["h.0.attn", "h.0.mlp", "h.1.attn"]


@pytest.fixture
def responses():
    """Three sites of 6 x 6 units and 24 items; a corner of the second prefers condition a."""
    draw = np.random.default_rng(0)
    stimuli = StimulusSet("made", [f"item {n}" for n in range(24)], ["a", "b"] * 12, labels={"pair": ["p"] * 24})
    values = {site: draw.normal(size=(24, 36)) for site in SITES}
    values["h.0.mlp"][::2, [0, 1, 2, 6, 7, 8]] += 4.0
    return {site: Responses(site, one, grid(36, site), stimuli) for site, one in values.items()}


@pytest.fixture
def maps(responses):
    return control_fdr(t_map(responses, "a", "b", n_draws=19))


@pytest.mark.parametrize("make", [t_map, effect_size_map, lambda one, condition, _: condition_map(one, condition)])
def test_maps_of_many_sites_are_those_of_each(responses, make):
    found = make(responses, "a", "b")
    assert isinstance(found, Maps)
    for site, one in responses.items():
        assert np.array_equal(found[site].values, make(one, "a", "b").values)


def test_it_is_a_mapping_in_its_order_and_slices_by_pattern(maps):
    assert list(maps) == SITES
    assert dict(maps)["h.1.attn"] is maps["h.1.attn"]
    assert list(maps["*.attn"]) == ["h.0.attn", "h.1.attn"]
    assert isinstance(maps["h.0.*"], Maps)
    assert "*.attn" not in maps
    assert "h.0.mlp" in maps
    assert maps.get("h.9") is None
    with pytest.raises(
        KeyError, match=r"no map at 'h\.9'; expected a site or a wildcard over 'h\.0\.attn', 'h\.0\.mlp'"
    ):
        maps["h.9"]


def test_what_is_exactly_a_site_means_that_site():
    brackets = UnitMap("h[0]", np.arange(4.0), grid(4), "t")
    assert Maps({"h[0]": brackets, "h0": brackets})["h[0]"] is brackets


def test_something_else_is_refused():
    with pytest.raises(TypeError, match="'x' is a list; expected a UnitMap at every site: make them with t_map"):
        Maps({"x": [1.0]})


def test_it_is_kept_whole(maps, tmp_path):
    maps.save(tmp_path / "kept")
    again = Maps.load(tmp_path / "kept")
    assert list(again) == SITES
    for site, one in maps.items():
        assert np.array_equal(again[site].q, one.q)
        assert np.array_equal(again[site].nulls["unit"], one.nulls["unit"])
    maps["*.mlp"].save(tmp_path / "kept")
    assert list(Maps.load(tmp_path / "kept")) == ["h.0.mlp"], "nothing of what was there stays"
    with pytest.raises(FileNotFoundError, match=r"no maps at .*none .*expected a folder that Maps\.save wrote"):
        Maps.load(tmp_path / "none")


def test_the_table_has_a_row_per_site_beside_its_nulls(maps):
    frame = maps.to_frame().set_index("site")
    assert list(frame.index) == SITES
    one = maps["h.0.mlp"]
    np.testing.assert_allclose(frame.loc["h.0.mlp", "mean |value|"], np.abs(one.values).mean(), rtol=1e-6)
    null = np.abs(one.nulls["label"]).mean(axis=1)
    np.testing.assert_allclose(frame.loc["h.0.mlp", "label null"], null.mean(), rtol=1e-6)
    assert frame.loc["h.0.mlp", "p (label)"] == 1 / 20
    assert frame.loc["h.0.mlp", "share q < 0.05"] == (one.q < 0.05).mean() > 0
    assert frame.loc["h.0.mlp", "max"] == one.values.max()


def test_units_without_a_value_are_left_out_of_the_table():
    some = UnitMap("a", np.array([np.nan, 1.0, -3.0, 0.0]), grid(4), "t")
    none = UnitMap("b", np.full(4, np.nan), grid(4), "t")
    frame = Maps({"a": some, "b": none}).to_frame()
    assert frame.loc[0, ["min", "max"]].tolist() == [-3.0, 1.0]
    assert np.isnan(frame.loc[1, "mean |value|"])
    assert "no value" in repr(none)


def test_representations_are_one_line(maps):
    many = Maps({f"h.{n}.attn": maps["h.0.attn"] for n in range(30)})
    assert repr(many) == "Maps(welch_t: 30 sites, 1080 units: h.0.attn, ..., h.29.attn)"
    shown = repr(maps["h.0.mlp"])
    assert shown.startswith("UnitMap('h.0.mlp': welch_t of 36 units, from ")
    assert shown.endswith("nulls floor x 19, unit x 19, label x 19)")
    assert repr(select(maps["h.0.mlp"])).startswith("Selection('h.0.mlp': ")


def test_all_sheets_are_drawn_with_one_scale_and_one_bar(maps):
    figure = maps.plot()
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == 3
    assert len({ax.images[0].get_clim() for ax in panels}) == 1
    assert [ax.get_xlabel() for ax in figure.axes if ax not in panels and ax.get_xlabel()] == ["t"]
    assert maps._repr_html_().startswith("<code>Maps(")


def test_a_mesh_has_text_and_no_picture():
    mesh = Sheet(name="cortex", positions_mm=np.random.default_rng(0).normal(size=(5, 3)), edges=[[0, 1], [1, 2]])
    one = UnitMap("v1", np.arange(5.0), mesh, "t")
    assert one._repr_png_() is None
    assert one._repr_html_().startswith("<code>UnitMap(")


def test_moran_of_many_sites_is_a_table_corrected_over_them(maps):
    numbers = morans_i(maps)
    assert isinstance(numbers, Numbers)
    alone = {site: morans_i(one) for site, one in maps.items()}
    assert {site: one.value for site, one in numbers.items()} == {site: one.value for site, one in alone.items()}
    frame = numbers.to_frame()
    p = np.array([one.unit_null.p for one in alone.values()])
    order = np.argsort(p)
    ranked = p[order] * len(p) / np.arange(1, len(p) + 1)
    expected = np.empty_like(p)
    expected[order] = np.minimum.accumulate(ranked[::-1])[::-1].clip(max=1)
    np.testing.assert_allclose(frame["q (unit)"], expected)
    assert 'Numbers("Moran\'s I": 3 sites, ' in repr(numbers)
    assert "<table" in numbers._repr_html_()
    assert numbers.mean().value == pytest.approx(np.mean([one.value for one in alone.values()]))


def test_selections_and_clusters_of_many_sites(maps):
    chosen = select(maps)
    assert list(chosen) == SITES
    found = clusters(maps, threshold=1.0, min_units=2)
    masses = [one.provenance["mass"] for one in found]
    assert masses == sorted(masses, reverse=True)
    assert found[0].site == "h.0.mlp"
    assert sum(one.n_selected for one in select_top(maps, 0.1).values()) == 11


def test_no_sites_are_refused_in_the_name_of_the_function():
    with pytest.raises(ValueError, match="morans_i was given no sites; expected one, or a mapping of at least one"):
        morans_i({})
