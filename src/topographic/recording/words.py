"""What a model does at every word of a story: responses of its units, surprisal and entropy, one pass per window."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from topographic.losses.wrappers import unwrapped
from topographic.recording.alignment import AlignedWords, align_words
from topographic.recording.checksum import weights_checksum
from topographic.recording.context import longest_context
from topographic.recording.context_windows import ContextWindow, context_starts, context_windows
from topographic.recording.hooks import tap
from topographic.recording.keeping import kept_arrays
from topographic.recording.placement import AnyLayout, chosen_sites, settled_layout
from topographic.recording.reading import Text, check_fit, evaluating, per_token, provenance_of, text_batches
from topographic.recording.responses import Responses
from topographic.sheets.expectations import expect_kind, expect_whole
from topographic.stimuli.stimulus_set import StimulusSet
from topographic.storage import code_version

__all__ = ["predict_words", "record_words", "sees_ahead"]

_PREDICTIONS = ("surprisal_nats", "entropy_nats")


def record_words(
    model: nn.Module,
    tokenizer: Any,
    words: StimulusSet,
    sites: str | Sequence[str] | None = None,
    layout: AnyLayout = None,
    *,
    relayout: bool = False,
    context: str = "half",
    n_tokens: int = 256,
    pooling: str = "last",
    texts: Mapping[str, str] | None = None,
    batch_size: int = 8,
    folder: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Responses]:
    """Responses of every site's units to every word of stories, read in their context.

    One forward pass of a causal model serves all words whose context begins at one token, so that a story costs a few
    passes; values equal those of one pass per word up to rounding.

    Parameters
    ----------
    model : nn.Module
        Any torch or Hugging Face model that takes token ids.
    tokenizer : PreTrainedTokenizerFast
        Its tokenizer, a fast one. Special tokens that it puts around a text stand around every window, and a
        beginning-of-sequence token where it has one.
    words : StimulusSet
        Words in their order; every run is a story of its own.
    sites, layout, relayout
        As in `record`; `sites_at_depths` finds sites by depth.
    context, n_tokens
        What stands before a word (`context_starts`): "half", "sliding", "restart", "word", and how many tokens.
    pooling : {"last", "mean"}
        The word's last token, or the mean over its tokens.
    texts : mapping of str to str, optional
        By run, the text as it was written, with capitals and punctuation; by default the words with spaces between.
    batch_size : int
        Windows per forward pass. The responses depend on it by rounding alone.
    folder : path, optional
        Where values are kept, one memory-mapped file per site and run, named by a checksum of all that decided it;
        other sites of the same model are added there, and what was interrupted goes on with the next run.
    progress : bool
        Show a bar.

    Returns
    -------
    dict of str to Responses
        Values of shape (words, units) by site.

    Raises
    ------
    ValueError
        If words and tokens do not fit, a window is longer than the model reads, or as `record`.

    Notes
    -----
    Whether what follows a word changes its responses is measured on the model (`sees_ahead`). Where it does (BERT)
    every word is read in a pass of its own, with nothing after it.
    """
    if pooling not in ("last", "mean"):
        raise ValueError(f"pooling={pooling!r}; expected 'last' or 'mean'")
    expect_whole("batch_size", batch_size, 1)
    names = chosen_sites(model, sites)
    settled = settled_layout(model, names, layout, relayout=relayout)
    stories = _stories(model, tokenizer, words, texts, context, n_tokens)
    about = {"pooling": pooling, "context": context, "n_tokens": n_tokens}
    ahead = sees_ahead(model, tokenizer, names)
    key = {**about, "ahead": ahead, "weights": None if folder is None else weights_checksum(model)}
    parts = [
        _kept(
            story,
            names,
            folder,
            key,
            lambda missing, story=story: _responses(
                model, tokenizer, story, missing, pooling, ahead, batch_size, progress
            ),
        )
        for story in stories
    ]
    order = np.concatenate([story.rows for story in stories])
    counts = np.empty(len(words), np.int64)
    counts[order] = np.concatenate([story.aligned.ends - story.aligned.starts for story in stories])
    provenance = provenance_of(model, tokenizer, pooling, bos=bool(stories[0].before)) | {**about, "sees_ahead": ahead}
    found = {}
    for site in names:
        values = _in_order([part[site] for part in parts], order)
        found[site] = Responses(site, values, settled(values.shape[1], site), words, counts, provenance)
    return found


def predict_words(
    model: nn.Module,
    tokenizer: Any,
    words: StimulusSet,
    *,
    context: str = "half",
    n_tokens: int = 256,
    texts: Mapping[str, str] | None = None,
    batch_size: int = 8,
    folder: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Float[np.ndarray, " words"]]:
    """Surprisal of every word, and the entropy of what the model expected in its place.

    ``surprisal = -sum over the word's tokens of log p(token | what stands before)``, ``entropy = -sum_v p(v) log p(v)``
    of the next token before the word's first one; both in nats.

    Parameters
    ----------
    model : nn.Module
        A causal model with ``logits``.
    tokenizer, words, context, n_tokens, texts, batch_size, folder, progress
        As in `record_words`.

    Returns
    -------
    dict of str to ndarray, shape (words,)
        "surprisal_nats", "entropy_nats".

    Raises
    ------
    ValueError
        If the model sees what follows, or the tokenizer has no token that begins a text, which the first word needs.
    """
    expect_whole("batch_size", batch_size, 1)
    stories = _stories(model, tokenizer, words, texts, context, n_tokens, must_begin=True)
    if sees_ahead(model, tokenizer, ()):
        raise ValueError(
            f"{type(unwrapped(model)).__name__} sees the words that it would predict; surprisal needs a causal model"
        )
    weights = None if folder is None else weights_checksum(model)
    parts = [
        _kept(
            story,
            _PREDICTIONS,
            folder,
            {"context": context, "n_tokens": n_tokens, "weights": weights},
            lambda _, story=story: _predictions(model, tokenizer, story, batch_size, progress),
        )
        for story in stories
    ]
    order = np.concatenate([story.rows for story in stories])
    return {name: _in_order([part[name] for part in parts], order)[:, 0] for name in _PREDICTIONS}


def sees_ahead(model: nn.Module, tokenizer: Any, sites: Sequence[str] = ()) -> bool:
    """Whether responses to a token change with the tokens after it, tried on a few tokens.

    Parameters
    ----------
    model : nn.Module
        Any model that takes token ids.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    sites : sequence of str
        Where to listen; the model's logits if none are given.

    Returns
    -------
    bool
        True for BERT, False for GPT.
    """
    table = getattr(unwrapped(model), "get_input_embeddings", lambda: None)()
    n_ids = min(len(tokenizer), getattr(table, "num_embeddings", len(tokenizer)))
    source = np.random.default_rng(0)
    first = source.integers(0, n_ids, 8).tolist()
    heard = []
    with evaluating(model), torch.no_grad():
        for tail in ([0, 1, 2, 3], [3, 2, 1, 0]):
            ids = [*first, *(one % n_ids for one in tail)]
            text = Text(ids, [True] * len(ids), has_bos=False)
            for batch in text_batches(model, tokenizer, [text], 1):
                with tap(model, sites) if sites else contextlib.nullcontext({}) as found:
                    output = batch.run()
                kept = [per_token(site, found.get(site), batch.own) for site in sites]
                heard.append([one[:, : len(first)] for one in kept or [_logits(output)]])
    changes = ((one - other).abs().max() / one.abs().max() for one, other in zip(*heard, strict=True))
    return any(float(change) > 1e-3 for change in changes)  # NaN, which the recording itself refuses, is no change


class _Story(NamedTuple):
    """One run: its words among all, their tokens and contexts, and what stands around every window."""

    rows: np.ndarray
    aligned: AlignedWords
    first: np.ndarray
    before: list[int]
    after: list[int]


def _stories(
    model: nn.Module,
    tokenizer: Any,
    words: Any,
    texts: Mapping[str, str] | None,
    context: str,
    n_tokens: int,
    *,
    must_begin: bool = False,
) -> list[_Story]:
    expect_kind("words", words, StimulusSet, "StimulusSet(name, words, conditions, runs), as load_words reads it")
    before, after = _around(tokenizer)
    if must_begin and not before:
        raise ValueError(
            f"{type(tokenizer).__name__} has no token to put before a text, which the first word's surprisal needs; "
            "set tokenizer.bos_token"
        )
    runs, longest = np.array(words.runs), longest_context(model, tokenizer)
    if texts is not None and (missing := sorted(set(words.runs) - set(texts))):
        raise ValueError(f"texts has none for run {missing[0]!r}; give the text of every run, or leave texts= out")
    found = []
    for run in dict.fromkeys(words.runs):
        rows = np.flatnonzero(runs == run)
        aligned = align_words(tokenizer, [words.items[row] for row in rows], None if texts is None else texts[run])
        first = context_starts(aligned.starts, aligned.ends, context, n_tokens)
        most = int((aligned.ends - first).max()) + len(before) + len(after)
        if longest is not None and most > longest:
            raise ValueError(
                f"run {run!r}: a window of {most} tokens, the model reads at most {longest}; give a smaller n_tokens "
                f"than {n_tokens}" + (" (with 'restart' a window is longer by a word)" if context == "restart" else "")
            )
        found.append(_Story(rows, aligned, first, before, after))
    return found


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Special tokens that a tokenizer puts before and after a text, at least one that begins it if there is one."""
    encoded = tokenizer(["a"], return_special_tokens_mask=True)
    ids, special = encoded["input_ids"][0], encoded["special_tokens_mask"][0]
    own = [place for place, flag in enumerate(special) if not flag]
    before, after = (ids[: own[0]], ids[own[-1] + 1 :]) if own else ([], [])
    begin = tokenizer.bos_token_id
    return list(before) or ([] if begin is None else [begin]), list(after)


