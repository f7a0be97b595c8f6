import dataclasses
import json
import math

import numpy as np
import pytest

from topographic.maps import (
    MapSummary,
    UnitMap,
    control_fdr,
    correlation_by_distance,
    correlation_range,
    difference_by_distance,
    difference_rise,
    effect_size_map,
    effective_dimensionality,
    morans_i,
    summarize,
    t_map,
)
from topographic.sheets import permuted_grid


@pytest.fixture
def responses(respond):
    rng = np.random.default_rng(0)
    made = {}
    for site, shape in (("h.0.attn", (6, 6)), ("h.0.mlp", (4, 12))):
        n_units = shape[0] * shape[1]
        values = rng.standard_normal((24, n_units))
        values[::2, : n_units // 3] += 1.5
        made[site] = respond(values, site=site, sheet=permuted_grid(shape, site), n_tokens=np.arange(24) // 2 + 3)
    return made


@pytest.fixture
def summary(responses):
    return summarize(responses, "a", "b", n_draws=19, seed=4)


def references_of(number):
    return [number.floor, number.unit_null, number.label_null]


def test_every_row_holds_what_the_functions_say(responses, summary):
    maps = control_fdr({site: t_map(one, "a", "b", n_draws=19, seed=4) for site, one in responses.items()})
    assert [row.site for row in summary.rows] == list(responses) == list(summary.maps)
    for row, one, unit_map in zip(summary.rows, responses.values(), maps.values(), strict=True):
        index, curve = morans_i(unit_map), correlation_by_distance(one)
        assert row.n_units == one.sheet.n_units
        assert row.morans_i.value == index.value
        for found, expected in zip(references_of(row.morans_i), references_of(index), strict=True):
            assert (found.mean, found.sd, found.z, found.p) == (expected.mean, expected.sd, expected.z, expected.p)
        assert row.mean_abs_t.value == pytest.approx(np.abs(unit_map.values).mean())
        assert row.mean_abs_t.label_null.p == 0.05  # a third of the units are selective
        assert row.fraction_significant == (unit_map.q < 0.05).mean() > 0
        assert row.max_abs_d == np.abs(effect_size_map(one, "a", "b").values).max()
        assert row.effective_dimensionality == effective_dimensionality(one)
        assert row.correlation_range == correlation_range(curve)
        assert row.difference_rise == difference_rise(difference_by_distance(unit_map))
        np.testing.assert_array_equal(row.curve.values, curve.values)
        np.testing.assert_array_equal(summary.maps[row.site].q, unit_map.q)


def test_means_over_sheets_are_tested_draw_by_draw(summary):
    for number in ("morans_i", "mean_abs_t"):
        mean, rows = getattr(summary, number), [getattr(row, number) for row in summary.rows]
        assert mean.value == pytest.approx(np.mean([row.value for row in rows]))
        for null in ("floor", "unit_null", "label_null"):
            draws = np.mean([getattr(row, null).draws for row in rows], axis=0)
            found = getattr(mean, null)
            assert (found.mean, found.sd) == (pytest.approx(draws.mean()), pytest.approx(draws.std(ddof=1)))
            assert found.p == pytest.approx((1 + (draws >= mean.value).sum()) / 20)


def test_readout_and_contiguity_reach_the_maps(responses):
    summary = summarize(responses, "a", "b", fwhm_mm=2.0, n_draws=4, contiguity="rook", exchangeable=(), seed=1)
    for site, one in responses.items():
        expected = t_map(one, "a", "b", fwhm_mm=2.0, n_draws=4, exchangeable=(), seed=1)
        row = next(row for row in summary.rows if row.site == site)
        assert row.morans_i.value == morans_i(expected, "rook").value
        assert row.max_abs_d == np.abs(effect_size_map(one, "a", "b", fwhm_mm=2.0).values).max()
        np.testing.assert_array_equal(summary.maps[site].nulls["unit"], expected.nulls["unit"])
    assert (summary.provenance["contiguity"], summary.provenance["fwhm_mm"]) == ("rook", 2.0)


def test_without_draws_nothing_is_tested(responses):
    summary = summarize(responses, ["a"], "b", n_draws=0)
    assert references_of(summary.morans_i) == references_of(summary.rows[0].morans_i) == [None] * 3
    assert math.isfinite(summary.morans_i.value)


def as_text(summary):
    return json.dumps(summary.to_json(), sort_keys=True, allow_nan=False)


def test_json_round_trip(summary):
    text = as_text(summary)
    assert "draws" not in {key for row in summary.to_json()["rows"] for key in row["morans_i"]["unit_null"]} - {
        "n_draws"
    }
    loaded = MapSummary.from_json(json.loads(text))
    assert as_text(loaded) == text
    assert loaded.contrast == "a-b"
    assert loaded.provenance["n_tokens"]["p"] == summary.provenance["n_tokens"]["p"]
    row, original = loaded.rows[1], summary.rows[1]
    assert (row.site, row.n_units, row.max_abs_d) == (original.site, original.n_units, original.max_abs_d)
    assert row.morans_i.unit_null.p == original.morans_i.unit_null.p
    assert len(row.morans_i.unit_null.draws) == 0
    np.testing.assert_array_equal(row.curve.values, original.curve.values)
    np.testing.assert_array_equal(row.curve.n_pairs, original.curve.n_pairs)


def test_nulls_of_any_name_come_back_in_their_order(summary):
    drawn = {**summary.morans_i.nulls, "spin": summary.morans_i.floor}
    spun = dataclasses.replace(summary, morans_i=dataclasses.replace(summary.morans_i, nulls=drawn))
    loaded = MapSummary.from_json(json.loads(as_text(spun)))
    assert list(loaded.morans_i.nulls) == ["floor", "unit", "label", "spin"]
    assert loaded.morans_i.nulls["spin"].p == summary.morans_i.floor.p


def test_summaries_of_before_are_read(summary):
    """Three nulls by name, of which some were not drawn, and no order."""
    content = json.loads(as_text(summary))
    for number in (content["morans_i"], content["mean_abs_t"], content["rows"][0]["morans_i"]):
        assert number.pop("nulls") == ["floor", "unit", "label"]
        number["label_null"] = None
    loaded = MapSummary.from_json(content)
    for number in (loaded.morans_i, loaded.mean_abs_t, loaded.rows[0].morans_i):
        assert set(number.nulls) == {"floor", "unit"}
        assert number.label_null is None
    assert loaded.rows[1].morans_i.label_null.p == summary.rows[1].morans_i.label_null.p


def test_what_json_cannot_hold_becomes_null(respond):
    """Empty bins of a curve, and the z of draws that do not vary."""
    sheet = permuted_grid((1, 9), "line")
    values = np.random.default_rng(0).standard_normal((8, 9))
    summary = summarize({"line": respond(values, sheet=sheet, site="line")}, "a", "b", n_draws=2)
    text = as_text(summary)
    assert "null" in text
    loaded = MapSummary.from_json(json.loads(text))
    np.testing.assert_array_equal(loaded.rows[0].curve.values, summary.rows[0].curve.values)
    assert np.isnan(loaded.rows[0].curve.values).any()


@pytest.mark.parametrize("nulls", [True, False])
def test_files(summary, tmp_path, nulls):
    folder = summary.save(tmp_path, nulls=nulls)
    assert folder == tmp_path / "a-b"
    assert sorted(file.name for file in folder.iterdir()) == [
        "h.0.attn.safetensors",
        "h.0.mlp.safetensors",
        "summary.json",
    ]
    loaded = MapSummary.load(folder)
    assert as_text(loaded) == as_text(summary)
    for site, unit_map in loaded.maps.items():
        original = summary.maps[site]
        assert unit_map.sheet == original.sheet
        np.testing.assert_array_equal(unit_map.values, original.values)
        np.testing.assert_array_equal(unit_map.q, original.q)
        assert sorted(unit_map.nulls) == (["floor", "label", "unit"] if nulls else [])
    assert UnitMap.load(folder / "h.0.mlp.safetensors").site == "h.0.mlp"


def test_names_that_are_no_file_names(respond, tmp_path):
    conditions = ["and/or", "../up"] * 4
    values = np.random.default_rng(0).standard_normal((8, 9))
    summary = summarize({"a/b": respond(values, site="a/b", conditions=conditions)}, "and/or", "../up", n_draws=0)
    folder = summary.save(tmp_path / "maps")
    assert folder.parent == tmp_path / "maps"
    assert sorted(file.parent for file in tmp_path.rglob("*.safetensors")) == [folder]
    assert list(MapSummary.load(folder).maps) == ["a/b"]


def test_bad_requests(responses, respond):
    with pytest.raises(ValueError, match=r"no sites to map; expected \{site: Responses\}"):
        summarize({}, "a", "b")
    other = respond(np.random.default_rng(0).standard_normal((20, 9)))
    with pytest.raises(ValueError, match="the sites saw 2 different stimulus sets; expected one"):
        summarize({**responses, "other": other}, "a", "b")
    with pytest.raises(ValueError, match=r"a map summary needs .* and lacks \['morans_i', 'rows'\]"):
        MapSummary.from_json({"contrast": "x", "mean_abs_t": {}, "provenance": {}})


@pytest.mark.unchecked
def test_the_mean_over_sheets_is_calibrated_where_the_sheets_hear_each_other(respond, smooth_noise):
    """Planted truth: sheets that share what the items did to them, smooth, without any contrast."""
    rng, n = np.random.default_rng(20), 200
    sheets = [permuted_grid(36, site) for site in ("one", "two", "three")]
    p = []
    for _ in range(n):
        shared_factors = rng.standard_normal((24, 4))
        maps = []
        for sheet in sheets:
            values = shared_factors @ smooth_noise(rng, 4, sheet) + 0.3 * smooth_noise(rng, 24, sheet)
            made = respond(values, sheet=sheet, site=sheet.name)
            maps.append(t_map(made, "a", "b", n_draws=39, seed=len(p)))
        strength = [np.abs(one.values).mean() for one in maps]
        draws = np.mean([np.abs(one.nulls["label"]).mean(1) for one in maps], axis=0)
        p.append((1 + (draws >= np.mean(strength)).sum()) / 40)
    assert abs(np.mean(np.array(p) <= 0.05) - 0.05) <= 2.6 * math.sqrt(0.05 * 0.95 / n)
