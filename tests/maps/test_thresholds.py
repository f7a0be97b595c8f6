import numpy as np
import pytest
from scipy.stats import false_discovery_control

from topographic.maps import UnitMap, control_fdr, select, select_top
from topographic.maps.thresholds import SIGNS
from topographic.sheets import grid, permuted_grid


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    made = {}
    for site, shape in (("h.0", (3, 4)), ("h.1", (5, 6))):
        n = shape[0] * shape[1]
        p = rng.random(n) ** 4
        sheet = permuted_grid(shape, site)
        nulls = {"unit": rng.standard_normal((2, n))}
        made[site] = UnitMap(site, rng.standard_normal(n), sheet, "welch_t", p, None, nulls, {"seed": 1})
    return made


def test_q_is_over_all_sites_together(maps):
    found = control_fdr(maps)
    p = np.concatenate([one.p for one in maps.values()])
    q = np.concatenate([one.q for one in found.values()])
    np.testing.assert_array_equal(q, false_discovery_control(p))
    # and by its definition: the smallest rate at which the step-up procedure rejects
    for unit in (0, 7, 25, 41):
        ranked = np.sort(p)
        rates = [ranked[k] * len(p) / (k + 1) for k in range(len(p)) if ranked[k] >= p[unit]]
        assert q[unit] == pytest.approx(min(1, *rates))
    alone = control_fdr({"h.0": maps["h.0"]})["h.0"].q
    assert not np.array_equal(alone, found["h.0"].q)


def test_everything_else_is_kept(maps):
    for site, corrected in control_fdr(maps).items():
        original = maps[site]
        assert (corrected.site, corrected.sheet, corrected.statistic) == (site, original.sheet, "welch_t")
        assert corrected.provenance == {"seed": 1}
        np.testing.assert_array_equal(corrected.values, original.values)
        np.testing.assert_array_equal(corrected.nulls["unit"], original.nulls["unit"])


def test_units_without_p_are_not_counted(maps):
    p = maps["h.0"].p.copy()
    p[[2, 5]] = np.nan
    one = UnitMap("h.0", maps["h.0"].values, maps["h.0"].sheet, "welch_t", p)
    q = control_fdr({"h.0": one})["h.0"].q
    assert np.isnan(q[[2, 5]]).all()
    np.testing.assert_array_equal(q[~np.isnan(p)], false_discovery_control(p[~np.isnan(p)]))


def test_select_takes_significant_units_of_one_sign():
    values, q = np.array([2.0, -2, 2, -2, 0, np.nan]), np.array([0.01, 0.01, 0.2, 0.2, 0.01, np.nan])
    unit_map = UnitMap("s", values, grid((2, 3)), "welch_t", q, q, {}, {"seed": 5})
    chosen = {sign: np.flatnonzero(select(unit_map, sign=sign).mask).tolist() for sign in SIGNS}
    assert chosen == {"positive": [0], "negative": [1], "both": [0, 1]}
    assert select(unit_map, q=0.5).n_selected == 2
    selection = select(unit_map, q=0.01)
    assert selection.n_selected == 0  # below, not at
    assert (selection.site, selection.sheet, selection.provenance) == ("s", unit_map.sheet, {"seed": 5})
    assert selection.rule == "q < 0.01 and welch_t > 0"


def test_the_top_is_over_all_sites_together():
    maps = {
        "one": UnitMap("one", np.array([5.0, 1, -9, np.nan]), grid(4), "welch_t"),
        "two": UnitMap("two", np.array([4.0, 3, 3, 2, -1, 0, 0, 0, 0]), grid(9), "welch_t"),
    }

    def chosen(fraction, sign="positive"):
        return {site: np.flatnonzero(one.mask).tolist() for site, one in select_top(maps, fraction, sign=sign).items()}

    assert chosen(2 / 12) == {"one": [0], "two": [0]}
    assert chosen(3 / 12) == {"one": [0], "two": [0, 1]}  # of equals the earlier
    assert chosen(0.001) == {"one": [0], "two": []}  # at least one
    assert chosen(1.0) == {"one": [0, 1], "two": [0, 1, 2, 3]}  # never the other side
    assert chosen(1 / 12, "negative") == {"one": [2], "two": []}
    assert chosen(2 / 12, "both") == {"one": [0, 2], "two": []}
    assert select_top(maps, 0.25)["two"].rule == "top 0.25 of all units by welch_t, > 0"


def test_bad_requests(maps):
    corrected = control_fdr(maps)["h.0"]
    with pytest.raises(ValueError, match=r"no maps to correct; expected \{site: UnitMap\}"):
        control_fdr({})
    with pytest.raises(ValueError, match="the map at 's' has no p; expected maps made by t_map"):
        control_fdr({"s": UnitMap("s", np.ones(4), grid(4), "d")})
    with pytest.raises(ValueError, match=r"the map at 'h.0' has no q; correct all maps together with control_fdr"):
        select(maps["h.0"])
    with pytest.raises(ValueError, match=r"q=0.0; expected a rate above 0"):
        select(corrected, q=0.0)
    with pytest.raises(ValueError, match="sign='up'; expected one of"):
        select(corrected, sign="up")
    with pytest.raises(ValueError, match="no maps to choose from"):
        select_top({})
    with pytest.raises(ValueError, match=r"fraction=2.0; expected a share"):
        select_top(maps, 2.0)
