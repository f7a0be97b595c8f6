"""Recordings of Brain-Score Language predicted from a model's states, whole topics, stories or sentences held out."""

from typing import Any

import numpy as np

from topographic.brain.assemblies import ResponseAssembly
from topographic.brain.assembly_scores import score_assembly
from topographic.evaluation.choices import Choices
from topographic.evaluation.published_numbers import published_brain_scores
from topographic.evaluation.results import Findings, NotMeasurable, Table
from topographic.evaluation.subject import LanguageSubject
from topographic.evaluation.word_readings import layers_and_controls, part_states

__all__ = ["response_assemblies"]


def response_assemblies(subject: LanguageSubject, choices: Choices) -> Findings:
    """Held-out correlation with every assembly below the folder, and what states add to length and position."""
    if not subject.assemblies:
        raise NotMeasurable(f"no assembly of Brain-Score (.nc) lies below {subject.shown.data}")
    rows, persons, notes = [], [], []
    for name, assembly in subject.assemblies.items():
        scores = score_assembly(
            _features(subject, assembly, choices),
            assembly,
            n_folds=choices.word_folds,
            n_draws=max(choices.n_draws, 2),
            seed=choices.seed,
            progress=subject.progress,
        )
        rows += [{"data": name, **_without_nan(row)} for row in scores.table.to_dict("records")]
        persons += [{"data": name, **row} for row in scores.subjects.to_dict("records")]
        notes += [f"{name}: {note}." for note in scores.notes]
    known = published_brain_scores()
    return Findings(
        "Recordings of Brain-Score",
        "Ridge regression from the state after the last token of each part of a text, read after the parts before it: "
        "sentences of a passage, pieces of a story, words of a sentence. Whole topics (Pereira2018), stories "
        "(Blank2014) or sentences are held out together, never parts drawn at random. r: fold by fold, then the median "
        "over a subject's targets and the mean over subjects; intervals (95 %) over topics, stories or sentences; p of "
        "the mean over targets, by sign flips of subjects where there are three or more. Added R2: by the features "
        "beside numbers of words and letters and the place in the text; p by sign flips of topics, stories or "
        "sentences. Both one-sided. Nothing is divided by a ceiling.",
        [
            Table(
                "scores",
                "Held-out correlation",
                rows,
                "A score says little beside those of its controls: length and position; features that say only which "
                "parts are neighbours (OASM), whose r is above 0 only where folds leak; the embedding layer; the same "
                "architecture with weights as before training; as many random tokens in place of the text's.",
                ("data", "features"),
                ("r", "low", "high", "p", "added R2", "p (R2)"),
            ),
            Table("subjects", "By subject", persons, "Median (r) and mean over the subject's targets."),
            Table(
                "published",
                "Published",
                known,
                "Mean over subjects. What shuffled folds give is no score of a model: features without "
                "any content score as well there.",
            ),
        ],
        notes=notes,
    )


def _features(subject: LanguageSubject, assembly: ResponseAssembly, choices: Choices) -> dict[str, np.ndarray]:
    def read(model: Any, tokenizer: Any, sites: list[str]) -> dict[str, np.ndarray]:
        texts = (assembly.stimuli, assembly.contexts)
        return part_states(model, tokenizer, *texts, sites, batch_size=subject.shown.batch_size)

    return layers_and_controls(read, subject.model, subject.tokenizer, list(subject.sheets), choices.seed)


def _without_nan(row: dict[Any, Any]) -> dict[str, Any]:
    """None where there is no number: no gain of the controls over themselves, no p of two subjects."""
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
