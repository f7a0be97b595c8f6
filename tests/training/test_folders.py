import multiprocessing
import os
import resource
import time

import pytest

from topographic.training.folders import (
    disk_errors,
    one_process_at_a_time,
    publish_folder,
    require_finished,
    write_folder_atomically,
)


def test_a_folder_appears_whole(tmp_path):
    target = tmp_path / "deep" / "model"
    with write_folder_atomically(target) as staging:
        (staging / "sub").mkdir()
        (staging / "sub" / "weights").write_text("new")
        assert not target.exists()
        assert staging.parent == target.parent  # same disk, so that renaming is atomic
    assert (target / "sub" / "weights").read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_an_older_folder_is_replaced_not_mixed(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stale").write_text("old")
    with write_folder_atomically(tmp_path / "model") as staging:
        (staging / "fresh").write_text("new")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["fresh"]


def test_a_failure_leaves_the_old_folder_and_no_trace(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")
    with pytest.raises(KeyError), write_folder_atomically(tmp_path / "model") as staging:
        (staging / "weights").write_text("half")
        raise KeyError("stop")
    assert (tmp_path / "model" / "weights").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_publish_gives_the_name(tmp_path):
    (tmp_path / ".a.partial").mkdir()
    (tmp_path / ".a.partial" / "file").write_text("x")
    publish_folder(tmp_path / ".a.partial", tmp_path / "a")
    assert (tmp_path / "a" / "file").read_text() == "x"
    assert not (tmp_path / ".a.partial").exists()


def test_a_full_disk_is_said_in_one_line(tmp_path):
    """A limit on the size of files stands for the full disk: the system refuses the write in the same way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with (
            pytest.raises(OSError, match=r"could not write .*model.*; free disk space") as caught,
            write_folder_atomically(tmp_path / "model") as staging,
        ):
            (staging / "weights").write_bytes(b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(ValueError, match=r"^as it was$"), disk_errors(tmp_path):
        raise ValueError("as it was")


def hold(lock, events, seconds):
    with one_process_at_a_time(lock):
        events.put(("in", os.getpid()))
        time.sleep(seconds)
        events.put(("out", os.getpid()))


def test_processes_take_turns_and_a_killed_one_frees_the_lock(tmp_path):
    fork = multiprocessing.get_context("fork")
    events, lock = fork.Queue(), tmp_path / "sub" / "work.lock"
    killed = fork.Process(target=hold, args=(lock, events, 60))
    killed.start()
    assert events.get(timeout=20)[0] == "in"
    waiting = [fork.Process(target=hold, args=(lock, events, 0.1)) for _ in range(2)]
    for process in waiting:
        process.start()
    time.sleep(0.2)
    assert events.empty()  # both wait
    killed.kill()
    killed.join()
    seen = [events.get(timeout=20) for _ in range(4)]
    for process in waiting:
        process.join()
    assert [kind for kind, _ in seen] == ["in", "out", "in", "out"]
    assert seen[0][1] == seen[1][1] != seen[2][1] == seen[3][1]


def test_a_run_without_its_model_is_sent_back_to_training(tmp_path):
    require_finished(tmp_path / "gpt2")  # a name on the hub
    require_finished(tmp_path)
    (tmp_path / "config.yaml").write_text("training: {}\n")
    with pytest.raises(ValueError, match=r"whose training is not finished.*: topo train .*config\.yaml$"):
        require_finished(tmp_path)
    (tmp_path / "model").mkdir()
    require_finished(tmp_path)
