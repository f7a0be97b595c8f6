import numpy as np
import pytest
import torch
from torch.nn import functional

from topographic.losses import laplacian_pyramid_loss, random_weights_loss
from topographic.maps import weight_smoothness
from topographic.sheets import Sheet, grid, grid_cells, permuted_grid


def by_interpolation(weights, shape, factor):
    """The published loss, less from 1: cosine of every unit with what interpolation down and up again gives."""
    sheet = weights.T.reshape(1, -1, *shape)
    down = functional.interpolate(sheet, scale_factor=1 / factor, mode="bilinear")
    up = functional.interpolate(down, size=shape, mode="bilinear")
    return functional.cosine_similarity(sheet, up, dim=1).mean().item()


def waves(sheet, depth, generator):
    """Weights that vary slowly over the sheet."""
    directions = torch.randn(2, depth, generator=generator) / 4
    return torch.cos(sheet.positions_mm.float() @ directions + 6 * torch.rand(depth, generator=generator))


def test_it_is_one_less_the_published_loss(generator):
    weights = waves(grid((12, 15)), 20, generator) + torch.randn(180, 20, generator=generator)
    found = weight_smoothness(weights, grid((12, 15), "s"))
    assert found.value == pytest.approx(by_interpolation(weights, (12, 15), 3), abs=1e-6)
    assert found.value == pytest.approx(1 - laplacian_pyramid_loss(weights).item(), abs=1e-6)
    assert found.unit_null is None
    other = weight_smoothness(weights, grid((12, 15), "s"), factor=2.0)
    assert other.value == pytest.approx(by_interpolation(weights, (12, 15), 2), abs=1e-6)


def test_units_count_where_they_lie(generator):
    sheet = permuted_grid((12, 15), "s")
    weights = waves(sheet, 20, generator)
    assert weight_smoothness(weights, sheet).value > 0.9
    assert abs(weight_smoothness(weights, grid((12, 15), "s")).value) < 0.5


def test_the_null_tells_smooth_from_rough(generator):
    sheet = permuted_grid((12, 15), "s")
    smooth = weight_smoothness(waves(sheet, 20, generator), sheet, n_draws=39)
    assert smooth.unit_null.p == 1 / 40
    assert smooth.unit_null.z > 5
    noise = torch.randn(180, 500, generator=generator)
    rough = weight_smoothness(noise, sheet, n_draws=39)
    assert rough.unit_null.p > 0.05
    assert rough.unit_null.mean == pytest.approx(1 - random_weights_loss(180), abs=0.01)
    again, other = (weight_smoothness(noise, sheet, n_draws=39, seed=seed).unit_null for seed in (0, 1))
    np.testing.assert_array_equal(rough.unit_null.draws, again.draws)
    assert not np.array_equal(again.draws, other.draws)


def test_like_units_are_as_alike_anywhere(generator):
    """Weights with a mean are smooth by the loss and by its null alike, unlike independent ones."""
    weights = 3 + torch.randn(180, 20, generator=generator)
    found = weight_smoothness(weights, grid((12, 15), "s"), n_draws=39)
    assert found.value > 0.8 > 0.2 > 1 - random_weights_loss(180)
    assert found.unit_null.mean == pytest.approx(found.value, abs=0.02)


def test_biases_and_empty_rows(generator):
    sheet = permuted_grid((12, 15), "s")
    bias = waves(sheet, 1, generator)[:, 0]
    found = weight_smoothness(bias, sheet, n_draws=39)
    order = grid_cells(sheet)[1].tolist()
    assert found.value == pytest.approx(1 - laplacian_pyramid_loss(bias, kind="bias", order=order).item(), abs=1e-6)
    assert found.unit_null.p == 1 / 40
    weights = waves(grid((12, 15)), 20, generator)
    padded = weight_smoothness(weights, grid((12, 15), "s"), shape=(14, 15))
    assert padded.value == pytest.approx(1 - laplacian_pyramid_loss(weights, shape=(14, 15)).item(), abs=1e-6)
    assert padded.value != pytest.approx(weight_smoothness(weights, grid((12, 15), "s")).value, abs=1e-4)


def test_what_is_refused(generator):
    with pytest.raises(ValueError, match=r"12 units have weights and sheet 's' places 20; expected one row"):
        weight_smoothness(torch.ones(12, 3), grid((4, 5), "s"))
    with pytest.raises(ValueError, match="sheet 'pair' has 3 units in 2 places"):
        weight_smoothness(torch.ones(3, 3), Sheet("pair", torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]])))
    with pytest.raises(ValueError, match="n_draws=1; expected 0 for no nulls, or at least 2 draws"):
        weight_smoothness(torch.randn(20, 3, generator=generator), grid((4, 5), "s"), n_draws=1)
