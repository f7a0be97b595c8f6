import csv
import dataclasses
import json
import re

import pytest
import yaml

from topographic.cli import main
from topographic.cli.arguments import parse_command
from topographic.cli.sweep import SweepCommand, sweep
from topographic.sweeps.executors import SlurmConfig

SWEEP = {
    "model": {"preset": "tiny", "n_layer": 1},
    "data": {"vocab_size": 300, "sequence_length": 16, "validation_fraction": 0.1},
    "spatial": {"weight": 0.25, "radius": 2},
    "training": {
        "max_steps": 4,
        "batch_size": 4,
        "warmup_steps": 1,
        "logging_steps": 1,
        "eval_steps": 4,
        "save_steps": 2,
        "report_to": "none",
        "cpu": True,
    },
    "maps": {"contrasts": ["nouns_verbs"], "n_draws": 19},
    "blocks": [{"spatial.weight": [0, 0.25], "seed": [0]}],
}


@pytest.fixture
def recipe(tmp_path, text, monkeypatch):
    """A sweep of two cells, seconds long."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content = {**SWEEP, "run": str(tmp_path / "sweep"), "data": {**SWEEP["data"], "text": str(text)}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "sweep.yaml"


def test_a_dry_run_lists_the_cells_and_makes_nothing(recipe, tmp_path, capsys):
    assert main(["sweep", str(recipe), "--dry_run"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split() for line in lines] == [
        ["cell", "seed", "alpha"],
        ["alpha_0-seed_0", "0", "0.0"],
        ["base-seed_0", "0", "0.25"],
        ["2", "cells,", "0", "finished"],
    ]
    assert not (tmp_path / "sweep").exists()


def test_cells_run_in_processes_of_their_own_and_finished_ones_are_skipped(recipe, tmp_path, capsys):
    assert main(["sweep", str(recipe), "cell=alpha_0-seed_0"]) == 0  # in this process, as a worker does
    folder = tmp_path / "sweep"
    before = (folder / "alpha_0-seed_0" / "run.json").read_bytes()
    assert main(["sweep", str(recipe), "maps.fwhm_mm=[0,2]"]) == 0
    assert (folder / "alpha_0-seed_0" / "run.json").read_bytes() == before
    assert not (folder / "alpha_0-seed_0" / "log.txt").exists(), "nothing was left to do there"
    assert "training: 100%" in (folder / "base-seed_0" / "log.txt").read_text()
    widths = {}
    for name in ("alpha_0-seed_0", "base-seed_0"):
        for part in ("maps", "maps/fwhm_2"):
            summary = json.loads((folder / name / part / "noun-verb" / "summary.json").read_text())
            widths.setdefault(part, set()).add(summary["provenance"]["fwhm_mm"])
    assert widths == {"maps": {0.0}, "maps/fwhm_2": {2.0}}
    assert capsys.readouterr().out.strip().endswith(str(folder / "index.html"))
    assert "Task loss against autocorrelation: noun-verb" in (folder / "index.html").read_text()
    kept = parse_command("sweep", SweepCommand, "", [str(folder / "sweep.yaml")])
    assert [cell.name for cell in kept.plan().cells] == ["alpha_0-seed_0", "base-seed_0"]


def test_cells_may_be_added_and_a_failing_one_stops_no_other(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("topographic.sweeps.sweep.rehearse_cells", lambda _cells: None)
    folder = tmp_path / "sweep"
    assert main(["sweep", str(recipe), "cell=base-seed_0"]) == 0
    assert main(["sweep", str(recipe), "cell=alpha_0-seed_0"]) == 0
    more = ["blocks=[{spatial.weight: [0, 0.25], seed: [0]}, {spatial.radius: [3], seed: [0]}]", "workers=2"]
    assert main(["sweep", str(recipe), *more]) == 1
    said = capsys.readouterr().err
    assert "3 cells, 2 of them finished" in said
    (why,) = re.findall("radius_3-seed_0 failed: (.+)", said)
    last = f"topo sweep: 1 of 3 cells failed, the first: radius_3-seed_0: {why}; the same command tries them again"
    assert said.strip().splitlines()[-1] == last
    assert "Not trained yet: radius_3-seed_0." in (folder / "index.html").read_text()
    # without training, what is there is collected
    (folder / "index.html").unlink()
    assert main(["sweep", str(recipe), "--collect"]) == 0
    assert (folder / "index.html").is_file()


def test_a_folder_with_other_models_is_refused(recipe, tmp_path, capsys):
    assert main(["sweep", str(recipe), "cell=base-seed_0"]) == 0
    assert main(["sweep", str(recipe), "training.learning_rate=0.01"]) == 1
    assert "another configuration (training.learning_rate was 0.0006 and is 0.01)" in capsys.readouterr().err
    assert not (tmp_path / "sweep" / "sweep.yaml").exists()


def test_nothing_trained_is_nothing_to_collect(recipe, tmp_path, capsys):
    assert main(["sweep", str(recipe), "--collect"]) == 1
    assert "holds no trained cell; train them first" in capsys.readouterr().err


def test_jobs_of_a_cluster_run_the_same_commands(swept, monkeypatch):
    submitted = {}
    monkeypatch.setattr("topographic.sweeps.sweep.is_finished", lambda cell, *_: cell.name != "base-seed_1")
    monkeypatch.setattr(
        "topographic.cli.sweep.run_on_slurm",
        lambda work, config, folder: submitted.update(work=work, config=config, folder=folder) or {},
    )
    sweep(dataclasses.replace(swept, executor="slurm", processes=4, slurm=SlurmConfig(partition="gpu")))
    (work,) = submitted["work"]
    assert work.name == "base-seed_1"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4", "-m", "topographic"]
    assert list(work.words[1:]) == [*torchrun, "sweep", f"{swept.run}/sweep.yaml", "cell=base-seed_1"]
    assert submitted["config"].partition == "gpu"


def test_cells_of_one_seed_start_alike_and_read_the_same_windows(recipe, tmp_path):
    for name in ("alpha_0-seed_0", "base-seed_0"):
        assert main(["sweep", str(recipe), f"cell={name}", "pairs=own"]) == 0
    first = [
        json.loads((tmp_path / "sweep" / name / "metrics.jsonl").read_text().splitlines()[0])
        for name in ("alpha_0-seed_0", "base-seed_0")
    ]
    # before the first step both have the same weights, so only another text could change the loss
    assert first[0]["task_loss"] == first[1]["task_loss"]
    scores = json.loads((tmp_path / "sweep" / "base-seed_0" / "minimal_pairs.json").read_text())
    assert scores["pairs"] == "own"
    assert 0 <= scores["overall"]["accuracy"] <= 1


IMAGE_SWEEP = {
    **SWEEP,
    "model": {"preset": "resnet_demo", "config": {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}},
    "spatial": {"weight": 0},
    "smoothness": {"weight": 1, "sites": ["resnet.encoder.stages.*.layer.*.convolution"], "factor": 2},
    "blocks": [{"smoothness.weight": [0, 1], "seed": [0]}],
}


@pytest.fixture
def image_recipe(tmp_path, image_folders):
    """A sweep of two tiny vision models."""
    folders = {name: str(folder) for name, folder in image_folders.items()}
    content = {key: value for key, value in IMAGE_SWEEP.items() if key != "data"}
    content |= {
        "run": str(tmp_path / "sweep"),
        "images": {"name": "cifar10", "folder": folders["cifar10"], "cache_folder": str(tmp_path / "cache")},
        "maps": {"contrasts": ["faces", "scrambled faces"], "fwhm_mm": [0], "n_draws": 5, "n_images": 4},
    }
    content["maps"]["image_folders"] = folders
    (tmp_path / "images.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "images.yaml"


def test_vision_models_are_swept(image_recipe, tmp_path, capsys):
    folder, names = tmp_path / "sweep", ["tau_0-seed_0", "base-seed_0"]
    for name in names:
        assert main(["sweep", str(image_recipe), f"cell={name}"]) == 0  # in this process, as a worker does
    assert main(["sweep", str(image_recipe), "--dry_run"]) == 0
    assert "2 cells, 2 finished" in capsys.readouterr().out
    assert main(["sweep", str(image_recipe)]) == 0
    with open(folder / "table.csv", newline="") as opened:
        rows = list(csv.DictReader(opened))
    contrasts = ["faces", "scrambled faces"]
    assert [(row["cell"], row["contrast"]) for row in rows] == [(name, one) for name in names for one in contrasts]
    for name, row in zip(names, rows[::2], strict=True):
        metrics = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        assert float(row["test accuracy"]) == metrics[-1]["eval_accuracy"]
        assert float(row["validation loss"]) == metrics[-1]["eval_loss"]
        assert float(row["loss of weights"]) == json.loads((folder / name / "weights.json").read_text())["mean"]
        assert row["images"] == "16"
    assert not {"tokens", "spatial loss", "accuracy"} & set(rows[0])
    # before the first step both have the same weights, so only other images could change the loss
    first = [json.loads((folder / name / "metrics.jsonl").read_text().splitlines()[0])["task_loss"] for name in names]
    assert first[0] == first[1]
    with open(folder / "grouped.csv", newline="") as opened:
        grouped = {(row["setting"], row["measure"]): row for row in csv.DictReader(opened)}
    for measure in ("test accuracy", "validation loss", "loss of weights"):
        assert grouped["base", measure]["reference"] == "tau_0"
    page = (folder / "index.html").read_text()
    assert "2 models of 2 settings, each trained on equally many of the same images" in page
    assert "Loss of weights is what smoothness.weight multiplies" in page
    assert "Test accuracy against autocorrelation: scrambled faces" in page
    assert not [word for word in ("token", "text", "nats per") if word in page.split("<header>")[1]]
    pictures = {path.stem for path in (folder / "collected" / "trade_off").glob("*.png")}
    assert pictures == {
        f"{name}_{contrast.replace(' ', '_')}" for name in ("trade_off", "cost") for contrast in contrasts
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pairs=own"], "pairs='own' and images.name='cifar10'; vision models read no pairs: leave pairs out"),
        (["maps.contrasts=[language]"], "is a vision model and 'language' a contrast of texts"),
        (["maps.pooling=last"], "pooling='last' is for texts; a vision model takes mean, max, class"),
        (["blocks=[{images.size: [16, 32]}]"], "block 1 varies images.size (the images are the same in all cells)"),
        (["smoothness.sites=[nothing]"], "cell base-seed_0: site pattern 'nothing' matches no module"),
        (["spatial.weight=1"], "carries no sheets and spatial.sites names none"),
        (["model.preset=small"], "no classifier of images 'small'"),
    ],
)
def test_what_vision_models_cannot_be_swept_with_is_one_line(words, message, image_recipe, tmp_path, capsys):
    blocks = [] if any("blocks" in word for word in words) else ["blocks=[{seed: [0]}]"]
    assert main(["sweep", str(image_recipe), *words, *blocks]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("topo sweep: ")
    assert message in lines[-1]
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["blocks=[]"], 1, "blocks is empty"),
        (["maps.contrasts=[faces]"], 1, "is a language model and 'faces' a contrast of images; expected some of"),
        (["maps.contrasts=[nothing]"], 2, "contrasts=['nothing']; expected one or more of"),
        (["maps.fwhm_mm=[2,2]"], 2, "maps.fwhm_mm=[2.0, 2.0]; expected different widths"),
        (["maps.n_draws=1"], 2, "maps.n_draws=1; expected at least 2"),
        (["maps.seed=-1"], 2, "maps.seed=-1; expected a whole number from 0 on"),
        (["overwrite=true"], 2, "overwrite"),
        (["pairs=nowhere.jsonl"], 1, "no minimal pairs at 'nowhere.jsonl'"),
        (["workers=0"], 2, "workers=0, threads=None, processes=1; expected at least 1"),
        (["reference={spatial.wight: 0}"], 1, "reference varies spatial.wight (unknown)"),
        (["slurm.time_min=0"], 2, "slurm.time_min=0"),
        (["spatial.weight=[0,1]"], 2, "spatial.weight"),
        (["spatial.wight=1"], 2, "spatial.wight"),
        (["cell=nothing"], 1, "cell=nothing; expected one of alpha_0-seed_0, base-seed_0"),
        (["spatial.radius=3"], 1, "cell base-seed_0: n=5 neighbourhoods of 4"),
    ],
)
def test_what_cannot_be_swept_is_one_line(words, status, message, recipe, tmp_path, capsys):
    assert main(["sweep", str(recipe), *words]) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("topo sweep: ")
    assert message in lines[-1]
    assert not (tmp_path / "sweep").exists()


def test_one_process_cannot_be_many():
    with pytest.raises(
        ValueError, match="executor=here with workers=2, processes=1, threads=None; cells run one after"
    ):
        SweepCommand(executor="here", workers=2)
