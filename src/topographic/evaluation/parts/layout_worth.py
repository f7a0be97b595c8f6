"""What a layout is worth: order near by and far away, smooth activity, and the same again from another text."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.results import Findings, NotMeasurable, Picture, Table
from topographic.evaluation.subject import LanguageSubject, Subject
from topographic.layouts import Adaptor
from topographic.layouts.rebased import AdaptedSheet
from topographic.maps import (
    DistanceDecay,
    activity_smoothness,
    correlation_by_distance,
    distance_decay,
    layout_agreement,
)
from topographic.maps.nulls import stream
from topographic.plots.figures import draw_distance_curves
from topographic.plots.layer_figures import draw_by_depth
from topographic.recording import Responses
from topographic.recording.sites import modules_by_site
from topographic.sheets import Sheet, grid_cells

__all__ = ["adaptor_at", "layout_order", "layout_reliability", "randomly_rotated"]

_LARGEST_BLOCK = 6
_LEVEL = 0.05
_LINEAR = ("mean", "last", "class")  # poolings that a change of basis passes through
_NAN = float("nan")


def layout_order(subject: Subject, choices: Choices) -> Findings:
    """Whether responses to what no layout was fitted on grow less alike with distance, and evoke smooth activity."""
    responses = subject.recorded("localizer")
    labels = site_labels(list(responses))
    drawn = {"n_draws": choices.n_draws, "seed": choices.seed}
    rows: list[dict[str, Any]] = []
    curves: dict[str, list[Any]] = {"sheets": [], "random": []}
    for site, one in tqdm(responses.items(), desc="order of sheets", unit="site", disable=None):
        control = randomly_rotated(one, choices.seed)
        row: dict[str, Any] = {"sheet": labels[site]}
        try:
            decay = distance_decay(one, block=_block(one.sheet), **drawn)
            row |= _decay_columns(decay)
        except NotMeasurable as reason:
            row["note"] = str(reason)
        row |= activity_smoothness(one, **drawn).mean.to_columns("smoothness", of="unit", show=("mean", "p"))
        row["smoothness, random rotation"] = activity_smoothness(control, n_draws=2, seed=choices.seed).mean.value
        if (adaptor := adaptor_at(subject, site)) is not None and "loss" in adaptor.provenance:
            row |= {"held-out loss": adaptor.provenance["loss"], "own order": adaptor.provenance["loss_before"]}
        for name, own in zip(curves, (one, control), strict=True):
            curves[name].append(correlation_by_distance(own, n_bins=12, seed=choices.seed))
        rows.append(row)
    names = ("near", "far", "smoothness", "smoothness, random rotation")
    lines = {name: [_number(row.get(name)) for row in rows] for name in names if any(name in row for row in rows)}
    return Findings(
        "Order of the sheets",
        "near: correlation, over all pairs of units, of how alike they respond with 1 / (1 + distance), beside "
        "permuted units. Any sheet that was fitted is ordered near by. far: minus the correlation with distance over "
        "pairs that lie farther apart than a block of a third of the shorter side (6 units at most), beside the sheet "
        "with such blocks in another order: whether pieces lie where they belong, too. It is judged only where near "
        "has p of .05 or less, because the scatter of a flat curve agrees with anything. smoothness: Moran's I of what "
        "each stimulus evokes, mean over stimuli, units in standard deviations; beside permuted units, and beside "
        "a random rotation of the same values. held-out loss: the spatial loss on text after that of the fit; own "
        "order: that of the units as they come.",
        [
            Table(
                "sheets",
                "By sheet",
                rows,
                keys=("sheet",),
                headline=("near", "p (near)", "smoothness", "smoothness, random rotation"),
            )
        ],
        [
            Picture("depth", "Order by depth", draw_by_depth(lines, list(labels.values()), y_label="r, or I").figure),
            Picture(
                "curves",
                "Correlation by distance, beside random rotations",
                draw_distance_curves(curves).figure,
                headline=True,
            ),
        ],
    )


def layout_reliability(subject: LanguageSubject, choices: Choices) -> Findings:
    """Whether the layout fitted on another text puts the same things side by side."""
    other = subject.other_layout
    if subject.shown.pooling not in _LINEAR:
        raise NotMeasurable(
            f"responses pooled by {subject.shown.pooling} cannot be shown on another layout; use pooling=mean or last"
        )
    drawn = {"n_draws": choices.n_draws, "seed": choices.seed}
    rows, notes = [], []
    labels = site_labels(list(subject.sheets))
    for site, first in tqdm(subject.recorded("localizer").items(), desc="reliability", unit="site", disable=None):
        own = adaptor_at(subject, site)
        if own is None or own.site not in other:
            notes.append(f"{labels[site]}: not measured, because one of the two layouts has no such site.")
            continue
        second = _on_other_sheet(first, own, other[own.site])
        agreement = layout_agreement(first, second, block=_block(second.sheet), **drawn)
        random = layout_agreement(
            first, randomly_rotated(second, choices.seed), block=_block(second.sheet), n_draws=2, seed=choices.seed
        )
        rows.append({
            "sheet": labels[site],
            "match": agreement.match,
            "match, random rotation": random.match,
            **agreement.arrangement.to_columns("arrangement", show=("mean", "p")),
            "arrangement, random rotation": random.arrangement.value,
        })
    if not rows:
        raise NotMeasurable(f"no sheet of the model lies at a site of the layout in {subject.shown.other_layout}")
    return Findings(
        "Reliability of the layout",
        "Every place of a sheet is matched with the place of the other layout that responds most like it, or most "
        "against it: match is the mean of their |r|. arrangement: correlation of the distances of places here with "
        "those of their matches there, whichever way round the sheets lie; beside the other sheet's places permuted, "
        "and its blocks in another order. Beside both the same with a random rotation in place of the other layout.",
        [
            Table(
                "sheets",
                "By sheet",
                rows,
                keys=("sheet",),
                headline=("match", "match, random rotation", "arrangement", "p (unit)", "p (block)"),
            )
        ],
        notes=notes,
    )


def adaptor_at(subject: Subject, site: str) -> Adaptor | None:
    """The adaptor that shows a sheet; None where the model's own units lie on it."""
    module = modules_by_site(subject.model).get(site)
    return module.adaptor if isinstance(module, AdaptedSheet) else None


