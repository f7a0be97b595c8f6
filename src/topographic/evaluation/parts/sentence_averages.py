"""Averages of fMRI per sentence predicted from a model's states, beside sentence length and all other controls."""

from functools import partial
from typing import Any

import numpy as np

from topographic.brain.folds import run_folds
from topographic.brain.word_corpora import SentenceCorpus
from topographic.brain.word_scores import grouped_correlation, grouped_gain, held_out_words
from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.published_numbers import published_brain_scores
from topographic.evaluation.results import Findings, NotMeasurable, Table
from topographic.evaluation.subject import LanguageSubject
from topographic.evaluation.word_readings import EMBEDDING, embedding_site, layers_and_controls
from topographic.recording import record
from topographic.stimuli import StimulusSet

__all__ = ["sentence_averages"]

_LENGTH = "length and position"


def sentence_averages(subject: LanguageSubject, choices: Choices) -> Findings:
    """Held-out correlation over topics, and what states add to length."""
    if not subject.sentence_corpora:
        raise NotMeasurable(f"no corpus of averages per sentence lies below {subject.shown.data}")
    rows = []
    for corpus in subject.sentence_corpora.values():
        features = _features(subject, corpus, choices)
        folds = run_folds(np.array(corpus.groups), min(choices.word_folds, len(set(corpus.groups))))
        topics, y = np.array(corpus.groups), corpus.response[:, None]
        drawn: dict[str, Any] = {"n_draws": max(choices.n_draws, 2), "seed": choices.seed}
        beside = {"controls": features[_LENGTH]}
        length = held_out_words(np.zeros((len(corpus), 1)), y, folds, **beside)[:, 0]
        for name, values in features.items():
            predicted = held_out_words(values, y, folds, groups=topics)[:, 0]
            one = grouped_correlation(corpus.response, predicted, topics, **drawn)
            row = {"experiment": corpus.name, "features": name, "sentences": len(corpus)}
            row |= {"r": one.value, "low": one.low, "high": one.high}
            if name != _LENGTH:
                both = held_out_words(values, y, folds, groups=topics, **beside)[:, 0]
                errors = [np.square(corpus.response - one) / corpus.response.var() for one in (length, both)]
                added = grouped_gain(errors[0] - errors[1], topics, **drawn)
                row |= {"added R2": added.value, "low (R2)": added.low, "high (R2)": added.high, "p": added.p}
            rows.append(row)
    known = published_brain_scores()
    return Findings(
        "Averages per sentence",
        "Ridge regression from states of whole sentences, topics held out together, also where the penalty is chosen; "
        "intervals (95 %) and p (sign flips, one-sided) over topics. Added R2: by states, to what least squares from "
        "numbers of words and letters and the place in the topic leaves.",
        [
            Table(
                "scores",
                "Held-out correlation",
                rows,
                "Averages over voxels and people hold sentence length above all; a table of controls, none of ranks.",
                ("experiment", "features"),
                ("r", "low", "high", "added R2", "p"),
            ),
            Table(
                "published",
                "Published",
                known,
                "On voxels of single subjects, mean over subjects: why sentences of one passage never lie on both "
                "sides here.",
            ),
        ],
    )


def _features(subject: LanguageSubject, corpus: SentenceCorpus, choices: Choices) -> dict[str, np.ndarray]:
    shown = StimulusSet(corpus.name, corpus.sentences, ("sentence",) * len(corpus))

    def states(pooling: str, model: Any, tokenizer: Any, names: list[str]) -> dict[str, np.ndarray]:
        options = {"pooling": pooling, "batch_size": subject.shown.batch_size, "progress": False}
        return {name: one.values for name, one in record(model, tokenizer, shown, names, **options).items()}

    sheets, read = list(subject.sheets), partial(states, "last")
    last = layers_and_controls(read, subject.model, subject.tokenizer, sheets, choices.seed)
    titles = {embedding_site(subject.model): EMBEDDING, **site_labels(sheets)}
    mean = states("mean", subject.model, subject.tokenizer, list(titles))
    found = {_LENGTH: np.column_stack(list(corpus.controls().values()))}
    found |= {f"{name}, last token": values for name, values in last.items()}
    return found | {f"{titles[site]}, mean over tokens": values for site, values in mean.items()}
