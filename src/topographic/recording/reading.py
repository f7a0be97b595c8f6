"""How texts go through any model: tokenised, batched by length, padded behind a mask, in evaluation mode."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import transformers
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

import topographic
from topographic.recording.sites import unwrapped
from topographic.sheets import Layout, Sheet
from topographic.stimuli.stimulus_set import StimulusSet

__all__ = [
    "Text",
    "TooManyTokensError",
    "batches",
    "caller",
    "check_finite",
    "check_fit",
    "check_layout_names",
    "evaluating",
    "model_provenance",
    "padded",
    "per_token",
    "provenance_of",
    "sheet_of",
    "tokenize",
]


class Text(NamedTuple):
    """One tokenised item."""

    ids: list[int]
    is_own: list[bool]  # False for special tokens: shown to the model, not pooled
    has_bos: bool


def tokenize(tokenizer: PreTrainedTokenizerBase, stimuli: StimulusSet, add_bos: bool | None) -> list[Text]:
    """Token ids of every item, with a BOS as `record` describes it."""
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
        texts.append(Text(list(ids), own, has_bos=ids[0] == bos and not own[0]))
    return texts


class TooManyTokensError(ValueError):
    """An item that is longer than the model's context.

    Parameters
    ----------
    message : str
        What to say.
    n_tokens : int
        Tokens of the item.
    context : int
        Tokens that the model reads at most.
    """

    def __init__(self, message: str, n_tokens: int, context: int) -> None:
        super().__init__(message)
        self.n_tokens, self.context = n_tokens, context


def check_fit(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, stimuli: StimulusSet, texts: Sequence[Text]
) -> None:
    """Refuse items longer than the context and ids the model has no embedding for."""
    bare = unwrapped(model)
    positions = getattr(getattr(bare, "config", None), "max_position_embeddings", None)
    context = min(positions or tokenizer.model_max_length, tokenizer.model_max_length)
    longest = max(range(len(texts)), key=lambda index: len(texts[index].ids))
    n_tokens = len(texts[longest].ids)
    if n_tokens > context:
        message = (
            f"stimulus set {stimuli.name!r}: item {longest} ({stimuli.items[longest][:40]!r}...) has {n_tokens} "
            f"tokens; the model reads at most {context}: shorten or split it"
        )
        raise TooManyTokensError(message, n_tokens, context)
    lookup = getattr(bare, "get_input_embeddings", None)
    embeddings = lookup() if callable(lookup) else None
    highest = max(max(text.ids) for text in texts)
    # checked here because on a GPU an id out of range ends the whole process
    if isinstance(embeddings, nn.Embedding) and highest >= embeddings.num_embeddings:
        raise ValueError(
            f"the tokenizer gives token id {highest}; {type(bare).__name__} embeds {embeddings.num_embeddings} ids: "
            "use the tokenizer the model was trained with"
        )


def batches(texts: Sequence[Text], batch_size: int, *, may_pad: bool) -> Iterator[list[int]]:
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


def padded(
    texts: Sequence[Text], pad_id: int
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


def caller(model: nn.Module) -> tuple[Callable[[Tensor, Tensor], Any], bool]:
    """How to call the model, and whether it can be told about pads; if not, batches hold one length each."""
    parameters = inspect.signature(unwrapped(model).forward).parameters
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    if "attention_mask" in parameters or (takes_any and "input_ids" in parameters):
        return lambda ids, shown: model(input_ids=ids.to(device), attention_mask=shown.to(device)), True
    return lambda ids, _: model(ids.to(device)), False


def per_token(
    site: str, heard: Tensor | None, shown: Int64[Tensor, "batch tokens"] | Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens units"]:
    """What a site said at every token, in float32; modules that see all tokens of a batch in one row are unrolled."""
    if heard is None:
        raise ValueError(f"site {site!r} was not called while the model read; choose another module")
    n_texts, n_tokens = shown.shape
    if heard.ndim == 2 and len(heard) == n_texts * n_tokens:  # the MLP of OPT
        heard = heard.unflatten(0, (n_texts, n_tokens))
    if heard.ndim != 3 or heard.shape[:2] != shown.shape:
        raise ValueError(
            f"site {site!r} gives shape {tuple(heard.shape)}; expected (batch, tokens, units) = ({n_texts}, "
            f"{n_tokens}, units): choose a module that gives one vector per token"
        )
    return heard.float()


def check_finite(
    site: str, response: Float[Tensor, "batch units"], stimuli: StimulusSet, indices: Sequence[int]
) -> None:
    """Refuse a response that is no number, naming its item."""
    bad = torch.nonzero(~response.isfinite().all(dim=1)).flatten().tolist()
    if bad:
        item = indices[bad[0]]
        raise ValueError(
            f"site {site!r} gives NaN or infinity for item {item} ({stimuli.items[item][:40]!r}) and {len(bad) - 1} "
            "others of its batch; check the model's weights, or load it in float32"
        )


def check_layout_names(layout: Layout | Mapping[str, Sheet], names: Sequence[str]) -> None:
    """Refuse a mapping of sheets that lacks a site, before anything is recorded."""
    if not isinstance(layout, Mapping):
        return
    missing = [name for name in names if name not in layout]
    if missing:
        raise ValueError(
            f"layout has no sheet for site {missing[0]!r} ({len(missing)} of {len(names)} sites lack one); "
            f"it holds {', '.join(map(repr, list(layout)[:3]))}...: add it or narrow the site patterns"
        )


def sheet_of(layout: Layout | Mapping[str, Sheet], site: str, n_units: int) -> Sheet:
    """Sheet of one site, of the width the site turned out to have."""
    sheet = layout[site] if isinstance(layout, Mapping) else layout(n_units, site)
    if sheet.n_units != n_units:
        raise ValueError(
            f"site {site!r} has {n_units} units and its sheet {sheet.name!r} places {sheet.n_units}; "
            "give it a layout of its width"
        )
    return sheet


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, with every module's own mode put back: parts of a model may be frozen in another."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def provenance_of(model: nn.Module, tokenizer: PreTrainedTokenizerBase, pooling: str, *, bos: bool) -> dict[str, Any]:
    """What JSON keeps about a recording of texts."""
    return model_provenance(model) | {"tokenizer": type(tokenizer).__name__, "pooling": pooling, "bos": bos}


def model_provenance(model: nn.Module) -> dict[str, Any]:
    """What JSON keeps about the model of a recording."""
    bare = unwrapped(model)
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.get_default_dtype())
    return {
        "model": type(bare).__name__,
        "name_or_path": str(getattr(bare, "name_or_path", "")),
        "dtype": str(dtype).removeprefix("torch."),
        "versions": {
            "topographic": topographic.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
