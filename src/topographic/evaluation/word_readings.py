"""A model that reads corpora word by word: its states after every word, its surprisal, and its controls."""

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from topographic.behaviour import token_log_probabilities
from topographic.losses.wrappers import unwrapped
from topographic.recording import carried_sheets, find_sites, record_tokens
from topographic.stimuli import StimulusSet

__all__ = [
    "RandomTokens",
    "embedding_site",
    "read_layers",
    "untrained_twin",
    "word_places",
    "word_states",
    "word_surprisal",
]

_TOKENS_AT_ONCE = 4000  # all tokens of so many are held before those that end a word are kept


def word_places(tokenizer: Any, texts: Sequence[str]) -> list[tuple[Int[np.ndarray, " words"], Int[np.ndarray, " _"]]]:
    """Of every text, the last token of each word, and the word of each token (words are what white space separates)."""
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} gives no offsets, so that no token can be found in its word; use a fast "
            "tokenizer (AutoTokenizer loads one where there is one)"
        )
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    found = []
    for text, offsets in zip(texts, encoded["offset_mapping"], strict=True):
        word_ends = np.array([match.end() for match in re.finditer(r"\S+", text)])
        starts, ends = np.array(offsets).reshape(-1, 2).T
        # a token may begin with the space before its word; a letter of several tokens has one offset
        last = np.searchsorted(starts, word_ends, side="left") - 1
        found.append((last, np.searchsorted(word_ends, np.maximum(ends, 1) - 1, side="right")))
    return found


def word_surprisal(
    model: nn.Module, tokenizer: Any, texts: Sequence[str], *, batch_size: int, progress: bool
) -> list[Float[np.ndarray, " words"]]:
    """Surprisal of every word of every text in nats: the sum over its tokens, given the text before it."""
    places = word_places(tokenizer, texts)
    scores = token_log_probabilities(model, tokenizer, texts, batch_size=batch_size, progress=progress)
    found = []
    for text, one, (last, word) in zip(texts, scores, places, strict=True):
        if len(one) != len(word):
            raise ValueError(
                f"text {text[:40]!r}... has {len(word)} tokens by offsets and {len(one)} by scores; use a tokenizer "
                "that adds no token of its own to a text"
            )
        found.append(-np.bincount(word, weights=one, minlength=len(last)))
    return found


def word_states(
    model: nn.Module, tokenizer: Any, texts: Sequence[str], sites: Sequence[str], *, batch_size: int
) -> Iterator[tuple[range, dict[str, list[Float[np.ndarray, "words units"]]]]]:
    """States after the last token of every word, some texts at a time: which texts, and of every site theirs."""
    places = word_places(tokenizer, texts)
    start = 0
    while start < len(texts):
        stop, n_tokens = start, 0
        while stop < len(texts) and (stop == start or n_tokens + len(places[stop][1]) <= _TOKENS_AT_ONCE):
            n_tokens += len(places[stop][1])
            stop += 1
        chosen = texts[start:stop]
        shown = StimulusSet("texts", tuple(chosen), ("text",) * len(chosen))
        heard = record_tokens(model, tokenizer, shown, list(sites), max_tokens=max(2, n_tokens), batch_size=batch_size)
        counts = [len(word) for _, word in places[start:stop]]
        first = np.concatenate([[0], np.cumsum(counts)])
        rows = [first[index] + places[start + index][0] for index in range(len(chosen))]
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


def untrained_twin(model: nn.Module, seed: int) -> nn.Module:
    """The same architecture with weights as they are before training; the global generator is left as it was."""
    bare: Any = unwrapped(model)
    config = copy.deepcopy(bare.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        twin = type(bare)(config)
    like = next(bare.parameters())
    return twin.to(device=like.device, dtype=like.dtype).eval()


class RandomTokens:
    """A tokenizer that puts tokens at random in the place of those of a text: as many, in the same places."""

    def __init__(self, tokenizer: Any, seed: int) -> None:
        self._tokenizer, self._source = tokenizer, np.random.default_rng(seed)
        special = set(tokenizer.all_special_ids)
        self._ids = np.array([one for one in range(tokenizer.vocab_size) if one not in special])

    def __getattr__(self, name: str) -> Any:
        """Everything else as the tokenizer has it."""
        return getattr(self._tokenizer, name)

    def __call__(self, texts: Any, **options: Any) -> Any:
        """Its tokens, those of the text drawn anew."""
        encoded = self._tokenizer(texts, **{**options, "return_special_tokens_mask": True})
        encoded["input_ids"] = [
            [token if special else int(self._source.choice(self._ids)) for token, special in zip(*pair, strict=True)]
            for pair in zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
        ]
        return encoded
