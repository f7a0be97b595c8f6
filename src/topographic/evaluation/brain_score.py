"""Any causal model as a subject of Brain-Score Language, where that package is installed."""

import contextlib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from topographic.recording import find_sites, longest_context, tap
from topographic.recording.reading import evaluating

__all__ = ["BrainScoreReader", "brain_score_subject"]

_ASSEMBLIES = ("brainscore_core.supported_data_standards.brainio.assemblies", "brainio.assemblies")


def brain_score_subject(
    model: nn.Module, tokenizer: Any, sites: Mapping[str, str | Sequence[str]], *, identifier: str
) -> Any:
    """A subject that Brain-Score Language can score: ``load_benchmark(name)(subject)``.

    Parameters
    ----------
    model : nn.Module
        Any causal language model in memory, ours among them.
    tokenizer : PreTrainedTokenizerFast
        Its tokenizer.
    sites : mapping of str to str or sequence of str
        Modules whose units are recorded for each region ("language_system"), as `find_sites` takes them.
    identifier : str
        Its name in Brain-Score. Results are kept under it: another checkpoint needs another name.

    Returns
    -------
    ArtificialSubject
        Recordings are of the last token of each part of a text, reading times are surprisal in bits.

    Raises
    ------
    ImportError
        If brainscore_language is missing.
    ValueError
        If a site does not exist.

    Notes
    -----
    A text of n parts is read in one pass where it fits into the context, not in n; the numbers are the same, because
    no token of a causal model sees what comes after it. Of a longer text the last tokens that fit are read for a part,
    as Brain-Score's own subject does.
    """
    try:
        base = importlib.import_module("brainscore_language.artificial_subject").ArtificialSubject
    except ImportError as error:
        raise ImportError(
            "a Brain-Score subject needs brainscore_language (Python 3.11, numpy < 2); run `pip install "
            "git+https://github.com/brain-score/language`"
        ) from error
    reader = BrainScoreReader(
        model, tokenizer, {region: find_sites(model, names) for region, names in sites.items()}, _assemblies()
    )
    methods = {
        "identifier": lambda self: identifier,
        "start_behavioral_task": lambda self, task: reader.start_task(task),
        "start_neural_recording": lambda self, recording_target, recording_type: reader.start_recording(
            recording_target, recording_type
        ),
        "digest_text": lambda self, text: reader.read(text),
    }
    # older versions call them so
    methods["perform_behavioral_task"] = methods["start_behavioral_task"]
    methods["perform_neural_recording"] = methods["start_neural_recording"]
    return type("TopographicSubject", (base,), methods)()


