import pytest
import torch
from scipy.ndimage import gaussian_filter

from topographic.layers import LateralSmoothing
from topographic.sheets import grid


def test_on_a_torus_it_is_a_gaussian_filter():
    values = torch.randn(20, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = LateralSmoothing(grid(400, wrap=True), sigma_mm=1.5)(values.flatten())
    expected = gaussian_filter(values.numpy(), 1.5, mode="wrap", truncate=6)
    assert found.reshape(20, 20).numpy() == pytest.approx(expected, abs=1e-4)


def test_strength_mixes_and_nothing_is_trained_or_kept():
    sheet, values = grid(16), torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    whole, half = (LateralSmoothing(sheet, strength=strength) for strength in (1.0, 0.5))
    torch.testing.assert_close(half(values), (values + whole(values)) / 2)
    torch.testing.assert_close(LateralSmoothing(sheet, strength=0.0)(values), values)
    assert not list(whole.parameters())
    assert not whole.state_dict()


def test_what_is_no_reach_or_no_share_is_refused():
    with pytest.raises(ValueError, match=r"sigma_mm=0.0; expected a reach above 0 mm"):
        LateralSmoothing(grid(16), sigma_mm=0.0)
    with pytest.raises(ValueError, match=r"strength=2.0; expected a share"):
        LateralSmoothing(grid(16), strength=2.0)
