"""A diffusion model through recipe and run folder: prototypes first, exact resume, grids, samples."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from topographic.cli import main
from topographic.diffusion import SampleGrids
from topographic.objectives import SpatialConfig
from topographic.runs import DiffusionSection, Recipe, kind_of, load_diffusion_model, train_model
from topographic.training import ImageConfig, TrainingConfig


def recipe(folder: Path, images: Path, **said) -> Recipe:
    training = {"batch_size": 4, "warmup_steps": 1, "eval_steps": 2, "save_steps": 2, "logging_steps": 1}
    small = {"block_out_channels": [8, 8], "attention": [False, True], "width": 16, "num_train_timesteps": 20}
    small |= {"classifier_steps": 2, "samples_per_class": 1, "ema_decay": 0.9}
    return Recipe(
        run=str(folder),
        images=ImageConfig(name="mnist", folder=str(images), cache_folder=str(folder.parent / "cache")),
        diffusion=DiffusionSection(**{"condition": "unfrozen", **small, **said}),
        spatial=SpatialConfig(weight=0.0),
        training=TrainingConfig(max_steps=4, report_to="none", **training),
    )


@pytest.fixture
def mnist(image_folders) -> Path:
    return image_folders["mnist"]


def test_prototypes_are_trained_first_and_guide_the_model(tmp_path, mnist):
    folder, _ = train_model(recipe(tmp_path / "run", mnist, condition="frozen"))
    model, prepare = load_diffusion_model(folder)
    classifier = torch.from_numpy(_tensor(tmp_path / "run-prototypes" / "model", "prototypes"))
    assert torch.equal(model.denoiser.condition.table.weight, classifier)
    assert prepare.mean == (0.5,)
    assert [path.name for path in sorted((folder / "samples").iterdir())] == ["step-000002.png", "step-000004.png"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any("eval_loss" in row for row in rows)
    # a control takes the same prototypes, from the run that is named
    named = recipe(
        tmp_path / "shuffled",
        mnist,
        condition="frozen",
        prototypes_as="shuffled",
        prototypes=str(tmp_path / "run-prototypes"),
    )
    other, _ = load_diffusion_model(train_model(named)[0])
    held = other.denoiser.condition.table.weight
    assert sorted(map(tuple, held.tolist())) == sorted(map(tuple, classifier.tolist()))
    assert not torch.equal(held, classifier)


def _tensor(folder: Path, name: str) -> np.ndarray:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")[name]


def test_an_interrupted_training_goes_on_bit_equal(tmp_path, mnist, monkeypatch):
    whole = train_model(recipe(tmp_path / "whole", mnist, condition="regular"))[0]

    class Killed(Exception):
        pass

    def kill(self, _args, state, _control, **_):
        if state.global_step == 3:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(SampleGrids, "on_step_end", kill)
        train_model(recipe(tmp_path / "cut", mnist, condition="regular"))
    cut = train_model(recipe(tmp_path / "cut", mnist, condition="regular"))[0]
    for one in ("model.safetensors", "unet/diffusion_pytorch_model.safetensors"):
        assert (whole / "model" / one).read_bytes() == (cut / "model" / one).read_bytes()


def test_samples_from_the_command_line(tmp_path, mnist, capsys):
    folder, _ = train_model(recipe(tmp_path / "run", mnist, condition="regular"))
    assert main(["sample", str(folder), "classes=[1,2]", "n=2", "steps=3"]) == 0
    held = np.load(folder / "samples" / "samples.npz")
    assert held["pixels"].shape == (4, 28, 28, 1)
    assert held["classes"].tolist() == [1, 1, 2, 2]
    assert (folder / "samples" / "samples.png").is_file()
    assert main(["sample", str(folder), "guidance=-1"]) == 1
    assert "guidance=-1; expected 0" in capsys.readouterr().err
    with pytest.raises(ValueError, match="is a diffusion model; `topo sample"):
        kind_of(folder)
    shutil.rmtree(folder / "model" / "scheduler")
    assert main(["sample", str(folder)]) == 1
    assert "has no scheduler/scheduler_config.json" in capsys.readouterr().err


def test_wrong_prototypes_are_refused(tmp_path, mnist, image_folders):
    first = recipe(tmp_path / "run", mnist, condition="frozen", width=8)
    train_model(first)
    prototypes = str(tmp_path / "run-prototypes")
    with pytest.raises(ValueError, match="10 prototypes of 8 numbers; the model has 10 classes and a width of 16"):
        train_model(recipe(tmp_path / "other", mnist, prototypes=prototypes))
    with pytest.raises(ValueError, match="holds no|is a diffusion model|cannot be read as a classifier"):
        train_model(recipe(tmp_path / "third", mnist, prototypes=str(tmp_path / "run")))
