import os
from pathlib import Path

import numpy as np
import pytest

from topographic.storage import load_arrays, load_json, save_arrays, save_json, sha256_of_file, write_atomically


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
