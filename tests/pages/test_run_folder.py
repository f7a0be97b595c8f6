import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from topographic.pages.run_folder import Failure, read_evaluations, read_runs
from topographic.storage import save_json


def test_everything_in_a_run_is_read(run_folders, measured):
    first, second = read_runs(run_folders)
    assert (first.name, second.name) == ("topographic", "control")
    assert first.config["spatial"]["weight"] == 0.25
    assert first.record["status"] == "finished"
    assert first.metrics[-1] == {**first.metrics[-1], "step": 400}
    assert first.summaries["sentences-nonwords"].morans_i.value == measured["topographic"].morans_i.value
    assert len(first.summaries["sentences-nonwords"].maps) == 8
    (shown,) = first.stimuli.values()
    assert first.summaries["sentences-nonwords"].provenance["stimuli"]["checksum"] == shown.checksum


def test_runs_of_one_name_are_told_apart_by_their_parents(tmp_path, run_folders):
    for parent in ("seed1", "seed2"):
        shutil.copytree(run_folders[1], tmp_path / parent / "control")
    runs = read_runs([tmp_path / "seed1" / "control", tmp_path / "seed2" / "control"])
    assert [run.name for run in runs] == ["seed1/control", "seed2/control"]


def test_a_folder_becomes_one_word_of_a_command(tmp_path):
    folder = tmp_path / "my run; rm"
    folder.mkdir()
    (folder / "config.yaml").write_text("data: {}")
    (run,) = read_runs([folder])
    assert run.word == f"'{folder}'"


@pytest.mark.parametrize("present", ["config.yaml", "run.json", "maps"])
def test_an_unfinished_run_is_read_as_far_as_it_goes(tmp_path, run_folders, present):
    folder = tmp_path / "run"
    folder.mkdir()
    copy = shutil.copytree if present == "maps" else shutil.copy
    copy(run_folders[0] / present, folder / present)
    (run,) = read_runs([folder])
    assert bool(run.config) == (present == "config.yaml")
    assert bool(run.record) == (present == "run.json")
    assert bool(run.summaries) == (present == "maps")
    assert list(run.metrics) == []


def test_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is no run folder.*topo train"):
        read_runs([tmp_path])
    with pytest.raises(ValueError, match="is no run folder"):
        read_runs([tmp_path / "absent"])
    with pytest.raises(ValueError, match="no run folder given"):
        read_runs([])


def test_a_run_given_twice_is_refused(run_folders):
    with pytest.raises(ValueError, match="control is given twice"):
        read_runs([run_folders[1], run_folders[0], Path(f"{run_folders[0]}/../control")])


def test_a_file_of_another_shape_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"run\.json holds a list; expected keys"):
        read_runs([tmp_path])
    (tmp_path / "run.json").unlink()
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"config\.yaml is not valid YAML"):
        read_runs([tmp_path])


def test_an_evaluation_of_another_version_is_told(tmp_path):
    save_json(tmp_path / "evaluation" / "evaluation.json", {"command": {}})
    with pytest.raises(ValueError, match=r"evaluation\.json has no 'suite'; it is of another version: run topo eval"):
        read_evaluations(tmp_path)
    (tmp_path / "evaluation" / "evaluation.json").write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="has no 'suite'"):
        read_evaluations(tmp_path)


def running(tmp_path, run_folders):
    folder = tmp_path / "run"
    shutil.copytree(run_folders[1], folder)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "status": "running"}))
    return folder


def test_a_run_is_in_training_as_long_as_its_process_lives(tmp_path, run_folders):
    """run.json says "running" of a process that was killed, too."""
    folder = running(tmp_path, run_folders)
    holds = (
        "import sys, topographic.storage as storage\n"
        "with storage.locked(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holds, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    assert read_runs([folder])[0].status == "training"
    process.kill()
    process.wait()
    assert read_runs([folder])[0].status == "unfinished"
    assert read_runs(run_folders[:1])[0].status == "finished"


@pytest.mark.parametrize(
    ("record", "failure"),
    [
        ({"failure": {"type": "E", "message": "loss is NaN", "step": 3}, "steps": 2}, Failure(3, "loss is NaN")),
        ({"failure": {"type": "OutOfMemoryError", "step": None}, "steps": 2}, Failure(2, "OutOfMemoryError")),
        ({"reason": "loss is NaN", "step": 0}, Failure(0, "loss is NaN")),
        ({}, Failure(None, "")),
    ],
)
def test_where_and_why_a_run_failed(run_folders, record, failure):
    (run,) = read_runs(run_folders[:1])
    dead = dataclasses.replace(run, record={"status": "failed", **record})
    assert dead.status == "failed"
    assert dead.failure == failure
