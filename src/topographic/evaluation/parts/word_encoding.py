"""Potentials and reading times predicted from a model's states after every word, beside all controls."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from topographic.brain.folds import Folds, run_folds
from topographic.brain.word_corpora import WordCorpus
from topographic.brain.word_scores import grouped_correlation, grouped_gain, held_out_words, sentence_and_type_folds
from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.results import Findings, NotMeasurable, Table
from topographic.evaluation.subject import LanguageSubject
from topographic.evaluation.word_readings import CONTROLS, EMBEDDING, layers_and_controls, word_states

__all__ = ["states_of", "word_encoding"]

_NEITHER = "mean of the training words"


def word_encoding(subject: LanguageSubject, choices: Choices) -> Findings:
    """Held-out correlation of ridge regression, by corpus, measure and features; and what context adds."""
    if not subject.corpora:
        raise NotMeasurable(f"no corpus that was measured word by word lies below {subject.shown.data}")
    scores, context, notes = [], [], []
    for corpus in subject.corpora.values():
        if not _has_new_measures(corpus, subject.corpora):
            notes.append(f"{corpus.name}: the same measures of the same words as in another corpus, and left out here.")
            continue
        features = _features(subject, corpus, choices)
        found = _of_corpus(corpus, features, list(site_labels(list(subject.sheets)).values()), choices)
        scores += found[0]
        context += found[1]
    return Findings(
        "Words from states",
        "Ridge regression from the state after the last token of each word, alpha of each measure (10^0 to "
        f"10^6) by leaving one training word out. r: of the held-out predictions of all words together, "
        f"{choices.word_folds} folds of whole sentences; r (types): {choices.word_folds // 2} x "
        f"{choices.word_folds // 2} folds whose test "
        "words have neither their sentence nor their type among the training words. Intervals (95 %) are over "
        "sentences or texts. Controls: length, number of tokens, log frequency, position and whether a mark follows; "
        "the embedding layer; the same architecture with weights as before training; as many random tokens in place "
        "of the text's, through the trained model; and "
        "the mean of the training words, which is what features that say only which words are neighbours (OASM) come "
        "to here, because no two folds share a sentence: one number per fold, whose r is below 0.",
        [
            Table(
                "scores",
                "Held-out correlation",
                scores,
                "A score beside its controls says more than the score: most of it is word identity, length and place.",
                ("corpus", "measure", "features"),
                ("r", "low", "high", "r (types)", "low (types)", "high (types)"),
            ),
            Table(
                "context",
                "What context adds",
                context,
                "r - embedding: r of the layer less that of the embedding layer. Added R2: by the layer beside the "
                "embedding layer in one ridge regression, to what least squares from length, tokens, frequency, "
                "position and punctuation leave; p by sign flips of sentences, one-sided. Below 0 where more features "
                "cost more than they say.",
                ("corpus", "measure", "sheet"),
                ("r - embedding", "low", "high", "added R2", "low (R2)", "high (R2)", "p"),
            ),
        ],
        notes=notes,
    )


def states_of(
    subject: LanguageSubject, corpus: WordCorpus, sites: Sequence[str], *, model: Any = None, tokenizer: Any = None
) -> dict[str, Float[np.ndarray, "words units"]]:
    """States after the last token of every measured word, of these sites."""
    found: dict[str, list[np.ndarray]] = {site: [] for site in sites}
    members = [np.flatnonzero(corpus.text == index) for index in range(len(corpus.texts))]
    read = word_states(
        subject.model if model is None else model,
        subject.tokenizer if tokenizer is None else tokenizer,
        corpus.texts,
        sites,
        batch_size=subject.shown.batch_size,
    )
    for texts, states in read:
        for site, of_texts in states.items():
            found[site] += [one[corpus.position[members[index]]] for index, one in zip(texts, of_texts, strict=True)]
    order = np.argsort(np.concatenate(members))
    return {site: np.concatenate(parts)[order] for site, parts in found.items()}


def _features(subject: LanguageSubject, corpus: WordCorpus, choices: Choices) -> dict[str, np.ndarray]:
    """By what they are called: controls, surprisal, embedding layer, layers, and the same layer of both controls."""

    def read(model: Any, tokenizer: Any, sites: list[str]) -> dict[str, np.ndarray]:
        return states_of(subject, corpus, sites, model=model, tokenizer=tokenizer)

    controls = np.column_stack(list(corpus.controls(tokenizer=subject.tokenizer).values()))
    surprisal = corpus.per_word(subject.surprisal(corpus.texts))
    found = {
        _NEITHER: np.zeros((len(corpus), 1)),
        CONTROLS: controls,
        f"{CONTROLS}, surprisal": np.column_stack([controls, surprisal]),
    }
    return found | layers_and_controls(read, subject.model, subject.tokenizer, list(subject.sheets), choices.seed)


def _of_corpus(
    corpus: WordCorpus, features: Mapping[str, np.ndarray], layers: Sequence[str], choices: Choices
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    targets = np.column_stack(list(corpus.measures.values()))
    usable = np.isfinite(targets).all(axis=1)
    targets, text = targets[usable], corpus.text[usable]
    types = np.array(corpus.types)[usable]
    n_texts = len(np.unique(text))
    folds = {
        "": run_folds(text, min(choices.word_folds, n_texts)),
        " (types)": sentence_and_type_folds(text, types, min(choices.word_folds // 2, n_texts), seed=choices.seed),
    }
    drawn: dict[str, Any] = {"n_draws": max(choices.n_draws, 2), "seed": choices.seed}
    predicted = {
        (name, kind): _mean_of_others(targets, one)
        if name == _NEITHER
        else held_out_words(values[usable], targets, one)
        for name, values in features.items()
        for kind, one in folds.items()
    }
    joint = {"": features[EMBEDDING][usable]}
    joint |= {name: np.column_stack([joint[""], features[name][usable]]) for name in layers if name in features}
    controls = features[CONTROLS][usable]
    both = {name: held_out_words(values, targets, folds[""], controls=controls) for name, values in joint.items()}
    scores, context = [], []
    for column, measure in enumerate(corpus.measures):
        about = {"corpus": corpus.name, "measure": measure}
        observed = targets[:, column]
        for name in features:
            row = {**about, "features": name, "words": int(usable.sum())}
            for kind in folds:
                one = grouped_correlation(observed, predicted[name, kind][:, column], text, **drawn)
                row |= {f"r{kind}": one.value, f"low{kind}": one.low, f"high{kind}": one.high}
            scores.append(row)
        for name in layers:
            if name not in features:
                continue
            more = grouped_correlation(
                observed,
                predicted[name, ""][:, column],
                text,
                beside=predicted[EMBEDDING, ""][:, column],
                **drawn,
            )
            errors = [np.square(observed - both[key][:, column]) / observed.var() for key in ("", name)]
            added = grouped_gain(errors[0] - errors[1], text, **drawn)
            context.append({
                **about,
                "sheet": name,
                "r - embedding": more.value,
                "low": more.low,
                "high": more.high,
                "added R2": added.value,
                "low (R2)": added.low,
                "high (R2)": added.high,
                "p": added.p,
            })
    return scores, context


def _mean_of_others(targets: np.ndarray, folds: Folds) -> np.ndarray:
    """What features predict that no training and test word share, OASM among them."""
    found = np.full(targets.shape, np.nan)
    for train, test in folds.pairs:
        found[test] = targets[train].mean(axis=0)
    return found


def _has_new_measures(corpus: WordCorpus, corpora: Mapping[str, WordCorpus]) -> bool:
    """Whether no corpus before it holds all its measures, of the same words."""
    for other in corpora.values():
        if other is corpus:
            return True
        if sorted(other.words) != sorted(corpus.words):
            continue
        same = [np.sort(values) for values in other.measures.values()]
        if all(
            any(np.allclose(np.sort(values), one, equal_nan=True) for one in same)
            for values in corpus.measures.values()
        ):
            return False
    return True
