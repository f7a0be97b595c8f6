"""How far the change of one word reaches: differences between a sequence and its copies with one word swapped."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from topographic.recording.hooks import tap
from topographic.recording.placement import AnyLayout, chosen_sites, settled_layout
from topographic.recording.reading import (
    Text,
    check_fit,
    evaluating,
    expect_tokenizer,
    per_token,
    provenance_of,
    text_batches,
)
from topographic.recording.replacements import SwappedWords, word_token_ids
from topographic.sheets import Sheet
from topographic.sheets.expectations import expect_whole
from topographic.stimuli.stimulus_set import StimulusSet

__all__ = ["SwapDifferences", "record_swaps"]


@no_type_check  # lists and arrays are welcome: __post_init__ converts and checks what the fields then hold
@dataclass(frozen=True, eq=False)
class SwapDifferences:
    """How much one site's units change at some lags after a word was swapped.

    Parameters
    ----------
    site : str
        Name of the recorded module.
    values : ndarray, shape (swaps, lags, units)
        ``D[i, d, u]``: change of unit ``u`` at word ``i + lags[d]`` when word ``i`` is swapped, mean over
        sequences, float32. NaN where that word lies outside the sequence.
    lags : sequence of int
        Lags in words; negative ones lie before the swap.
    sheet : Sheet
        Where the units lie.
    n_sequences : int
        Sequences averaged.
    provenance : mapping, optional
        Model, checksum of the words, versions: anything JSON can hold.

    Raises
    ------
    ValueError
        If the shape fits neither lags nor sheet, or values are negative or NaN inside the sequence.
    """

    site: str
    values: Float[np.ndarray, "swaps lags units"]
    lags: tuple[int, ...]
    sheet: Sheet
    n_sequences: int
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert to float32 and refuse misfits."""
        values, lags = np.ascontiguousarray(self.values, dtype=np.float32), _checked_lags(self.lags)
        if values.ndim != 3 or values.shape[1:] != (len(lags), self.sheet.n_units):
            raise ValueError(
                f"differences at {self.site!r} have shape {values.shape}; lags and sheet say (swaps, {len(lags)}, "
                f"{self.sheet.n_units})"
            )
        inside = within_sequence(len(values), lags)
        if not (np.isnan(values[~inside]).all() and (values[inside] >= 0).all() and np.isfinite(values[inside]).all()):
            raise ValueError(
                f"differences at {self.site!r}: expected finite values of at least 0 where both words lie in the "
                "sequence, and NaN elsewhere; check the model's weights"
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "lags", lags)


