"""The bench of an evaluation: the model, what it is shown, and what its units did."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import topographic
from topographic.behaviour import Suite, load_suites
from topographic.maps import Selection
from topographic.maps.localizer import load_or_localize
from topographic.objectives.weight_terms import WeightSheet
from topographic.recording import Responses, record, record_tokens
from topographic.recording.checksum import weights_checksum
from topographic.sheets import Layout, Sheet
from topographic.stimuli import StimulusSet, load_localizer
from topographic.stimuli.minimal_pairs import load_minimal_pairs
from topographic.training.text.tokenizer import tokenizer_checksum

__all__ = ["PUBLISHED_SETS", "SETS", "Bench", "Choices"]

# what stands for what: our own sets, or the published ones where their folder is given
SETS = {"localizer": "language", "profiles": "language", "words": "nouns_verbs"}
PUBLISHED_SETS = {
    "localizer": "fedorenko2010",
    "profiles": "fedorenko_swjn",
    "words": "moseley",
    "phrases": "hauptman",
}


@dataclass(frozen=True)
class Choices:
    """What decides what is measured, as the command line gives it (`EvaluateCommand`), or the run's configuration."""

    fwhm_mm: tuple[float, ...] = (0.0, 2.0)
    n_draws: int = 200
    cluster_threshold: float = 3.0
    lesion_fractions: tuple[float, ...] = (0.01, 0.05)
    lesion_draws: int = 20
    lesion_mode: Literal["zero", "mean", "resample"] = "zero"
    lesion_pairs: int = 20
    removed: tuple[float, ...] = (0.2, 0.5, 0.8)
    permuted_draws: int = 20
    window_words: int = 40
    window_sequences: int = 20
    batch_size: int = 32
    seed: int = 0
    weight_sheets: tuple[WeightSheet, ...] = ()  # those the run was trained with, one layer's name in each


