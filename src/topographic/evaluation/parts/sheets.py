"""The parts of a suite that need no contrast to be read: smooth responses, dimensionality."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from topographic.evaluation.image_subject import AnyBench
from topographic.evaluation.parts.language import under
from topographic.evaluation.results import Findings, Picture, Table
from topographic.evaluation.subject import Choices
from topographic.maps import (
    DistanceCurve,
    Referenced,
    ResponseSmoothness,
    effective_dimensionality,
    independent_units_dimensionality,
    mean_over_sheets,
    response_smoothness,
    t_map,
    tuning_smoothness,
)
from topographic.plots.layer_figures import draw_by_depth, draw_by_layer
from topographic.plots.site_names import site_labels
from topographic.recording import Responses

__all__ = ["dimensionality", "smooth_responses"]

# Deb et al. (ICLR 2025, arXiv:2501.16396), read off the figures: tau, score, smoothness, effective dimensionality
_PUBLISHED: dict[str, dict[str, list[tuple[float | None, ...]]]] = {
    "language": {
        "GPT-Neo-125M": [
            (0, 0.577, 0.08, 24.4),
            (1, 0.602, 0.55, 23.9),
            (5, 0.576, 0.97, 17.3),
            (10, 0.582, 1.06, 13.6),
            (50, 0.574, 1.11, 11.1),
        ],
        "NanoGPT": [(0, 0.771, 0.19, 41.6), (0.5, 0.75, 0.685, 25.6), (1, 0.734, 0.85, 19.6), (50, 0.71, 1.14, 11.0)],
    },
    "images": {
        "ResNet-18": [
            (0, 0.712, 0.17, 28.9),
            (0.5, 0.706, 0.35, 26.6),
            (1, 0.696, 0.46, 24.8),
            (5, 0.662, 0.72, 19.2),
            (10, 0.636, 0.82, 16.5),
            (20, 0.610, 0.90, 14.9),
            (50, 0.570, 0.97, 12.3),
        ],
        "ResNet-50": [(0, 0.743, 0.24, 19.6), (1, 0.713, 0.825, 14.8), (30, 0.622, 1.0, 9.2)],
        "ViT-B/32": [(0, 0.683, 0.28, 45.4), (10, 0.663, 0.84, 24.7)],
        "TDANN": [(None, 0.439, 0.82, 18.9)],
        "LLCNN-G": [(None, 0.531, 0.79, None)],
    },
}
_SAMPLES = {"language": "8192 samples of text.", "images": "20,000 images of ImageNet, TDANN 10,000."}
_SCORES = {"language": "BLiMP", "images": "ImageNet top-1"}
_PUBLISHED_NOTES = {
    kind: f"Read off the figures of Deb et al. (ICLR 2025): other models, trained on other {material}; their bins and "
    "their items are not stated."
    for kind, material in (("language", "text"), ("images", "images"))
}
_FEWEST_PAIRS = 20  # of units in a bin that is drawn
_RANGE_NOTE = (
    "On small sheets the range is dominated by the bins of the largest distances, which hold few pairs of units: read "
    "it beside its unit null."
)


def smooth_responses(bench: AnyBench, choices: Choices) -> Findings:
    """How alike neighbouring units respond, by both definitions of smoothness."""
    responses = bench.recorded("localizer")
    labels = site_labels(list(responses))
    ranges, rises, tunings = {}, {}, {}
    for site, one in tqdm(responses.items(), desc="smoothness", unit="site", disable=None):
        ranges[site] = response_smoothness(one, n_draws=choices.n_draws, seed=choices.seed)
        tunings[site] = t_map(one, *bench.contrast, n_draws=choices.n_draws, seed=choices.seed)
        rises[site] = tuning_smoothness(tunings[site], seed=choices.seed)
    of_range = {site: one.smoothness for site, one in ranges.items()}
    published = [
        {"model": model, "tau": tau, "smoothness": value, _SCORES[bench.kind]: score}
        for model, rows in _PUBLISHED[bench.kind].items()
        for tau, score, value, _ in rows
    ]
    permuted = _permuted_lines(list(ranges.values()))
    curves = draw_by_layer(
        {labels[site]: _line(one.curve) for site, one in ranges.items()},
        references=permuted,
        x_label="distance between two units (mm)",
        y_label="correlation of their responses",
    )
    depth = {
        "range (TopoNets)": [one.value for one in of_range.values()],
        "range, units permuted": [_mean(one.unit_null) for one in of_range.values()],
        "rise (TDANN)": [one.value for one in rises.values()],
        "rise, units permuted": [_mean(one.unit_null) for one in rises.values()],
    }
    return Findings(
        "Smooth responses",
        "Two definitions of smoothness are in use; their numbers cannot be compared. Range, as in TopoNets: the curve "
        "of the mean correlation of two units' responses against their distance, highest less lowest of 15 bins; 0 to "
        f"2. Rise, as in TDANN: the curve of the mean absolute difference of two units' t ({bench.contrast_name}), how "
        "far below its highest it starts, as a share of that, of 9 bins; 0 to 1. Both are above 0 for noise. Floor: "
        "white noise in place of responses. Unit null: the same responses with the units permuted on the sheet. Label "
        "null: labels of the items permuted. p is one-sided.",
        [
            Table(
                "means",
                "Means over layers",
                _smoothness_means(of_range, rises),
                _RANGE_NOTE,
                keys=("definition",),
                headline=("smoothness", "floor", "unit null", "p (unit)", "label null", "p (label)"),
            ),
            Table("range", "Range of the correlation (TopoNets)", _by_sheet(labels, of_range)),
            Table("rise", "Rise of the difference in tuning (TDANN)", _by_sheet(labels, rises)),
            Table("published", "Range, published models", published, _PUBLISHED_NOTES[bench.kind]),
        ],
        [
            Picture(
                "curves",
                "Correlation by distance",
                curves.figure,
                f"{'Dashed: the same responses, units permuted. ' if permuted else ''}Bins of fewer than "
                f"{_FEWEST_PAIRS} pairs of units are not drawn.",
                headline=True,
            ),
            Picture(
                "depth", "Smoothness by depth", draw_by_depth(depth, list(labels.values()), y_label="smoothness").figure
            ),
        ],
        maps=under(bench.contrast_name.replace(" - ", "-").replace(" ", "_"), tunings),
    )


def dimensionality(bench: AnyBench, choices: Choices) -> Findings:
    """Over how many directions responses spread, with items and with tokens as samples."""
    recorded = bench.samples(choices.seed)
    labels = site_labels(list(bench.sheets))
    rows = [
        {"samples": samples, "sheet": labels[site], **_dimensions(one)}
        for samples, responses in recorded.items()
        for site, one in responses.items()
    ]
    lines = {name: [row["dimensionality"] for row in rows if row["samples"] == name] for name in recorded}
    means = []
    for name, values in lines.items():
        some = [row for row in rows if row["samples"] == name]
        mean = {"samples": name, "n samples": some[0]["n samples"], "dimensionality": float(np.mean(values))}
        means.append(mean | {"independent units": float(np.mean([row["independent units"] for row in some]))})
    published = [
        {"model": model, "tau": tau, "dimensionality": value, _SCORES[bench.kind]: score}
        for model, published in _PUBLISHED[bench.kind].items()
        for tau, score, _, value in published
        if value is not None
    ]
    figure = draw_by_depth(lines, list(labels.values()), y_label="effective dimensionality").figure
    return Findings(
        "Effective dimensionality",
        "Participation ratio of the eigenvalues of the covariance between units: 1 where all vary together, never more "
        "than the bound, the smaller of units and samples less one. Numbers of unequal samples cannot be compared. "
        "Independent units: what noise has at this size. No permutation of units or labels changes the number.",
        [
            Table(
                "means",
                "Means over layers",
                means,
                keys=("samples", "n samples"),
                headline=("dimensionality", "independent units"),
            ),
            Table("layers", "By layer", rows),
            Table("published", "Published models", published, f"{_SAMPLES[bench.kind]} {_PUBLISHED_NOTES[bench.kind]}"),
        ],
        [Picture("depth", "Effective dimensionality by depth", figure)],
    )


def _dimensions(responses: Responses) -> dict[str, Any]:
    n_samples, n_units = responses.values.shape
    row = {"n samples": n_samples, "units": n_units, "dimensionality": effective_dimensionality(responses)}
    row |= {"bound": min(n_samples - 1, n_units)}
    return row | {"independent units": independent_units_dimensionality(n_samples, n_units)}


def _mean(null: Any) -> float:
    return float("nan") if null is None else null.mean


def _references(one: Referenced) -> dict[str, Any]:
    row: dict[str, Any] = {"smoothness": one.value}
    for name, null in (("floor", one.floor), ("unit", one.unit_null), ("label", one.label_null)):
        if null is not None:
            title = name if name == "floor" else f"{name} null"
            row |= {title: null.mean, f"sd ({name})": null.sd, f"p ({name})": null.p}
    return row


def _by_sheet(labels: Mapping[str, str], numbers: Mapping[str, Referenced]) -> list[dict[str, Any]]:
    return [{"sheet": labels[site], **_references(one)} for site, one in numbers.items()]


def _smoothness_means(ranges: Mapping[str, Referenced], rises: Mapping[str, Referenced]) -> list[dict[str, Any]]:
    named = {"range (TopoNets)": ranges, "rise (TDANN)": rises}
    return [
        {"definition": name, **_references(mean_over_sheets(list(numbers.values())))} for name, numbers in named.items()
    ]


def _line(curve: DistanceCurve) -> tuple[np.ndarray, np.ndarray]:
    drawn = curve.n_pairs >= _FEWEST_PAIRS
    return curve.centres_mm[drawn], curve.values[drawn]


def _permuted_lines(found: Sequence[ResponseSmoothness]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean permuted curve of all sheets that have one, where they have the same bins."""
    curves = [one.unit_curve for one in found if one.unit_curve is not None]
    if not curves or any(not np.array_equal(one.edges_mm, curves[0].edges_mm) for one in curves):
        return {}
    mean = replace(curves[0], values=np.mean([one.values for one in curves], axis=0))
    return {"units permuted (mean)": _line(mean)}
