"""Every benchmark runs for a moment, so that none is broken on the day it is needed."""

import logging
import runpy
import sys
from pathlib import Path

import pytest
import torch
import yaml
from matplotlib.image import imread
from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

from topographic.cli import main
from topographic.models import fresh_vision_model, vision_config
from topographic.recording import Preparation
from topographic.storage import load_json, save_json

pytestmark = pytest.mark.unchecked

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def run_benchmark(monkeypatch, capsys):
    """Function that runs a benchmark as from the command line and returns what it printed."""
    monkeypatch.syspath_prepend(BENCHMARKS)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with torch.random.fork_rng():
            runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
        return capsys.readouterr().out

    yield run
    logging.disable(logging.NOTSET)  # which minimal_pairs.py sets for its own process


@pytest.mark.parametrize(
    ("name", "arguments", "printed"),
    [
        ("spatial_loss.py", ["--quick"], "| median time |"),
        ("spatial_loss.py", ["--quick", "--training-step"], "| plain loop |"),
        ("pyramid_loss.py", ["speed", "--quick"], "Speed-up: median"),
        ("pyramid_loss.py", ["step", "--quick"], "overhead, paired steps"),
        ("nulls.py", ["readout", "--quick"], "| plain | topographic |"),
        ("nulls.py", ["moran", "--quick"], "| esda, one null"),
        ("nulls.py", ["clusters", "--quick"], "| one draw after the other |"),
        ("recording.py", ["--quick"], "| bare loop | record |"),
        ("story_words.py", ["--quick"], "| one pass a word | one pass a window |"),
        ("replay.py", ["--quick"], "| steering | 13 |"),
        ("speech_encoder.py", ["--quick"], "| depth 1.00 |"),
        ("gpu.py", ["--device", "cpu", "--tiny"], "| recording of 2 blocks |"),
        ("encoding.py", ["--quick"], "| encode |"),
        ("encoding.py", ["--quick", "--memory"], "peak memory"),
        ("topoformer.py", ["--quick"], "Transcription over local"),
        ("minimal_pairs.py", ["--quick"], "| one forward per prefix | processor |"),
        ("layouts.py", ["--quick"], "plain / fit_rotation: median of 1 ratios"),
        pytest.param(
            *("layouts.py", ["--quick", "--cache", "200"], "| 4 | 200 | 36 | 0.00 |"),
            marks=pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc"),
        ),
    ],
)
def test_speed_is_measured(run_benchmark, name, arguments, printed):
    assert printed in run_benchmark(name, *arguments)


def test_machines_without_a_card_are_told_so_in_one_line(run_benchmark, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run_benchmark("gpu.py").splitlines() == [
        "no CUDA device: nothing to measure here (rehearse with --device cpu --tiny)"
    ]


@pytest.fixture
def mnist_run(tmp_path):
    """A run folder of a small network, as training leaves it."""
    run = tmp_path / "sweep" / "smoothness.weight_1-seed_0"
    classes = [str(number) for number in range(10)]
    config = vision_config("mnist_mlp", {"hidden_size": 36}, classes=classes, image_size=28, num_channels=1)
    fresh_vision_model(config, seed=0).save_pretrained(run / "model")
    Preparation(channels=1, size=(28, 28)).save_pretrained(run / "model")
    section = {"weight": 1.0, "factor": 3.0, "sites": ["fc1"]}
    (run / "config.yaml").write_text(yaml.safe_dump({"smoothness": section}), encoding="utf-8")
    save_json(run / "run.json", {"status": "finished", "eval_loss": 2.3})
    return run


def test_mnist_is_measured(run_benchmark, mnist_run, image_folders):
    head, row = run_benchmark(
        "mnist_measures.py", "--quick", "--images", image_folders["mnist"], mnist_run
    ).splitlines()
    assert head.count("|") == row.count("|") == 10
    assert row.startswith("| smoothness.weight_1-seed_0 | 1 |")


def test_the_evaluations_of_vision_models_become_tables(run_benchmark, mnist_run, image_folders):
    """Every column of it is one that `topo evaluate suite=toponets` writes."""
    folders = ", ".join(f"{name}: {folder}" for name, folder in image_folders.items())
    words = ["suite=toponets", "quick=true", "n_images=6", "fwhm_mm=[0]", "test_set=mnist"]
    assert main(["evaluate", str(mnist_run), *words, f"image_folders={{{folders}}}"]) == 0
    printed = run_benchmark("toponets_measures.py", mnist_run.parent)
    assert printed.count("| tau |") == 6
    assert "Mean ± sd over seeds (tau 1: 1)." in printed


def test_the_evaluations_of_language_models_become_tables(run_benchmark, tiny_model, tmp_path):
    run = tmp_path / "sweep" / "smoothness.weight_1-seed_0"
    run.mkdir(parents=True)
    (run / "model").symlink_to(tiny_model)
    words = ["suite=toponets", "quick=true", "fwhm_mm=[0]", "lesion_pairs=1", "window_words=12"]
    assert main(["evaluate", str(run), *words]) == 0
    (run / "config.yaml").write_text(yaml.safe_dump({"smoothness": {"weight": 1.0}}), encoding="utf-8")
    save_json(run / "run.json", {"eval_loss": 5.5})
    save_json(run / "minimal_pairs.json", {"overall": {"accuracy": 0.5}})
    printed = run_benchmark("toponets_measures.py", run.parent)
    assert printed.count("| tau |") == 6
    assert "| 1 | 5.500 | 0.500 |" in printed


def test_layouts_of_a_pretrained_model_are_judged_and_resumed(run_benchmark, tiny_model, text, tmp_path):
    sizes = ["--fitted", 100, "--held-out", 60, "--draws", 19, "--units", "unit", "without", "--sites", "resid"]
    words = ["pretrained_layouts.py", tiny_model, "--texts", text, "--out", tmp_path, "--only", "*.0", *sizes]
    run_benchmark(*words, "--ways", "rotation", "random", "row-major", "assigned")
    cells = list((tmp_path / "cells").glob("*.json"))
    assert len(cells) == 8
    before = {path: path.stat().st_mtime_ns for path in cells}
    run_benchmark(*words, "--ways", "rotation", "shuffled")
    assert all(path.stat().st_mtime_ns == made for path, made in before.items())
    printed = run_benchmark("pretrained_layouts.py", tiny_model, "--out", tmp_path, "--tables")
    assert printed.count("| transformer.h.* | 0 | rotation | 1 |") == 6
    assert printed.count("### sentences - nonwords") == 2
    run_benchmark("pretrained_layouts.py", tiny_model, "--out", tmp_path, "--depth", tmp_path / "depth.png")
    run_benchmark(*words, "--ways", "rotation", "shuffled", "--maps", tmp_path / "maps.png")
    assert all(imread(tmp_path / f"{name}.png")[..., :3].std() > 0.02 for name in ("depth", "maps"))


def test_every_benchmark_is_tried():
    text = Path(__file__).read_text(encoding="utf-8")
    imported = "plain_spatial_loss.py"  # by spatial_loss.py
    assert all(f'"{path.name}"' in text for path in BENCHMARKS.glob("*.py") if path.name != imported)


def test_prototypes_are_compared(run_benchmark, image_folders, tmp_path):
    names = MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=1000)).state_dict()
    torch.save({str(number): entry for number, entry in enumerate(names.values())}, tmp_path / "mobilenet.pth")
    where = [
        str(tmp_path / "out"),
        "--folder",
        str(image_folders["mnist"]),
        "--weights",
        str(tmp_path / "mobilenet.pth"),
    ]
    small = ["--seeds", "1", "--n", "10", "--channels", "8", "8", "8", "--checkpoints", "1", "2", "--batch-size", "4"]
    small += ["--conditions", "regular", "shuffled", "--classifier-steps", "1"]
    printed = run_benchmark("protodiffusion.py", *where, *small)
    assert "kernel_distance, step 2" in printed


