"""What surprisal says of reading times and potentials beyond length and frequency, on held-out sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from topographic.brain.folds import run_folds
from topographic.brain.stories import untrained
from topographic.brain.word_corpora import WordCorpus
from topographic.brain.word_scores import grouped_gain, likelihood_gain, usable_words
from topographic.evaluation.choices import Choices
from topographic.evaluation.results import Findings, NotMeasurable, Table
from topographic.evaluation.subject import LanguageSubject
from topographic.evaluation.word_readings import word_surprisal

__all__ = ["word_surprisal_gain"]

_FEWEST_WORDS = 200
_GAIN = "gain (nats per 1,000 words)"


def word_surprisal_gain(subject: LanguageSubject, choices: Choices) -> Findings:
    """Gain in held-out log-likelihood per word, by corpus and measure, beside that of other surprisals."""
    if not subject.corpora:
        raise NotMeasurable(f"no corpus that was measured word by word lies below {subject.shown.data}")
    rows, means, notes = [], [], []
    twin, read = untrained(subject.model, choices.seed), {}
    for corpus in subject.corpora.values():
        own = subject.surprisal(corpus.texts)
        if unread := [text for text in corpus.texts if text not in read]:
            options = {"batch_size": subject.shown.batch_size, "progress": subject.progress}
            read |= dict(zip(unread, word_surprisal(twin, subject.tokenizer, unread, **options), strict=True))
        of_twin = [read[text] for text in corpus.texts]
        means.append(_about(corpus, own, of_twin))
        sources = _sources(corpus, own, of_twin, choices.spill_over)
        controls = corpus.controls(choices.spill_over, subject.tokenizer)
        for measure, values in corpus.measures.items():
            # the same words for every surprisal
            usable = usable_words({measure: values}, controls, *sources.values())
            about = {"corpus": corpus.name, "measure": measure}
            if usable.sum() < _FEWEST_WORDS or len(np.unique(corpus.text[usable])) < 2:
                notes.append(
                    f"{corpus.name}, {measure}: {usable.sum()} words have all that is needed; expected "
                    f"{_FEWEST_WORDS} or more in two texts or more."
                )
                continue
            rows += [
                {**about, "surprisal": source, **_gain(corpus, measure, controls, columns, usable, choices)}
                for source, columns in sources.items()
            ]
    shown = ("words", _GAIN, "low", "high", "p")
    return Findings(
        "Surprisal",
        "How much more probable held-out words' measures are where surprisal stands beside length, number of tokens, "
        f"log frequency, punctuation and position, all but the last also of the {choices.spill_over} words before "
        "(spill-over): "
        "log-likelihood of linear regression in nats, whole texts or sentences held out. Intervals (95 %) "
        "and p (sign flips, one-sided) "
        "are over sentences or texts. The first row of a measure is this model; below it the same architecture with "
        "weights as before training, and surprisal that came with the data.",
        [
            Table(
                "gains",
                "Gain from surprisal",
                rows,
                "A measure that follows no surprisal has a gain about 0, a little below it: the added columns cost.",
                ("corpus", "measure", "surprisal"),
                shown,
            ),
            Table("corpora", "Corpora", means),
        ],
        notes=notes,
    )


def _sources(
    corpus: WordCorpus, own: Sequence[np.ndarray], untrained: Sequence[np.ndarray], spill_over: int
) -> dict[str, dict[str, np.ndarray]]:
    """Columns of every surprisal: that of the word, and those of the words before."""
    live = {"this model": own, "untrained weights": untrained}
    columns = {
        source: {f"{source} {back}": corpus.shifted(values, back) for back in range(spill_over + 1)}
        for source, values in live.items()
    }
    places = list(zip(corpus.text.tolist(), corpus.position.tolist(), strict=True))
    for source, values in corpus.surprisal.items():
        at = dict(zip(places, values, strict=True))  # of measured words only
        columns[f"{source} (given)"] = {
            f"{source} {back}": np.array([at.get((text, place - back), np.nan) for text, place in places])
            for back in range(spill_over + 1)
        }
    return columns


def _gain(
    corpus: WordCorpus,
    measure: str,
    controls: Mapping[str, np.ndarray],
    columns: Mapping[str, np.ndarray],
    usable: np.ndarray,
    choices: Choices,
) -> dict[str, Any]:
    text = corpus.text[usable]
    gains = likelihood_gain(
        corpus.measures[measure][usable],
        {name: one[usable] for name, one in controls.items()},
        {name: one[usable] for name, one in columns.items()},
        run_folds(text, min(choices.word_folds, len(np.unique(text)))),
    )
    found = grouped_gain(gains, text, n_draws=max(choices.n_draws, 2), seed=choices.seed)
    scaled = {_GAIN: 1000 * found.value, "low": 1000 * found.low, "high": 1000 * found.high}
    return {"words": found.n_words, "texts": found.n_groups, **scaled, "p": found.p}


def _about(corpus: WordCorpus, own: Sequence[np.ndarray], untrained: Sequence[np.ndarray]) -> dict[str, Any]:
    return {
        "corpus": corpus.name,
        "texts": len(np.unique(corpus.text)),
        "words": len(corpus),
        "mean surprisal (nats)": float(corpus.per_word(own).mean()),
        "untrained (nats)": float(corpus.per_word(untrained).mean()),
    }
