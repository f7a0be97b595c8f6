"""Sequences of bare words out of running text: no punctuation, no capitals, no boundaries."""

import re
from collections.abc import Collection, Iterable

import numpy as np

__all__ = ["PROPER_NAME_TAGS", "bare_sentences", "sentence_blocks", "word_runs"]

# proper names in the tags of the Brown corpus and of the Penn Treebank
PROPER_NAME_TAGS = frozenset({"NP", "NP-TL", "NP$", "NNP", "NNPS"})


def word_runs(
    tokens: Iterable[str | tuple[str, str]], n_words: int, *, excluded_tags: Collection[str] = PROPER_NAME_TAGS
) -> list[tuple[str, ...]]:
    """Every uninterrupted run of words of one length, from the start of a text to its end.

    Words are put in lower case and stripped of punctuation, hyphens included. A number or an excluded word
    ends the run; so does its n-th word, and the next run begins after it.

    Parameters
    ----------
    tokens : iterable of str or (str, str)
        Words of a text in their order, with or without the tag of their part of speech.
    n_words : int
        Words per run.
    excluded_tags : collection of str
        Tags of words that no run may hold.

    Returns
    -------
    list of tuple of str
        Runs of ``n_words`` words.

    Raises
    ------
    ValueError
        If ``n_words`` is below 1.

    Notes
    -----
    Tokens that are punctuation and nothing else are passed over; they do not end a run.

    References
    ----------
    Skrill & Norman-Haignere 2023, NeurIPS 36.
    """
    if n_words < 1:
        raise ValueError(f"n_words={n_words}; expected at least 1")
    runs, run = [], []
    for token in tokens:
        text, tag = (token, "") if isinstance(token, str) else token
        word = re.sub(r"[\W_]", "", text.lower())
        if not word:
            continue
        run = [*run, word] if word.isalpha() and tag not in excluded_tags else []
        if len(run) == n_words:
            runs.append(tuple(run))
            run = []
    return runs


def bare_sentences(sentences: Iterable[str], *, allowed: Collection[str] | None = None) -> list[tuple[str, ...]]:
    """Words of every sentence that consists of words alone."""
    fit = []
    for sentence in sentences:
        words = tuple(re.sub(r"[^\w\s]|_", "", re.sub(r"[-\u2010-\u2015]", " ", sentence.lower())).split())
        is_known = allowed is None or all(word in allowed for word in words)
        if words and is_known and all(word.isalpha() for word in words):
            fit.append(words)
    return list(dict.fromkeys(fit))


def sentence_blocks(
    sentences: Iterable[str],
    *,
    n_words: int = 12,
    n_sentences: int = 5,
    n_blocks: int = 250,
    allowed: Collection[str] | None = None,
    seed: int = 0,
) -> list[tuple[str, ...]]:
    """Unrelated sentences of one length, one after another.

    Parameters
    ----------
    sentences : iterable of str
        Sentences, as `bare_sentences` takes them.
    n_words : int
        Only sentences of this many words are used, so that all boundaries lie at its multiples.
    n_sentences : int
        Different sentences per block.
    n_blocks : int
        Number of blocks.
    allowed : collection of str, optional
        Words that may occur, for example those of a single token (`single_token_words`); all by default.
    seed : int
        Seed of the draws.

    Returns
    -------
    list of tuple of str
        Blocks of ``n_sentences * n_words`` words. Sentences recur between blocks, not within one.

    Raises
    ------
    ValueError
        If fewer different sentences than ``n_sentences`` are fit.

    References
    ----------
    Skrill & Norman-Haignere 2023, NeurIPS 36, on structure yoking.
    """
    fit = [words for words in bare_sentences(sentences, allowed=allowed) if len(words) == n_words]
    if len(fit) < n_sentences:
        raise ValueError(
            f"{len(fit)} different sentences have {n_words} words, all of them alphabetic and allowed; expected at "
            f"least {n_sentences}: give more sentences or another n_words"
        )
    generator = np.random.default_rng(seed)
    drawn = (generator.choice(len(fit), n_sentences, replace=False) for _ in range(n_blocks))
    return [tuple(word for index in block for word in fit[index]) for block in drawn]