@dataclass(frozen=True, eq=False)
class Bench:
    """A model with its sheets, and everything that is shown to it.

    Parameters
    ----------
    model, tokenizer
        Any Hugging Face causal model and its tokenizer.
    sites : str or list of str
        Which modules to record, as `find_sites` takes them.
    layout : callable or mapping
        Layout of the sites, or the sheet of each.
    stimuli_folder : str, optional
        Folder of the published stimulus sets; our own sets are shown without it.
    pairs : str
        Minimal pairs, as `load_minimal_pairs` takes them.
    text : str, optional
        File of passages, one a line, for the perplexity.
    n_pairs : int, optional
        Only the first minimal pairs of each paradigm.
    syntaxgym : str, optional
        SyntaxGym suites, as `load_suites` takes them.
    cache_folder : Path
        Where networks are kept.
    recording : mapping
        ``pooling`` and ``batch_size``.
    """

    model: Any
    tokenizer: Any
    sites: str | list[str]
    layout: Layout | Mapping[str, Sheet]
    stimuli_folder: str | None
    pairs: str
    text: str | None
    cache_folder: Path
    n_pairs: int | None = None
    syntaxgym: str | None = None
    recording: Mapping[str, Any] = field(default_factory=dict)
    _recorded: dict[str, dict[str, Responses]] = field(default_factory=dict, repr=False)
    kind: ClassVar[str] = "language"
    contrast: ClassVar[tuple[str, str]] = ("sentences", "nonwords")
    contrast_name: ClassVar[str] = "sentences - nonwords"

    @cached_property
    def identity(self) -> dict[str, str]:
        """Weights, tokenizer and version: what every number depends on."""
        weights, tokenizer = weights_checksum(self.model), tokenizer_checksum(self.tokenizer)
        return {"weights": weights, "tokenizer": tokenizer, "version": topographic.__version__}

    @cached_property
    def sheets(self) -> dict[str, Sheet]:
        """The sheet of every recorded site."""
        stimuli = self.stimuli("localizer").take([0, 1])
        heard = record(self.model, self.tokenizer, stimuli, self.sites, self.layout, progress=False)
        return {site: one.sheet for site, one in heard.items()}

    @property
    def has_phrases(self) -> bool:
        """Whether there is a set of noun and verb phrases beside the words."""
        return self.stimuli_folder is not None

    def stimuli(self, role: str) -> StimulusSet:
        """A stimulus set.

        Parameters
        ----------
        role : {"localizer", "profiles", "words", "phrases"}
            What it is for.

        Returns
        -------
        StimulusSet
            Ours, or the published one.
        """
        if self.stimuli_folder is None:
            return load_localizer(SETS[role])
        return load_localizer(PUBLISHED_SETS[role], self.stimuli_folder)

    def recorded(self, role: str) -> dict[str, Responses]:
        """Responses of every site to a stimulus set, recorded once.

        Parameters
        ----------
        role : {"localizer", "profiles", "words", "phrases"}
            Which set.

        Returns
        -------
        dict of site to Responses
            As `record` returns them.
        """
        stimuli = self.stimuli(role)
        if stimuli.checksum not in self._recorded:
            self._recorded[stimuli.checksum] = record(
                self.model, self.tokenizer, stimuli, self.sites, self.layout, **self.recording
            )
        return self._recorded[stimuli.checksum]

    def samples(self, seed: int) -> dict[str, dict[str, Responses]]:
        """Responses to all samples that there are, by what they are.

        Parameters
        ----------
        seed : int
            Draws tokens where there are more than 8192, as many as TopoNets took.

        Returns
        -------
        dict of str to dict of site to Responses
            Items of the localizer, and single tokens of the passages.
        """
        passages = self.passages(self.minimal_pairs())
        shown = StimulusSet("passages", passages, ("text",) * len(passages))
        step = self.recording.get("batch_size", 32)
        tokens = record_tokens(
            self.model, self.tokenizer, shown, list(self.sheets), self.sheets, batch_size=step, seed=seed
        )
        return {"items, mean over their tokens": self.recorded("localizer"), "tokens of the text": tokens}

    def network(self, **rule: Any) -> dict[str, Selection]:
        """The language network over all items of the localizer, from the cache where it is there.

        Parameters
        ----------
        **rule
            As `localize` takes it.

        Returns
        -------
        dict of site to Selection
            Units, one selection per site.
        """
        decided = {**self.identity, "pooling": self.recording.get("pooling", "mean")}
        return load_or_localize(
            lambda: self.recorded("localizer"),
            "sentences",
            "nonwords",
            cache_folder=self.cache_folder,
            model_checksum=" ".join(decided.values()),
            sheets=self.sheets,
            stimuli=self.stimuli("localizer"),
            **rule,
        )

    def minimal_pairs(self, n_per_paradigm: int | None = None) -> StimulusSet:
        """The minimal pairs.

        Parameters
        ----------
        n_per_paradigm : int, optional
            Only the first pairs of each paradigm; as many as the bench was told by default.

        Returns
        -------
        StimulusSet
            Good and bad sentences in turn.
        """
        return load_minimal_pairs(self.pairs, n_per_paradigm=n_per_paradigm or self.n_pairs)

    def suites(self) -> list[Suite]:
        """The SyntaxGym suites.

        Returns
        -------
        list of Suite
            None where none were given.
        """
        return [] if self.syntaxgym is None else load_suites(self.syntaxgym)

    def passages(self, pairs: StimulusSet) -> tuple[str, ...]:
        """What the perplexity is measured on.

        Parameters
        ----------
        pairs : StimulusSet
            Minimal pairs whose good sentences serve where no text is given.

        Returns
        -------
        tuple of str
            Lines of the text, or sentences.

        Raises
        ------
        ValueError
            If the text holds no line.
        """
        if self.text is None:
            return tuple(np.array(pairs.items)[np.array(pairs.conditions) == "good"].tolist())
        return _lines(self.text)

    def sentences(self) -> tuple[str, ...]:
        """Running text in sentences, for measures that look beyond a word.

        Returns
        -------
        tuple of str
            Sentences of the text in their order; those of the localizer, one unrelated to the next, where no text
            is given.

        Raises
        ------
        ValueError
            If the text holds no line.
        """
        if self.text is None:
            return self.stimuli("localizer").select(condition="sentences").items
        return tuple(one for line in _lines(self.text) for one in re.split(r"(?<=[.!?])\s+", line) if one)

    def material(self) -> dict[str, str]:
        """Checksums of everything that is shown.

        Returns
        -------
        dict of str to str
            By role; what was not given has none.
        """
        roles = PUBLISHED_SETS if self.has_phrases else SETS
        shown = {role: self.stimuli(role).checksum for role in roles}
        pairs = self.minimal_pairs()
        passages = StimulusSet("passages", self.passages(pairs), ("text",) * len(self.passages(pairs)))
        found = {**shown, "pairs": pairs.checksum, "text": passages.checksum}
        suites = [(one.name, one.regions, one.items, one.formulas, one.metric) for one in self.suites()]
        if suites:
            found["syntaxgym"] = hashlib.sha256(json.dumps(suites).encode()).hexdigest()
        return found


def _lines(text: str) -> tuple[str, ...]:
    lines = tuple(line.strip() for line in Path(text).read_text(encoding="utf-8").splitlines() if line.strip())
    if not lines:
        raise ValueError(f"text={text} holds no line; expected one passage per line")
    return lines
