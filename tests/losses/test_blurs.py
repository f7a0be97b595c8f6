import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d

from topographic.losses.blurs import BLURS, shrunk


@pytest.mark.parametrize(("length", "factor", "left"), [(48, 3.0, 16), (16, 3.0, 5), (2, 3.0, 0), (49, 49.0, 0)])
def test_shrinking_rounds_as_the_framework_does(length, factor, left):
    assert shrunk(length, factor) == left
    if left:
        assert F.interpolate(torch.zeros(1, 1, length), scale_factor=1 / factor, mode="linear").shape[-1] == left


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize(("length", "factor"), [(48, 3.0), (16, 3.0), (7, 1.0), (25, 4.5)])
def test_what_is_constant_stays_constant(blur, length, factor):
    values = np.ones(length)
    for matrix in BLURS[blur](length, factor):
        values = matrix @ values
    np.testing.assert_allclose(values, 1, atol=1e-12)


@pytest.mark.parametrize(("length", "factor"), [(48, 3.0), (16, 3.0), (25, 4.0), (11, 2.5), (6, 6.0)])
def test_antialias_blur_is_the_frameworks(generator, length, factor):
    # two columns: torch 2.13 shrinks an image of one column wrongly
    image = torch.randn(1, 4, length, 2, generator=generator, dtype=torch.float64)
    small = F.interpolate(image, size=(int(length / factor), 2), mode="bilinear", antialias=True)
    expected = F.interpolate(small, size=(length, 2), mode="bilinear")
    down, up = BLURS["antialias"](length, factor)
    np.testing.assert_allclose(up @ down @ image[0].numpy(), expected[0].numpy(), atol=1e-12)


@pytest.mark.parametrize(("length", "factor"), [(48, 3.0), (16, 2.5), (5, 4.0)])
def test_gaussian_blur_is_scipys(generator, length, factor):
    values = torch.randn(length, generator=generator).double().numpy()
    options = {"sigma": factor / 2.3548200450309493, "mode": "constant", "truncate": 40.0}
    expected = gaussian_filter1d(values, **options) / gaussian_filter1d(np.ones(length), **options)
    (kernel,) = BLURS["gaussian"](length, factor)
    np.testing.assert_allclose(kernel @ values, expected, atol=1e-12)