def record_swaps(
    model: nn.Module,
    tokenizer: Any,
    swapped: Sequence[SwappedWords],
    sites: str | Sequence[str] | None = None,
    layout: AnyLayout = None,
    *,
    relayout: bool = False,
    lags: Sequence[int] = tuple(range(21)),
    batch_size: int = 32,
    word_prefix: str = " ",
    progress: bool = True,
) -> dict[str, SwapDifferences]:
    """Change of every unit at each lag after each word of a sequence was swapped.

    ``D[i, d, u] = mean over sequences of |a_i(i + d, u) - a(i + d, u)|``, with ``a_i`` the activations of the
    copy in which word ``i`` was swapped and ``a`` those of the sequence itself. The activation of a word is
    the mean over its tokens.

    Parameters
    ----------
    model : nn.Module
        Any torch or Hugging Face model that takes token ids.
    tokenizer : PreTrainedTokenizerBase
        The tokenizer of that model. The sequences get the special tokens that it adds of itself (none for
        GPT-2, as published; [CLS] and [SEP] for BERT), which are not measured.
    swapped : sequence of SwappedWords
        Sequences of equal length with their replacements (`swap_words`).
    sites, layout, relayout
        As in `record`.
    lags : sequence of int
        Lags in words between swap and measurement; 0 to 20 by default. A model that reads in both
        directions answers at negative lags as well.
    batch_size : int
        Copies per forward pass. The differences do not depend on it.
    word_prefix : str
        Put before every word, each of which is tokenised by itself: a space, which a byte-level BPE needs to see
        a word as it occurs inside a text; "" for tokenizers that mark the start of words themselves.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    dict of str to SwapDifferences
        For each site values of shape (swaps, lags, units). Only these are kept in memory, whatever
        the number of sequences.

    Raises
    ------
    ValueError
        If sequences differ in length or are too long for the model, a word has no token, no lag lies inside
        the sequence, a site's output is not (batch, tokens, units), or activations are NaN or infinite.

    Notes
    -----
    The model runs in evaluation mode without gradients and is given back as it was. A sequence of T words
    takes T + 1 forward passes, ``batch_size`` of them at once.

    References
    ----------
    Skrill & Norman-Haignere 2023, NeurIPS 36: large language models transition from integrating across
    position-yoked, exponential windows to structure-yoked, power-law windows.
    """
    expect_whole("batch_size", batch_size, 1)
    names = chosen_sites(model, sites)
    settled = settled_layout(model, names, layout, relayout=relayout)
    expect_tokenizer(tokenizer)
    lags, n_words = _checked_lags(lags), _common_length(swapped)
    inside = within_sequence(n_words, lags)
    if not inside.any():
        raise ValueError(f"lags {lags} reach beyond sequences of {n_words} words; give longer ones or smaller lags")
    encode = _encoder(tokenizer, swapped[0].words[0], word_prefix)
    every_word, measured = np.arange(n_words), np.where(inside, np.arange(n_words)[:, None] + np.asarray(lags), -1)
    sums: dict[str, Tensor] = {}
    with evaluating(model), torch.no_grad():
        for number, sequence in enumerate(tqdm(swapped, desc="swap words", disable=not progress)):
            original, *copies = map(encode, _versions(sequence))
            _check(model, tokenizer, sequence, [original, *copies], number)
            ((_, unswapped),) = _read(model, tokenizer, names, [original], every_word[None], batch_size)
            for swaps, activations in _read(model, tokenizer, names, copies, measured, batch_size):
                for site, changed in activations.items():
                    reach = torch.from_numpy(measured[swaps]).to(changed.device)
                    # beyond the sequence lies nothing: what is computed there becomes NaN in the end
                    difference = (changed - unswapped[site][0][reach.clamp(min=0)]).abs()
                    if site not in sums:
                        sums[site] = difference.new_zeros(*inside.shape, difference.shape[-1])
                    sums[site][swaps] += difference
    provenance = {**provenance_of(model, tokenizer, "mean", bos=False), **_described(swapped, word_prefix)}
    differences = {}
    for site in names:
        values = (sums[site] / len(swapped)).cpu().numpy()
        values[~inside] = np.nan
        sheet = settled(values.shape[-1], site)
        differences[site] = SwapDifferences(site, values, lags, sheet, len(swapped), provenance)
    return differences


def within_sequence(n_words: int, lags: Sequence[int]) -> np.ndarray:
    """Whether the measured word lies inside the sequence."""
    measured = np.arange(n_words)[:, None] + np.asarray(lags)
    return (measured >= 0) & (measured < n_words)


class _Tokenized(NamedTuple):
    """A sequence in tokens."""

    text: Text
    word_of_token: list[int]  # -1 for special tokens


def _encoder(tokenizer: Any, example: str, word_prefix: str) -> Any:
    """Function ``words -> _Tokenized``; each distinct word is tokenised once."""
    framed = tokenizer(word_prefix + example, return_special_tokens_mask=True)
    special = np.array(framed["special_tokens_mask"], dtype=bool)
    own = np.flatnonzero(~special)
    before = framed["input_ids"][: own[0]] if len(own) else []
    after = framed["input_ids"][own[-1] + 1 :] if len(own) else []

    @cache
    def ids_of(word: str) -> tuple[int, ...]:
        return tuple(word_token_ids(tokenizer, word, word_prefix))

    def encode(words: Sequence[str]) -> _Tokenized:
        ids, word_of_token = list(before), [-1] * len(before)
        for place, word in enumerate(words):
            ids += ids_of(word)
            word_of_token += [place] * len(ids_of(word))
        ids, word_of_token = ids + list(after), word_of_token + [-1] * len(after)
        return _Tokenized(Text(ids, [place >= 0 for place in word_of_token], has_bos=False), word_of_token)

    return encode


