"""Which tokens of a running text belong to which word, by their places among its letters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from topographic.recording.reading import expect_tokenizer

__all__ = ["AlignedWords", "align_words"]

Ids = Int[np.ndarray, " tokens"]
Places = Int[np.ndarray, " words"]


class AlignedWords:
    """A running text as tokens, and where each of its words begins and ends among them.

    Parameters
    ----------
    ids : ndarray of int, shape (tokens,)
        The text, without special tokens.
    starts, ends : ndarray of int, shape (words,)
        Tokens ``starts[i]:ends[i]`` are those of word i.
    """

    def __init__(self, ids: Ids, starts: Places, ends: Places) -> None:
        self.ids, self.starts, self.ends = ids, starts, ends

    def __len__(self) -> int:
        """Number of words."""
        return len(self.starts)

    @property
    def n_tokens(self) -> Places:
        """How many tokens every word adds to those before it; one within the token of another adds none."""
        return np.diff(self.ends, prepend=0)

    def __repr__(self) -> str:
        """One line."""
        return f"AlignedWords({len(self)} words, {len(self.ids)} tokens)"


def align_words(tokenizer: Any, words: Sequence[str], text: str | None = None) -> AlignedWords:
    """Tokens of a running text and those of each of its words.

    A token belongs to every word whose letters it holds some of, so that tokens that begin with a space, that split a
    letter of several bytes, or that span two words all find theirs; one of nothing but spaces to the word after it.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        Any fast tokenizer: it says at which letters its tokens lie.
    words : sequence of str
        The words in their order.
    text : str, optional
        The text as it was written, with capitals and punctuation, in which the words are found one after another,
        whatever their case; by default the words with a space between them.

    Returns
    -------
    AlignedWords
        ids, starts, ends.

    Raises
    ------
    ValueError
        If the tokenizer is not fast, a word is not found in the text, or one has no token.

    Examples
    --------
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import PreTrainedTokenizerFast
    >>> letters = Tokenizer(models.WordLevel({"?": 0, "the": 1, "cat": 2}, unk_token="?"))
    >>> letters.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> found = align_words(PreTrainedTokenizerFast(tokenizer_object=letters), ["the", "cat"], text="the ... cat!")
    >>> found, found.starts.tolist()
    (AlignedWords(2 words, 4 tokens), [0, 2])
    """
    expect_tokenizer(tokenizer)
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} is no fast tokenizer and does not say where its tokens lie; load it with "
            "AutoTokenizer.from_pretrained(..., use_fast=True)"
        )
    if isinstance(words, str) or not len(words):
        raise ValueError(f"words={words!r}; expected a sequence of at least one word")
    spans, text = (_joined(words), " ".join(words)) if text is None else (_found(words, text), text)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = np.array(encoded["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    # letters that a token holds beside the space before them; tokens of nothing (0, 0) hold none
    is_real = offsets[:, 1] > offsets[:, 0]
    lows, highs = np.maximum.accumulate(offsets[:, 0]), np.maximum.accumulate(offsets[:, 1])
    starts = np.searchsorted(highs, spans[:, 0], side="right")
    ends = np.searchsorted(lows, spans[:, 1], side="left")
    lost = np.flatnonzero([not is_real[start:end].any() for start, end in zip(starts, ends, strict=True)])
    if len(lost):
        raise ValueError(
            f"word {lost[0]} ({words[lost[0]]!r}) has no token ({len(lost)} of {len(words)} words have none); leave it "
            "out, or use a tokenizer that knows its letters"
        )
    is_space = [not text[low:high].strip() for low, high in offsets]
    before = np.concatenate([[0], ends[:-1]])
    for index, first in enumerate(before):
        while starts[index] > first and is_space[starts[index] - 1]:
            starts[index] -= 1
    return AlignedWords(np.array(encoded["input_ids"], dtype=np.int64), starts, ends)


def _joined(words: Sequence[str]) -> np.ndarray:
    """Places of words with one space between them."""
    lengths = np.array([len(word) for word in words])
    starts = np.cumsum(lengths + 1) - lengths - 1
    return np.stack([starts, starts + lengths], axis=1)


def _found(words: Sequence[str], text: str) -> np.ndarray:
    """Places of words in a text that holds more than them."""
    spans, at = np.empty((len(words), 2), dtype=np.int64), 0
    folded = _folded(text)
    for index, word in enumerate(words):
        start = folded.find(_folded(word), at)
        if start < 0:
            raise ValueError(
                f"word {index} ({word!r}) is not in the text after {text[max(0, at - 30) : at]!r}; give the text these "
                "words come from, or leave text= out"
            )
        at = start + len(word)
        spans[index] = start, at
    return spans


def _folded(text: str) -> str:
    """In lower case, letter for letter: those that become two stay."""
    return "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
