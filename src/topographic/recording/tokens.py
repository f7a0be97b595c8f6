"""`record_tokens`: what the units of some sites do at every token, each token an item of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from topographic.recording.gathering import gather
from topographic.recording.placement import AnyLayout, chosen_sites, settled_layout
from topographic.recording.reading import (
    Text,
    TextBatch,
    check_finite,
    check_fit,
    per_token,
    provenance_of,
    text_batches,
    tokenize,
)
from topographic.recording.responses import Responses
from topographic.sheets.expectations import expect_whole
from topographic.stimuli.stimulus_set import StimulusSet

__all__ = ["record_tokens"]


def record_tokens(
    model: nn.Module,
    tokenizer: Any,
    stimuli: StimulusSet,
    sites: str | Sequence[str] | None = None,
    layout: AnyLayout = None,
    *,
    relayout: bool = False,
    max_tokens: int = 8192,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, Responses]:
    """Responses of every site's units to every token of every item, nothing pooled.

    Parameters
    ----------
    model : nn.Module
        Any torch or Hugging Face model that takes token ids.
    tokenizer : PreTrainedTokenizerBase
        The tokenizer of that model; it puts a beginning-of-sequence token before an item where it has one.
    stimuli : StimulusSet
        What to show.
    sites, layout, relayout
        As in `record`.
    max_tokens : int
        If there are more tokens than this, keep a random sample of them.
    batch_size : int
        Items per forward pass. The responses do not depend on it.
    seed : int
        Seed of the sample.

    Returns
    -------
    dict of str to Responses
        For each site values of shape (tokens, units), in the order of the text. Their stimuli are the tokens,
        with the conditions, runs and labels of their items and two more labels: ``item``, the index of the item,
        and ``place``, that of the token among the item's own. Special tokens are left out.

    Raises
    ------
    ValueError
        If ``max_tokens`` is below 2, or as `record`.

    Notes
    -----
    Tokens of one item are not independent of one another: their set says that what was sampled are items (or what the
    items were sampled by), so that tests exchange the labels of whole items.
    """
    expect_whole("max_tokens", max_tokens, 2)
    expect_whole("batch_size", batch_size, 1)
    expect_whole("seed", seed)
    names = chosen_sites(model, sites)
    layout = settled_layout(model, names, layout, relayout=relayout)
    texts = tokenize(tokenizer, stimuli, None)
    check_fit(model, tokenizer, stimuli, texts)
    kept, row_of_token = _kept(texts, max_tokens, seed)

    def rows(batch: TextBatch) -> np.ndarray:
        """-1 for tokens that are not kept."""
        return np.concatenate([row_of_token[index] for index in batch.indices])

    def respond(batch: TextBatch, site: str, heard: Tensor | None) -> Tensor:
        tokens = per_token(site, heard, batch.own)
        own = tokens[batch.own.to(tokens.device)].cpu()
        check_finite(site, own, stimuli, np.repeat(batch.indices, batch.own.sum(1)).tolist())
        return own[torch.from_numpy(rows(batch) >= 0)]

    batches = text_batches(model, tokenizer, texts, batch_size, first_alone=True)
    bar = tqdm(total=len(texts), desc="record tokens", disable=None)
    values, sheets = gather(
        model,
        names,
        layout,
        batches,
        respond,
        n_rows=len(kept),
        bar=bar,
        rows=lambda batch: rows(batch)[rows(batch) >= 0],
    )
    shown_tokens = _as_stimuli(tokenizer, stimuli, texts, kept)
    provenance = provenance_of(model, tokenizer, "none", bos=texts[0].has_bos)
    return {site: Responses(site, values[site], sheets[site], shown_tokens, provenance=provenance) for site in names}


def _kept(texts: Sequence[Text], max_tokens: int, seed: int) -> tuple[list[tuple[int, int]], list[np.ndarray]]:
    """Item and place of the tokens that are kept; and for every own token of an item its row among these, or -1."""
    lengths = [sum(text.is_own) for text in texts]
    n_tokens = sum(lengths)
    chosen = np.arange(n_tokens)
    if n_tokens > max_tokens:
        generator = np.random.default_rng(seed)
        chosen = np.sort(generator.choice(n_tokens, max_tokens, replace=False))
    rows = np.full(n_tokens, -1)
    rows[chosen] = np.arange(len(chosen))
    places = [(item, place) for item, length in enumerate(lengths) for place in range(length)]
    return [places[index] for index in chosen], np.split(rows, np.cumsum(lengths)[:-1])


def _as_stimuli(
    tokenizer: Any, stimuli: StimulusSet, texts: Sequence[Text], kept: Sequence[tuple[int, int]]
) -> StimulusSet:
    own = [[index for index, own in zip(text.ids, text.is_own, strict=True) if own] for text in texts]
    words = tokenizer.convert_ids_to_tokens([own[item][place] for item, place in kept])
    items = [item for item, _ in kept]
    labels = {key: tuple(column[item] for item in items) for key, column in stimuli.labels.items()}
    return StimulusSet(
        name=f"tokens of {stimuli.name}",
        items=tuple(word if word.strip() else repr(word) for word in words),
        conditions=tuple(stimuli.conditions[item] for item in items),
        runs=tuple(stimuli.runs[item] for item in items),
        labels={**labels, "item": tuple(map(str, items)), "place": tuple(str(place) for _, place in kept)},
        source=stimuli.source,
        licence=stimuli.licence,
        sampled_by="item" if stimuli.sampled_by is None else stimuli.sampled_by,
    )