def randomly_rotated(responses: Responses, seed: int) -> Responses:
    """Responses, each unit in standard deviations, in a random orthogonal basis on the same sheet."""
    n_units = responses.sheet.n_units
    normal = stream(seed, "rotation", responses.site).standard_normal((n_units, n_units))
    values = responses.values.astype(np.float64) - responses.values.mean(0, dtype=np.float64)
    spread = values.std(0)
    turned = (values / np.where(spread > 0, spread, 1.0)) @ np.linalg.qr(normal)[0]
    return replace(responses, values=turned.astype(np.float32))


def _on_other_sheet(responses: Responses, own: Adaptor, other: Adaptor) -> Responses:
    """The same activity of the site, as another adaptor shows it."""
    here, there = (one.provenance.get("weights") for one in (own, other))
    if here is not None and there is not None and here != there:
        raise ValueError(
            f"other_layout was fitted on weights {there[:12]} at {other.site!r}, this one on {here[:12]}; "
            "give a layout of the same model"
        )
    activity = own.to_stream(torch.from_numpy(np.array(responses.values, np.float32))) + own.mean
    return replace(responses, values=other.to_sheet(activity).numpy(), sheet=other.sheet)


def _block(sheet: Sheet) -> int:
    """Side of a block that is moved as one: 6, or as long as nine of them fit."""
    return max(2, min(_LARGEST_BLOCK, min(grid_cells(sheet)[0]) // 3))


def _decay_columns(decay: DistanceDecay) -> dict[str, Any]:
    row: dict[str, Any] = decay.near.to_columns("near", of="unit", show=("mean", "p"))
    if decay.near.nulls["unit"].p > _LEVEL:
        return {**row, "note": "flat: responses do not grow less alike with distance, so that far says nothing"}
    return row | decay.far.to_columns("far", of="block", show=("mean", "p"))


def _number(cell: Any) -> float:
    return _NAN if cell is None else float(cell)
