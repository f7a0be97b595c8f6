"""A checkpoint beside the brain and readers: as many features of every kind, and what does not depend on the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from topographic.brain.assembly_scores import LENGTH
from topographic.brain.folds import Folds, run_folds
from topographic.brain.word_corpora import SentenceCorpus, WordCorpus, load_sentence_corpora, load_word_corpora
from topographic.brain.word_scores import (
    grouped_correlation,
    grouped_gain,
    held_out_words,
    likelihood_gain,
    sentence_and_type_folds,
    usable_words,
)
from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.word_encoding import states_of
from topographic.evaluation.results import NotMeasurable
from topographic.evaluation.subject import LanguageSubject
from topographic.evaluation.word_readings import CONTROLS, EMBEDDING, embedding_site
from topographic.recording import RandomTokens, record
from topographic.stimuli import StimulusSet
from topographic.training.text.tokenizer import tokenizer_checksum

__all__ = ["RANDOM_TOKENS", "BrainMaterial", "UnitSets", "alignment", "reading_gain"]

RANDOM_TOKENS = "random tokens"
_CONTROLS = {"potentials": CONTROLS, "sentence averages": LENGTH}
_MILLISECONDS = "(ms)"  # measures of reading: told by likelihood, not by correlation
_FEWEST_WORDS = 200


class UnitSets(NamedTuple):
    """As many units of every kind, by name one set or several draws of it; numbers count units site after site."""

    sites: Sequence[str]
    chosen: Mapping[str, Sequence[Int[np.ndarray, " units"]]]

    @property
    def first(self) -> str:
        """The kind that the others are held against."""
        return next(iter(self.chosen))


class _Target(NamedTuple):
    """Items, what was measured of them, and how they are held out."""

    corpus: WordCorpus | SentenceCorpus
    usable: np.ndarray
    measures: Float[np.ndarray, "items measures"]
    groups: np.ndarray
    folds: Mapping[str, Folds]
    controls: Float[np.ndarray, "items controls"]


class _Targets(NamedTuple):
    """Targets by kind, and held-out predictions of their controls alone, by kind, corpus and folds."""

    of: Mapping[str, list[_Target]]
    by_controls: Mapping[tuple[str, int, str], np.ndarray]


@dataclass(frozen=True, eq=False)
class BrainMaterial:
    """Corpora, folds, and what controls alone predict: read and computed once for all checkpoints of a tokenizer."""

    data: str | Path
    choices: Choices
    _targets: dict[str, _Targets] = field(default_factory=dict, repr=False)

    @cached_property
    def corpora(self) -> dict[str, WordCorpus]:
        """Corpora measured word by word."""
        return load_word_corpora(self.data)

    def targets(self, tokenizer: Any) -> _Targets:
        """Potentials: all measures of words but times; sentence averages: one response per sentence."""
        key = tokenizer_checksum(tokenizer)
        if key not in self._targets:
            words = [self._of_words(one, tokenizer) for one in self.corpora.values()]
            sentences = [self._of_sentences(one) for one in load_sentence_corpora(self.data).values()]
            found = {"potentials": [one for one in words if one is not None], "sentence averages": sentences}
            by_controls = {
                # a feature that says nothing: what least squares from the controls predict
                (kind, place, folds): held_out_words(
                    np.zeros((len(one.groups), 1)), one.measures, cut, controls=one.controls
                )
                for kind, some in found.items()
                for place, one in enumerate(some)
                for folds, cut in one.folds.items()
            }
            self._targets[key] = _Targets({name: some for name, some in found.items() if some}, by_controls)
        return self._targets[key]

    def _of_words(self, corpus: WordCorpus, tokenizer: Any) -> _Target | None:
        kept = {name: values for name, values in corpus.measures.items() if not name.endswith(_MILLISECONDS)}
        if not kept:
            return None
        controls = corpus.controls(tokenizer=tokenizer)
        usable = usable_words(kept, controls)
        text, types = corpus.text[usable], np.array(corpus.types)[usable]
        n = min(self.choices.word_folds, len(np.unique(text)))
        folds = {"": run_folds(text, n)}
        folds["types"] = sentence_and_type_folds(text, types, max(2, n // 2), seed=self.choices.seed)
        measures = np.column_stack([one[usable] for one in kept.values()])
        return _Target(corpus, usable, measures, text, folds, np.column_stack(list(controls.values()))[usable])

    def _of_sentences(self, corpus: SentenceCorpus) -> _Target:
        topics = np.array(corpus.groups)
        folds = run_folds(topics, min(self.choices.word_folds, len(set(corpus.groups))))
        controls = np.column_stack(list(corpus.controls().values()))
        usable = np.ones(len(corpus), dtype=bool)
        return _Target(corpus, usable, corpus.response[:, None], topics, {"": folds}, controls)


def alignment(subject: LanguageSubject, material: BrainMaterial, units: UnitSets, choices: Choices) -> dict[str, Any]:
    """Held-out correlation of as many features of every kind, all measures of a kind z-scored and taken together.

    Units of random draws, of the embedding layer too, are drawn five times: means over the draws, ends of intervals
    included; words whose type was never seen are predicted from the first draw alone. Intervals and p are over
    sentences or topics. Added R2: to what least squares from the controls leave, those of words, or length and
    position of sentences.
    """
    read = material.targets(subject.tokenizer)
    if not read.of:
        raise NotMeasurable(f"no corpus of potentials or averages per sentence lies below {material.data}")
    first, rows = units.first, []
    for kind, targets in read.of.items():
        controls = _CONTROLS[kind]
        features = [_features(subject, one, units, choices) for one in targets]
        drawn: dict[str, Any] = {"n_draws": max(choices.n_draws, 2), "seed": choices.seed}
        kinds = ["", *(["types"] if all("types" in one.folds for one in targets) else [])]
        observed, groups = _standard(targets, [one.measures for one in targets]), _groups(targets)
        predicted = {
            (name, folds): [
                _standard(
                    targets,
                    [
                        held_out_words(features[place][name][draw], one.measures, one.folds[folds])
                        for place, one in enumerate(targets)
                    ],
                )
                for draw in range(1 if folds else len(features[0][name]))  # word types of the first draw alone
            ]
            for name in features[0]
            for folds in kinds
        }
        for folds in kinds:
            alone = [read.by_controls[kind, place, folds] for place in range(len(targets))]
            predicted[controls, folds] = [_standard(targets, alone)]
        for name in (*features[0], controls):
            row: dict[str, Any] = {"of": kind, "features": name, "items": len(np.unique(groups))}
            row["number"] = targets[0].controls.shape[1] if name == controls else features[0][name][0].shape[1]
            for folds in kinds:
                found = [grouped_correlation(observed, one, groups, **drawn) for one in predicted[name, folds]]
                row |= _means({"r": "value", "low": "low", "high": "high"}, found, folds)
            if name not in (first, controls):
                beside = [
                    grouped_correlation(observed, predicted[first, ""][0], groups, beside=one, **drawn)
                    for one in predicted[name, ""]
                ]
                row |= _means(
                    {"first - this": "value", "low (first - this)": "low", "high (first - this)": "high"}, beside
                )
            if name in (first, EMBEDDING):
                row |= _added(targets, [one[name][0] for one in features], predicted[controls, ""][0], drawn)
            rows.append(row)
    return {"rows": rows}


def reading_gain(subject: LanguageSubject, material: BrainMaterial, choices: Choices) -> dict[str, Any]:
    """Gain in held-out log-likelihood per word of reading times from surprisal, by corpus and over all of them.

    Over all: the mean over corpora and measures, its interval over texts or sentences of each corpus, drawn apart.
    """
    rows = []
    for corpus in material.corpora.values():
        times = {name: values for name, values in corpus.measures.items() if name.endswith(_MILLISECONDS)}
        if not times:
            continue
        own = subject.surprisal(corpus.texts)
        controls = corpus.controls(choices.spill_over, subject.tokenizer)
        added = {f"surprisal {back}": corpus.shifted(own, back) for back in range(choices.spill_over + 1)}
        for name, values in times.items():
            usable = usable_words({name: values}, controls, added)
            text = corpus.text[usable]
            if usable.sum() < _FEWEST_WORDS or len(np.unique(text)) < 2:
                continue
            gains = likelihood_gain(
                values[usable],
                {key: one[usable] for key, one in controls.items()},
                {key: one[usable] for key, one in added.items()},
                run_folds(text, min(choices.word_folds, len(np.unique(text)))),
            )
            found = grouped_gain(1000 * gains, text, n_draws=max(choices.n_draws, 2), seed=choices.seed)
            row = {"corpus": corpus.name, "measure": name, "words": found.n_words, "texts": found.n_groups}
            rows.append(row | {"gain": found.value, "low": found.low, "high": found.high, "p": found.p})
    if not rows:
        raise NotMeasurable(f"no reading times of {_FEWEST_WORDS} words or more lie below {material.data}")
    return {"rows": rows, **_over_corpora(rows)}


def _over_corpora(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean over all; measures of one corpus are of the same words, so that their half widths are averaged."""
    gain = float(np.mean([row["gain"] for row in rows]))
    corpora = list(dict.fromkeys(row["corpus"] for row in rows))
    share = {one: sum(row["corpus"] == one for row in rows) / len(rows) for one in corpora}
    reach = {
        end: np.sqrt(
            sum(
                (share[one] * np.mean([abs(row[end] - row["gain"]) for row in rows if row["corpus"] == one])) ** 2
                for one in corpora
            )
        )
        for end in ("low", "high")
    }
    return {"gain": gain, "low": gain - float(reach["low"]), "high": gain + float(reach["high"])}


