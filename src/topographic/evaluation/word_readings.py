"""A model that reads corpora word by word: its states after every word, its surprisal, and what stands beside them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import nn

from topographic.behaviour import token_log_probabilities
from topographic.brain.stories import untrained
from topographic.drawing.site_names import site_labels
from topographic.losses.wrappers import unwrapped
from topographic.recording import (
    RandomTokens,
    carried_sheets,
    find_sites,
    longest_context,
    record_tokens,
    record_words,
)
from topographic.recording.alignment import align_words
from topographic.stimuli import StimulusSet

__all__ = [
    "CONTROLS",
    "EMBEDDING",
    "embedding_site",
    "layers_and_controls",
    "part_states",
    "read_layers",
    "word_states",
    "word_surprisal",
]

# columns of WordCorpus.controls with a tokenizer, and the first layer, as tables call them
CONTROLS, EMBEDDING = "length, tokens, frequency, position, punctuation", "embedding layer"
_TOKENS_AT_ONCE = 4000  # all tokens of so many are held before those that end a word are kept


def word_surprisal(
    model: nn.Module, tokenizer: Any, texts: Sequence[str], *, batch_size: int, progress: bool
) -> list[Float[np.ndarray, " words"]]:
    """Surprisal of every word of every text in nats: the sum over its tokens, given the text before it."""
    aligned = [align_words(tokenizer, text.split(), text) for text in texts]
    scores = token_log_probabilities(model, tokenizer, texts, batch_size=batch_size, progress=progress)
    found = []
    for text, one, words in zip(texts, scores, aligned, strict=True):
        if len(one) != len(words.ids):
            raise ValueError(
                f"text {text[:40]!r}... has {len(words.ids)} tokens by offsets and {len(one)} by scores; use a "
                "tokenizer that adds no token of its own to a text"
            )
        # of a token in two words the first one, and of spaces at the end the last word
        word = np.minimum(np.searchsorted(words.ends, np.arange(len(one)), side="right"), len(words) - 1)
        found.append(-np.bincount(word, weights=one, minlength=len(words)))
    return found


def word_states(
    model: nn.Module, tokenizer: Any, texts: Sequence[str], sites: Sequence[str], *, batch_size: int
) -> Iterator[tuple[range, dict[str, list[Float[np.ndarray, "words units"]]]]]:
    """States after the last token of every word, some texts at a time: which texts, and of every site theirs."""
    aligned = [align_words(tokenizer, text.split(), text) for text in texts]
    start = 0
    while start < len(texts):
        stop, n_tokens = start, 0
        while stop < len(texts) and (stop == start or n_tokens + len(aligned[stop].ids) <= _TOKENS_AT_ONCE):
            n_tokens += len(aligned[stop].ids)
            stop += 1
        chosen = texts[start:stop]
        shown = StimulusSet("texts", tuple(chosen), ("text",) * len(chosen))
        heard = record_tokens(model, tokenizer, shown, list(sites), max_tokens=max(2, n_tokens), batch_size=batch_size)
        counts = [len(one.ids) for one in aligned[start:stop]]
        first = np.concatenate([[0], np.cumsum(counts)])
        rows = [first[index] + aligned[start + index].ends - 1 for index in range(len(chosen))]
        found = {}
        for site, responses in heard.items():
            if len(responses.values) != first[-1]:
                raise ValueError(
                    f"{len(responses.values)} tokens were read and {first[-1]} found by offsets; use a tokenizer that "
                    "adds no token of its own to a text"
                )
            found[site] = [responses.values[row] for row in rows]
        yield range(start, stop), found
        start = stop


def part_states(
    model: nn.Module,
    tokenizer: Any,
    parts: Sequence[str],
    documents: Sequence[str],
    sites: Sequence[str],
    *,
    batch_size: int,
) -> dict[str, Float[np.ndarray, "parts units"]]:
    """States after the last token of every part, read after the parts of its document that stand before it.

    A document is read in one pass where it fits; of a longer one the last tokens that fit are read for a part.
    """
    shown = StimulusSet("parts of documents", tuple(parts), ("part",) * len(parts), tuple(documents))
    longest = longest_context(model, tokenizer)
    # beside its special tokens a text may get one that begins it
    room = 10**9 if longest is None else longest - tokenizer.num_special_tokens_to_add() - 1
    options: dict[str, Any] = {"context": "sliding", "n_tokens": room, "batch_size": batch_size, "progress": False}
    return {name: one.values for name, one in record_words(model, tokenizer, shown, list(sites), **options).items()}


def layers_and_controls(
    read: Callable[[Any, Any, list[str]], Mapping[str, np.ndarray]],
    model: nn.Module,
    tokenizer: Any,
    sheets: Sequence[str],
    seed: int,
) -> dict[str, np.ndarray]:
    """States by what they are called: embedding layer, layers, and the middle one untrained and with random tokens.

    ``read(model, tokenizer, sites)`` returns the states of each site.
    """
    embedding = embedding_site(model)
    sites = [site for site in sheets if site != embedding]
    titles = site_labels(list(sheets))
    states = read(model, tokenizer, [embedding, *sites])
    found = {EMBEDDING: states[embedding]} | {titles[site]: states[site] for site in sites}
    middle = sites[len(sites) // 2]
    others = {
        "untrained": (untrained(model, seed), tokenizer),
        "random tokens": (model, RandomTokens(tokenizer, seed)),
    }
    for name, (other, reader) in others.items():
        found[f"{name}, {titles[middle]}"] = read(other, reader, [middle])[middle]
    return found


def read_layers(model: nn.Module) -> list[str]:
    """The sheets that a model carries, or four of its blocks, evenly spaced, the last one included."""
    if carried := list(carried_sheets(model)):
        return carried
    blocks = find_sites(model, "resid")
    return [blocks[index] for index in sorted({round(len(blocks) * share) - 1 for share in (0.25, 0.5, 0.75, 1.0)})]


def embedding_site(model: nn.Module) -> str:
    """Name of the module that embeds tokens."""
    bare: Any = unwrapped(model)
    wanted = bare.get_input_embeddings()
    return next(name for name, module in bare.named_modules() if module is wanted)
