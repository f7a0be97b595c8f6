import subprocess
from pathlib import Path

import pytest
import torch
from transformers import TrainerControl, TrainerState

import topographic
from topographic.storage import load_json
from topographic.training import record as module
from topographic.training.means import NotFiniteError
from topographic.training.record import RunRecord, device_name, git_commit, versions


def state_at(step, losses=()):
    return TrainerState(
        global_step=step, is_world_process_zero=True, log_history=[{"eval_loss": loss} for loss in losses]
    )


def test_finished_is_written_last(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    record = RunRecord(tmp_path / "run.json", {"model": "Small"}, seen_per_step={"tokens": 128})
    record.on_train_begin(None, state_at(0), TrainerControl())
    begun = load_json(tmp_path / "run.json")
    assert (begun["status"], begun["steps"], begun["resumed"]) == ("running", 0, [])
    clock[0] += 5
    record.on_save(None, state_at(10), TrainerControl())
    saved = load_json(tmp_path / "run.json")
    assert (saved["status"], saved["steps"], saved["tokens_seen"], saved["wall_time_s"]) == ("running", 10, 1280, 5.0)
    clock[0] += 2
    record.finish(state_at(20, [3.0, 2.0]), stopped_early=False)
    done = load_json(tmp_path / "run.json")
    assert (done["status"], done["steps"], done["tokens_seen"]) == ("finished", 20, 2560)
    assert (done["eval_loss"], done["stopped_early"], done["wall_time_s"]) == (2.0, False, 7.0)
    assert done["model"] == "Small"
    assert done["finished"] >= done["started"]


def test_a_resumed_run_counts_on(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    first = RunRecord(tmp_path / "run.json", {}, seen_per_step={"tokens": 1})
    first.content["started"] = "2020-01-01T00:00:00+00:00"
    first.on_train_begin(None, state_at(0), TrainerControl())
    clock[0] = 30.0
    first.on_save(None, state_at(5), TrainerControl())
    clock[0] = 1000.0  # killed, and taken up much later
    second = RunRecord(tmp_path / "run.json", {}, seen_per_step={"tokens": 1})
    second.on_train_begin(None, state_at(5), TrainerControl())
    clock[0] = 1004.0
    second.finish(state_at(8), stopped_early=True)
    done = load_json(tmp_path / "run.json")
    assert done["started"] == "2020-01-01T00:00:00+00:00"
    assert done["wall_time_s"] == 34.0
    assert [entry["step"] for entry in done["resumed"]] == [5]
    assert done["eval_loss"] is None
    assert done["stopped_early"] is True


@pytest.mark.parametrize(
    ("error", "status", "failure"),
    [
        (
            NotFiniteError("parameters", "after", 3),
            "failed",
            (3, "NotFiniteError: parameters were NaN or infinite after"),
        ),
        (OSError("no\nspace"), "failed", (7, "OSError: no space")),
        (KeyboardInterrupt(), "interrupted", None),
        (SystemExit(143), "interrupted", None),
    ],
)
def test_a_bad_end_is_recorded_and_forgotten_when_the_run_goes_on(tmp_path, error, status, failure):
    record = RunRecord(tmp_path / "run.json", {}, seen_per_step={"tokens": 1})
    record.on_save(None, state_at(5), TrainerControl())
    record.end_badly(error, 7)
    ended = load_json(tmp_path / "run.json")
    assert (ended["status"], ended["steps"]) == (status, 5)
    if failure is None:
        assert "failure" not in ended
    else:
        assert ended["failure"]["step"] == failure[0]
        assert ended["failure"]["reason"].startswith(failure[1])
    again = RunRecord(tmp_path / "run.json", {}, seen_per_step={"tokens": 1})
    again.on_train_begin(None, state_at(5), TrainerControl())
    assert load_json(tmp_path / "run.json")["status"] == "running"
    assert "failure" not in load_json(tmp_path / "run.json")


def test_other_processes_write_nothing(tmp_path):
    record = RunRecord(tmp_path / "run.json", {}, seen_per_step={"tokens": 1})
    record.on_train_begin(None, TrainerState(is_world_process_zero=False), TrainerControl())
    record.on_save(None, TrainerState(is_world_process_zero=False), TrainerControl())
    assert list(tmp_path.iterdir()) == []


def test_versions_and_device():
    found = versions()
    assert found["torch"] == torch.__version__
    assert found["topographic"] == topographic.__version__
    assert device_name(torch.device("cpu")).startswith("cpu (")


@pytest.mark.parametrize("place", ["topographic", "src/topographic"])
def test_git_commit(tmp_path, monkeypatch, place):
    checkout = tmp_path / "checkout"
    package = checkout / place
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(module.topographic, "__file__", str(package / "__init__.py"))
    assert git_commit() is None  # no repository

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(
            ["git", "-C", str(checkout), *identity, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init")
    assert git_commit() is None  # nothing committed
    git("add", "-A")
    git("commit", "-m", "first")
    assert git_commit() == git("rev-parse", "HEAD")
    (package / "__init__.py").write_text("changed")
    assert git_commit() == git("rev-parse", "HEAD") + "+changes"
    monkeypatch.setenv("PATH", str(Path("/nowhere")))
    assert git_commit() is None
    with pytest.raises(FileNotFoundError):
        subprocess.run(["git"], check=True)