def _features(
    subject: LanguageSubject, target: _Target, units: UnitSets, choices: Choices
) -> dict[str, list[np.ndarray]]:
    """By kind one table of features or several draws, items in rows."""
    embedding = embedding_site(subject.model)
    sites, first = list(units.sites), units.chosen[units.first][0]
    heard = _states(subject, target, [embedding, *(one for one in sites if one != embedding)])
    every = np.column_stack([heard[site] for site in sites])
    found = {name: [every[:, one] for one in some] for name, some in units.chosen.items()}
    random = _states(subject, target, sites, RandomTokens(subject.tokenizer, choices.seed))
    found[RANDOM_TOKENS] = [np.column_stack([random[site] for site in sites])[:, first]]
    width = heard[embedding].shape[1]
    draw = np.random.default_rng([choices.seed, 1])
    found[EMBEDDING] = [heard[embedding][:, draw.permutation(width)[: len(first)]] for _ in range(5)]
    return found


def _states(
    subject: LanguageSubject, target: _Target, sites: Sequence[str], tokenizer: Any = None
) -> dict[str, np.ndarray]:
    if isinstance(target.corpus, WordCorpus):
        states = states_of(subject, target.corpus, sites, tokenizer=tokenizer)
        return {site: values[target.usable] for site, values in states.items()}
    sentences = target.corpus.sentences
    shown = StimulusSet(target.corpus.name, sentences, ("sentence",) * len(sentences))
    options: dict[str, Any] = {"pooling": "last", "batch_size": subject.shown.batch_size, "progress": False}
    own = subject.tokenizer if tokenizer is None else tokenizer
    return {site: one.values for site, one in record(subject.model, own, shown, list(sites), **options).items()}


