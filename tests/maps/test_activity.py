"""Smoothness of activity, stimulus by stimulus."""

import numpy as np
import pytest

from topographic.maps import UnitMap, activity_smoothness, morans_i, spatial_alignment
from topographic.sheets import grid

SHEET = grid((9, 10))


def test_each_is_morans_i_of_the_standardised_activity(respond, smooth_noise):
    generator = np.random.default_rng(0)
    responses = respond(5 + 2 * smooth_noise(generator, 12, SHEET), sheet=SHEET)
    found = activity_smoothness(responses, n_draws=19)
    values = responses.values.astype(float)
    values = (values - values.mean(0)) / values.std(0)
    for index in (0, 7):
        alone = morans_i(UnitMap("site", values[index], SHEET, "activity"))
        assert found.each[index] == pytest.approx(alone.value, abs=1e-5)
    assert found.mean.value == pytest.approx(found.each.mean())


def test_smooth_activity_stands_above_its_units_permuted_and_noise_does_not(respond, smooth_noise):
    generator = np.random.default_rng(0)
    smooth = activity_smoothness(respond(smooth_noise(generator, 20, SHEET), sheet=SHEET), n_draws=99)
    assert smooth.mean.nulls["unit"].p == 0.01
    assert smooth.mean.value > 0.3
    p = [
        activity_smoothness(respond(generator.standard_normal((20, 90)), sheet=SHEET), n_draws=19, seed=seed)
        .mean.nulls["unit"]
        .p
        for seed in range(40)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.2


def test_a_unit_that_never_varies_counts_as_at_its_mean(respond):
    values = np.random.default_rng(0).standard_normal((8, 90))
    values[:, 4] = 3
    assert np.isfinite(activity_smoothness(respond(values, sheet=SHEET), n_draws=2).each).all()


class TestAlignment:
    def test_stimuli_that_are_smooth_on_both_sheets(self, respond, smooth_noise):
        generator = np.random.default_rng(0)
        share = np.linspace(0, 1, 40)[:, None]
        other = grid((8, 8))
        first, second = (
            respond(
                share * smooth_noise(generator, 40, sheet, 4.0) + (1 - share) * generator.standard_normal((40, n)),
                sheet=sheet,
            )
            for sheet, n in ((SHEET, 90), (other, 64))
        )
        found = spatial_alignment(first, second, n_draws=99)
        expected = np.corrcoef(activity_smoothness(first).each, activity_smoothness(second).each)[0, 1]
        assert found.value == pytest.approx(expected)
        assert found.value > 0.5
        assert found.nulls["stimulus"].p == 0.01

    def test_other_stimuli(self, respond):
        values = np.random.default_rng(0).standard_normal((8, 90))
        with pytest.raises(ValueError, match="expected the same stimuli in one order"):
            spatial_alignment(respond(values, sheet=SHEET), respond(values[1:], sheet=SHEET))

    def test_activity_without_variation(self, respond):
        constant = np.tile(np.arange(90.0), (8, 1))
        with pytest.raises(ValueError, match="does not vary over 8 stimuli"):
            spatial_alignment(respond(constant, sheet=SHEET), respond(constant, sheet=SHEET))


def test_one_stimulus(respond):
    with pytest.raises(ValueError, match="1 stimulus at 'site'"):
        activity_smoothness(respond(np.ones((1, 90)), sheet=SHEET), n_draws=2)
