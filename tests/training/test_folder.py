import json
import os
from dataclasses import replace

import pytest
import yaml

from topographic.storage import HeldElsewhereError, locked
from topographic.training.config import RunConfig, TrainingConfig, save_config
from topographic.training.folder import (
    RunState,
    check_free,
    difference,
    forget_replaced,
    is_run,
    put_back_if_refused,
    replaced_runs,
    run_state,
    writing_to,
)

CONFIG = RunConfig(training=TrainingConfig(max_steps=7))


def write_run(folder, status="finished", **record):
    """As much of a run folder as deciding about it reads."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_text(status)
    save_config(folder / "config.yaml", CONFIG)
    (folder / "run.json").write_text(json.dumps({"status": status, "wall_time_s": 1.0, "steps": 5, **record}))
    return folder


def tree(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_text() for path in folder.rglob("*")}


def test_how_a_run_stands(tmp_path):
    assert run_state(tmp_path / "nowhere") is None
    assert run_state(write_run(tmp_path / "a")) == RunState("finished", 5)
    failure = {"step": 7, "reason": "FloatingPointError: a loss"}
    assert run_state(write_run(tmp_path / "b", "failed", failure=failure)) == RunState("failed", *failure.values())
    (tmp_path / "a" / "run.json").write_text('{"status": "fin')
    with pytest.raises(ValueError, match="is not valid JSON"):
        run_state(tmp_path / "a")


def test_what_is_a_run(tmp_path):
    assert not is_run(tmp_path / "nowhere")
    run = write_run(tmp_path / "run")
    assert is_run(run)
    (run / "run.json").write_text("{")
    assert not is_run(run), "a recipe named config.yaml is the user's"
    (run / "metrics.jsonl").touch()
    assert is_run(run), "a damaged run.json beside metrics of ours"
    for content in ('{"status": "done"}', "[1]", '"finished"'):  # of another program
        (tmp_path / "run.json").write_text(content)
        assert not is_run(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for content in ("a: 1\n", "- a\n", "a: [\n", "training: 3\nspatial: 4\n"):
        (tmp_path / "config.yaml").write_text(content)
        assert not is_run(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["model", "config.yaml", "notes.txt", ".git"])
def test_a_folder_that_is_no_run_is_refused(tmp_path, name, overwrite):
    (tmp_path / "mine" / name).mkdir(parents=True)
    with pytest.raises(
        FileExistsError, match=rf"mine holds {name} and no run; expected a new or empty folder, or that"
    ):
        check_free(tmp_path / "mine", CONFIG, overwrite=overwrite)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(FileExistsError, match=r"file is a file; expected a new or empty folder: choose another name"):
        check_free(file, CONFIG, overwrite=overwrite)


def test_what_becomes_of_a_folder(tmp_path):
    other = RunConfig(training=TrainingConfig(max_steps=8))
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / "log.txt").touch()  # of a sweep
    assert check_free(tmp_path / "cell", CONFIG) == check_free(tmp_path / "none", CONFIG) == "new"
    write_run(tmp_path / "running", "running")
    write_run(tmp_path / "failed", "failed")
    write_run(tmp_path / "finished")
    for name in ("running", "failed"):
        assert check_free(tmp_path / name, CONFIG) == "resumed"
        with pytest.raises(
            FileExistsError, match=r"run with another configuration \(training.max_steps was 7 and is 8\)"
        ):
            check_free(tmp_path / name, other)
        assert check_free(tmp_path / name, other, overwrite=True) == "replaced"
    assert check_free(tmp_path / "running", CONFIG, overwrite=True) == "resumed", "nothing is lost by overwrite=true"
    assert check_free(tmp_path / "failed", CONFIG, overwrite=True) == "replaced"
    assert check_free(tmp_path / "running", CONFIG, resume="never", overwrite=True) == "replaced"
    assert check_free(tmp_path / "finished", CONFIG, overwrite=True) == "replaced"
    for folder, resume in (("finished", "auto"), ("running", "never")):
        with pytest.raises(FileExistsError, match=rf"holds a run that is {folder}; expected a new folder"):
            check_free(tmp_path / folder, CONFIG, resume=resume)


def test_a_damaged_configuration_is_another_one(tmp_path):
    run = write_run(tmp_path / "run", "running")
    assert difference(run, CONFIG) is None
    assert difference(run, replace(CONFIG, training=TrainingConfig())) == "training.max_steps was 7 and is 1000"
    (run / "config.yaml").write_text("training: [\n")
    assert difference(run, CONFIG) == "its config.yaml is missing or damaged"


def test_an_old_run_lies_aside_until_the_new_one_is_finished(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "notes.txt").write_text("of the user")
    with put_back_if_refused(run, "replaced"):
        assert tree(run) == {"notes.txt": "of the user"}
        write_run(tmp_path / "run", "failed")
    (aside,) = replaced_runs(run)
    assert (aside.name, aside.parent) == (".run.replaced-1", tmp_path)
    assert (aside / "model" / "weights").read_text() == "finished"
    with put_back_if_refused(run, "replaced"):
        write_run(tmp_path / "run", "finished")
    assert [path.name for path in replaced_runs(run)] == [".run.replaced-1", ".run.replaced-2"]
    (tmp_path / ".run.replaced-notes").mkdir()  # of the user
    forget_replaced(run, [".run.replaced-2", ".run.replaced-notes"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run.replaced-1", ".run.replaced-notes", "run"]
    assert (run / "notes.txt").read_text() == "of the user"


@pytest.mark.parametrize("fate", ["new", "resumed", "replaced"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_is_refused_leaves_the_folder_as_it_was(tmp_path, fate, error):
    run = tmp_path / "run"
    if fate != "new":
        write_run(run)
        (run / "notes.txt").write_text("of the user")
    before = tree(tmp_path)
    with pytest.raises(error), put_back_if_refused(run, fate):
        if fate != "resumed":
            write_run(run, "running")
        (run / "checkpoints").mkdir(exist_ok=True)
        (run / "checkpoints").rmdir()
        raise error
    assert tree(tmp_path) == before


def test_a_kill_while_a_run_is_set_aside_loses_nothing(tmp_path):
    run = write_run(tmp_path / "run")
    whole = tree(run)
    (tmp_path / ".run.moving").mkdir()
    for name in ("run.json", "config.yaml"):
        (run / name).rename(tmp_path / ".run.moving" / name)
    assert not is_run(run)
    check_free(run, CONFIG)  # not refused, since it is moved back as soon as it is locked
    with writing_to(run):
        assert tree(run) == whole
    assert not (tmp_path / ".run.moving").exists()


def test_one_writer_and_a_name(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"run='' names no folder; expected a new or empty one: say run=runs/NAME"):
        writing_to("").__enter__()
    with pytest.raises(ValueError, match=r"run='' names no folder"):
        check_free("", CONFIG)
    with locked(tmp_path / "run"):
        with (
            pytest.raises(HeldElsewhereError, match=rf"being written by process {os.getpid()}"),
            writing_to(tmp_path / "run"),
        ):
            raise AssertionError("two writers")
        monkeypatch.setenv("RANK", "1")
        with writing_to(tmp_path / "run"):
            pass  # the first process holds it for all
    assert not (tmp_path / "run").exists()


def test_files_from_before_a_field_existed(tmp_path):
    run = write_run(tmp_path / "run", "running")
    written = yaml.safe_load((run / "config.yaml").read_text())
    del written["training"]["fsdp"], written["smoothness"]
    (run / "config.yaml").write_text(yaml.safe_dump(written))
    assert difference(run, CONFIG) is None
