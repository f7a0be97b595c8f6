"""Words to put in the place of a word: how a sequence is swapped, word by word."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import nn

from topographic.losses.wrappers import unwrapped
from topographic.sheets.expectations import expect_whole

__all__ = [
    "Replacement",
    "SwappedWords",
    "embedding_matched_word",
    "random_word",
    "same_class_word",
    "single_token_words",
    "swap_words",
    "word_prefix_of",
    "word_token_ids",
]

# (words of the sequence, place of the word to replace, source of randomness) -> another word
Replacement = Callable[[Sequence[str], int, np.random.Generator], str]


class SwappedWords(NamedTuple):
    """A sequence and, for each of its words, the one that takes its place in one copy.

    Parameters
    ----------
    words : tuple of str
        The sequence.
    replacements : tuple of str
        As many words; copy ``i`` is the sequence with word ``i`` replaced by ``replacements[i]``.
    """

    words: tuple[str, ...]
    replacements: tuple[str, ...]

    def copy(self, place: int) -> tuple[str, ...]:
        """The words of the copy in which one word is replaced."""
        return (*self.words[:place], self.replacements[place], *self.words[place + 1 :])


def swap_words(sequences: Iterable[Sequence[str]], replacement: Replacement, *, seed: int = 0) -> list[SwappedWords]:
    """Choose a replacement for every word of every sequence.

    Parameters
    ----------
    sequences : iterable of sequence of str
        Words, without punctuation.
    replacement : callable
        ``(words, place, generator) -> word``: `random_word`, `same_class_word`, `embedding_matched_word`,
        or one of your own (a masked language model, say).
    seed : int
        Seed of the choices.

    Returns
    -------
    list of SwappedWords
        One per sequence.

    Raises
    ------
    ValueError
        If a word was replaced by itself.
    """
    expect_whole("seed", seed)
    generator = np.random.default_rng(seed)
    swapped = []
    for words in sequences:
        words = tuple(words)
        chosen = tuple(replacement(words, place, generator) for place in range(len(words)))
        same = next((word for word, other in zip(words, chosen, strict=True) if word == other), None)
        if same is not None:
            raise ValueError(f"the replacement of {same!r} is {same!r}; expected another word: give it more words")
        swapped.append(SwappedWords(words, chosen))
    return swapped


def random_word(vocabulary: Sequence[str]) -> Replacement:
    """Any other word, all equally likely.

    Parameters
    ----------
    vocabulary : sequence of str
        Words to draw from.

    Returns
    -------
    Replacement
        For `swap_words`.

    Raises
    ------
    ValueError
        If there are fewer than two different words.
    """
    draw_other = _drawer(_distinct(vocabulary))
    return lambda sequence, place, generator: draw_other(sequence[place], generator)


def same_class_word(classes: Mapping[str, str], *, min_words: int = 5) -> Replacement:
    """Another word of the same class, all equally likely.

    Parameters
    ----------
    classes : mapping of str to str
        Class (part of speech) of each word that may be drawn.
    min_words : int
        Classes with fewer words are pooled; words without a class are replaced from that pool.

    Returns
    -------
    Replacement
        For `swap_words`; it raises ValueError for a word whose class or pool holds no other word.

    Raises
    ------
    ValueError
        If there are fewer than two different words.
    """
    sizes = Counter(classes.values())
    members: dict[str | None, list[str]] = {None: []}
    for word in _distinct(list(classes)):
        members.setdefault(_pooled(classes[word], sizes, min_words), []).append(word)
    drawers = {name: _drawer(words) for name, words in members.items()}

    def draw(sequence: Sequence[str], place: int, generator: np.random.Generator) -> str:
        word = sequence[place]
        name = _pooled(classes.get(word), sizes, min_words)
        if all(other == word for other in members[name]):
            given = f"class {classes[word]!r}" if word in classes else "no class"
            raise ValueError(
                f"word {word!r} has {given} and there is no other word in the pool of classes under {min_words} words; "
                "give it a class, or more words of its class"
            )
        return drawers[name](word, generator)

    return draw


def embedding_matched_word(
    model: nn.Module,
    tokenizer: Any,
    vocabulary: Sequence[str],
    *,
    embedding_distance: float | None = None,
    half_width: float | None = None,
    n_slices: int = 6,
    word_prefix: str = " ",
) -> Replacement:
    """A word whose embedding lies at a fixed distance, so that all swaps are equally large.

    ``d(v, w) = (1 / K) sum_k |e_k(v) - e_k(w)|``; of the words with ``|d - embedding_distance| <= half_width`` one is
    drawn such that all slices of that band that hold a word are equally likely.

    Parameters
    ----------
    model : nn.Module
        Model with input embeddings (``get_input_embeddings()``).
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer; words of several tokens have the mean of their embeddings.
    vocabulary : sequence of str
        Words to draw from.
    embedding_distance : float, optional
        Distance to aim at; the median over pairs of the vocabulary by default. 0.125 for GPT-2 as published.
    half_width : float, optional
        Half the width of the band; 2.4 % of the distance by default (0.003 for GPT-2).
    n_slices : int
        Slices of the band.
    word_prefix : str
        As in `record_swaps`.

    Returns
    -------
    Replacement
        For `swap_words`.

    Raises
    ------
    ValueError
        If there are fewer than two different words, or the distance or half width is not above 0.

    Notes
    -----
    Where no word lies in the band the nearest to it is taken; the published code takes a random word there,
    and draws at most 100 candidates per slice where all are compared here.

    References
    ----------
    Skrill & Norman-Haignere 2023, NeurIPS 36; their code dskrill/TemporalIntegration.
    """
    expect_whole("n_slices", n_slices, 1)
    words = _distinct(vocabulary)
    bare: Any = unwrapped(model)
    table = bare.get_input_embeddings().weight.detach().float().cpu().numpy()
    embed = _embedder(tokenizer, table, word_prefix)
    embedded = np.stack([embed(word) for word in words])
    if embedding_distance is None:
        embedding_distance = float(
            np.median(np.abs(embedded - np.roll(embedded, len(words) // 2, axis=0)).mean(axis=1))
        )
    half_width = 0.024 * embedding_distance if half_width is None else half_width
    if not (embedding_distance > 0 and half_width > 0):
        raise ValueError(f"embedding_distance={embedding_distance}, half_width={half_width}; expected both above 0")
    candidates: dict[str, list[np.ndarray]] = {}

    def draw(sequence: Sequence[str], place: int, generator: np.random.Generator) -> str:
        word = sequence[place]
        if word not in candidates:
            off = np.abs(embedded - embed(word)).mean(axis=1) - embedding_distance
            off[[place for place, other in enumerate(words) if other == word]] = np.inf
            slices = np.floor((off + half_width) / (2 * half_width) * n_slices)
            slices[off == half_width] = n_slices - 1
            occupied = [np.flatnonzero(slices == index) for index in range(n_slices)]
            candidates[word] = [part for part in occupied if len(part)] or [np.abs(off).argmin(keepdims=True)]
        drawn = candidates[word][generator.integers(len(candidates[word]))]
        return words[generator.choice(drawn)]

    return draw


def single_token_words(tokenizer: Any, words: Iterable[str], *, word_prefix: str = " ") -> list[str]:
    """The words that are one token each.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        A tokenizer.
    words : iterable of str
        Words to look at.
    word_prefix : str
        As in `record_swaps`.

    Returns
    -------
    list of str
        Those of one token that is not the unknown one, in their order, each once.
    """
    unknown = tokenizer.unk_token_id
    found = {word: word_token_ids(tokenizer, word, word_prefix) for word in dict.fromkeys(words)}
    return [word for word, ids in found.items() if len(ids) == 1 and ids[0] != unknown]


def word_prefix_of(tokenizer: Any, words: Iterable[str]) -> str:
    """What to put before a word so that a tokenizer reads it as inside a text."""
    words = list(words)
    with_space, without = (sum(len(word_token_ids(tokenizer, word, prefix)) for word in words) for prefix in (" ", ""))
    return "" if without < with_space else " "


def word_token_ids(tokenizer: Any, word: str, word_prefix: str = " ") -> list[int]:
    """Token ids of a word by itself, without special tokens."""
    ids = tokenizer(word_prefix + word, add_special_tokens=False)["input_ids"]
    if not ids:
        raise ValueError(f"word {word!r} tokenises to nothing; remove it or use a tokenizer that knows its characters")
    return list(ids)


def _distinct(vocabulary: Sequence[str]) -> list[str]:
    if isinstance(vocabulary, str) or len(set(vocabulary)) < 2:
        raise ValueError(f"vocabulary={str(vocabulary)[:60]!r}; expected a list of at least two different words")
    return list(dict.fromkeys(vocabulary))


def _drawer(words: Sequence[str]) -> Callable[[str, np.random.Generator], str]:
    """Function that draws a word other than the given one."""
    places = {word: place for place, word in enumerate(words)}

    def draw(word: str, generator: np.random.Generator) -> str:
        own = places.get(word, len(words))
        drawn = int(generator.integers(len(words) - (word in places)))
        return words[drawn + (drawn >= own)]

    return draw


def _pooled(name: str | None, sizes: Mapping[str, int], min_words: int) -> str | None:
    """The class to draw from; None is the pool of small classes."""
    return name if name is not None and sizes[name] >= min_words else None


def _embedder(
    tokenizer: Any, table: Float[np.ndarray, "tokens embedding"], word_prefix: str
) -> Callable[[str], np.ndarray]:
    return lambda word: table[word_token_ids(tokenizer, word, word_prefix)].mean(axis=0)
