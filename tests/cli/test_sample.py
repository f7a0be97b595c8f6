"""Samples from the command line."""

import shutil

import numpy as np
import pytest
from fixtures.diffusion_runs import diffusion_recipe

from topographic.cli import main
from topographic.runs import kind_of, train_model, write_recipe


def test_samples_from_the_command_line(tmp_path, mnist, capsys):
    folder, _ = train_model(diffusion_recipe(tmp_path / "run", mnist, condition="regular"))
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


def test_training_says_what_comes_next(tmp_path, mnist, capsys):
    write_recipe(tmp_path / "recipe.yaml", diffusion_recipe(tmp_path / "run", mnist, condition="regular"))
    assert main(["train", str(tmp_path / "recipe.yaml")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"next: topo sample {tmp_path / 'run'}")


def test_refuses_to_make_nothing(capsys):
    assert main(["sample", "runs/absent", "n=0"]) == 2
    assert "n=0; expected at least 1 image" in capsys.readouterr().err
