"""Regions of a sheet silenced, larger and larger, and driven, stronger and stronger, beside what is as large."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import nn

from topographic.behaviour import next_word_preference, perplexity, token_log_probabilities
from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.layout_worth import adaptor_at
from topographic.evaluation.results import Findings, NotMeasurable, Picture, Rows, Table
from topographic.evaluation.subject import LanguageSubject
from topographic.evaluation.wording import counted
from topographic.interventions import (
    LesionEffect,
    corrected_p,
    direction_controls,
    lesion_curve,
    micro_stimulation,
    steering_curve,
)
from topographic.maps import UnitMap, t_map
from topographic.maps.localizer import one_stimulus_set
from topographic.maps.stability import split_half
from topographic.plots.layer_figures import draw_by_layer
from topographic.recording import Responses, record_tokens
from topographic.recording.replacements import word_prefix_of, word_token_ids
from topographic.stimuli import StimulusSet

__all__ = ["lesions_by_size", "patch_lesions", "patch_steering", "steering"]

# regions, by the set that chooses them and what is set against what in it
_REGIONS = {
    "sentences": ("localizer", LanguageSubject.contrast),
    "nouns": ("words", ("noun", "verb")),
    "verbs": ("words", ("verb", "noun")),
}
_STRENGTHS = (-4.0, -2.0, 2.0, 4.0)
_SIGMA_MM = 2.0

# after which a noun, or a verb, comes next
_NOUN_CONTEXTS = ("She looked at the", "They bought a new", "He was afraid of the", "We talked about the", "I found a")
_VERB_CONTEXTS = ("She wanted to", "They decided to", "He was ready to", "We had to", "I would like to")
_NEUTRAL_CONTEXTS = (
    "The next word is",
    "My favourite word is",
    "People like to say",
    "She wrote the word",
    "He said the word",
    "Today we learn the word",
    "The answer is",
    "One example is",
)


def patch_lesions(subject: LanguageSubject, choices: Choices = Choices()) -> Findings:  # noqa: B008
    """Dose and response of lesions at the peaks for sentences, nouns and verbs, beside patches that remove as much.

    Parameters
    ----------
    subject : LanguageSubject
        A model with sheets; of a rebased one those of its adaptors.
    choices : Choices
        Shares of the sheet that are silenced (``lesion_fractions``), draws, pairs per paradigm, and the seed.

    Returns
    -------
    Findings
        A row per region, size, measure and kind of lesion; regions and sizes that cannot be measured are notes.

    Raises
    ------
    NotMeasurable
        If no unit prefers sentences to nonword strings, nouns to verbs, or verbs to nouns.
    """
    return lesions_by_size(subject, choices.as_measured())


def lesions_by_size(subject: LanguageSubject, choices: Choices) -> Findings:
    """`patch_lesions` with choices as they are measured."""
    choosers, notes = _regions(subject)
    passages = subject.passages(subject.minimal_pairs(choices.lesion_pairs))
    sheets = {one.site: one.sheet for one in choosers.values()}
    tokens = record_tokens(
        subject.model,
        subject.tokenizer,
        StimulusSet("passages", passages, ("text",) * len(passages)),
        list(sheets),
        sheets,
        batch_size=subject.shown.batch_size,
        seed=choices.seed,
    )
    measure = _with_word_classes(subject, subject.performance(choices.lesion_pairs))
    found: list[tuple[dict[str, Any], LesionEffect]] = []
    for region, chooser in choosers.items():
        sizes = sorted({max(1, round(fraction * chooser.sheet.n_units)) for fraction in choices.lesion_fractions})
        curve = lesion_curve(
            subject.model,
            chooser,
            sizes,
            measure,
            removed={chooser.site: tokens[chooser.site]},
            n_draws=choices.lesion_draws,
            seed=choices.seed,
        )
        notes += [f"{region}, {size} units: not measured. {reason}" for size, reason in curve.unmeasured.items()]
        for size, effects in curve.effects.items():
            found += [({"region": region, "site": chooser.site, "size": size}, one) for one in effects]
    corrected = corrected_p([one for _, one in found])
    rows = [where | one.to_row() | {"p (corrected)": p} for (where, one), p in zip(found, corrected, strict=True)]
    return Findings(
        "Lesions by size",
        "Around the unit with the largest t for sentences against nonwords, for nouns against verbs and for verbs "
        "against nouns, on half of the items, a patch of connected units is silenced, larger and larger. Beside it the "
        "same at patches of the same sheet as large, as compact, and within 10 % in the norm and the variance of what "
        f"is taken away ({counted(choices.lesion_draws, 'draw')}). Noun and verb prediction: how much likelier, in "
        "nats, a word of the right class is next after contexts such as 'She looked at the' and 'She wanted to', over "
        "words of the other half. p is corrected over regions, sizes and measures.",
        [
            Table(
                "patch_lesions",
                "Effects by region and size",
                rows,
                "Drawn: lesion minus other patches of its sheet, and where 95 % of these differences lie.",
                keys=("region", "size", "measure", "kind"),
                headline=("value", "sd", "effect", "low", "high", "p", "p (corrected)"),
            )
        ],
        _pictures(
            [row for row in rows if row["kind"] == "connected"],
            ("size", "units silenced"),
            ("effect", "lesion minus other patches"),
            ("region", {name: f"place of {name}" for name in choosers}),
        ),
        notes=notes,
    )


def _regions(subject: LanguageSubject) -> tuple[dict[str, UnitMap], list[str]]:
    """The map that chooses each region, and why there is none of some."""
    choosers, missing = {}, []
    for name, (role, sides) in _REGIONS.items():
        try:
            choosers[name] = _peak_map(split_half(subject.recorded(role))[0], *sides)
        except NotMeasurable as reason:
            missing.append(f"{name}: {reason}")
    if not choosers:
        raise NotMeasurable("; ".join(missing))
    return choosers, missing


def patch_steering(
    subject: LanguageSubject,
    choices: Choices = Choices(),  # noqa: B008
    *,
    strengths: Sequence[float] = _STRENGTHS,
    sigma_mm: float = _SIGMA_MM,
) -> Findings:
    """Strength curves of driving the place that prefers nouns most, beside other places and random directions.

    Parameters
    ----------
    subject : LanguageSubject
        A model with sheets; of a rebased one those of its adaptors.
    choices : Choices
        Control directions of each kind (``lesion_draws``), and the seed.
    strengths : sequence of float
        At the centre of the spread, in standard deviations of that unit over the words.
    sigma_mm : float
        Width of the spread.

    Returns
    -------
    Findings
        A row per measure, strength and kind: the preference for nouns over verbs after neutral contexts, and as the
        price the perplexity of the passages.

    Raises
    ------
    NotMeasurable
        If no unit responds more to nouns than to verbs, or no words of the two classes begin differently.
    """
    return steering(subject, choices.as_measured(), strengths=strengths, sigma_mm=sigma_mm)


def steering(
    subject: LanguageSubject,
    choices: Choices,
    *,
    strengths: Sequence[float] = _STRENGTHS,
    sigma_mm: float = _SIGMA_MM,
) -> Findings:
    """`patch_steering` with choices as they are measured."""
    words = split_half(subject.recorded("words"))[0]
    chooser = _peak_map(words, "noun", "verb")
    centre = int(np.nanargmax(chooser.values))
    unit_sd = float(words[chooser.site].values[:, centre].std())
    target = micro_stimulation(chooser.site, chooser.sheet, centre, sigma_mm=sigma_mm, strength=unit_sd)
    nouns, verbs = _word_classes(subject)
    passages = subject.passages(subject.minimal_pairs(choices.lesion_pairs))
    options: dict[str, Any] = {"batch_size": subject.shown.batch_size, "progress": False}

    def measure(model: nn.Module) -> dict[str, Any]:
        preference = next_word_preference(model, subject.tokenizer, _NEUTRAL_CONTEXTS, nouns, verbs)
        price = perplexity(token_log_probabilities(model, subject.tokenizer, passages, **options))
        return {"noun - verb (nats)": preference, "perplexity": price}

    controls = direction_controls(
        target, choices.lesion_draws, seed=choices.seed, adaptor=adaptor_at(subject, chooser.site)
    )
    effects = steering_curve(subject.model, target, strengths, measure, controls=controls, progress=subject.progress)
    rows = [{"site": chooser.site, **asdict(one)} for one in effects]
    return Findings(
        "Steering",
        f"A Gaussian spread (sigma {sigma_mm:g} mm) around the unit of {chooser.site} with the largest t for nouns "
        "against verbs on half of the words is added to its activity. Beside it the same around other units and random "
        f"directions of equal norm ({counted(choices.lesion_draws, 'draw')} each). p: share of these that change the "
        "measure at least as far, in either direction.",
        [
            Table(
                "patch_steering",
                "Change by strength",
                rows,
                "Strength 1 is one standard deviation, over the words, of the unit at the centre.",
                keys=("measure", "kind", "strength"),
                headline=("value", "change", "low", "high", "p"),
            )
        ],
        _pictures(
            rows,
            ("strength", "strength (standard deviations)"),
            ("change", "change"),
            ("kind", {"target": "this place", "elsewhere": "other places", "random": "random directions"}),
        ),
    )


def _pictures(
    rows: Rows, x: tuple[str, str], y: tuple[str, str], lines: tuple[str, Mapping[str, str]]
) -> list[Picture]:
    """A curve per line with its limits, for each measure but single phenomena; columns of rows with their labels."""
    (across, x_label), (up, y_label), (by, titles) = x, y, lines
    found = []
    for measure in dict.fromkeys(row["measure"] for row in rows if not row["measure"].startswith("accuracy: ")):
        curves, bands = {}, {}
        for name, title in titles.items():
            own = [row for row in rows if (row["measure"], row[by]) == (measure, name)]
            own.sort(key=lambda row: row[across])
            at, values, low, high = ([row[column] for row in own] for column in (across, up, "low", "high"))
            curves |= {title: (at, values)} if own else {}
            bands |= {title: (low, high)} if own else {}
        if curves:
            name = re.sub(r"\W+", "_", measure).strip("_")
            axes = draw_by_layer(curves, bands=bands, x_label=x_label, y_label=y_label)
            found.append(Picture(name, measure.capitalize(), axes.figure, headline=not found))
    return found


def _peak_map(
    responses: dict[str, Responses], condition: str | tuple[str, ...], baseline: str | tuple[str, ...]
) -> UnitMap:
    """The map with the largest t of all sites."""
    maps = [t_map(one, condition, baseline) for one in responses.values()]
    best = max(maps, key=lambda one: np.nanmax(one.values))
    if not np.nanmax(best.values) > 0:
        raise NotMeasurable(f"no unit responds more to {condition} than to {baseline}")
    return best


def _with_word_classes(
    subject: LanguageSubject, measure: Callable[[nn.Module], dict[str, float]]
) -> Callable[[nn.Module], dict[str, float]]:
    """The measure with noun and verb prediction beside it."""
    nouns, verbs = _word_classes(subject)

    def both(model: nn.Module) -> dict[str, float]:
        after_noun = next_word_preference(model, subject.tokenizer, _NOUN_CONTEXTS, nouns, verbs)
        after_verb = next_word_preference(model, subject.tokenizer, _VERB_CONTEXTS, verbs, nouns)
        predicted = {"noun prediction": float(after_noun.mean()), "verb prediction": float(after_verb.mean())}
        return measure(model) | predicted

    return both


def _word_classes(subject: LanguageSubject) -> tuple[list[str], list[str]]:
    """Nouns and verbs of the half that chooses no units, beginning with a token as no word of the other class does."""
    words = one_stimulus_set(split_half(subject.recorded("words"))[1])
    classes = {name: words.select(condition=name).items for name in ("noun", "verb")}
    prefix = word_prefix_of(subject.tokenizer, [*classes["noun"], *classes["verb"]])
    first = {
        name: {word: word_token_ids(subject.tokenizer, word, prefix)[0] for word in of_class}
        for name, of_class in classes.items()
    }
    shared = set(first["noun"].values()) & set(first["verb"].values())
    nouns, verbs = ([word for word, token in of_class.items() if token not in shared] for of_class in first.values())
    if not nouns or not verbs:
        raise NotMeasurable("all nouns or all verbs begin with a token that words of the other class begin with too")
    return nouns, verbs