class BrainScoreReader:
    """What such a subject does with a text: assemblies of behaviour and of recordings, a row for every part."""

    def __init__(
        self, model: nn.Module, tokenizer: Any, sites: Mapping[str, Sequence[str]], assemblies: tuple[Any, Any]
    ) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(f"{type(tokenizer).__name__} gives no offsets; use a fast tokenizer")
        self._model, self._tokenizer, self._sites = model, tokenizer, dict(sites)
        self._neuroids, self._behaviours = assemblies
        self._task: str | None = None
        self._recordings: list[tuple[str, str]] = []

    def start_task(self, task: str) -> None:
        """Read for the next word, or for reading times."""
        if task not in BEHAVIOURS:
            raise ValueError(f"task={task!r}; this subject does {', '.join(BEHAVIOURS)}")
        self._task = task

    def start_recording(self, target: str, kind: str) -> None:
        """Record from a region."""
        if target not in self._sites:
            raise ValueError(f"region {target!r} has no sites; it was made with {', '.join(self._sites) or 'none'}")
        self._recordings.append((target, kind))

    @torch.no_grad()
    def read(self, text: str | Sequence[str]) -> dict[str, Any]:
        """Read the parts of a text, each after those before it."""
        parts = [text] if isinstance(text, str) else list(text)
        document = " ".join(parts)
        ends = np.cumsum([len(part) + 1 for part in parts]) - 1
        encoded = self._tokenizer(document, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
        ids, special = list(encoded["input_ids"]), np.array(encoded["special_tokens_mask"], dtype=bool)
        starts = np.array(encoded["offset_mapping"]).reshape(-1, 2)[:, 0]
        own = np.flatnonzero(~special)
        last = own[np.searchsorted(starts[own], ends, side="left") - 1]
        first = np.concatenate([[own[0]], last[:-1] + 1])
        names = list(dict.fromkeys(site for target, _ in self._recordings for site in self._sites[target]))
        context = longest_context(self._model, self._tokenizer) or len(ids)
        states: dict[str, list[np.ndarray]] = {site: [] for site in names}
        behaviour: list[Any] = []
        with evaluating(self._model):
            read_to, window = 0, 0
            for begin, end in zip(first, last, strict=True):
                if end >= read_to:  # all that still fits from the start of the text, or the last tokens up to this part
                    read_to = context if not read_to and end < context else int(end) + 1
                    window = max(0, read_to - context)
                    heard, logits = self._pass(ids[window:read_to], names)
                for site in names:
                    states[site].append(heard[site][end - window])
                if self._task is not None:
                    behaviour.append(BEHAVIOURS[self._task](logits, ids, int(begin), int(end), window, self._tokenizer))
        about = {
            "stimulus": ("presentation", parts),
            "context": ("presentation", [document[:end] for end in ends]),
            "part_number": ("presentation", list(range(len(parts)))),
        }
        found: dict[str, Any] = {"behavior": None, "neural": None}
        if self._task is not None:
            found["behavior"] = self._behaviours(behaviour, coords=about, dims=["presentation"])
        if self._recordings:
            found["neural"] = self._neural({site: np.stack(rows) for site, rows in states.items()}, about)
        return found

    def _pass(self, ids: Sequence[int], names: Sequence[str]) -> tuple[dict[str, np.ndarray], torch.Tensor]:
        device = next(self._model.parameters()).device
        tokens = torch.tensor([list(ids)], device=device)
        with tap(self._model, list(names)) if names else contextlib.nullcontext({}) as heard:
            logits = self._model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0]
        return {site: heard[site][0].float().cpu().numpy() for site in names}, logits.float()

    def _neural(self, states: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> Any:
        columns = [(target, kind, site) for target, kind in self._recordings for site in self._sites[target]]
        sizes = [states[site].shape[1] for _, _, site in columns]
        numbers = np.concatenate([np.arange(size) for size in sizes])
        layers = np.repeat([site for _, _, site in columns], sizes)
        units = {
            "layer": ("neuroid", layers),
            "region": ("neuroid", np.repeat([target for target, _, _ in columns], sizes)),
            "recording_type": ("neuroid", np.repeat([kind for _, kind, _ in columns], sizes)),
            "neuron_number_in_layer": ("neuroid", numbers),
            "neuroid_id": ("neuroid", np.array([f"{a}--{b}" for a, b in zip(layers, numbers, strict=True)])),
        }
        values = np.concatenate([states[site] for _, _, site in columns], axis=1)
        return self._neuroids(values, coords={**about, **units}, dims=["presentation", "neuroid"])


def _next_word(logits: torch.Tensor, ids: Sequence[int], begin: int, end: int, window: int, tokenizer: Any) -> str:
    return tokenizer.decode([int(logits[end - window].argmax())]).strip()


def _reading_time(logits: torch.Tensor, ids: Sequence[int], begin: int, end: int, window: int, tokenizer: Any) -> float:
    """Surprisal in bits, summed over the tokens of a part; NaN for a token alone that nothing comes before."""
    places = np.arange(max(begin, window + 1), end + 1)
    if not len(places):
        return float("nan")
    scores = torch.log_softmax(logits[places - 1 - window], dim=-1)
    return float(
        -scores[torch.arange(len(places)), torch.tensor([ids[int(place)] for place in places])].sum() / np.log(2)
    )


def _assemblies() -> tuple[Any, Any]:
    """Brain-Score's own containers, wherever its version keeps them."""
    for name in _ASSEMBLIES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return module.NeuroidAssembly, module.BehavioralAssembly
    raise ImportError(f"brainscore_language is there without its assemblies ({' or '.join(_ASSEMBLIES)}); reinstall it")


BEHAVIOURS = {"next_word": _next_word, "reading_times": _reading_time}
