"""What is measured at one checkpoint: numbers as JSON holds them, each part kept under a key that holds the weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from topographic.behaviour import perplexity, syntaxgym, token_log_probabilities
from topographic.behaviour.word_accuracy import next_word_accuracy
from topographic.evaluation.choices import Choices, Shown
from topographic.evaluation.parts.sentence_averages import sentence_averages
from topographic.evaluation.parts.word_surprisal import word_surprisal_gain
from topographic.evaluation.results import NotMeasurable, plain
from topographic.evaluation.subject import LanguageSubject
from topographic.maps import summarize
from topographic.maps.localizer import localizer_maps
from topographic.recording import carried_sheets
from topographic.runs.own_sheets import own_sections, trained_sites
from topographic.sheets import LAYOUTS
from topographic.sweeps.series import Series

__all__ = ["PARTS", "TimePart", "Watched", "has_sheets", "measure_part", "shown_material", "subject_at"]


@dataclass(frozen=True)
class Watched:
    """What every checkpoint is shown and measured with."""

    shown: Shown = field(default_factory=Shown)
    choices: Choices = field(default_factory=Choices)
    n_units: int = 128
    """Language-selective units, or a tenth of all where there are fewer than ten times as many."""

    def __post_init__(self) -> None:
        """Refuse to choose no unit."""
        if self.n_units < 1:
            raise ValueError(f"n_units={self.n_units}; expected at least 1 unit")


class TimePart(NamedTuple):
    """A part: how it is measured, which choices and material decide it, and whether there is anything for it."""

    measure: Callable[[LanguageSubject, Choices], dict[str, Any]]
    choices: tuple[str, ...] = ()
    material: tuple[str, ...] = ()
    wanted: Callable[[Shown, bool], bool] = lambda _shown, _sheets: True


def subject_at(model: Any, tokenizer: Any, series: Series, watched: Watched) -> LanguageSubject:
    """A checkpoint that can be measured: at the sheets it carries or its run names, or at the ends of its blocks."""
    if carried := carried_sheets(model):
        sites, layout = list(carried), carried
    else:
        own = None if series.run is None else trained_sites(model, own_sections(series.run))
        sites, layout = ("resid", LAYOUTS["grid"]) if own is None else own
    return LanguageSubject(
        model=model,
        sites=sites,
        layout=layout,
        shown=watched.shown,
        source=series.name,
        tokenizer=tokenizer,
        progress=False,
    )


def shown_material(watched: Watched) -> dict[str, str]:
    """Checksums of all that is shown, as it is today."""
    return LanguageSubject(model=None, sites=(), layout={}, shown=watched.shown, tokenizer=None).material()


def has_sheets(subject: LanguageSubject) -> bool:
    """Whether its units have places of their own, and not those of a grid in the order of their numbers."""
    return subject.sites != "resid"


def _text(subject: LanguageSubject, choices: Choices) -> dict[str, Any]:
    passages = subject.passages(subject.minimal_pairs())
    options: dict[str, Any] = {"batch_size": subject.shown.batch_size, "progress": False}
    scores = token_log_probabilities(subject.model, subject.tokenizer, passages, **options)
    words = next_word_accuracy(subject.model, subject.tokenizer, passages, **options)
    return {"perplexity": perplexity(scores), "next-word accuracy": words.value, "words": int(words.words.sum())}


def _pairs(subject: LanguageSubject, choices: Choices) -> dict[str, Any]:
    scores, _ = subject.read(subject.model, subject.minimal_pairs(), progress=False)
    return {"overall": scores.overall(), "phenomena": {row["name"]: row for row in scores.by_phenomenon()}}


def _suites(subject: LanguageSubject, choices: Choices) -> dict[str, Any]:
    options: dict[str, Any] = {"batch_size": subject.shown.batch_size, "progress": False}
    rows = syntaxgym(subject.model, subject.tokenizer, subject.suites(), **options).to_rows()
    return {row["name"]: row["accuracy"] for row in rows if row["level"] != "prediction"}


def _localizer(subject: LanguageSubject, choices: Choices) -> dict[str, Any]:
    """Values of t of every unit, from which units are chosen, here and at other checkpoints."""
    maps = localizer_maps(subject.recorded("localizer"), *subject.contrast)
    return {"t": {site: np.round(one.values.astype(float), 5) for site, one in maps.items()}}


def _topography(subject: LanguageSubject, choices: Choices) -> dict[str, Any]:
    options: dict[str, Any] = {"n_draws": choices.n_draws, "seed": choices.seed}
    found = summarize(subject.recorded("localizer"), *subject.contrast, **options)
    return {**found.morans_i.to_columns("I"), **found.mean_abs_t.to_columns("mean |t|", of="label")}


def _reading(subject: LanguageSubject, choices: Choices) -> dict[str, Any]:
    return {"rows": word_surprisal_gain(subject, choices)["gains"].rows}


def _sentences(subject: LanguageSubject, choices: Choices) -> dict[str, Any]:
    return {"rows": sentence_averages(subject, choices)["scores"].rows}


def _has_data(shown: Shown, _sheets: bool) -> bool:
    return shown.data is not None


PARTS: Mapping[str, TimePart] = {
    "text": TimePart(_text, (), ("text",)),
    "pairs": TimePart(_pairs, (), ("pairs",)),
    "syntaxgym": TimePart(_suites, (), ("syntaxgym",), lambda shown, _: shown.syntaxgym is not None),
    "localizer": TimePart(_localizer, (), ("localizer",)),
    "topography": TimePart(_topography, ("n_draws", "seed"), ("localizer",), lambda _, sheets: sheets),
    "reading": TimePart(_reading, ("word_folds", "spill_over", "n_draws", "seed"), ("corpora",), _has_data),
    "sentences": TimePart(_sentences, ("word_folds", "n_draws", "seed"), ("corpora",), _has_data),
}


def measure_part(name: str, subject: LanguageSubject, choices: Choices) -> dict[str, Any]:
    """Numbers of a part; one that cannot be measured says why."""
    try:
        return plain(PARTS[name].measure(subject, choices))
    except NotMeasurable as reason:
        return {"not measured": str(reason)}
