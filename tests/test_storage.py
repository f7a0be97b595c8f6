import errno
import multiprocessing
import os
import resource
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from topographic import storage
from topographic.storage import (
    HeldElsewhereError,
    code_version,
    digest,
    disk_errors,
    load_arrays,
    load_json,
    locked,
    publish_folder,
    read_text,
    save_arrays,
    save_json,
    sha256_of_file,
    write_atomically,
    write_folder_atomically,
)


def test_arrays_and_metadata_come_back(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "mask": np.array([True, False]), "i": np.array([2**40])}
    save_arrays(tmp_path / "deep" / "x.safetensors", arrays, {"k": [1, "ü"]})
    loaded, metadata = load_arrays(tmp_path / "deep" / "x.safetensors")
    assert metadata == {"k": [1, "ü"]}
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_transposed_arrays_are_stored_as_seen(tmp_path):
    array = np.arange(6.0).reshape(2, 3).T
    save_arrays(tmp_path / "x.safetensors", {"a": array}, {})
    np.testing.assert_array_equal(load_arrays(tmp_path / "x.safetensors")[0]["a"], array)


def test_a_failed_write_leaves_nothing(tmp_path):
    target = tmp_path / "x.txt"

    def interrupted():
        with write_atomically(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_file(tmp_path):
    target = tmp_path / "x.json"
    save_json(target, {"old": 1})
    with pytest.raises(TypeError):
        save_json(target, {"new": object()})
    assert load_json(target) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full to play a full disk")
def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *_: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
    with pytest.raises(OSError, match=r"could not write .*x\.json.*free disk space"):
        save_json(tmp_path / "x.json", {})
    assert list(tmp_path.iterdir()) == []


def test_truncated_foreign_and_absent_files(tmp_path):
    save_arrays(tmp_path / "x.safetensors", {"a": np.zeros(1000)}, {})
    whole = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:500])
    with pytest.raises(ValueError, match=r"cut\.safetensors is truncated"):
        load_arrays(tmp_path / "cut.safetensors")
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="no `topographic` header"):
        load_arrays(tmp_path / "foreign.safetensors")
    with pytest.raises(FileNotFoundError, match="no file at"):
        load_arrays(tmp_path / "none.safetensors")
    (tmp_path / "bad.json").write_text('{"a": ')
    with pytest.raises(ValueError, match="is not valid JSON"):
        load_json(tmp_path / "bad.json")


def test_checksum_is_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


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


def test_a_file_where_a_folder_belongs_is_said(tmp_path):
    (tmp_path / "runs").write_text("notes of the user")
    said = r"^could not write .*: .*/runs is a file where a folder belongs; move it away or choose another folder, then"
    for path in (tmp_path / "runs" / "a.json", tmp_path / "runs" / "deep" / "a.json"):
        with pytest.raises(OSError, match=said):
            save_json(path, {})
        with pytest.raises(OSError, match=said), write_folder_atomically(path):
            raise AssertionError("nothing to write to")
        with pytest.raises(OSError, match=said), locked(path):
            raise AssertionError("no lock")
    with pytest.raises(OSError, match=said), write_folder_atomically(tmp_path / "runs") as staging:
        (staging / "weights").write_text("new")
    assert (tmp_path / "runs").read_text() == "notes of the user"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"folder is a folder where a file belongs; move it away"):
        save_json(tmp_path / "folder", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "runs"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EROFS, "the disk is read-only; choose a writable folder"),
        (errno.EACCES, "the system does not allow it; choose a writable folder"),
        (errno.ENOSPC, "No space left on device.*; free disk space or choose a writable folder"),
    ],
)
def test_what_the_system_refuses_is_said_once(tmp_path, monkeypatch, number, said):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(tmp_path))

    monkeypatch.setattr("topographic.storage.tempfile.mkstemp", refuse)
    one_line = rf"^could not write [^:]*x.json: .*{said}, then run again$"
    with pytest.raises(OSError, match=one_line) as caught, disk_errors(tmp_path / "outer"):
        save_json(tmp_path / "x.json", {})
    assert str(caught.value).count("could not write") == 1


def test_a_writer_that_says_late_who_it_is_is_waited_for(tmp_path):
    with locked(tmp_path / "run"):
        holder = tmp_path / ".run.holder"
        said = holder.read_text()
        holder.write_text("")
        late = threading.Timer(0.2, holder.write_text, [said])
        late.start()
        with pytest.raises(HeldElsewhereError, match=rf"written by process {os.getpid()} on"), locked(tmp_path / "run"):
            raise AssertionError("two writers")
        late.join()
        holder.unlink()
        with pytest.raises(HeldElsewhereError, match="written by another process"), locked(tmp_path / "run"):
            raise AssertionError("two writers")


def test_two_names_of_one_folder_share_a_lock(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "run")
    with locked(tmp_path / "run"), pytest.raises(HeldElsewhereError), locked(tmp_path / "alias"):
        raise AssertionError("two writers")


def test_an_older_folder_is_whole_until_the_new_one_has_its_name(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")
    rename = Path.rename

    def refuse(self, target):
        if self.name.endswith(".partial"):
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="could not write"), write_folder_atomically(tmp_path / "model") as staging:
        (staging / "weights").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "weights").read_text() == "old"


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(ValueError, match=r"^as it was$"), disk_errors(tmp_path):
        raise ValueError("as it was")


def hold(lock, events, seconds):
    with locked(lock, wait=True):
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


def test_a_second_writer_is_told_who_holds_it(tmp_path):
    holder = rf"run is being written by process {os.getpid()} on .* since"
    with locked(tmp_path / "run"):
        with pytest.raises(HeldElsewhereError, match=holder), locked(tmp_path / "run"):
            raise AssertionError("two writers")
        assert not (tmp_path / "run").exists()
    assert [path.name for path in tmp_path.iterdir()] == [".run.lock"], "who held it is forgotten"
    with locked(tmp_path / "run"):
        pass


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2, None]}) == digest({"b": [2, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest({})) == 64


def test_the_version_of_a_module_changes_with_what_it_imports(tmp_path, monkeypatch):
    package = tmp_path / "library_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "low.py").write_text("x = 1\n")
    (package / "top.py").write_text("from library_of_a_test.low import x\n")
    (package / "other.py").write_text("y = 1\n")
    monkeypatch.syspath_prepend(tmp_path)

    def version() -> str:
        storage._source.cache_clear()
        return code_version("library_of_a_test.top")

    first = version()
    (package / "other.py").write_text("y = 2\n")
    assert version() == first
    (package / "low.py").write_text("x = 2\n")
    assert version() != first


def test_a_text_of_a_user_is_read_or_refused_by_its_name(tmp_path):
    (tmp_path / "a.txt").write_text("häuser", encoding="utf-8")
    assert read_text(tmp_path / "a.txt") == "häuser"
    (tmp_path / "latin.txt").write_bytes("häuser".encode("latin-1"))
    (tmp_path / "binary.txt").write_bytes(b"a\0b")
    for name, message in (("latin", "no UTF-8 text"), ("binary", "is no text"), ("gone", "no file at")):
        with pytest.raises((ValueError, FileNotFoundError), match=f"{name}.txt.*|{message}"):
            read_text(tmp_path / f"{name}.txt")
