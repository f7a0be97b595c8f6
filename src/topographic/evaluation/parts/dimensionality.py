"""Over how many directions responses spread, with items and with tokens as samples."""

from typing import Any

import numpy as np

from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.published_numbers import published_models, published_note
from topographic.evaluation.results import Findings, Picture, Table
from topographic.evaluation.subject import Subject
from topographic.maps import effective_dimensionality, independent_units_dimensionality
from topographic.plots.layer_figures import draw_by_depth
from topographic.recording import Responses

__all__ = ["dimensionality"]

_SAMPLES = {"language": "8192 samples of text.", "vision": "20,000 images of ImageNet, TDANN 10,000."}


def dimensionality(subject: Subject, choices: Choices) -> Findings:
    """Effective dimensionality of every layer, beside what independent units have at this size."""
    recorded = subject.samples(choices.seed)
    labels = site_labels(list(subject.sheets))
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
    theirs = published_models(f"toponets_{subject.kind}", "dimensionality")
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
            Table("published", "Published models", theirs, f"{_SAMPLES[subject.kind]} {published_note(subject.kind)}"),
        ],
        [Picture("depth", "Effective dimensionality by depth", figure)],
    )


def _dimensions(responses: Responses) -> dict[str, Any]:
    n_samples, n_units = responses.values.shape
    row = {"n samples": n_samples, "units": n_units, "dimensionality": effective_dimensionality(responses)}
    row |= {"bound": min(n_samples - 1, n_units)}
    return row | {"independent units": independent_units_dimensionality(n_samples, n_units)}
