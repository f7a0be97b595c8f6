import numpy as np
import pytest
import torch

from topographic.layouts import fit_assignment, shuffled_within_units
from topographic.layouts.assignment import Arrangement
from topographic.layouts.blocks import fitting_neighborhoods
from topographic.losses import spatial_correlation_loss
from topographic.sheets import grid


def loss(values, sheet):
    values = torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float64)
    hoods = fitting_neighborhoods(sheet)
    return float(spatial_correlation_loss(values, sheet.positions_mm, hoods, period_mm=sheet.period_mm))


def agreement(population, order):
    """Correlation of distances on the found sheet with those on the hidden one, and how many neighbours were ones."""
    places = population.sheet.positions_mm.numpy()
    hidden = places[population.mixing[order]]
    pairs = np.triu_indices(len(places), 1)
    found, true = (np.linalg.norm(p[pairs[0]] - p[pairs[1]], axis=1) for p in (places, hidden))
    return np.corrcoef(found, true)[0, 1], (true[found < 1.01] < 1.01).mean()


@pytest.mark.parametrize(("shape", "wrap"), [((5, 5), False), ((4, 7), False), ((4, 4), True)])
def test_the_change_of_every_swap_is_that_of_computing_anew(shape, wrap):
    n_units = shape[0] * shape[1]
    values = np.random.default_rng(0).normal(size=(100, n_units)) @ np.random.default_rng(1).normal(size=(n_units,) * 2)
    sheet = grid(n_units, shape=shape, wrap=wrap)
    arrangement = Arrangement(np.corrcoef(values.T), sheet)
    assert arrangement.loss == pytest.approx(loss(values, sheet), abs=1e-9)
    draw = np.random.default_rng(2)
    for _ in range(5):
        place = int(draw.integers(n_units))
        others = np.delete(np.arange(n_units), place)
        after = arrangement.losses_after(place, others)
        for other, predicted in zip(others, after, strict=True):
            order = arrangement.order.copy()
            order[[place, other]] = order[[other, place]]
            assert predicted == pytest.approx(loss(values[:, order], sheet), abs=1e-6)
        arrangement.swap(place, int(others[after.argmin()]))
        assert arrangement.loss == pytest.approx(after.min(), abs=1e-9)
        assert arrangement.loss == pytest.approx(loss(values[:, arrangement.order], sheet), abs=1e-6)


def test_no_swap_of_a_small_sheet_betters_what_it_ends_with(planted):
    population = planted((3, 4), 200, mixed_by="permutation")
    order = fit_assignment(population.fitted, population.sheet, swaps=50_000).numpy()
    found = loss(population.fitted[:, order], population.sheet)
    for one in range(12):
        for other in range(one):
            swapped = order.copy()
            swapped[[one, other]] = swapped[[other, one]]
            assert loss(population.fitted[:, swapped], population.sheet) > found - 1e-6


@pytest.mark.parametrize(
    ("shape", "n_samples", "wrap"), [((6, 6), 400, False), ((12, 12), 600, False), ((5, 16), 600, False)]
)
def test_a_hidden_map_is_recovered_up_to_symmetry(planted, shape, n_samples, wrap):
    population = planted(shape, n_samples, mixed_by="permutation", wrap=wrap)
    order = fit_assignment(population.fitted, population.sheet).numpy()
    assert sorted(order) == list(range(len(order)))
    alike, kept = agreement(population, order)
    assert alike > 0.9
    assert kept > 0.6
    held_out = loss(population.judged[:, order], population.sheet)
    assert held_out < 0.1 < 0.4 < loss(population.judged, population.sheet)
    control = fit_assignment(shuffled_within_units(population.fitted), population.sheet, swaps=2000).numpy()
    alike, kept = agreement(population, control)
    assert abs(alike) < 0.2
    assert kept < 0.4
    assert loss(population.judged[:, control], population.sheet) > 0.4


def test_a_torus_is_laid_out_smoothly(planted):
    population = planted((8, 8), 600, mixed_by="permutation", wrap=True)
    order = fit_assignment(population.fitted, population.sheet).numpy()
    assert loss(population.judged[:, order], population.sheet) < 0.15


def test_swaps_lower_the_loss_and_the_seed_decides(planted):
    population = planted((8, 8), 150, mixed_by="permutation", noise=2.0)
    orders = [fit_assignment(population.fitted, population.sheet, swaps=swaps) for swaps in (0, 1000, 20_000)]
    losses = [loss(population.fitted[:, order.numpy()], population.sheet) for order in orders]
    assert losses[0] > losses[1] > losses[2]
    assert torch.equal(orders[2], fit_assignment(torch.from_numpy(population.fitted), population.sheet, swaps=20_000))
    assert orders[0].dtype == torch.int64
