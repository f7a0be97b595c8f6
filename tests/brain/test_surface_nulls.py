"""Maps without structure: what they keep, what they lose, and how smooth they are."""

import numpy as np
import pytest

from topographic.brain import estimated_fwhm_mm, smooth_noise_nulls
from topographic.maps import UnitMap, morans_i, permuted_null
from topographic.sheets import distances, grid


@pytest.fixture
def smooth_map(plane):
    """White noise through a Gaussian kernel of 4 mm on a 2 mm mesh; every tenth vertex without a value if asked."""

    def make(seed=0, *, fwhm_mm=8.0, holes=False, side=30):
        mesh = plane(side, side, 2.0)
        kernel = np.exp2(-4 * (distances(mesh.sheet.positions_mm).numpy() / fwhm_mm) ** 2)
        values = kernel @ np.random.default_rng(seed).normal(size=side * side)
        if holes:
            values[::10] = np.nan
        return UnitMap("site", values, mesh.sheet, "t")

    return make


def test_a_permuted_map_on_a_mesh_loses_its_places(smooth_map):
    drawn = permuted_null(smooth_map(holes=True), n_draws=60, seed=3)
    found = morans_i(drawn)
    assert found.unit_null.mean == pytest.approx(found.expected, abs=0.02)
    assert found.unit_null.p == pytest.approx(1 / 61)


def test_seeds_decide_the_draws(smooth_map):
    maps = [smooth_noise_nulls(smooth_map(), 6.0, 3, seed=seed).nulls["floor"] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])


def test_other_nulls_are_kept(smooth_map):
    both = smooth_noise_nulls(permuted_null(smooth_map(), n_draws=5), 6.0, 4)
    assert {key: len(maps) for key, maps in both.nulls.items()} == {"unit": 5, "floor": 4}


@pytest.mark.parametrize("fwhm_mm", [6.0, 10.0])
def test_smoothness_of_a_known_kernel_is_found(smooth_map, fwhm_mm):
    """By the formula of the estimate a Gaussian kernel gives back its own width; edges and chance blur it."""
    estimates = [estimated_fwhm_mm(smooth_map(seed, fwhm_mm=fwhm_mm, side=40)) for seed in range(6)]
    assert np.mean(estimates) == pytest.approx(fwhm_mm, rel=0.1)


def test_white_noise_is_not_smooth(plane):
    values = np.random.default_rng(0).normal(size=1600)
    assert estimated_fwhm_mm(UnitMap("x", values, plane(40, 40, 2.0).sheet, "t")) < 1.5


@pytest.mark.parametrize("holes", [False, True])
def test_the_floor_is_as_smooth_as_asked(smooth_map, holes):
    observed = smooth_map(holes=holes)
    drawn = smooth_noise_nulls(observed, 7.0, 40, seed=1)
    reached = drawn.provenance["floor_fwhm_mm"]
    assert reached == pytest.approx(7.0, rel=0.08)
    maps = drawn.nulls["floor"]
    present = ~np.isnan(observed.values)
    np.testing.assert_array_equal(np.isnan(maps[0]), ~present)
    np.testing.assert_allclose(maps[:, present].mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(maps[:, present].std(1), 1, atol=1e-5)
    each = [estimated_fwhm_mm(UnitMap("x", values, observed.sheet, "t")) for values in maps[:20]]
    assert np.mean(each) == pytest.approx(reached, rel=0.05)


def test_structure_beyond_smoothness_is_told_from_smoothness(smooth_map):
    """Noise of the floor's own smoothness lies within it, a much smoother map above."""
    assert abs(morans_i(smooth_noise_nulls(smooth_map(fwhm_mm=8.0), 8.0, 60)).floor.z) < 4
    assert morans_i(smooth_noise_nulls(smooth_map(fwhm_mm=14.0), 6.0, 60)).floor.z > 5


def test_noise_stays_on_its_side_of_a_gap(plane):
    """Two halves parted by vertices without a value share no noise."""
    mesh = plane(20, 21)
    column = np.arange(420) % 21
    values = np.where(column == 10, np.nan, np.arange(420.0))
    maps = smooth_noise_nulls(UnitMap("x", values, mesh.sheet, "t"), 4.0, 400).nulls["floor"]
    across = [np.corrcoef(maps[:, row * 21 + 9], maps[:, row * 21 + 11])[0, 1] for row in range(20)]
    within = [np.corrcoef(maps[:, row * 21 + 7], maps[:, row * 21 + 9])[0, 1] for row in range(20)]
    assert abs(np.mean(across)) < 0.05
    assert np.mean(within) > 0.3


def test_what_cannot_be_drawn(smooth_map, plane):
    with pytest.raises(ValueError, match="n_draws=1; expected at least 2"):
        smooth_noise_nulls(smooth_map(), 6.0, 1)
    with pytest.raises(ValueError, match="is constant or has fewer than 3 values"):
        smooth_noise_nulls(UnitMap("x", np.ones(12), plane(3, 4).sheet, "t"), 6.0)
    for fwhm_mm in (-2.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"fwhm_mm={fwhm_mm}; expected a positive length in mm"):
            smooth_noise_nulls(smooth_map(), fwhm_mm)
    with pytest.raises(ValueError, match=r"fwhm_mm=0\.0; expected a positive length in mm"):
        smooth_noise_nulls(smooth_map(), 0.0)
    with pytest.raises(ValueError, match="was not reached"):
        smooth_noise_nulls(UnitMap("x", np.arange(12.0), plane(3, 4).sheet, "t"), 1e6, 2)
    flat = UnitMap("x", np.arange(12.0), grid((3, 4), "flat"), "t")
    for draw in (lambda: smooth_noise_nulls(flat, 2.0), lambda: estimated_fwhm_mm(flat)):
        with pytest.raises(ValueError, match="is no mesh"):
            draw()
    scattered = np.full(12, np.nan)
    scattered[[0, 2, 8]] = 1.0, 2.0, 3.0
    with pytest.raises(ValueError, match="no two units with a value are neighbours"):
        estimated_fwhm_mm(UnitMap("x", scattered, plane(3, 4).sheet, "t"))
