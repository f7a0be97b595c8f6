"""`record`: what the units of some sites do when a model reads a stimulus set."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

import topographic
from topographic.recording.hooks import tap
from topographic.recording.responses import Responses
from topographic.recording.sites import find_sites, unwrapped
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
    _check_layout_names(layout, names)
    texts = _tokenize(tokenizer, stimuli, add_bos)
    _check_fit(model, tokenizer, stimuli, texts)
    call, takes_mask = _caller(model)
    pad_id = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0  # any id does: pads are masked

    sheets: dict[str, Sheet] = {}
    values: dict[str, np.ndarray] = {}
    with _evaluating(model), torch.no_grad(), tqdm(total=len(texts), desc="record", disable=not progress) as bar:
        for indices in _batches(texts, batch_size, may_pad=takes_mask):
            ids, shown, pooled = _padded([texts[index] for index in indices], pad_id)
            with tap(model, names) as heard:
                call(ids, shown)
            for site in names:
                response = _pool(site, heard.get(site), pooled, POOLINGS[pooling])
                _check_finite(site, response, stimuli, indices)
                if site not in sheets:
                    sheets[site] = _sheet(layout, site, response.shape[1])
                    values[site] = np.empty((len(texts), response.shape[1]), np.float32)
                values[site][indices] = response.cpu().numpy()
            bar.update(len(indices))

    n_tokens = np.array([sum(text.is_own) for text in texts])
    provenance = _provenance(model, tokenizer, pooling, bos=texts[0].has_bos)
    return {site: Responses(site, values[site], sheets[site], stimuli, n_tokens, provenance) for site in names}


class _Text(NamedTuple):
    """One tokenised item."""

    ids: list[int]
    is_own: list[bool]  # False for special tokens: shown to the model, not pooled
    has_bos: bool


def _tokenize(tokenizer: PreTrainedTokenizerBase, stimuli: StimulusSet, add_bos: bool | None) -> list[_Text]:
    encoded = tokenizer(list(stimuli.items), return_special_tokens_mask=True, padding=False, truncation=False)
    bos = tokenizer.bos_token_id
    if add_bos and bos is None:
        raise ValueError(f"add_bos=True, but {type(tokenizer).__name__} has no bos_token; set it or leave add_bos out")
    texts = []
    for index, (ids, special) in enumerate(zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)):
        own = [not flag for flag in special]
        if not any(own):
            raise ValueError(
                f"stimulus set {stimuli.name!r}: item {index} ({stimuli.items[index]!r}) tokenises to nothing; "
                "remove it or use a tokenizer that knows its characters"
            )
        starts_special = not own[0]
        wants_bos = not starts_special and (add_bos or (add_bos is None and bos is not None))
        if wants_bos:
            ids, own = [bos, *ids], [False, *own]
        elif add_bos is False and starts_special and ids[0] == bos:
            ids, own = ids[1:], own[1:]
        texts.append(_Text(list(ids), own, has_bos=ids[0] == bos and not own[0]))
    return texts


def _check_fit(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, stimuli: StimulusSet, texts: Sequence[_Text]
) -> None:
    """Refuse items longer than the context and ids the model has no embedding for."""
    bare = unwrapped(model)
    positions = getattr(getattr(bare, "config", None), "max_position_embeddings", None)
    context = min(positions or tokenizer.model_max_length, tokenizer.model_max_length)
    longest = max(range(len(texts)), key=lambda index: len(texts[index].ids))
    if len(texts[longest].ids) > context:
        raise ValueError(
            f"stimulus set {stimuli.name!r}: item {longest} ({stimuli.items[longest][:40]!r}...) has "
            f"{len(texts[longest].ids)} tokens; the model reads at most {context}: shorten or split it"
        )
    lookup = getattr(bare, "get_input_embeddings", None)
    embeddings = lookup() if callable(lookup) else None
    highest = max(max(text.ids) for text in texts)
    # checked here because on a GPU an id out of range ends the whole process
    if isinstance(embeddings, nn.Embedding) and highest >= embeddings.num_embeddings:
        raise ValueError(
            f"the tokenizer gives token id {highest}; {type(bare).__name__} embeds {embeddings.num_embeddings} ids: "
            "use the tokenizer the model was trained with"
        )


def _batches(texts: Sequence[_Text], batch_size: int, *, may_pad: bool) -> Iterator[list[int]]:
    """Indices of items of similar length, the longest first so that a lack of memory shows at once."""
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index].ids))
    batch: list[int] = []
    for index in order:
        alike = not batch or may_pad or len(texts[index].ids) == len(texts[batch[0]].ids)
        if len(batch) == batch_size or not alike:
            yield batch
            batch = []
        batch.append(index)
    yield batch


def _padded(
    texts: Sequence[_Text], pad_id: int
) -> tuple[Int64[Tensor, "batch tokens"], Int64[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
    """Ids, the mask the model gets and the mask that is pooled; pads on the right, where no position shifts."""
    shape = len(texts), max(len(text.ids) for text in texts)
    ids, shown = torch.full(shape, pad_id, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    pooled = torch.zeros(shape, dtype=torch.bool)
    for row, text in enumerate(texts):
        ids[row, : len(text.ids)] = torch.tensor(text.ids)
        shown[row, : len(text.ids)] = 1
        pooled[row, : len(text.ids)] = torch.tensor(text.is_own)
    return ids, shown, pooled


def _caller(model: nn.Module) -> tuple[Callable[[Tensor, Tensor], Any], bool]:
    """How to call the model, and whether it can be told about pads; if not, batches hold one length each."""
    parameters = inspect.signature(unwrapped(model).forward).parameters
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    if "attention_mask" in parameters or (takes_any and "input_ids" in parameters):
        return lambda ids, shown: model(input_ids=ids.to(device), attention_mask=shown.to(device)), True
    return lambda ids, _: model(ids.to(device)), False


def _pool(
    site: str, heard: Tensor | None, pooled: Bool[Tensor, "batch tokens"], pool: Callable[[Tensor, Tensor], Tensor]
) -> Float[Tensor, "batch units"]:
    if heard is None:
        raise ValueError(f"site {site!r} was not called while the model read the stimuli; choose another module")
    if heard.ndim != 3 or heard.shape[:2] != pooled.shape:
        raise ValueError(
            f"site {site!r} gives shape {tuple(heard.shape)}; expected (batch, tokens, units) = "
            f"({pooled.shape[0]}, {pooled.shape[1]}, units): choose a module that gives one vector per token"
        )
    mask = pooled.to(heard.device).unsqueeze(-1)
    # filled, not multiplied: a pad may be NaN
    return pool(heard.float().masked_fill(~mask, 0.0), mask)


def _check_finite(
    site: str, response: Float[Tensor, "batch units"], stimuli: StimulusSet, indices: Sequence[int]
) -> None:
    bad = torch.nonzero(~response.isfinite().all(dim=1)).flatten().tolist()
    if bad:
        item = indices[bad[0]]
        raise ValueError(
            f"site {site!r} gives NaN or infinity for item {item} ({stimuli.items[item][:40]!r}) and {len(bad) - 1} "
            "others of its batch; check the model's weights, or load it in float32"
        )


def _check_layout_names(layout: Layout | Mapping[str, Sheet], names: Sequence[str]) -> None:
    if not isinstance(layout, Mapping):
        return
    missing = [name for name in names if name not in layout]
    if missing:
        raise ValueError(
            f"layout has no sheet for site {missing[0]!r} ({len(missing)} of {len(names)} sites lack one); "
            f"it holds {', '.join(map(repr, list(layout)[:3]))}...: add it or narrow the site patterns"
        )


def _sheet(layout: Layout | Mapping[str, Sheet], site: str, n_units: int) -> Sheet:
    sheet = layout[site] if isinstance(layout, Mapping) else layout(n_units, site)
    if sheet.n_units != n_units:
        raise ValueError(
            f"site {site!r} has {n_units} units and its sheet {sheet.name!r} places {sheet.n_units}; "
            "give it a layout of its width"
        )
    return sheet


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, with every module's own mode put back: parts of a model may be frozen in another."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _provenance(model: nn.Module, tokenizer: PreTrainedTokenizerBase, pooling: str, *, bos: bool) -> dict[str, Any]:
    bare = unwrapped(model)
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.get_default_dtype())
    return {
        "model": type(bare).__name__,
        "name_or_path": str(getattr(bare, "name_or_path", "")),
        "tokenizer": type(tokenizer).__name__,
        "pooling": pooling,
        "bos": bos,
        "dtype": str(dtype).removeprefix("torch."),
        "versions": {
            "topographic": topographic.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


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
