import numpy as np
import pytest

from topographic.maps import UnitMap, morans_i
from topographic.maps.permuted import noise_floor, permuted_null
from topographic.sheets import Sheet, grid

NULLS = {"unit": permuted_null, "floor": noise_floor}


def make(values, site="site", **options):
    return UnitMap(site, np.asarray(values, dtype=np.float32), grid(len(values), site), "anything", **options)


@pytest.fixture
def holes():
    values = np.random.default_rng(0).normal(5, 2, 60)
    values[[0, 7, 59]] = np.nan
    return make(values)


def test_a_permutation_keeps_the_values_and_the_places_without_one(holes):
    draws = permuted_null(holes, n_draws=50).nulls["unit"]
    assert draws.shape == (50, 60)
    for draw in draws:
        np.testing.assert_array_equal(np.isnan(draw), np.isnan(holes.values))
        np.testing.assert_array_equal(np.sort(draw), np.sort(holes.values))
    # every unit's values go everywhere: 50 draws of 57 give about 33 different ones
    different = [len(np.unique(column)) for column in draws.T if not np.isnan(column).any()]
    assert min(different) > 20


def test_the_floor_is_noise_of_the_same_mean_and_spread(holes):
    draws = noise_floor(holes, n_draws=400).nulls["floor"]
    np.testing.assert_array_equal(np.isnan(draws), np.tile(np.isnan(holes.values), (400, 1)))
    present = draws[:, ~np.isnan(holes.values)]
    assert present.mean() == pytest.approx(np.nanmean(holes.values), abs=0.05)
    assert present.std() == pytest.approx(np.nanstd(holes.values), abs=0.05)
    neighbours = np.corrcoef(present[:, :-1].ravel(), present[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.03


@pytest.mark.parametrize("null", NULLS)
def test_seed_and_site_decide_the_draws(null, holes):
    draw = NULLS[null]
    first = draw(holes, n_draws=3).nulls[null]
    np.testing.assert_array_equal(first, draw(holes, n_draws=3).nulls[null])
    assert not np.array_equal(first, draw(holes, n_draws=3, seed=1).nulls[null], equal_nan=True)
    elsewhere = make(holes.values, "other site")
    assert not np.array_equal(first, draw(elsewhere, n_draws=3).nulls[null], equal_nan=True)


def test_one_site_permutes_all_its_maps_alike():
    first, second = make(np.arange(30.0)), make(100 + np.arange(30.0))
    np.testing.assert_array_equal(
        permuted_null(first, n_draws=5).nulls["unit"] + 100, permuted_null(second, n_draws=5).nulls["unit"]
    )


@pytest.mark.parametrize("null", NULLS)
def test_what_the_map_holds_already_stays(null, holes):
    labelled = UnitMap(
        holes.site,
        holes.values,
        holes.sheet,
        "welch_t",
        p=np.full(60, 0.5),
        nulls={"label": np.ones((2, 60))},
        provenance={"seed": 3},
    )
    with_null = NULLS[null](labelled, n_draws=2)
    assert set(with_null.nulls) == {"label", null}
    assert (with_null.statistic, with_null.provenance) == ("welch_t", {"seed": 3})
    np.testing.assert_array_equal(with_null.p, labelled.p)
    np.testing.assert_array_equal(with_null.values, labelled.values)
    assert null not in labelled.nulls


def test_a_smooth_map_stands_out_from_both_and_noise_from_neither():
    rows, columns = np.meshgrid(np.arange(12), np.arange(12), indexing="ij")
    smooth = make(np.sin(rows / 4 + columns / 5).ravel())
    noise = make(np.random.default_rng(3).normal(size=144))
    for unit_map, stands_out in ((smooth, True), (noise, False)):
        result = morans_i(noise_floor(permuted_null(unit_map, n_draws=199), n_draws=199))
        for reference in (result.unit_null, result.floor):
            assert (reference.p == 0.005) == stands_out
            assert reference.mean == pytest.approx(result.expected, abs=0.01)


@pytest.mark.parametrize("null", NULLS)
def test_a_map_without_values_has_nulls_without_values(null):
    draws = NULLS[null](make(np.full(4, np.nan)), n_draws=2).nulls[null]
    assert np.isnan(draws).all()


@pytest.mark.parametrize("null", NULLS)
def test_one_draw_and_readouts_are_refused(null, holes):
    with pytest.raises(ValueError, match="n_draws=1; expected at least 2 draws"):
        NULLS[null](holes, n_draws=1)
    smoothed = Sheet(name="site", positions_mm=holes.sheet.positions_mm, is_readout=True)
    with pytest.raises(ValueError, match="is a readout, whose sites are not exchangeable"):
        NULLS[null](UnitMap("site", holes.values, smoothed, "welch_t"), n_draws=2)