def _standard(targets: Sequence[_Target], values: Sequence[np.ndarray]) -> Float[np.ndarray, " all"]:
    """All measures of all corpora in one row, in standard deviations of what was observed."""
    return np.concatenate([
        ((own - one.measures.mean(axis=0)) / one.measures.std(axis=0)).ravel(order="F")
        for one, own in zip(targets, values, strict=True)
    ])


def _groups(targets: Sequence[_Target]) -> Int[np.ndarray, " all"]:
    """The sentence or topic of each of them: one that several measures share is one."""
    found, start = [], 0
    for one in targets:
        names, index = np.unique(one.groups, return_inverse=True)
        found.append(np.tile(start + index, one.measures.shape[1]))
        start += len(names)
    return np.concatenate(found)


def _means(names: Mapping[str, str], found: Sequence[Any], folds: str = "") -> dict[str, float | None]:
    """Means over draws, None where predictions do not vary."""
    made = {}
    for title, name in names.items():
        values = np.array([getattr(one, name) for one in found], dtype=float)
        made[f"{title} ({folds})" if folds else title] = float(values.mean()) if np.isfinite(values).all() else None
    return made


def _added(
    targets: Sequence[_Target], features: Sequence[np.ndarray], alone: np.ndarray, drawn: Mapping[str, Any]
) -> dict[str, float]:
    """How much more of the variance features predict beside the controls than the controls alone."""
    both = [
        held_out_words(own, one.measures, one.folds[""], controls=one.controls)
        for one, own in zip(targets, features, strict=True)
    ]
    observed = _standard(targets, [one.measures for one in targets])
    errors = [np.square(observed - one) for one in (alone, _standard(targets, both))]
    found = grouped_gain(errors[0] - errors[1], _groups(targets), **drawn)
    return {"added R2": found.value, "low (R2)": found.low, "high (R2)": found.high, "p (R2)": found.p}
