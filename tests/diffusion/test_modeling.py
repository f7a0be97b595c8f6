"""A diffusion model: its loss is the equation, its files are diffusers' own."""

import pytest
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, UNet2DModel

from topographic.diffusion import DiffusionConfig, DiffusionModel
from topographic.objectives import Objective, WeightSheet, WeightSmoothness

SMALL = {"image_size": 8, "block_out_channels": [8, 16], "num_labels": 3, "width": 16, "num_train_timesteps": 20}


def model(**changes) -> DiffusionModel:
    torch.manual_seed(0)
    return DiffusionModel(DiffusionConfig(**SMALL, **changes))


def images(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(n) % 3


def test_the_loss_is_that_of_the_noise_it_draws():
    made, (pixels, labels) = model(condition_dropout=0.5).train(), images()
    torch.manual_seed(5)
    loss = made(pixels, labels).loss
    torch.manual_seed(5)
    times = torch.randint(20, (6,))
    shown = torch.where(torch.rand(6) < 0.5, 3, labels)
    noise = torch.randn_like(pixels)
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 20), 0)[times].view(-1, 1, 1, 1)
    noisy = kept.sqrt() * pixels + (1 - kept).sqrt() * noise
    guess = made.denoiser.unet(noisy, times, class_labels=made.denoiser.condition(shown)).sample
    torch.testing.assert_close(loss, (guess - noise).square().mean())
    assert (shown == 3).any()


def test_a_validation_is_the_same_each_time_and_leaves_the_training_alone():
    made, (pixels, labels) = model().eval(), images()
    before = torch.random.get_rng_state()
    assert made(pixels, labels).loss == made(pixels, labels).loss
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("condition", ["regular", "frozen", "unfrozen"])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_plain_diffusers_loads_it_and_guesses_the_same(tmp_path, condition, ema_decay):
    made, (pixels, labels) = model(condition=condition, ema_decay=ema_decay), images()
    made.set_prototypes(torch.randn(3, 16))
    optimizer = torch.optim.Adam([one for one in made.parameters() if one.requires_grad], lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        made.train()(pixels, labels).loss.backward()
        optimizer.step()
        made.update_average()
    made.eval().save_pretrained(tmp_path)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path)
    assert isinstance(pipeline.scheduler, DDPMScheduler)
    plain = UNet2DModel.from_pretrained(tmp_path, subfolder="unet").eval()
    times, shown = torch.full((6,), 7), torch.tensor([0, 1, 2, 3, 3, 0])  # 3 is no class
    with torch.no_grad():
        theirs = plain(pixels, times, class_labels=shown).sample
        torch.testing.assert_close(theirs, made.sampler(pixels, times, shown), rtol=1e-5, atol=1e-6)
    again = DiffusionModel.from_pretrained(tmp_path).eval()
    assert torch.equal(again(pixels, labels).loss, made(pixels, labels).loss)


def test_frozen_prototypes_stay_and_unfrozen_ones_move():
    pixels, labels = images()
    for condition in ("frozen", "unfrozen"):
        made = model(condition=condition, condition_dropout=0.0).train()
        given = torch.randn(3, 16)
        made.set_prototypes(given)
        optimizer = torch.optim.SGD([one for one in made.parameters() if one.requires_grad], lr=1.0)
        made(pixels, labels).loss.backward()
        optimizer.step()
        moved = (made.denoiser.condition.table.weight != given).any(1)
        assert moved.all() if condition == "unfrozen" else not moved.any()


def test_the_running_mean_is_one():
    made = model(ema_decay=0.75)
    name = "condition.linear_1.weight"
    start = made.denoiser.get_parameter(name).detach().clone()
    made.update_average()  # the first is taken as it is
    with torch.no_grad():
        made.denoiser.get_parameter(name).add_(1)
    made.update_average()
    torch.testing.assert_close(made.sampler.get_parameter(name), start + 0.25)
    assert made.sampler is not made.denoiser


def test_its_condition_can_be_made_smooth_on_a_sheet():
    made, (pixels, labels) = model(), images()
    objective = Objective(
        made, [WeightSmoothness([WeightSheet("denoiser.condition.linear_1", factor=2.0)], weight=2.0)]
    )
    loss, parts = objective(made.train()(pixels, labels).loss)
    loss.backward()
    assert any(float(part) > 0 for name, part in parts.items() if name != "task_loss")
    assert made.denoiser.condition.linear_1.weight.grad.any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": 9}, "cannot be halved 1 times; choose fewer levels or images.size=10"),
        ({"attention": [True]}, "attention names 1 levels and block_out_channels 2"),
        ({"norm_num_groups": 3}, "no multiple of norm_num_groups=3"),
        ({"condition": "other"}, "expected one of regular, frozen, unfrozen"),
        ({"condition_dropout": 1.0}, "expected 0 to below 1"),
        ({"ema_decay": 1.0}, "between 0 and 1"),
    ],
)
def test_shapes_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        DiffusionConfig(**{**SMALL, **changes})


def test_what_does_not_fit_the_model_is_refused():
    made, (pixels, labels) = model(), images()
    with pytest.raises(ValueError, match="2 prototypes of 16 numbers; the model has 3 classes and a width of 16"):
        made.set_prototypes(torch.zeros(2, 16))
    with pytest.raises(ValueError, match="number them from 0 to 2"):
        made(pixels, labels + 1)
    with pytest.raises(ValueError, match="number them from 0 to 2"):
        made(pixels, labels - 1)
    with pytest.raises(ValueError, match="no labels; expected the class of each image, from 0 to 2"):
        made.train()(pixels)
    assert made.eval()(pixels).loss.isfinite(), "of no class"
    with pytest.raises(ValueError, match=r"this model makes \(1, 8, 8\)"):
        made(torch.zeros(2, 1, 10, 10), labels[:2])
