"""How alike neighbouring units respond, by both definitions of smoothness."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from tqdm.auto import tqdm

from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.published_numbers import published_models, published_note
from topographic.evaluation.results import Findings, Picture, Table, under, without_sd
from topographic.evaluation.subject import Subject
from topographic.maps import (
    DistanceCurve,
    NullReference,
    Referenced,
    ResponseSmoothness,
    mean_over_sheets,
    response_smoothness,
    t_map,
    tuning_smoothness,
)
from topographic.plots.layer_figures import draw_by_depth, draw_by_layer

__all__ = ["smooth_responses"]

_FEWEST_PAIRS = 20  # of units in a bin that is drawn
_RANGE_NOTE = (
    "On small sheets the range is dominated by the bins of the largest distances, which hold few pairs of units: read "
    "it beside its unit null."
)


def smooth_responses(subject: Subject, choices: Choices) -> Findings:
    """Range of the correlation by distance, and rise of the difference in tuning."""
    responses = subject.recorded("localizer")
    labels = site_labels(list(responses))
    ranges, rises, tunings = {}, {}, {}
    for site, one in tqdm(responses.items(), desc="smoothness", unit="site", disable=None):
        ranges[site] = response_smoothness(one, n_draws=choices.n_draws, seed=choices.seed)
        tunings[site] = t_map(one, *subject.contrast, n_draws=choices.n_draws, seed=choices.seed)
        rises[site] = tuning_smoothness(tunings[site], seed=choices.seed)
    definitions: dict[str, Mapping[str, Referenced]] = {
        "range (TopoNets)": {site: one.smoothness for site, one in ranges.items()},
        "rise (TDANN)": rises,
    }
    means = [
        {"definition": name, **mean_over_sheets(list(numbers.values())).to_columns("smoothness")}
        for name, numbers in definitions.items()
    ]
    by_sheet = [
        [{"sheet": labels[site], **one.to_columns("smoothness")} for site, one in numbers.items()]
        for numbers in definitions.values()
    ]
    permuted = _permuted_lines(list(ranges.values()))
    curves = draw_by_layer(
        {labels[site]: _line(one.curve) for site, one in ranges.items()},
        references=permuted,
        x_label="distance between two units (mm)",
        y_label="correlation of their responses",
    )
    depth = {}
    for name, numbers in definitions.items():
        depth[name] = [one.value for one in numbers.values()]
        depth[f"{name.split()[0]}, units permuted"] = [_mean(one.unit_null) for one in numbers.values()]
    return Findings(
        "Smooth responses",
        "Two definitions of smoothness are in use; their numbers cannot be compared. Range, as in TopoNets: the curve "
        "of the mean correlation of two units' responses against their distance, highest less lowest of 15 bins; 0 to "
        f"2. Rise, as in TDANN: the curve of the mean absolute difference of two units' t ({subject.contrast_name}), "
        "how far below its highest it starts, as a share of that, of 9 bins; 0 to 1. Both are above 0 for noise. "
        "Floor: white noise in place of responses. Unit null: the same responses with the units permuted on the sheet. "
        "Label null: labels of the items permuted. p is one-sided.",
        [
            Table(
                "means",
                "Means over layers",
                means,
                _RANGE_NOTE,
                keys=("definition",),
                headline=without_sd(means, "definition"),
            ),
            Table("range", "Range of the correlation (TopoNets)", by_sheet[0]),
            Table("rise", "Rise of the difference in tuning (TDANN)", by_sheet[1]),
            Table(
                "published",
                "Range, published models",
                published_models(f"toponets_{subject.kind}", "smoothness"),
                published_note(subject.kind),
            ),
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
        maps=under(subject.contrast_name.replace(" - ", "-").replace(" ", "_"), tunings),
    )


def _mean(null: NullReference | None) -> float:
    return float("nan") if null is None else null.mean


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
