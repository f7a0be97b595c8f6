"""What is measured at one checkpoint: numbers as JSON holds them, each part kept under a key that holds the weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from topographic.behaviour import functional_competence, perplexity, syntaxgym, token_log_probabilities
from topographic.behaviour.harness import harness_version
from topographic.behaviour.word_accuracy import next_word_accuracy
from topographic.evaluation.choices import Choices, Shown
from topographic.evaluation.results import NotMeasurable, plain
from topographic.evaluation.subject import LanguageSubject
from topographic.maps import summarize
from topographic.maps.localizer import localizer_maps
from topographic.recording import carried_sheets
from topographic.runs.own_sheets import own_sections, trained_sites
from topographic.sheets import LAYOUTS
from topographic.storage import digest, sha256_of_file
from topographic.sweeps.checkpoint_brain import BrainMaterial, UnitSets, alignment, reading_gain
from topographic.sweeps.series import Series

__all__ = ["PARTS", "Asked", "TimePart", "Watched", "has_sheets", "measure_part", "shown_material", "subject_at"]


@dataclass(frozen=True)
class Watched:
    """What every checkpoint is shown and measured with."""

    shown: Shown = field(default_factory=Shown)
    choices: Choices = field(default_factory=Choices)
    n_units: int = 128
    """Language-selective units, or a tenth of all where there are fewer than ten times as many."""
    functional: str | None = None
    """Folder of task definitions of lm-evaluation-harness on local files, for functional competence."""
    items_per_task: int | None = None
    """Only the first items of each of those tasks; all by default."""

    def __post_init__(self) -> None:
        """Refuse to choose no unit, or no item."""
        if self.n_units < 1:
            raise ValueError(f"n_units={self.n_units}; expected at least 1 unit")
        if self.items_per_task is not None and self.items_per_task < 1:
            raise ValueError(f"items_per_task={self.items_per_task}; expected at least 1 item, or none for all")
        if self.functional is not None and not Path(self.functional).is_dir():
            raise FileNotFoundError(
                f"functional={self.functional}: no such folder; expected task definitions of lm-evaluation-harness: "
                "correct its name"
            )

    @cached_property
    def brain(self) -> BrainMaterial | None:
        """What was measured of brains and readers, read once for all checkpoints."""
        return None if self.shown.data is None else BrainMaterial(self.shown.data, self.choices)


class Asked(NamedTuple):
    """What a part is measured with, and the units whose states it reads."""

    watched: Watched
    units: UnitSets = UnitSets((), {})

    @property
    def choices(self) -> Choices:
        """The numbers."""
        return self.watched.choices

    @property
    def brain(self) -> BrainMaterial:
        """What was measured of brains and readers."""
        if self.watched.brain is None:
            raise NotMeasurable("data not given (data=FOLDER)")
        return self.watched.brain


class TimePart(NamedTuple):
    """A part: how it is measured, which choices and material decide it, and whether there is anything for it."""

    measure: Callable[[LanguageSubject, Asked], dict[str, Any]]
    choices: tuple[str, ...] = ()
    material: tuple[str, ...] = ()
    wanted: Callable[[Watched, bool], bool] = lambda _watched, _sheets: True
    reads_units: bool = False


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
    found = LanguageSubject(model=None, sites=(), layout={}, shown=watched.shown, tokenizer=None).material()
    if watched.functional is None:
        return found
    folder = Path(watched.functional)
    files = {
        str(file.relative_to(folder)): sha256_of_file(file) for file in sorted(folder.rglob("*")) if file.is_file()
    }
    return {**found, "functional": digest([harness_version(), watched.items_per_task, files])}


def has_sheets(subject: LanguageSubject) -> bool:
    """Whether its units have places of their own, and not those of a grid in the order of their numbers."""
    return subject.sites != "resid"


def _text(subject: LanguageSubject, asked: Asked) -> dict[str, Any]:
    passages = subject.passages(subject.minimal_pairs())
    options: dict[str, Any] = {"batch_size": subject.shown.batch_size, "progress": False}
    scores = token_log_probabilities(subject.model, subject.tokenizer, passages, **options)
    words = next_word_accuracy(subject.model, subject.tokenizer, passages, **options)
    return {"perplexity": perplexity(scores), "next-word accuracy": words.value, "words": int(words.words.sum())}


def _pairs(subject: LanguageSubject, asked: Asked) -> dict[str, Any]:
    scores, _ = subject.read(subject.model, subject.minimal_pairs(), progress=False)
    return {"overall": scores.overall(), "phenomena": {row["name"]: row for row in scores.by_phenomenon()}}


def _suites(subject: LanguageSubject, asked: Asked) -> dict[str, Any]:
    options: dict[str, Any] = {"batch_size": subject.shown.batch_size, "progress": False}
    rows = syntaxgym(subject.model, subject.tokenizer, subject.suites(), **options).to_rows()
    return {row["name"]: row["accuracy"] for row in rows if row["level"] != "prediction"}


def _functional(subject: LanguageSubject, asked: Asked) -> dict[str, Any]:
    folder, n_items = str(asked.watched.functional), asked.watched.items_per_task
    options: dict[str, Any] = {"n_items": n_items, "batch_size": subject.shown.batch_size}
    return {"rows": functional_competence(subject.model, subject.tokenizer, folder, **options)}


def _localizer(subject: LanguageSubject, asked: Asked) -> dict[str, Any]:
    """Values of t of every unit, from which units are chosen, here and at other checkpoints."""
    maps = localizer_maps(subject.recorded("localizer"), *subject.contrast)
    t = {site: np.round(one.values.astype(float), 5) for site, one in maps.items()}
    return {"sites": list(t), "t": t}  # files hold names in the order of the alphabet


def _topography(subject: LanguageSubject, asked: Asked) -> dict[str, Any]:
    options: dict[str, Any] = {"n_draws": asked.choices.n_draws, "seed": asked.choices.seed}
    found = summarize(subject.recorded("localizer"), *subject.contrast, **options)
    return {**found.morans_i.to_columns("I"), **found.mean_abs_t.to_columns("mean |t|", of="label")}


def _reading(subject: LanguageSubject, asked: Asked) -> dict[str, Any]:
    return reading_gain(subject, asked.brain, asked.choices)


def _alignment(subject: LanguageSubject, asked: Asked) -> dict[str, Any]:
    return alignment(subject, asked.brain, asked.units, asked.choices)


def _has_data(watched: Watched, _sheets: bool) -> bool:
    return watched.shown.data is not None


PARTS: Mapping[str, TimePart] = {
    "localizer": TimePart(_localizer, (), ("localizer",)),
    "text": TimePart(_text, (), ("text",)),
    "pairs": TimePart(_pairs, (), ("pairs",)),
    "syntaxgym": TimePart(_suites, (), ("syntaxgym",), lambda watched, _: watched.shown.syntaxgym is not None),
    "functional": TimePart(_functional, (), ("functional",), lambda watched, _: watched.functional is not None),
    "topography": TimePart(_topography, ("n_draws", "seed"), ("localizer",), lambda _, sheets: sheets),
    "reading": TimePart(_reading, ("word_folds", "spill_over", "n_draws", "seed"), ("corpora",), _has_data),
    "alignment": TimePart(_alignment, ("word_folds", "n_draws", "seed"), ("corpora",), _has_data, reads_units=True),
}


def measure_part(name: str, subject: LanguageSubject, asked: Asked) -> dict[str, Any]:
    """Numbers of a part; one that cannot be measured says why."""
    try:
        return plain(PARTS[name].measure(subject, asked))
    except NotMeasurable as reason:
        return {"not measured": str(reason)}
