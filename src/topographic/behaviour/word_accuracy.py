"""How often a causal language model's first choice is the word that follows."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from topographic.behaviour.surprisal import PROTOCOLS, expect_causal, no_cache
from topographic.recording.reading import batches, evaluating

__all__ = ["WordAccuracy", "next_word_accuracy"]


class WordAccuracy(NamedTuple):
    """Words that were predicted, of how many, text by text."""

    right: Int[np.ndarray, " texts"]
    words: Int[np.ndarray, " texts"]

    @property
    def value(self) -> float:
        """Share of all words."""
        return float(self.right.sum() / self.words.sum())


@torch.no_grad()
def next_word_accuracy(
    model: nn.Module, tokenizer: Any, texts: Sequence[str], *, batch_size: int = 48, progress: bool = True
) -> WordAccuracy:
    """Share of words of which every token is the model's first choice given the true text before it.

    ``right(w) = all_{t in w} [argmax_v z_t[v] = w_t]``

    Parameters
    ----------
    model : nn.Module
        Causal language model, as `token_log_probabilities` takes it.
    tokenizer : PreTrainedTokenizerFast
        Its tokenizer, which must give offsets. A beginning-of-text token is put in front, as under protocol "bos".
    texts : sequence of str
        Words are what white space separates.
    batch_size : int
        Texts per forward.
    progress : bool
        Show a progress bar.

    Returns
    -------
    WordAccuracy
        Counts per text, and ``value``.

    Raises
    ------
    ValueError
        If there are no texts, a text becomes no token, or the tokenizer gives no offsets.
    NotMeasurable
        If the model looks at tokens that follow.

    Notes
    -----
    Models with longer tokens need fewer right choices a word, so that models of unlike tokenizers are compared by
    words, never by tokens.
    """
    if not len(texts):
        raise ValueError("no texts to predict; give at least one")
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} gives no offsets, so that no token can be found in its word; use a fast "
            "tokenizer"
        )
    sequences = PROTOCOLS["bos"](texts, tokenizer, batch_size)
    expect_causal(model, sequences)
    words = _words_of_tokens(tokenizer, texts)
    right, counts = np.zeros(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.int64)
    device = next(model.parameters()).device
    with evaluating(model), tqdm(total=len(texts), desc="words", disable=not progress) as bar:
        for chosen in batches([len(one) for one in sequences], batch_size, shortest=0.9):
            tokens = [torch.tensor(sequences[index], device=device) for index in chosen]
            ids = pad_sequence([one[:-1] for one in tokens], batch_first=True)
            shown = pad_sequence([torch.ones_like(one[:-1]) for one in tokens], batch_first=True)
            best = model(input_ids=ids, attention_mask=shown, **no_cache(model)).logits.argmax(-1)
            for row, index in enumerate(chosen):
                hits = (best[row, : len(tokens[row]) - 1] == tokens[row][1:]).cpu().numpy()
                word = words[index][-len(hits) :]
                missed = np.bincount(word, weights=~hits, minlength=word.max() + 1)
                there = np.bincount(word, minlength=word.max() + 1) > 0
                right[index], counts[index] = (missed[there] == 0).sum(), there.sum()
            bar.update(len(chosen))
    return WordAccuracy(right, counts)


def _words_of_tokens(tokenizer: Any, texts: Sequence[str]) -> list[Int[np.ndarray, " tokens"]]:
    """The word of every token, numbered from 0: the one in which it ends."""
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    found = []
    for text, offsets in zip(texts, encoded["offset_mapping"], strict=True):
        word_ends = np.array([match.end() for match in re.finditer(r"\S+", text)])
        last = np.array(offsets).reshape(-1, 2)[:, 1]
        found.append(np.minimum(np.searchsorted(word_ends, np.maximum(last, 1) - 1, side="right"), len(word_ends) - 1))
    return found