def _windowed(story: _Story, windows: Sequence[ContextWindow]) -> list[Text]:
    """Windows as texts, all that stands around them hidden."""
    texts = []
    for window in windows:
        ids = story.aligned.ids[window.start : window.end].tolist()
        own = [False] * len(story.before) + [True] * len(ids) + [False] * len(story.after)
        texts.append(Text([*story.before, *ids, *story.after], own, bool(story.before)))
    return texts


def _passes(
    model: nn.Module,
    tokenizer: Any,
    story: _Story,
    windows: Sequence[ContextWindow],
    batch_size: int,
    sites: Sequence[str],
    progress: bool,
) -> Iterator[tuple[Any, Mapping[str, Tensor], Any]]:
    """Batches of windows, what was heard in each, and the model's output."""
    texts = _windowed(story, windows)
    shown = StimulusSet("windows", ("window",) * len(texts), ("word",) * len(texts))
    check_fit(model, tokenizer, shown, texts)
    bar = tqdm(total=len(story.rows), desc="read words", disable=not progress)
    with evaluating(model), torch.no_grad(), bar:
        for batch in text_batches(model, tokenizer, texts, batch_size):
            with tap(model, sites) if sites else contextlib.nullcontext({}) as heard:
                output = batch.run()
            yield batch, heard, output
            bar.update(sum(len(windows[index].words) for index in batch.indices))


