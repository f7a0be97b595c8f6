"""A diffusion model through recipe and run folder: prototypes first, exact resume, grids, samples."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.diffusion_runs import diffusion_recipe
from PIL import Image
from safetensors.numpy import load_file

from topographic.diffusion import SampleGrids, scaled_prototypes
from topographic.runs import DiffusionSection, ModelConfig, load_diffusion_model, train_model
from topographic.training import ImageConfig


def test_prototypes_are_trained_first_and_guide_the_model(tmp_path, mnist):
    folder, _ = train_model(diffusion_recipe(tmp_path / "run", mnist, condition="frozen"))
    model, prepare = load_diffusion_model(folder)
    classifier = torch.from_numpy(_tensor(tmp_path / "run-prototypes" / "model", "prototypes"))
    assert torch.equal(model.denoiser.condition.table.weight, classifier)
    assert prepare.mean == (0.5,)
    assert [path.name for path in sorted((folder / "samples").iterdir())] == ["step-000002.png", "step-000004.png"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any("eval_loss" in row for row in rows)
    # a control takes the same prototypes, from the run that is named
    named = diffusion_recipe(
        tmp_path / "shuffled",
        mnist,
        condition="frozen",
        prototypes_as="shuffled",
        prototypes_scaled=True,
        prototypes=str(tmp_path / "run-prototypes"),
    )
    other, _ = load_diffusion_model(train_model(named)[0])
    held = other.denoiser.condition.table.weight
    longer = scaled_prototypes(classifier)
    assert sorted(map(tuple, held.tolist())) == sorted(map(tuple, longer.tolist()))
    assert not torch.equal(held, longer)


def _tensor(folder: Path, name: str) -> np.ndarray:
    return load_file(folder / "model.safetensors")[name]


def test_an_interrupted_training_goes_on_bit_equal(tmp_path, mnist, monkeypatch):
    whole = train_model(diffusion_recipe(tmp_path / "whole", mnist, condition="regular"))[0]

    class KilledError(Exception):
        pass

    def kill(self, _args, state, _control, **_):
        if state.global_step == 3:
            raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(SampleGrids, "on_step_end", kill)
        train_model(diffusion_recipe(tmp_path / "cut", mnist, condition="regular"))
    cut = train_model(diffusion_recipe(tmp_path / "cut", mnist, condition="regular"))[0]
    for one in ("model.safetensors", "unet/diffusion_pytorch_model.safetensors"):
        assert (whole / "model" / one).read_bytes() == (cut / "model" / one).read_bytes()


def test_wrong_prototypes_are_refused(tmp_path, mnist):
    first = diffusion_recipe(tmp_path / "run", mnist, condition="frozen", width=8)
    train_model(first)
    prototypes = str(tmp_path / "run-prototypes")
    with pytest.raises(ValueError, match="10 prototypes of 8 numbers; the model has 10 classes and a width of 16"):
        train_model(diffusion_recipe(tmp_path / "other", mnist, prototypes=prototypes))
    with pytest.raises(ValueError, match="cannot be read as a classifier of images"):
        train_model(diffusion_recipe(tmp_path / "third", mnist, prototypes=str(tmp_path / "run")))
    pets = replace(first, images=pictures(tmp_path / "pets", (8, 8)), run=str(tmp_path / "fourth"))
    with pytest.raises(ValueError, match=r"are of 0, 1, .* and the images of cat, dog .* train prototypes on these"):
        train_model(replace(pets, diffusion=replace(first.diffusion, prototypes=prototypes)))
    plain = replace(first, run=str(tmp_path / "plain"), model=ModelConfig("mnist_mlp"), diffusion=DiffusionSection())
    train_model(replace(plain, training=replace(plain.training, max_steps=1)))
    with pytest.raises(ValueError, match=r"holds a PixelMLP.*; expected a prototype classifier"):
        train_model(diffusion_recipe(tmp_path / "fifth", mnist, prototypes=str(tmp_path / "plain")))


def pictures(folder: Path, shape: tuple[int, int]) -> ImageConfig:
    """A cat and a dog to train on, and one of each to validate on."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            Image.fromarray(np.zeros(shape, np.uint8)).save(folder / split / name / "one.png")
    return ImageConfig(name="pets", folder=str(folder))


def test_images_that_no_samples_can_be_like_are_refused(tmp_path, mnist):
    recipe = diffusion_recipe(tmp_path / "run", mnist)
    with pytest.raises(ValueError, match=r"images\.mean=\[0\.1\], images\.sd=\[0\.5\]; samples run from -1"):
        train_model(replace(recipe, images=replace(recipe.images, mean=[0.1])))
    with pytest.raises(
        ValueError, match=r"images of 8 x 12 pixels; a diffusion model makes square ones: give images\.size"
    ):
        train_model(replace(recipe, images=pictures(tmp_path / "wide", (8, 12))))


def test_losses_that_are_no_numbers_end_the_training_in_one_line(tmp_path, mnist):
    recipe = diffusion_recipe(tmp_path / "run", mnist, condition="regular")
    wild = replace(recipe.training, learning_rate=1e30, min_learning_rate=0.0)
    with pytest.raises(FloatingPointError, match=r"NaN or infinite .* lower training.learning_rate"):
        train_model(replace(recipe, training=wild))
