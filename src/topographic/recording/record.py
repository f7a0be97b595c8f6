"""`record`: what the units of some sites do when a model reads a stimulus set."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from topographic.recording.hooks import tap
from topographic.recording.reading import (
    batches,
    caller,
    check_finite,
    check_fit,
    check_layout_names,
    evaluating,
    padded,
    per_token,
    provenance_of,
    sheet_of,
    tokenize,
)
from topographic.recording.responses import Responses
from topographic.recording.sites import find_sites
from topographic.sheets import Layout, Sheet, grid
from topographic.stimuli.stimulus_set import StimulusSet

__all__ = ["POOLINGS", "record"]


def record(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    stimuli: StimulusSet,
    sites: str | Sequence[str],
    layout: Layout | Mapping[str, Sheet] = grid,
    *,
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
    sites : str or sequence of str
        Names or wildcards, as `find_sites` takes them.
    layout : callable or mapping
        A layout ``(n_units, name) -> Sheet``, called once per site, or the sheet of every site
        (``model.sheets()`` of a topographic model).
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
        (batch, tokens, units), a response is NaN or infinite, or a layout does not fit.

    Notes
    -----
    Pads and special tokens (BOS, [CLS], [SEP]) are hidden from the pooling, and pads from the model.
    The code released with TopoLM (arXiv:2410.11516, section 4) averages pads in, and since its
    batches hold one condition each, the pad fraction differs between conditions.

    The model runs in evaluation mode without gradients and is given back as it was.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling={pooling!r}; expected one of {sorted(POOLINGS)}")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected at least 1")
    names = find_sites(model, sites)
    check_layout_names(layout, names)
    texts = tokenize(tokenizer, stimuli, add_bos)
    check_fit(model, tokenizer, stimuli, texts)
    call, takes_mask = caller(model)
    pad_id = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0  # any id does: pads are masked

    sheets: dict[str, Sheet] = {}
    values: dict[str, np.ndarray] = {}
    with evaluating(model), torch.no_grad(), tqdm(total=len(texts), desc="record", disable=not progress) as bar:
        for indices in batches(texts, batch_size, may_pad=takes_mask):
            ids, shown, pooled = padded([texts[index] for index in indices], pad_id)
            with tap(model, names) as heard:
                call(ids, shown)
            for site in names:
                response = _pool(site, heard.get(site), pooled, POOLINGS[pooling])
                check_finite(site, response, stimuli, indices)
                if site not in sheets:
                    sheets[site] = sheet_of(layout, site, response.shape[1])
                    values[site] = np.empty((len(texts), response.shape[1]), np.float32)
                values[site][indices] = response.cpu().numpy()
            bar.update(len(indices))

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
