import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from topographic.stimuli import gray, matched_contrast, phase_scrambled, radial_power, resized


@pytest.fixture
def photographs():
    """Noise of many scales, in colour."""
    draw = np.random.default_rng(0)
    coarse = resized(draw.integers(0, 256, (6, 5, 5, 3), np.uint8), 24, 24)
    return (0.8 * coarse + 0.2 * draw.integers(0, 256, coarse.shape)).astype(np.uint8)


def test_gray_as_pillow_has_it(photographs):
    for image, luma in zip(photographs, gray(photographs), strict=True):
        expected = np.asarray(Image.fromarray(image).convert("L")).astype(int)
        assert np.abs(expected - luma[..., 0]).max() <= 1
    one = gray(photographs)
    assert gray(one) is one


@pytest.mark.parametrize("size", [(8, 12), (24, 24), (7, 5), (40, 31), (1, 1)])
def test_resized_as_pillow_and_torch_have_it(photographs, size):
    found = resized(photographs, *size)
    assert found.shape == (6, *size, 3)
    for image, small in zip(photographs, found, strict=True):
        expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(expected - small).max() <= 1
    channels_first = torch.from_numpy(photographs).permute(0, 3, 1, 2).double()
    expected = torch.nn.functional.interpolate(channels_first, size, mode="bilinear", antialias=True)
    assert np.abs(expected.permute(0, 2, 3, 1).numpy() - found).max() <= 0.5 + 1e-6


def test_resized_refuses(photographs):
    with pytest.raises(ValueError, match="images of 0 x 4 pixels asked for; expected at least 1 x 1"):
        resized(photographs, 0, 4)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(60, 140), st.floats(5, 35), st.floats(0.2, 6))
def test_matched_contrast(seed, mean, sd, power):
    """Whatever the images looked like: their mean and sd are the wanted ones, and the order of their levels stays."""
    pixels = np.random.default_rng(seed).random((4, 9, 8, 1))
    pixels = (255 * pixels**power).astype(np.uint8)
    found = matched_contrast(pixels, mean, sd).reshape(4, -1).astype(float)
    assert np.abs(found.mean(1) - mean).max() <= 0.5
    assert np.abs(found.std(1) - sd).max() <= 0.5
    order = np.argsort(pixels.reshape(4, -1), axis=1, kind="stable")
    assert (np.diff(np.take_along_axis(found, order, axis=1)) >= 0).all()


def test_matched_contrast_reaches_its_aim_through_clipping():
    thin = np.zeros((1, 32, 32, 1), np.uint8)
    thin[0, 2:30, 14:16] = 255
    found = matched_contrast(thin, 96.0, 32.0)
    assert found.max() < 255
    steep = matched_contrast(
        thin + np.random.default_rng(0).integers(0, 90, thin.shape, np.uint8) * (thin == 0), 96.0, 50.0
    )
    assert (steep == 255).sum() + (steep == 0).sum() > 0
    assert abs(steep.std() - 50) <= 0.5


def test_matched_contrast_refuses():
    flat = np.zeros((2, 4, 4, 1), np.uint8)
    flat[0, 0] = 1
    with pytest.raises(ValueError, match="image 1 has one gray level only; contrast needs two"):
        matched_contrast(flat)
    dot = np.zeros((1, 32, 32, 1), np.uint8)
    dot[0, 3, 3] = 255
    with pytest.raises(ValueError, match="image 0 cannot have mean 96 and sd 32 within 256 gray levels"):
        matched_contrast(dot)


def test_scrambling_keeps_the_spectrum_and_nothing_else(photographs):
    scrambled = phase_scrambled(photographs, seed=3)
    amplitude = np.abs(np.fft.fft2(photographs, axes=(1, 2)))
    np.testing.assert_allclose(np.abs(np.fft.fft2(scrambled, axes=(1, 2))), amplitude, atol=1e-8 * amplitude.max())
    np.testing.assert_allclose(scrambled.mean((1, 2)), photographs.mean((1, 2)))
    np.testing.assert_allclose(scrambled.std((1, 2)), photographs.std((1, 2)))
    similar = [np.corrcoef(one.ravel(), two.ravel())[0, 1] for one, two in zip(photographs, scrambled, strict=True)]
    assert np.abs(similar).max() < 0.6
    assert np.abs(np.mean(similar)) < 0.3


def test_scrambling_keeps_the_colours_together(photographs):
    """One phase for all channels: a gray picture in three channels stays gray."""
    same = phase_scrambled(gray(photographs).repeat(3, axis=3), seed=1)
    np.testing.assert_allclose(same[..., 0], same[..., 2])


def test_scrambling_is_seeded_and_differs_between_images(photographs):
    twice = phase_scrambled(photographs[[0, 0]], seed=1)
    assert np.abs(twice[0] - twice[1]).max() > 10
    np.testing.assert_array_equal(twice, phase_scrambled(photographs[[0, 0]], seed=1))
    assert np.abs(twice - phase_scrambled(photographs[[0, 0]], seed=2)).max() > 10


@pytest.mark.parametrize(("rows", "columns", "band"), [(0, 3, 3), (3, 4, 5), (6, 0, 6), (9, 9, 12)])
def test_radial_power_of_a_grating(rows, columns, band):
    row, column = np.meshgrid(np.arange(24), np.arange(24), indexing="ij")
    grating = 127.5 + 100 * np.cos(2 * np.pi * (rows * row + columns * column) / 24)
    pixels = np.rint(grating).astype(np.uint8)[None, ..., None]
    power = radial_power(pixels)
    assert power.shape == (1, 12)
    assert power[0, band - 1] == pytest.approx(100**2 / 2, rel=0.01)
    assert power.sum() == pytest.approx(power[0, band - 1], rel=0.01)


def test_radial_power_adds_up_to_the_variance(photographs):
    np.testing.assert_allclose(radial_power(photographs).sum(1), gray(photographs).var((1, 2, 3)), rtol=1e-10)


def test_radial_power_refuses(photographs):
    with pytest.raises(ValueError, match="images are 24 x 20; cycles per image need square ones"):
        radial_power(photographs[:, :, :20])