def _responses(
    model: nn.Module,
    tokenizer: Any,
    story: _Story,
    sites: Sequence[str],
    pooling: str,
    ahead: bool,
    batch_size: int,
    progress: bool,
) -> dict[str, np.ndarray]:
    windows = context_windows(story.first, story.aligned.ends, is_causal=not ahead)
    found: dict[str, np.ndarray] = {}
    for batch, heard, _ in _passes(model, tokenizer, story, windows, batch_size, sites, progress):
        for site in sites:
            values = per_token(site, heard.get(site), batch.own).cpu()
            if site not in found:
                found[site] = np.empty((len(story.rows), values.shape[-1]), np.float32)
            for row, index in zip(values, batch.indices, strict=True):
                window = windows[index]
                shift = len(story.before) - window.start
                starts, ends = story.aligned.starts[window.words] + shift, story.aligned.ends[window.words] + shift
                found[site][window.words] = _pooled(row, starts, ends, pooling).numpy()
    return found


def _pooled(values: Tensor, starts: np.ndarray, ends: np.ndarray, pooling: str) -> Tensor:
    """Words from tokens."""
    if pooling == "last":
        return values[torch.from_numpy(ends - 1)]
    sums = torch.zeros(len(values) + 1, values.shape[1], dtype=torch.float64)
    sums[1:] = values.double().cumsum(0)
    lengths = torch.from_numpy(ends - starts)[:, None]
    return ((sums[torch.from_numpy(ends)] - sums[torch.from_numpy(starts)]) / lengths).float()


