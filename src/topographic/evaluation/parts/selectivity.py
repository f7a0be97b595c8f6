"""Selectivity: sentences and words for language models, categories for vision models, beside what images differ in."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.contrast_maps import Contrast, contrasts_explained, measure_contrasts
from topographic.evaluation.parts.word_classes import word_contrasts
from topographic.evaluation.results import Findings, Table
from topographic.evaluation.subject import LanguageSubject, VisionSubject
from topographic.maps import Referenced, summarize
from topographic.recording import low_level_responses
from topographic.stimuli import CATEGORY_CONTRASTS

__all__ = ["category_selectivity", "language_selectivity"]

_SELECTIVE_T = 5.0  # one of the thresholds in the figures of TDANN and TopoNets


def language_selectivity(subject: LanguageSubject, choices: Choices) -> Findings:
    """Maps of every contrast of our own: sentences against nonword strings, word classes and concreteness."""
    language = {subject.contrast_name: Contrast(subject.recorded("localizer"), *subject.contrast)}
    measured = measure_contrasts({**language, **word_contrasts(subject)}, choices)
    note = "TopoNets shows selectivity maps of its vision models only, as units with t beyond 10."
    headline = ("mean |t|", "mean |t| null", "p (mean |t|)")
    return measured.findings("Selectivity", contrasts_explained(choices), note, headline=headline)


def category_selectivity(subject: VisionSubject, choices: Choices) -> Findings:
    """Maps of every contrast between categories, and how much of each a model is needed for."""
    responses = subject.recorded("categories")
    intact = {name: one for name, one in CATEGORY_CONTRASTS.items() if not name.startswith("scrambled ")}
    measured = measure_contrasts({name: Contrast(responses, *sides) for name, sides in intact.items()}, choices)
    first = f"fwhm_{choices.fwhm_mm[0]:g}"
    rows = _strengths(subject, list(intact), choices)
    for row in rows:
        shown = [one.values for key, one in measured.maps.items() if key.startswith(f"{row['contrast']}_{first}/")]
        row[f"share of t > {_SELECTIVE_T:g}"] = np.mean([float((one > _SELECTIVE_T).mean()) for one in shown])
    images = Table(
        "images",
        "How much of it is in the images",
        rows,
        f"Mean |t| without a readout. Share: of units, over all sheets, at FWHM {choices.fwhm_mm[0]:g} mm.",
        keys=("contrast",),
        headline=("mean |t|", "scrambled images", "pixels", "power spectra"),
    )
    return measured.findings(
        "Selectivity",
        f"{contrasts_explained(choices)} Five categories of {subject.shown.n_images} gray images each, of one size, "
        "mean and contrast; each against the four others, faces against objects, animals against vehicles. The "
        "categories come from different sources and differ in spatial frequency and outline, so a model that was never "
        "trained, or one pixel, tells them apart too: a contrast is about categories as far as its t exceeds that of "
        "the same images with their phases scrambled.",
        "TopoNets shows such maps of its ResNet-18 at tau = 10, of other images, without numbers.",
        headline=("mean |t|",),
        tables=[images],
    )


def _strengths(subject: VisionSubject, names: Sequence[str], choices: Choices) -> list[dict[str, Any]]:
    """Mean |t| of every contrast: of the model, of the model on scrambled images, and of the images alone."""
    responses, low_level = subject.recorded("categories"), low_level_responses(subject.categories)
    rows = []
    options = {"n_draws": choices.n_draws, "seed": choices.seed}
    for name in names:
        intact = summarize(responses, *CATEGORY_CONTRASTS[name], **options).mean_abs_t
        scrambled = summarize(responses, *CATEGORY_CONTRASTS[f"scrambled {name}"], **options).mean_abs_t
        pixels, power = summarize(low_level, *CATEGORY_CONTRASTS[name], **options).rows
        label = Referenced(intact.value, {null: one for null, one in intact.nulls.items() if null == "label"})
        row = {"contrast": name, **label.to_columns("mean |t|", show=("mean", "p"))}
        row |= {"scrambled images": scrambled.value, "pixels": pixels.mean_abs_t.value}
        rows.append(row | {"power spectra": power.mean_abs_t.value})
    return rows
