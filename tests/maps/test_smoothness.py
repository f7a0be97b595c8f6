import numpy as np
import pytest

from topographic.maps import (
    SMOOTHNESS,
    DistanceCurve,
    UnitMap,
    correlation_by_distance,
    correlation_range,
    difference_by_distance,
    difference_rise,
)
from topographic.sheets import grid, permuted_grid


def curve(*values):
    return DistanceCurve(np.arange(len(values) + 1.0), np.array(values, float), np.ones(len(values), int))


def test_the_two_definitions_on_given_curves():
    assert correlation_range(curve(0.8, 0.3, np.nan, -0.1, 0.0)) == pytest.approx(0.9)
    assert correlation_range(curve(0.2, 0.2)) == 0
    assert difference_rise(curve(0.5, 1.0, 2.0)) == 0.75
    assert difference_rise(curve(0.5, 1.0, np.nan, 9.0)) == 0.5  # nothing counts behind a gap
    assert difference_rise(curve(3.0, 1.0)) == 0


def test_a_flat_curve_is_not_smooth_but_a_constant_map_is():
    assert difference_rise(curve(2.0, 2.0, 2.0)) == 0
    assert difference_rise(curve(0.0, 0.0)) == 1


def test_the_names_lead_to_the_definitions():
    assert {name: formula(curve(0.5, 1.0, 2.0)) for name, formula in SMOOTHNESS.items()} == {
        "toponets": 1.5,
        "tdann": 0.75,
    }


def test_closed_forms_on_a_sheet(respond):
    """A wave along the columns: r = cos(2 pi dx / 8); a ramp along them: |x_i - x_j| = dx."""
    sheet = permuted_grid(16, "line", shape=(1, 16))
    column = sheet.positions_mm[:, 1].numpy()
    phase = 2 * np.pi * np.arange(16)[:, None] / 16
    wave = respond(np.cos(phase - 2 * np.pi * column / 8), sheet=sheet)
    found = correlation_by_distance(wave, n_bins=14, max_distance_mm=15.0)
    np.testing.assert_allclose(found.values[:-1], np.cos(2 * np.pi * np.arange(1, 14) / 8), atol=1e-6)
    assert correlation_range(found) == pytest.approx(2, abs=1e-6)
    ramp = difference_by_distance(UnitMap("line", 3 * column, sheet, "t"), n_bins=14)
    np.testing.assert_allclose(ramp.values[:-1], 3 * np.arange(1, 14), rtol=1e-6)
    assert difference_rise(ramp) == pytest.approx((3 * (14 * 2 + 15) / 3 - 3) / (3 * (14 * 2 + 15) / 3), rel=1e-6)


def test_a_curve_that_is_no_difference_is_refused():
    with pytest.raises(ValueError, match=r"the curve falls to -0.1; expected absolute differences"):
        difference_rise(curve(0.5, -0.1))
    with pytest.raises(ValueError, match="the first bin of the curve is empty"):
        difference_rise(curve(np.nan, 1.0))


def test_a_shuffled_map_is_not_smooth():
    sheet = grid(144)
    ramp = sheet.positions_mm[:, 0].numpy()
    shuffled = np.random.default_rng(0).permutation(ramp)
    assert difference_rise(difference_by_distance(UnitMap("s", ramp, sheet, "t"))) > 0.6
    assert difference_rise(difference_by_distance(UnitMap("s", shuffled, sheet, "t"))) < 0.2
