"""The batched loss against the plain loop that the benchmark times it with."""

import runpy
from pathlib import Path

import pytest
import torch

from topographic.losses import spatial_correlation_loss
from topographic.sheets import (
    global_neighborhoods,
    local_neighborhoods,
    permuted_grid,
    sample_neighborhoods,
    scattered_neighborhoods,
)

PLAIN = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "plain_spatial_loss.py"))

NEIGHBORHOODS = {
    "local": lambda sheet, generator: sample_neighborhoods(local_neighborhoods(sheet, 4), 5, generator=generator),
    "scattered": lambda sheet, generator: scattered_neighborhoods(sheet, 40, n_neighborhoods=5, generator=generator),
    "global": lambda sheet, generator: global_neighborhoods(sheet),
}


@pytest.mark.parametrize("kind", NEIGHBORHOODS)
def test_values_and_gradients_are_equal(kind, generator):
    sheets = [permuted_grid((12, 10), f"sheet.{index}") for index in range(3)]
    positions_mm = torch.stack([sheet.positions_mm for sheet in sheets])
    neighborhoods = torch.stack([NEIGHBORHOODS[kind](sheet, generator) for sheet in sheets])
    activations = torch.randn(3, 203, 120, generator=generator, dtype=torch.float64)
    activations = (activations + activations.roll(1, -1)).requires_grad_()

    plain = PLAIN["plain_spatial_loss"](activations, positions_mm, PLAIN["as_masks"](neighborhoods, 120))
    batched = spatial_correlation_loss(activations, positions_mm, neighborhoods)
    torch.testing.assert_close(batched, plain, rtol=0, atol=1e-12)
    (expected,) = torch.autograd.grad(plain, activations)
    (gradient,) = torch.autograd.grad(batched, activations)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-15)
    assert (gradient != 0).any(1).sum() == sum(len(rows.unique()) for rows in neighborhoods)
