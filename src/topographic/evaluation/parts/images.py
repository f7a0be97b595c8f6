"""The selectivity part of a suite for vision models: categories, beside what the images themselves differ in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from topographic.evaluation.image_subject import ImageBench
from topographic.evaluation.parts.words import CLUSTER_TOTALS, WordContrast, contrasts_explained, measure_contrasts
from topographic.evaluation.results import Findings, Table
from topographic.evaluation.subject import Choices
from topographic.maps import summarize
from topographic.recording import Responses, low_level_responses
from topographic.stimuli import CATEGORY_CONTRASTS

__all__ = ["image_selectivity"]

_SELECTIVE_T = 5.0  # one of the thresholds in the figures of TDANN and TopoNets


def image_selectivity(bench: ImageBench, choices: Choices) -> Findings:
    """Maps of every contrast between categories, and how much of each a model is needed for."""
    responses = bench.recorded("categories")
    intact = {name: one for name, one in CATEGORY_CONTRASTS.items() if not name.startswith("scrambled ")}
    measured = measure_contrasts({name: WordContrast(responses, *sides) for name, sides in intact.items()}, choices)
    first = f"fwhm_{choices.fwhm_mm[0]:g}"
    selective = {
        name: np.mean([_share(one.values) for key, one in measured.maps.items() if key.startswith(f"{name}_{first}/")])
        for name in intact
    }
    strengths = _strengths(responses, low_level_responses(bench.categories), list(intact), choices)
    rows = [{**row, f"share of t > {_SELECTIVE_T:g}": selective[row["contrast"]]} for row in strengths]
    return Findings(
        "Selectivity",
        f"{contrasts_explained(choices)} Five categories of {bench.n_images} gray images each, of one size, mean and "
        "contrast; each against the four others, faces against objects, animals against vehicles. The categories come "
        "from different sources and differ in spatial frequency and outline, so a model that was never trained, or one "
        "pixel, tells them apart too: a contrast is about categories as far as its t exceeds that of the same images "
        "with their phases scrambled.",
        [
            Table(
                "means",
                "Means over sheets",
                measured.means,
                f"{CLUSTER_TOTALS} TopoNets shows such maps of its ResNet-18 at tau = 10, of other images, without "
                "numbers.",
                keys=("contrast", "FWHM (mm)"),
                headline=("I", "floor", "unit null", "p (unit)", "label null", "p (label)", "mean |t|"),
            ),
            Table(
                "images",
                "How much of it is in the images",
                rows,
                f"Mean |t| without a readout. Share: of units, over all sheets, at FWHM {choices.fwhm_mm[0]:g} mm.",
                keys=("contrast",),
                headline=("mean |t|", "scrambled images", "pixels", "power spectra"),
            ),
            Table("depth", "By sheet", measured.by_depth),
        ],
        measured.pictures,
        maps=measured.maps,
    )


def _share(values: np.ndarray) -> float:
    return float((values > _SELECTIVE_T).mean())


def _strengths(
    responses: Mapping[str, Responses], low_level: Mapping[str, Responses], names: Sequence[str], choices: Choices
) -> list[dict[str, Any]]:
    """Mean |t| of every contrast: of the model, of the model on scrambled images, and of the images alone."""
    rows = []
    options = {"n_draws": choices.n_draws, "seed": choices.seed}
    for name in names:
        intact = summarize(responses, *CATEGORY_CONTRASTS[name], **options).mean_abs_t
        scrambled = summarize(responses, *CATEGORY_CONTRASTS[f"scrambled {name}"], **options).mean_abs_t
        pixels, power = summarize(low_level, *CATEGORY_CONTRASTS[name], **options).rows
        row: dict[str, Any] = {"contrast": name, "mean |t|": intact.value}
        if intact.label_null is not None:
            row |= {"label null": intact.label_null.mean, "p (label)": intact.label_null.p}
        row |= {"scrambled images": scrambled.value, "pixels": pixels.mean_abs_t.value}
        rows.append(row | {"power spectra": power.mean_abs_t.value})
    return rows
