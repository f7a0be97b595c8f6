import numpy as np
import pytest

from topographic.recording.keeping import kept_arrays


def test_only_what_is_missing_is_measured(tmp_path):
    asked = []

    def measure(names):
        asked.append(names)
        return {name: np.full((3, 2), len(name), np.float32) for name in names}

    first = kept_arrays(tmp_path, "words", {"weights": "a"}, ["one", "three"], measure)
    again = kept_arrays(tmp_path, "words", {"weights": "a"}, ["three", "fourth", "one"], measure)
    kept_arrays(tmp_path, "words", {"weights": "b"}, ["one"], measure)
    assert asked == [["one", "three"], ["fourth"], ["one"]]
    assert list(again) == ["three", "fourth", "one"]
    np.testing.assert_array_equal(again["three"], first["three"])
    assert isinstance(again["fourth"], np.memmap)


def test_what_is_no_number_is_not_kept(tmp_path):
    with pytest.raises(ValueError, match=r"'one' gives NaN or infinity; check the model's weights, or load it in"):
        kept_arrays(tmp_path, "words", {}, ["one"], lambda names: {"one": np.array([np.nan])})
    assert not list(tmp_path.glob("*.npy"))