def _versions(sequence: SwappedWords) -> list[Sequence[str]]:
    """The sequence and its copies."""
    return [sequence.words, *(sequence.copy(place) for place in range(len(sequence.words)))]


def _check(model: nn.Module, tokenizer: Any, sequence: SwappedWords, read: Sequence[_Tokenized], number: int) -> None:
    """Refuse copies that are too long and ids that are not embedded, as for any stimuli."""
    items = tuple(map(" ".join, _versions(sequence)))
    stimuli = StimulusSet(f"sequence {number} and its copies", items, ("swapped",) * len(items))
    check_fit(model, tokenizer, stimuli, [one.text for one in read])


def _read(
    model: nn.Module,
    tokenizer: Any,
    names: Sequence[str],
    tokenized: Sequence[_Tokenized],
    words: Int[np.ndarray, "texts words"],
    batch_size: int,
) -> Iterator[tuple[list[int], dict[str, Float[Tensor, "batch words units"]]]]:
    """Batches of texts: their indices, and what every site does at the wanted words; zero where one is -1."""
    for batch in text_batches(model, tokenizer, [one.text for one in tokenized], batch_size):
        weights = _word_weights([tokenized[i] for i in batch.indices], words[batch.indices], batch.shown.shape[1])
        with tap(model, names) as heard:
            batch.run()
        yield batch.indices, {site: _word_means(site, heard.get(site), batch.shown, weights) for site in names}


def _word_weights(batch: Sequence[_Tokenized], words: np.ndarray, n_tokens: int) -> Float[Tensor, "batch words tokens"]:
    """Matrices that average tokens into the wanted words of each sequence; -1 for no word."""
    word_of_token = np.full((len(batch), 1, n_tokens), -2)
    for row, one in enumerate(batch):
        word_of_token[row, 0, : len(one.word_of_token)] = one.word_of_token
    hits = (word_of_token == words[:, :, None]) & (words >= 0)[:, :, None]
    return torch.from_numpy((hits / np.maximum(hits.sum(-1, keepdims=True), 1)).astype(np.float32))


def _word_means(
    site: str, heard: Tensor | None, shown: Tensor, weights: Float[Tensor, "batch words tokens"]
) -> Float[Tensor, "batch words units"]:
    tokens = per_token(site, heard, shown)
    # filled, not multiplied: a pad may be NaN
    activations = tokens.masked_fill((shown == 0).to(tokens.device).unsqueeze(-1), 0.0)
    if not activations.isfinite().all():
        raise ValueError(
            f"site {site!r} gives NaN or infinity for swapped words; check the model's weights, or load it in float32"
        )
    return weights.to(tokens.device) @ activations


def _checked_lags(lags: Sequence[int]) -> tuple[int, ...]:
    checked = tuple(int(lag) for lag in lags)
    if (
        not checked
        or len(set(checked)) < len(checked)
        or any(lag != given for lag, given in zip(checked, lags, strict=True))
    ):
        raise ValueError(f"lags={lags}; expected different whole numbers of words, for example range(21)")
    return checked


def _common_length(swapped: Sequence[SwappedWords]) -> int:
    lengths = {len(words) for sequence in swapped for words in sequence}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"swapped sequences have {sorted(lengths)} words; expected at least one sequence, all equally long and as "
            "many replacements as words: cut them to one length"
        )
    return lengths.pop()


def _described(swapped: Sequence[SwappedWords], word_prefix: str) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(list(swapped), ensure_ascii=True).encode()).hexdigest()
    n_words = len(swapped[0].words)
    return {"n_sequences": len(swapped), "n_words": n_words, "word_prefix": word_prefix, "checksum": digest}
