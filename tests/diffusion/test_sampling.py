"""Samples: guidance is the equation, an image is decided by its seed and place alone."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

from topographic.diffusion import DiffusionConfig, DiffusionModel, read_grid, sample, save_grid, to_pixels

SMALL = {"image_size": 8, "block_out_channels": [8, 8], "num_labels": 3, "width": 4, "num_train_timesteps": 20}


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    torch.manual_seed(0)
    return DiffusionModel(DiffusionConfig(**SMALL)).train()


def test_guidance_is_the_equation(model):
    made = sample(model, [2], guidance=1.5, steps=4, seed=9, progress=False)
    network, path = model.sampler, DDIMScheduler.from_config(model.scheduler.config)
    path.set_timesteps(4)
    seed = int(np.random.default_rng([9, 0]).integers(2**62))
    image = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(seed))[None]
    with torch.no_grad():
        for time in path.timesteps:
            guided, free = (network.eval()(image, time[None], torch.tensor([label])) for label in (2, 3))
            image = path.step(2.5 * guided - 1.5 * free, time, image).prev_sample
    torch.testing.assert_close(made, image.clamp(-1, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm"])
def test_an_image_is_decided_by_seed_and_place(model, scheduler):
    settings = {"steps": 3, "scheduler": scheduler, "progress": False}
    state = torch.random.get_rng_state()
    whole = sample(model, [0, 1, 2], **settings)
    torch.testing.assert_close(whole, sample(model, [0, 1, 2], batch_size=2, **settings), rtol=1e-3, atol=1e-3)
    assert torch.equal(whole, sample(model, [0, 1, 2], **settings))
    assert not torch.equal(whole, sample(model, [0, 1, 2], seed=1, **settings))
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.training  # as it was


def test_a_grid_is_a_picture(tmp_path):
    pixels = to_pixels(torch.linspace(-1, 1, 5 * 8 * 8).view(5, 1, 8, 8))
    assert (pixels.min(), pixels.max()) == (0, 255)
    with Image.open(save_grid(tmp_path / "grid.png", pixels, 3)) as picture:
        assert picture.size == (2 * 28, 2 * 18)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_can_be_read_again(tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, channels), dtype=np.uint8)
    path = save_grid(tmp_path / "grid.png", pixels, 3)
    again = read_grid(path, 3)
    assert again.shape == (2, 3, 8, 8, channels)
    np.testing.assert_array_equal(again.reshape(6, 8, 8, channels)[:5], pixels)
    assert (again[1, 2] == 255).all()
    with pytest.raises(ValueError, match="18 x 28 pixels, which are no 4 columns of square images"):
        read_grid(path, 4)


@pytest.mark.parametrize(
    ("classes", "settings", "words"),
    [
        ([3], {}, "class 3; the model has 3 classes"),
        ([], {}, "name one for each image"),
        ([0], {"guidance": -0.1}, r"guidance=-0.1; expected 0"),
        ([0], {"guidance": float("nan")}, "guidance=nan"),
        ([0], {"steps": 21}, "choose from 1 to 20"),
        ([0], {"scheduler": "other", "steps": 2}, "expected one of ddim, ddpm"),
    ],
)
def test_what_cannot_be_sampled_is_refused(model, classes, settings, words):
    with pytest.raises(ValueError, match=words):
        sample(model, classes, progress=False, **settings)
