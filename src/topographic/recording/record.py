"""`record`: what the units of some sites do when a model reads a stimulus set."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from topographic.recording.gathering import gather
from topographic.recording.placement import AnyLayout, chosen_sites, settled_layout
from topographic.recording.reading import (
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

__all__ = ["POOLINGS", "record"]


def record(
    model: nn.Module,
    tokenizer: Any,
    stimuli: StimulusSet,
    sites: str | Sequence[str] | None = None,
    layout: AnyLayout = None,
    *,
    relayout: bool = False,
    pooling: str = "mean",
    batch_size: int = 32,
    add_bos: bool | None = None,
    progress: bool = True,
) -> dict[str, Responses]:
    """Responses of every site's units to every item, pooled over the item's own tokens.

    ``a(item, u) = (1/T) sum_t a_t(u)`` over the T tokens of the item ("mean"), the same without the
    division ("sum"), or the last of them alone ("last").

    Parameters
    ----------
    model : nn.Module
        Any torch or Hugging Face model that takes token ids: decoder or encoder.
    tokenizer : PreTrainedTokenizerBase
        The tokenizer of that model. It needs no pad token. Items are tokenised as they stand: a
        byte-level BPE gives "dog" and " dog" different tokens, so for words as they occur inside a
        text give the items a leading space, or load the tokenizer with ``add_prefix_space=True``.
    stimuli : StimulusSet
        What to show.
    sites : str or sequence of str, optional
        Names or wildcards, as `find_sites` takes them; by default the sites of the sheets that the model carries.
    layout : callable or mapping, optional
        A layout ``(n_units, name) -> Sheet``, or the sheet of every site. By default the sheets that the model
        carries (its method ``sheets``) at their sites and `grid` elsewhere.
    relayout : bool
        Lay out anew, on purpose, what the model carries sheets for: these are not looked at.
    pooling : {"mean", "last", "sum"}
        How an item's tokens become one response.
    batch_size : int
        Items per forward pass. The responses do not depend on it.
    add_bos : bool, optional
        Put the tokenizer's beginning-of-sequence token before every item. The first position of a
        decoder is an attention sink whose activations say little about the token there; with a BOS
        the sink is no part of the response. None (default): where the tokenizer has a BOS and does
        not start sequences with a special token itself. False: as published for TopoLM.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    dict of str to Responses
        For each site values of shape (stimuli, units) in float32, in the order of the stimuli.
        ``n_tokens`` counts the item's own tokens.

    Raises
    ------
    ValueError
        If an item has no token or more than the context holds, a site's output is not
        (batch, tokens, units), a response is NaN or infinite, no sites are given and the model carries no sheets, or
        a layout does not fit or puts units elsewhere than the sheets that the model carries.
    TypeError
        If the model is not loaded, or the stimuli are no StimulusSet.

    Notes
    -----
    Pads and special tokens (BOS, [CLS], [SEP]) are hidden from the pooling, and pads from the model.
    The code released with TopoLM (arXiv:2410.11516, section 4) averages pads in, and since its
    batches hold one condition each, the pad fraction differs between conditions.

    The model runs in evaluation mode without gradients and is given back as it was.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling={pooling!r}; expected one of {sorted(POOLINGS)}")
    expect_whole("batch_size", batch_size, 1)
    names = chosen_sites(model, sites)
    layout = settled_layout(model, names, layout, relayout=relayout)
    texts = tokenize(tokenizer, stimuli, add_bos)
    check_fit(model, tokenizer, stimuli, texts)

    def respond(batch: TextBatch, site: str, heard: Tensor | None) -> Tensor:
        return _pool(site, heard, batch.own, POOLINGS[pooling])

    def check(batch: TextBatch, site: str, response: Tensor) -> None:
        check_finite(site, response, stimuli, batch.indices)

    batches = text_batches(model, tokenizer, texts, batch_size, first_alone=True)
    bar = tqdm(total=len(texts), desc="record", disable=not progress)
    values, sheets = gather(model, names, layout, batches, respond, n_rows=len(texts), bar=bar, check=check)
    n_tokens = np.array([sum(text.is_own) for text in texts])
    provenance = provenance_of(model, tokenizer, pooling, bos=texts[0].has_bos)
    return {site: Responses(site, values[site], sheets[site], stimuli, n_tokens, provenance) for site in names}


def _pool(
    site: str, heard: Tensor | None, pooled: Bool[Tensor, "batch tokens"], pool: Callable[[Tensor, Tensor], Tensor]
) -> Float[Tensor, "batch units"]:
    values = per_token(site, heard, pooled)
    mask = pooled.to(values.device).unsqueeze(-1)
    # filled, not multiplied: a pad may be NaN
    return pool(values.masked_fill(~mask, 0.0), mask)


def _last(
    values: Float[Tensor, "batch tokens units"], mask: Bool[Tensor, "batch tokens 1"]
) -> Float[Tensor, "batch units"]:
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (mask.squeeze(-1) * places).argmax(dim=1)
    return values[torch.arange(len(values), device=values.device), last]


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": lambda values, mask: values.sum(1) / mask.sum(1),
    "last": _last,
    "sum": lambda values, mask: values.sum(1),
}
