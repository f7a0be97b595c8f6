"""How texts go through any model: tokenised, batched by length, padded behind a mask, in evaluation mode."""

import contextlib
import importlib.metadata
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import topographic
from topographic.losses.wrappers import loaded, unwrapped
from topographic.recording.context import longest_context
from topographic.sheets.expectations import expect_kind
from topographic.stimuli.stimulus_set import StimulusSet

__all__ = [
    "Text",
    "TextBatch",
    "TooManyTokensError",
    "batches",
    "check_finite",
    "check_fit",
    "evaluating",
    "expect_tokenizer",
    "model_provenance",
    "per_token",
    "provenance_of",
    "text_batches",
    "tokenize",
]


class Text(NamedTuple):
    """One tokenised item."""

    ids: list[int]
    is_own: list[bool]  # False for special tokens: shown to the model, not pooled
    has_bos: bool


def expect_tokenizer(tokenizer: Any) -> None:
    """Refuse what cannot be called to tokenise."""
    expect_kind("tokenizer", tokenizer, Callable, f"a loaded tokenizer, such as {loaded('AutoTokenizer', tokenizer)}")


def tokenize(tokenizer: Any, stimuli: Any, add_bos: bool | None) -> list[Text]:
    """Token ids of every item, with a BOS as `record` describes it."""
    expect_tokenizer(tokenizer)
    remedy = "StimulusSet(name, items, conditions), with the condition of every item, or load_localizer('language')"
    expect_kind("stimuli", stimuli, StimulusSet, remedy)
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
    """An item of more tokens than the model's context holds."""

    def __init__(self, message: str, n_tokens: int, context: int) -> None:
        super().__init__(message)
        self.n_tokens, self.context = n_tokens, context


def check_fit(model: nn.Module, tokenizer: Any, stimuli: StimulusSet, texts: Sequence[Text]) -> None:
    """Refuse items longer than the context and ids the model has no embedding for."""
    bare, context = unwrapped(model), longest_context(model, tokenizer)
    longest = max(range(len(texts)), key=lambda index: len(texts[index].ids))
    n_tokens = len(texts[longest].ids)
    if context is not None and n_tokens > context:
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


def batches(lengths: Sequence[int], batch_size: int, *, shortest: float = 0.0) -> Iterator[list[int]]:
    """Indices in batches, the longest first so that a lack of memory shows at once.

    In a batch nothing is shorter than a share ``shortest`` of its longest; with 1 all are equally long.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) == batch_size or lengths[index] < shortest * lengths[batch[0]]):
            yield batch
            batch = []
        batch.append(index)
    yield batch


class TextBatch(NamedTuple):
    """Texts that are read in one forward pass, padded on the right, where no position shifts."""

    indices: list[int]
    run: Callable[[], Any]  # the forward pass
    shown: Int64[Tensor, "batch tokens"]  # 0 for pads
    own: Bool[Tensor, "batch tokens"]  # False for pads and special tokens


def text_batches(
    model: nn.Module, tokenizer: Any, texts: Sequence[Text], batch_size: int, *, first_alone: bool = False
) -> Iterator[TextBatch]:
    """Texts in batches; of one length each where the model cannot be told about pads.

    With ``first_alone`` the first batch holds one text: what its pass shows about the model serves all others.
    """
    parameters = inspect.signature(unwrapped(model).forward).parameters
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    takes_mask = "attention_mask" in parameters or (takes_any and "input_ids" in parameters)
    without_cache = {"use_cache": False} if takes_mask and "use_cache" in parameters else {}
    pad_id = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0  # any id does: pads are masked

    def run(ids: Tensor, shown: Tensor) -> Any:
        if takes_mask:
            return model(input_ids=ids.to(device), attention_mask=shown.to(device), **without_cache)
        return model(ids.to(device))

    for indices in batches([len(text.ids) for text in texts], batch_size, shortest=0.0 if takes_mask else 1.0):
        parts = (indices[:1], indices[1:]) if first_alone else (indices,)
        first_alone = False
        for part in filter(None, parts):
            chosen = [texts[index] for index in part]
            ids = pad_sequence([torch.tensor(text.ids) for text in chosen], batch_first=True, padding_value=pad_id)
            shown = pad_sequence([torch.ones(len(text.ids), dtype=torch.int64) for text in chosen], batch_first=True)
            own = pad_sequence([torch.tensor(text.is_own) for text in chosen], batch_first=True)
            yield TextBatch(part, partial(run, ids, shown), shown, own)


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
        item, *others = dict.fromkeys(indices[row] for row in bad)
        raise ValueError(
            f"site {site!r} gives NaN or infinity for item {item} ({stimuli.items[item][:40]!r}) and {len(others)} "
            "others of its batch; check the model's weights, or load it in float32"
        )


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


def provenance_of(model: nn.Module, tokenizer: Any, pooling: str, *, bos: bool) -> dict[str, Any]:
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
            "transformers": importlib.metadata.version("transformers"),  # which is not imported for this
        },
    }
