"""Over how many words units integrate, and where on the sheet."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import FEWEST_WINDOW_WORDS, Choices
from topographic.evaluation.results import Findings, NotMeasurable, Picture, Table, under, without_sd
from topographic.evaluation.subject import LanguageSubject
from topographic.evaluation.wording import counted
from topographic.maps import (
    MoransI,
    Referenced,
    UnitMap,
    integration_maps,
    integration_windows,
    mean_over_sheets,
    morans_i,
    yoking_map,
)
from topographic.plots.figures import draw_maps, symmetric_limit
from topographic.plots.layer_figures import draw_by_layer
from topographic.recording import (
    SwapDifferences,
    SwappedWords,
    embedding_matched_word,
    random_word,
    record_swaps,
    single_token_words,
    swap_words,
)
from topographic.recording.reading import TooManyTokensError
from topographic.recording.replacements import word_prefix_of
from topographic.stimuli.word_sequences import bare_sentences, sentence_blocks, word_runs

__all__ = ["windows"]

_MOST_LAGS = 20
_FEWEST_SENTENCES = 5  # of one length, as many as a published block holds
_SHORTEST_SENTENCE, _LONGEST_SENTENCE = 5, 12  # words; the longest as published
_FEWEST_WORDS = 20  # to draw replacements from
_PARAMETERS = {
    "a": "exponent of the power law",
    "b": "rate of the exponential per word",
    "c": "share of the power law",
    "yoking": "structure yoking",
}


class Swapped(NamedTuple):
    """Differences of every site, and what was swapped in which sequences."""

    differences: dict[str, SwapDifferences]
    said: str
    sentence_words: int = 0


def windows(subject: LanguageSubject, choices: Choices) -> Findings:
    """Integration windows of every unit, fitted, and whether they end with the sentence, as maps."""
    said, notes, pictures = [], [], []
    maps: dict[str, dict[str, UnitMap]] = {}
    options = {"n_draws": choices.n_draws, "seed": choices.seed}
    for title, swap in (("Integration windows", _window_swaps), ("Structure yoking", _yoking_swaps)):
        try:
            swapped = swap(subject, choices)
        except NotMeasurable as reason:  # the text or the context is too short
            notes.append(f"{title}: not measured. {reason}")
            continue
        said.append(swapped.said)
        if swapped.sentence_words:
            maps["yoking"] = {
                site: yoking_map(one, sentence_words=swapped.sentence_words, **options)
                for site, one in swapped.differences.items()
            }
        else:
            fitted = {site: integration_maps(one, **options) for site, one in swapped.differences.items()}
            maps |= {name: {site: one[name] for site, one in fitted.items()} for name in ("a", "b", "c")}
            pictures += _window_pictures(swapped.differences)
    labels = site_labels(list(subject.sheets))
    rows, means = [], []
    for name, of_site in maps.items():
        indices = {site: _index(one) for site, one in of_site.items()}
        rows += [
            {"parameter": name, "sheet": labels[site], **_quantiles(one), **_columns(indices[site])}
            for site, one in of_site.items()
        ]
        known = [index for index in indices.values() if index is not None]
        medians = [float(np.nanmedian(one.values)) for one in of_site.values() if not np.isnan(one.values).all()]
        mean = {"parameter": name, "meaning": _PARAMETERS[name], "layers": len(known)}
        mean |= {"mean of medians": float(np.mean(medians)) if medians else None}
        means.append(mean | _columns(mean_over_sheets(known) if known else None))
        pictures.append(_map_picture(name, of_site))
    return Findings(
        "Integration windows",
        "One word of a sequence is swapped and the change of every unit is followed over the next words. What is left "
        "of it after d words, divided by the change at the word itself, is fitted by c (d + 1)^-a + (1 - c) e^(-b d): "
        "a power law and an exponential, mixed. A unit has no value where the curve does not depend on a parameter. "
        "Structure yoking: how much less a word's effect lasts when it ends a sentence than when it begins the next "
        f"one; 0 for windows that know positions only. {' '.join(said)} Moran's I of each map stands beside white "
        "noise on the sheet (floor) and the same values with the units permuted (unit null); p is one-sided.",
        [
            Table(
                "means",
                "Means over layers",
                means,
                "TopoNets shows such maps of GPT-Neo-125M and prints no numbers.",
                keys=("parameter", "meaning"),
                headline=without_sd(means, "parameter", "meaning", "layers"),
            ),
            Table("layers", "By layer", rows),
        ],
        pictures,
        notes,
        {key: one for name, of_site in maps.items() for key, one in under(name, of_site).items()},
    )


def _window_swaps(subject: LanguageSubject, choices: Choices) -> Swapped:
    """Swaps of random words in runs of words, sentence after sentence."""
    runs = word_runs(" ".join(subject.sentences()).split(), choices.window_words)[: choices.window_sequences]
    if not runs:
        raise NotMeasurable(
            f"the text holds no run of {choices.window_words} words; expected at least one: give a longer text"
        )
    vocabulary = sorted({word for run in runs for word in run})
    prefix = word_prefix_of(subject.tokenizer, vocabulary)
    swapped = swap_words(runs, random_word(_to_draw_from(subject, vocabulary, prefix)), seed=choices.seed)
    lags = range(min(_MOST_LAGS, choices.window_words // 2) + 1)
    sequences = f"{counted(len(runs), 'sequence')} of {choices.window_words} words"
    said = f"Windows: {sequences}, each word swapped for a random one."
    return Swapped(_recorded(subject, choices, swapped, lags, prefix), said)


def _yoking_swaps(subject: LanguageSubject, choices: Choices) -> Swapped:
    """Swaps of equal size in blocks of unrelated sentences of one length."""
    sentences = subject.sentences()
    vocabulary = sorted({word for words in bare_sentences(sentences) for word in words})
    prefix = word_prefix_of(subject.tokenizer, vocabulary)
    allowed = set(single_token_words(subject.tokenizer, vocabulary, word_prefix=prefix))
    n_words = _commonest_length(bare_sentences(sentences, allowed=allowed))
    if not n_words:
        allowed, n_words = None, _commonest_length(bare_sentences(sentences))
    if not n_words:
        raise NotMeasurable(
            f"no {_FEWEST_SENTENCES} sentences have one number of words from {_SHORTEST_SENTENCE} to "
            f"{_LONGEST_SENTENCE}; expected that many: give a text with more sentences"
        )
    # blocks are half as long again as the sequences of the windows, as published
    n_sentences = min(max(2, round(1.5 * choices.window_words / n_words)), _FEWEST_SENTENCES)
    blocks = sentence_blocks(
        sentences,
        n_words=n_words,
        n_sentences=n_sentences,
        n_blocks=choices.window_sequences,
        allowed=allowed,
        seed=choices.seed,
    )
    words = _to_draw_from(subject, vocabulary, prefix)
    replacement = embedding_matched_word(subject.model, subject.tokenizer, words, word_prefix=prefix)
    swapped = swap_words(blocks, replacement, seed=choices.seed)
    kind = "single tokens" if allowed is not None else "one token or more"
    said = (
        f"Yoking: {counted(len(blocks), 'block')} of {n_sentences} sentences of {n_words} words of {kind}, swapped for "
        "words of another embedding at one distance."
    )
    return Swapped(_recorded(subject, choices, swapped, range(n_words - 1), prefix), said, n_words)


def _to_draw_from(subject: LanguageSubject, vocabulary: Sequence[str], prefix: str) -> list[str]:
    """Words of one token where there are enough, so that a swap moves no later word."""
    known = single_token_words(subject.tokenizer, vocabulary, word_prefix=prefix)
    return known if len(known) >= _FEWEST_WORDS else list(vocabulary)


def _commonest_length(sentences: Sequence[Sequence[str]]) -> int:
    """Number of words that most sentences have, of equally common ones the largest; 0 if there are too few."""
    counts = Counter(len(words) for words in sentences)
    usable = {
        length: count
        for length, count in counts.items()
        if _SHORTEST_SENTENCE <= length <= _LONGEST_SENTENCE and count >= _FEWEST_SENTENCES
    }
    return max(usable, key=lambda length: (usable[length], length), default=0)


def _recorded(
    subject: LanguageSubject, choices: Choices, swapped: Sequence[SwappedWords], lags: Sequence[int], prefix: str
) -> dict[str, SwapDifferences]:
    try:
        return record_swaps(
            subject.model,
            subject.tokenizer,
            swapped,
            list(subject.sheets),
            subject.sheets,
            lags=lags,
            batch_size=subject.shown.batch_size,
            progress=subject.progress,
            word_prefix=prefix,
        )
    except TooManyTokensError as error:
        raise NotMeasurable(_shorter(len(swapped[0].words), error.n_tokens, error.context)) from error


def _shorter(n_words: int, n_tokens: int, context: int) -> str:
    """What to do about sequences of so many words that are longer than the context."""
    # blocks are half as long again as windows; other sequences may have longer words
    fewer = n_words * context // n_tokens * 2 // 3
    remedy = f"window_words={fewer} or fewer" if fewer >= FEWEST_WINDOW_WORDS else "a model that reads more"
    return f"{n_words} words have {n_tokens} tokens; the model reads at most {context}: try {remedy}"


def _index(unit_map: UnitMap) -> MoransI | None:
    try:
        return morans_i(unit_map)
    except NotMeasurable:  # constant, or hardly a unit has a value
        return None


def _quantiles(unit_map: UnitMap) -> dict[str, Any]:
    values = unit_map.values[~np.isnan(unit_map.values)]
    row: dict[str, Any] = {"units with a value": len(values) / len(unit_map.values)}
    quantiles = np.quantile(values, [0.1, 0.5, 0.9]).tolist() if len(values) else [None] * 3
    return row | dict(zip(("10 %", "median", "90 %"), quantiles, strict=True))


def _columns(index: MoransI | Referenced | None) -> dict[str, Any]:
    return {"I": None} if index is None else index.to_columns("I")


def _window_pictures(differences: Mapping[str, SwapDifferences]) -> list[Picture]:
    labels, lines = site_labels(list(differences)), {}
    for site, one in differences.items():
        found = integration_windows(one)
        known = found[~np.isnan(found).any(axis=1)]
        if len(known):
            lines[labels[site]] = (list(one.lags), np.median(known, axis=0))
    if not lines:  # no unit answers to words
        return []
    axes = draw_by_layer(lines, x_label="words since the swap", y_label="change that is left (median over units)")
    note = "1 at the swapped word; near 0 where it is forgotten."
    return [Picture("windows", "Windows by layer", axes.figure, note, headline=True)]


def _map_picture(name: str, maps: Mapping[str, UnitMap]) -> Picture:
    limit = symmetric_limit(list(maps.values()))
    figure = draw_maps(maps, limit=limit, colour_label=_PARAMETERS[name], is_signed=name == "yoking")
    return Picture(f"maps_{name}", f"{_PARAMETERS[name].capitalize()}", figure, "Grey: no value. One colour scale.")
