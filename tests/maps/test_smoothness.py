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
    response_smoothness,
    t_map,
    tuning_smoothness,
)
from topographic.sheets import distances, grid, permuted_grid


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


def toponets_by_hand(responses, n_bins):
    """Correlation matrix, lower triangle, mean per bin, highest less lowest."""
    correlation = np.corrcoef(responses.values.astype(float).T)
    gap = distances(responses.sheet.positions_mm).numpy()
    lower = np.tril_indices(len(gap), -1)
    r, d = correlation[lower], gap[lower]
    index = np.clip(((d - d.min()) / (d.max() - d.min()) * n_bins).astype(int), 0, n_bins - 1)
    means = [r[index == one].mean() for one in range(n_bins) if (index == one).any()]
    return max(means) - min(means)


def tdann_by_hand(curve):
    """(largest - first) / largest, up to the first NaN."""
    kept = []
    for value in curve:
        if np.isnan(value):
            break
        kept.append(value)
    return (max(kept) - kept[0]) / max(kept)


def test_both_equal_a_direct_transcription(respond, smooth_noise):
    sheet = permuted_grid((9, 13), "s", spacing_mm=0.7)
    responses = respond(smooth_noise(np.random.default_rng(0), 30, sheet), sheet=sheet)
    found = response_smoothness(responses, n_bins=10)
    assert found.smoothness.value == pytest.approx(toponets_by_hand(responses, 10), abs=1e-9)
    assert found.smoothness.value == correlation_range(correlation_by_distance(responses, n_bins=10))
    assert (found.smoothness.floor, found.smoothness.unit_null, found.unit_curve) == (None, None, None)
    unit_map = t_map(responses, "a", "b", n_draws=19)
    rise = tuning_smoothness(unit_map)
    curves = {
        null: [difference_by_distance(UnitMap("s", one, sheet, "t")).values for one in maps]
        for null, maps in unit_map.nulls.items()
    }
    assert rise.value == pytest.approx(tdann_by_hand(difference_by_distance(unit_map).values))
    for null, reference in (("floor", rise.floor), ("unit", rise.unit_null), ("label", rise.label_null)):
        np.testing.assert_allclose(reference.draws, [tdann_by_hand(curve) for curve in curves[null]], rtol=1e-9)


def test_smooth_responses_are_told_from_the_same_units_elsewhere(respond, smooth_noise):
    sheet = permuted_grid((12, 12), "s")
    smooth = response_smoothness(respond(smooth_noise(np.random.default_rng(0), 40, sheet), sheet=sheet), n_draws=39)
    assert smooth.smoothness.value > 0.6
    assert smooth.smoothness.unit_null.p == smooth.smoothness.floor.p == 1 / 40
    assert smooth.smoothness.unit_null.mean < 0.2
    np.testing.assert_array_equal(smooth.unit_curve.edges_mm, smooth.curve.edges_mm)
    assert correlation_range(smooth.unit_curve) < 0.1, "the mean of the permuted curves is flat"
    rough = response_smoothness(respond(np.random.default_rng(1).standard_normal((40, 144))), n_draws=39)
    assert rough.smoothness.floor.mean > 0, "a range is never 0"
    assert rough.smoothness.unit_null.p > 0.05
    assert rough.smoothness.floor.mean == pytest.approx(rough.smoothness.unit_null.mean, rel=0.3)


def test_units_that_answer_alike_are_no_topography(respond):
    """A factor shared by all units raises every correlation and no range; the unit null keeps it."""
    rng = np.random.default_rng(0)
    shared = response_smoothness(respond(rng.standard_normal((40, 100)) + 2 * rng.standard_normal((40, 1))), n_draws=39)
    assert np.nanmin(shared.curve.values) > 0.7
    assert shared.smoothness.unit_null.p > 0.05
    assert shared.unit_curve.values.mean() == pytest.approx(shared.curve.values.mean(), abs=0.02)


def test_nulls_follow_the_seed(respond):
    responses = respond(np.random.default_rng(0).standard_normal((9, 36)))
    one, again, other = (response_smoothness(responses, n_draws=3, seed=seed).smoothness for seed in (0, 0, 1))
    for null in ("floor", "unit_null"):
        np.testing.assert_array_equal(getattr(one, null).draws, getattr(again, null).draws)
        assert not np.array_equal(getattr(one, null).draws, getattr(other, null).draws)


def test_units_without_a_value_are_left_out_of_tuning(respond):
    values = grid((6, 6)).positions_mm[:, 0].numpy().astype(np.float32)
    values[[3, 8]] = np.nan
    unit_map = UnitMap("s", values, grid((6, 6)), "t")
    assert tuning_smoothness(unit_map).value == difference_rise(difference_by_distance(unit_map))
