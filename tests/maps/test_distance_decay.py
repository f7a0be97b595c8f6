"""Order near by and far away: a patchwork has the first, a gradient both, and noise neither."""

import numpy as np
import pytest
from scipy.stats import binomtest, pearsonr

from topographic.maps import (
    DistanceCurve,
    NotMeasurable,
    correlation_by_distance,
    distance_decay,
    profile_agreement,
)
from topographic.maps.distance_decay import block_orders
from topographic.sheets import distances, grid, permuted_grid

SHEET = grid((12, 15))


def gradient(generator, n_items=60, noise=1.0):
    places = SHEET.positions_mm.numpy() / 5
    return generator.standard_normal((n_items, 2)) @ places.T + noise * generator.standard_normal((n_items, 180))


def test_both_numbers_are_correlations_over_pairs(respond):
    responses = respond(gradient(np.random.default_rng(0)), sheet=SHEET)
    found = distance_decay(responses, block=3, n_draws=19)
    apart = distances(SHEET.positions_mm).numpy()
    pairs = np.triu_indices(180, 1)
    r, d = np.corrcoef(responses.values.T)[pairs], apart[pairs]
    assert found.near.value == pytest.approx(pearsonr(r, 1 / (1 + d)).statistic, abs=1e-6)
    far = d > 3 * np.sqrt(2)
    assert found.far.value == pytest.approx(-pearsonr(r[far], d[far]).statistic, abs=1e-6)


def test_a_gradient_has_order_beyond_patches(respond):
    found = distance_decay(respond(gradient(np.random.default_rng(1)), sheet=SHEET), block=3, n_draws=99)
    assert found.near.nulls["unit"].z > 5
    assert found.far.nulls["block"].z > 3
    assert found.far.nulls["block"].p == 0.01


@pytest.mark.unchecked
def test_a_patchwork_is_smooth_near_by_and_as_often_ordered_as_chance_says(respond):
    """Patches of 3 x 3 units of their own: the kept smoothness is no evidence."""
    row, column = np.divmod(np.arange(180), 15)
    patch = row // 3 * 5 + column // 3
    n_false = n_near = 0
    for number in range(60):
        generator = np.random.default_rng([1, number])
        values = generator.standard_normal((30, 20))[:, patch] + 0.5 * generator.standard_normal((30, 180))
        found = distance_decay(respond(values, sheet=SHEET), block=3, n_draws=39)
        n_false += found.far.nulls["block"].p <= 0.05
        n_near += found.near.nulls["unit"].p <= 0.05
    assert n_near == 60
    assert binomtest(n_false, 60, 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("sheet", [SHEET, permuted_grid(180, "permuted", shape=(12, 15), seed=1)])
def test_blocks_move_as_wholes_and_edges_among_themselves(sheet):
    orders = block_orders(sheet, 4, 20, np.random.default_rng(0))
    assert (np.sort(orders, axis=1) == np.arange(180)).all()
    places = sheet.positions_mm.numpy()
    cell = np.round((places - places.min(0)) / 1.0).astype(int)
    same = (cell[:, None] // 4 == cell[None] // 4).all(-1)
    for order in orders:
        moved = cell[order]
        np.testing.assert_array_equal((moved[:, None] - moved[None])[same], (cell[:, None] - cell[None])[same])
    assert (orders != np.arange(180)).any(1).all()


class TestProfile:
    def test_a_sheet_agrees_with_a_curve_that_decays_like_its_own(self, respond):
        responses = respond(gradient(np.random.default_rng(0)), sheet=SHEET)
        reference = correlation_by_distance(respond(gradient(np.random.default_rng(9)), sheet=SHEET), n_bins=10)
        found = profile_agreement(responses, reference, block=3, n_draws=39)
        own = correlation_by_distance(responses, n_bins=10)
        assert found.value == pytest.approx(np.corrcoef(own.values, reference.values)[0, 1])
        assert found.value > 0.95
        assert found.nulls["unit"].p == found.nulls["block"].p == 1 / 40

    def test_a_flat_curve_is_refused_however_it_lies_to_the_null(self, respond):
        reference = correlation_by_distance(respond(gradient(np.random.default_rng(9)), sheet=SHEET), n_bins=10)
        noise = respond(np.random.default_rng(2).standard_normal((60, 180)), sheet=SHEET)
        with pytest.raises(NotMeasurable, match="do not grow less alike with distance"):
            profile_agreement(noise, reference, block=3, n_draws=99)

    def test_a_reference_without_values(self, respond):
        responses = respond(gradient(np.random.default_rng(0)), sheet=SHEET)
        empty = DistanceCurve(np.arange(5.0), np.array([1.0, np.nan, 0, 0]), np.array([1, 0, 1, 1]))
        with pytest.raises(ValueError, match="the reference has empty bins"):
            profile_agreement(responses, empty, block=3, n_draws=39)


def test_blocks_that_are_too_large_and_units_that_never_vary(respond):
    values = gradient(np.random.default_rng(0))
    with pytest.raises(NotMeasurable, match="fewer than 4 whole blocks of 8 x 8"):
        distance_decay(respond(values, sheet=SHEET), block=8, n_draws=9)
    values[:, 3] = 1.0
    with pytest.raises(NotMeasurable, match="1 units at 'site' never vary"):
        distance_decay(respond(values, sheet=SHEET), block=3, n_draws=9)
    with pytest.raises(ValueError, match="n_draws=1"):
        distance_decay(respond(values, sheet=SHEET), n_draws=1)