def _predictions(
    model: nn.Module, tokenizer: Any, story: _Story, batch_size: int, progress: bool
) -> dict[str, np.ndarray]:
    windows = context_windows(story.first, story.aligned.ends)
    found = {name: np.empty((len(story.rows), 1), np.float32) for name in _PREDICTIONS}
    for batch, _, output in _passes(model, tokenizer, story, windows, batch_size, (), progress):
        for logits, index in zip(_logits(output), batch.indices, strict=True):
            window = windows[index]
            shift = len(story.before) - window.start
            starts, ends = story.aligned.starts[window.words] + shift, story.aligned.ends[window.words] + shift
            first, last = int(starts.min()), int(ends.max())
            ids = torch.from_numpy(story.aligned.ids[first - shift : last - shift]).to(logits.device)
            log_p = torch.log_softmax(logits[first - 1 : last - 1].float(), dim=-1)
            token = -log_p.gather(1, ids[:, None])[:, 0].double().cpu().numpy()
            sums = np.concatenate([[0.0], np.cumsum(token)])
            found["surprisal_nats"][window.words, 0] = sums[ends - first] - sums[starts - first]
            before = log_p[torch.from_numpy(starts - first).to(log_p.device)]
            # 0 log 0 is 0
            entropy = -torch.where(before.isfinite(), before.exp() * before, 0.0).sum(-1)
            found["entropy_nats"][window.words, 0] = entropy.cpu().numpy()
    return found


def _logits(output: Any) -> Tensor:
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 3:
        raise ValueError(f"the model returned {type(output).__name__} without logits; load it with its language head")
    return logits


def _kept(
    story: _Story,
    names: Sequence[str],
    folder: str | Path | None,
    about: Mapping[str, Any],
    measure: Callable[[list[str]], Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Values by name, from their files where these are; what is missing is measured at once and written."""
    if folder is None:
        return dict(measure(list(names)))
    places = {
        "tokens": hashlib.sha256(story.aligned.ids.tobytes()).hexdigest(),
        "places": [story.aligned.starts.tolist(), story.aligned.ends.tolist(), story.first.tolist()],
        "around": [story.before, story.after],
    }
    key = {**about, **places, "code": code_version(__name__)}
    return kept_arrays(folder, "words", key, names, measure)


def _in_order(parts: Sequence[np.ndarray], order: np.ndarray) -> np.ndarray:
    """Rows of all stories in the order of the words; one story whose words are in order stays in its file."""
    if len(parts) == 1 and (order == np.arange(len(order))).all():
        return parts[0]
    values = np.empty((len(order), parts[0].shape[1]), np.float32)
    values[order] = np.concatenate(parts)
    return values
