import dataclasses

import numpy as np
import pytest

from topographic.evaluation.results import Findings
from topographic.maps import UnitMap
from topographic.pages import pictures
from topographic.pages.pictures import (
    common_limit,
    drawn_clusters,
    flat_maps,
    map_picture,
    one_null_draw,
    pictured_maps,
)
from topographic.sheets import Sheet, grid

SITES = ("h.0.mlp", "h.1.mlp")
NAME = "sentences-nonwords_fwhm_2"


def a_map(site, scale=1.0, statistic="welch_t", draws=3):
    rng = np.random.default_rng(len(site))
    nulls = {"label": rng.normal(size=(draws, 16))} if draws else {}
    return UnitMap(site, scale * rng.normal(size=16), grid((4, 4), site), statistic, nulls=nulls)


def maps(**options):
    return {site: a_map(site, **options) for site in SITES}


def test_one_limit_for_all_flat_maps():
    everything = [maps(), maps(scale=7.0), {"cortex": UnitMap("cortex", [99.0] * 3, Sheet("c", np.eye(3)), "welch_t")}]
    values = np.abs([one.values for some in everything[:2] for one in some.values()])
    assert common_limit(everything) == pytest.approx(np.percentile(values, 99.5))
    assert flat_maps(everything[2]) == {}
    assert common_limit([]) == 1.0


def test_the_draw_beside_the_maps_is_the_first_of_the_kept_null():
    drawn = one_null_draw(maps())
    for site, one in maps().items():
        np.testing.assert_array_equal(drawn[site].values, one.nulls["label"][0])
        assert drawn[site].sheet.checksum == one.sheet.checksum
    assert one_null_draw(maps(draws=0)) == {}
    assert one_null_draw({**maps(), "h.1.mlp": a_map("h.1.mlp", draws=0)}) == {}, "all sheets of one draw or none"


def test_a_picture_has_lines_around_units_that_pass_and_thick_ones_around_clusters(monkeypatch):
    given = {}
    monkeypatch.setattr(pictures, "embedded", lambda figure, kind: {"kind": kind})
    monkeypatch.setattr(pictures, "draw_maps", lambda drawn, **options: given.update(options))
    passing = {site: dataclasses.replace(one, q=np.where(np.arange(16) < 5, 0.01, 0.5)) for site, one in maps().items()}
    clusters = {"h.0.mlp": np.arange(16) < 3}
    assert map_picture(passing, 4.0, "t", clusters) == {"kind": "png"}
    thin, thick = given["outlines"]
    assert {site: mask.sum() for site, mask in thin.items()} == dict.fromkeys(SITES, 5)
    assert thick is clusters
    assert given["limit"] == 4.0
    map_picture(maps(), 4.0, "t")
    assert given["outlines"] == [{}]


def under(name, some):
    return {f"{name}/{site}": one for site, one in some.items()}


def test_maps_of_t_lie_under_the_name_of_their_picture():
    found = Findings("F", "", maps=under(NAME, maps()) | under("windows", maps(statistic="exponent")))
    assert list(pictured_maps(found, NAME)) == list(SITES)
    assert pictured_maps(found, "windows") == {}, "another statistic has another scale"
    assert pictured_maps(found, "depth_fwhm_2") == {}


def test_clusters_are_those_of_the_same_contrast_and_readout():
    numbers = {site: dataclasses.replace(one, values=np.arange(16) % 3.0, nulls={}) for site, one in maps().items()}
    kept = Findings("C", "", maps=under(NAME, maps()) | under("clusters_significant_fwhm_2", numbers))
    found = drawn_clusters([Findings("F", ""), kept], NAME)
    np.testing.assert_array_equal(found["h.0.mlp"], np.arange(16) % 3 > 0)
    assert drawn_clusters([kept], "sentences-nonwords_fwhm_0") == {}
    assert drawn_clusters([kept], "noun-verb_fwhm_2") == {}
    assert drawn_clusters([kept], "depth") == {}
