"""How much of a story stands before each word when a model reads it, and which words one forward pass can serve."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

__all__ = ["CONTEXTS", "ContextWindow", "context_starts", "context_windows"]

Places = Int[np.ndarray, " words"]


class ContextWindow(NamedTuple):
    """Tokens that are read at once, and the words whose responses are taken from there."""

    start: int
    end: int
    words: Int[np.ndarray, " chosen"]


def context_starts(starts: Places, ends: Places, context: str = "half", n_tokens: int = 256) -> Places:
    """First token that stands before each word.

    Parameters
    ----------
    starts, ends : ndarray of int, shape (words,)
        Tokens ``starts[i]:ends[i]`` are those of word i (`align_words`).
    context : {"half", "sliding", "restart", "word"}
        "sliding": the ``n_tokens`` up to and with the word's last one. "half": it grows until the word would be token
        ``n_tokens + 1``, then loses its first ``n_tokens // 2`` words (several times where that is too little).
        "restart": it grows until it has ``n_tokens`` or more, then the next word begins anew. "word": the word alone.
    n_tokens : int
        Length, in tokens of the model at hand.

    Returns
    -------
    ndarray of int, shape (words,)
        Never decreasing, never after the word itself.

    Raises
    ------
    ValueError
        If the context is unknown, or too short for a word.

    Notes
    -----
    As LITcoder's full, half and no context, with the model's own tokens in place of those of GPT-2, whatever the
    model. All words with one start are served by one forward pass of a causal model: "half" needs one per
    ``n_tokens // 2`` words, "sliding" one per word from token ``n_tokens`` on.

    References
    ----------
    LITcoder, arXiv 2509.09152.

    Examples
    --------
    >>> first, last = np.arange(6), np.arange(1, 7)
    >>> context_starts(first, last, "sliding", 3).tolist(), context_starts(first, last, "half", 4).tolist()
    ([0, 0, 0, 1, 2, 3], [0, 0, 0, 0, 2, 2])
    """
    if context not in CONTEXTS:
        raise ValueError(f"context={context!r}; expected one of {list(CONTEXTS)}")
    if len(starts) != len(ends) or not len(starts) or (starts >= ends).any():
        raise ValueError(
            "starts and ends are no tokens of words; expected starts[i] < ends[i] for each, as align_words"
        )
    longest = int((ends - starts).argmax())
    needed = int(ends[longest] - starts[longest])
    if context != "word" and n_tokens < max(needed, 2):
        raise ValueError(
            f"n_tokens={n_tokens} is too short: word {longest} has {needed} tokens; give {max(needed, 2)} or more"
        )
    return CONTEXTS[context](np.asarray(starts, np.int64), np.asarray(ends, np.int64), n_tokens)


def _sliding(starts: Places, ends: Places, n_tokens: int) -> Places:
    return np.minimum(starts, np.maximum(0, ends - n_tokens))


def _half(starts: Places, ends: Places, n_tokens: int) -> Places:
    found, first = np.empty(len(starts), np.int64), 0
    for word, end in enumerate(ends):
        while end - starts[first] > n_tokens and first < word:
            first = min(word, first + n_tokens // 2)
        found[word] = starts[first]
    return found


def _restart(starts: Places, ends: Places, n_tokens: int) -> Places:
    found, first = np.empty(len(starts), np.int64), 0
    for word, end in enumerate(ends):
        found[word] = starts[first]
        if end - starts[first] >= n_tokens:
            first = word + 1
    return found


def _word(starts: Places, ends: Places, n_tokens: int) -> Places:
    return starts.copy()


CONTEXTS: dict[str, Callable[[Places, Places, int], Places]] = {
    "half": _half,
    "sliding": _sliding,
    "restart": _restart,
    "word": _word,
}


def context_windows(first: Places, ends: Places, *, is_causal: bool = True) -> list[ContextWindow]:
    """Windows that serve all words: one for each start if what follows changes nothing, else one for each word."""
    if not is_causal:
        return [
            ContextWindow(int(start), int(end), np.array([word]))
            for word, (start, end) in enumerate(zip(first, ends, strict=True))
        ]
    borders = np.flatnonzero(np.diff(first)) + 1
    groups = np.split(np.arange(len(first)), borders)
    return [ContextWindow(int(first[group[0]]), int(ends[group].max()), group) for group in groups]
