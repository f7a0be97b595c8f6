"""A diffusion model through recipe and run folder: prototypes first, exact resume, grids, samples."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.diffusion_runs import diffusion_recipe
from safetensors.numpy import load_file

from topographic.diffusion import SampleGrids
from topographic.runs import load_diffusion_model, train_model


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
        prototypes=str(tmp_path / "run-prototypes"),
    )
    other, _ = load_diffusion_model(train_model(named)[0])
    held = other.denoiser.condition.table.weight
    assert sorted(map(tuple, held.tolist())) == sorted(map(tuple, classifier.tolist()))
    assert not torch.equal(held, classifier)


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


def test_wrong_prototypes_are_refused(tmp_path, mnist, image_folders):
    first = diffusion_recipe(tmp_path / "run", mnist, condition="frozen", width=8)
    train_model(first)
    prototypes = str(tmp_path / "run-prototypes")
    with pytest.raises(ValueError, match="10 prototypes of 8 numbers; the model has 10 classes and a width of 16"):
        train_model(diffusion_recipe(tmp_path / "other", mnist, prototypes=prototypes))
    with pytest.raises(ValueError, match="cannot be read as a classifier of images"):
        train_model(diffusion_recipe(tmp_path / "third", mnist, prototypes=str(tmp_path / "run")))