def test_prototypes_are_laid_on_a_sheet(run_benchmark, image_folders, tmp_path):
    out = tmp_path / "out"
    small = ["--seeds", "1", "--n", "10", "--channels", "16", "16", "--checkpoints", "2", "--batch-size", "4"]
    where = [str(out), "--folder", str(image_folders["mnist"])]
    printed = run_benchmark("protodiffusion_sheet.py", *where, *small, "--classifier-steps", "1", "--taus", "3")
    assert "patch: accuracy lost" in printed
    (found,) = load_json(out / "sheet.json")["3"]
    assert -1 <= found["patch: r(share, lost)"] <= 1
    assert imread(out / "sheet.png")[..., :3].std() > 0.05


def test_encoding_is_calibrated(run_benchmark):
    printed = run_benchmark("brain_calibration.py", "--quick")
    assert printed.count("| false alarms |") == 6
    assert "| significance | AR(.9), planted signal | power |" in printed


def test_calibration_runs(run_benchmark, tmp_path):
    printed = run_benchmark("calibration.py", "--quick", "--kept", tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == printed.count("\n") - 2, "every row is kept"
    assert printed.count("| false alarms |") == 36
    assert printed.count("| coverage |") == 20
    assert "| interval of a profile's mean | 5 items, lognormal | coverage |" in printed


def test_words_of_a_transcript_are_counted(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    found = runpy.run_path(str(BENCHMARKS / "speech_encoder.py"))
    words, errors = found["words_of"], found["word_errors"]
    assert words("Mr. Dashwood, cold-hearted:") == ["mister", "dashwood", "cold", "hearted"]
    meant = words("he was not an ill disposed young man")
    for said, wrong in (("", 8), ("he was not an old young man", 2), ("he he was not an ill disposed young man", 1)):
        assert errors(meant, words(said)) == errors(words(said), meant) == wrong
    assert errors(meant, meant) == 0


def test_a_row_that_does_not_hold_is_named_and_ends_in_an_error(monkeypatch, capsys, tmp_path):
    found = runpy.run_path(str(BENCHMARKS / "calibration.py"))
    row, main_of = found["Row"], found["main"]
    always, never = (lambda rng: True), (lambda rng: False)
    rows = [
        row("honest test", "here", "false alarms", 0.05, 400, never),
        row("broken test", "here", "false alarms", 0.05, 400, always),
        row("known to break", "here", "false alarms", 0.05, 400, always, "too few items"),
        row("broken interval", "there", "coverage", 0.95, 400, never),
        row("weak test", "there", "power", 1.0, 400, never),
    ]
    monkeypatch.setitem(main_of.__globals__, "ROWS", rows)
    monkeypatch.setattr(sys, "argv", ["calibration.py", "--quick", "--kept", str(tmp_path)])
    with pytest.raises(SystemExit, match="these rows do not hold") as ended:
        main_of()
    assert str(ended.value).splitlines()[1:] == [
        "broken test, here: false alarms 1.000 of 8, nominal 0.05",
        "broken interval, there: coverage 0.000 of 8, nominal 0.95",
    ]
    printed = capsys.readouterr().out
    assert (
        "| known to break | here | false alarms | 1.000 [0.631, 1.000] **off** | 0.05 | 8 | too few items |" in printed
    )
