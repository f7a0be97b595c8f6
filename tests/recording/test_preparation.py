import json

import numpy as np
import pytest
import torch
from PIL import Image

from topographic.recording import Preparation

DRAW = np.random.default_rng(0)


@pytest.fixture
def gray_images():
    return DRAW.integers(0, 256, (3, 8, 6, 1), np.uint8)


@pytest.fixture
def colour_images():
    return DRAW.integers(0, 256, (3, 8, 6, 3), np.uint8)


def test_from_minus_one_to_one(gray_images):
    values = Preparation()(gray_images)
    assert values.shape == (3, 1, 8, 6)
    np.testing.assert_allclose(values[1, 0].numpy(), gray_images[1, ..., 0] / 127.5 - 1, atol=1e-6)


def test_mean_and_sd_of_every_channel(colour_images):
    values = Preparation(mean=(0.1, 0.2, 0.3), sd=(1, 2, 4))(colour_images)
    for channel, (mean, sd) in enumerate(zip((0.1, 0.2, 0.3), (1, 2, 4), strict=True)):
        expected = (colour_images[..., channel] / 255 - mean) / sd
        np.testing.assert_allclose(values[:, channel].numpy(), expected, atol=1e-6)


def test_gray_in_three_channels(gray_images):
    values = Preparation(channels=3)(gray_images)
    assert values.shape == (3, 3, 8, 6)
    assert torch.equal(values[:, 0], values[:, 2])
    assert Preparation(mean=(0.1, 0.2, 0.3), sd=1.0)(gray_images).shape == (3, 3, 8, 6)


@pytest.mark.parametrize("size", [(4, 3), (16, 12), (5, 7)])
def test_size_as_pillow_has_it(colour_images, size):
    values = Preparation(mean=0.0, sd=1.0, size=size)(colour_images)
    for image, found in zip(colour_images, values, strict=True):
        expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
        # Pillow rounds after each of its two passes
        assert np.abs(found.permute(1, 2, 0).numpy() * 255 - expected).max() <= 1.001


def test_the_same_as_transformers(colour_images, tmp_path):
    from transformers import AutoImageProcessor

    prepare = Preparation(mean=(0.4, 0.5, 0.6), sd=(0.2, 0.3, 0.4), channels=3, size=(4, 4))
    prepare.save_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    theirs = np.stack(processor([Image.fromarray(image) for image in colour_images])["pixel_values"])
    # Pillow rounds to gray levels between resizing and normalising
    assert np.abs(theirs - prepare(colour_images).numpy()).max() <= 1.01 / 255 / 0.2


@pytest.mark.parametrize(
    "prepare", [Preparation(), Preparation(0.1, 2.0), Preparation((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 3, (4, 5))]
)
def test_round_trip(prepare, tmp_path):
    prepare.save_pretrained(tmp_path)
    assert Preparation.from_pretrained(tmp_path) == prepare


def test_other_peoples_files(tmp_path):
    def load(**content):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
        return Preparation.from_pretrained(tmp_path)

    normalised = {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}
    assert load(**normalised, do_resize=True, size=224).size == (224, 224)
    assert load(do_rescale=True) == Preparation(0.0, 1.0)
    with pytest.raises(ValueError, match=r"asks for \['do_center_crop'\]; expected resizing to a height and width"):
        load(**normalised, do_center_crop=True)
    with pytest.raises(ValueError, match=r"asks for \{'shortest_edge': 224\}"):
        load(**normalised, do_resize=True, size={"shortest_edge": 224})
    with pytest.raises(FileNotFoundError, match=r"no preprocessor_config\.json in .*gone; pass a Preparation"):
        Preparation.from_pretrained(tmp_path / "gone")


def test_refuses(colour_images):
    with pytest.raises(ValueError, match="the images have 3 channels and 1 are wanted; make them gray first"):
        Preparation(channels=1)(colour_images)
    for wrong in ({"channels": 2}, {"mean": (0.1, 0.2)}, {"channels": 1, "sd": (1, 1, 1)}):
        with pytest.raises(ValueError, match="expected 1 or 3 channels, and one number or one per channel"):
            Preparation(**wrong)
    with pytest.raises(ValueError, match=r"sd=\(0\.0,\); expected numbers above 0"):
        Preparation(sd=0.0)
