"""How smooth weights are, on the sheets and by the blur that the run was trained with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.results import Findings, Picture, Table, without_sd
from topographic.evaluation.subject import Subject
from topographic.losses import random_weights_loss, weight_sheets
from topographic.losses.blurs import shrunk
from topographic.maps import Referenced, mean_over_sheets, weight_smoothness
from topographic.objectives.weight_terms import WeightSheet
from topographic.plots.layer_figures import draw_by_depth
from topographic.recording.sites import modules_by_site
from topographic.runs.own_sheets import placed
from topographic.sheets import Sheet, grid_cells

__all__ = ["LayerWeights", "layer_weights", "smooth_weights"]

_WAYS = ("of", "factor", "blur", "layers")  # in which layers are looked at, and how many


class LayerWeights(NamedTuple):
    """What lies on the sheet of a layer, and how that sheet is blurred."""

    name: str
    """The site; of recurrent layers also the parameter."""
    chosen: WeightSheet
    is_own: bool
    """Whether the run's configuration says so; otherwise it is as published."""
    weights: Float[Tensor, "units depth"] | Float[Tensor, " units"]
    sheet: Sheet


def smooth_weights(subject: Subject, choices: Choices) -> Findings:
    """How alike the weights of neighbouring units are: the loss that TopoNets lowers."""
    found, rows, notes = [], [], []
    layers = layer_weights(subject)
    labels = site_labels(list(dict.fromkeys(layer.chosen.sites for layer in layers)))
    for layer in layers:
        label = layer.name.replace(layer.chosen.sites, labels[layer.chosen.sites], 1)
        shape, order = _cells(layer)
        if no_room := _no_room(layer, shape):
            notes.append(f"{label}: not measured. {no_room}")
            continue
        where = {"shape": shape, "order": order, "factor": layer.chosen.factor, "blur": layer.chosen.blur}
        one = weight_smoothness(layer.weights, layer.sheet, n_draws=choices.n_draws, seed=choices.seed, **where)
        is_bias = layer.weights.ndim == 1  # one vector, of which there is no closed form
        expected = None if is_bias else random_weights_loss(len(layer.weights), **where)
        found.append(one)
        row = {"sheet": label, "units": _size(shape), "weights per unit": 1 if is_bias else layer.weights.shape[1]}
        rows.append(row | _losses(one) | {"random weights": expected, **_said(layer)})
    means = _mean_losses(rows, found)
    columns = {"this model": "loss", "units permuted": "unit null", "random weights": "random weights"}
    lines = {name: [_or_nan(row[column]) for row in rows] for name, column in columns.items()}
    pictures = []
    if rows:
        axes = draw_by_depth(lines, [row["sheet"] for row in rows], y_label="pyramid loss", at_least=(0.0, 1.0))
        note = "Below both other lines: neighbours have like weights."
        pictures.append(Picture("depth", "Pyramid loss by depth", axes.figure, note, headline=True))
    return Findings(
        "Smooth weights",
        "Pyramid loss of TopoNets: 1 less the mean cosine between the weights of a unit (incoming ones; outgoing ones "
        "where input units lie on the sheet; a bias is one vector) and those of its blurred surroundings; 0 is smooth. "
        f"{_chosen(layers)} "
        "Random weights: its value in closed form for independent weights of one variance. Unit null: the same weights "
        "with the units permuted on the sheet, which keeps what units have in common wherever they lie; p is "
        "one-sided, the share of permuted sheets that are as smooth.",
        [
            Table(
                "means",
                "Mean over layers",
                means,
                "TopoNets reports no values of its loss.",
                keys=_WAYS,
                headline=without_sd(means, *_WAYS),
            ),
            Table("layers", "By layer", rows),
        ],
        pictures,
        notes,
    )


def layer_weights(subject: Subject) -> list[LayerWeights]:
    """Weights of the units of every sheet: those it was trained with, and those of the other recorded layers."""
    modules, found = modules_by_site(subject.model), []
    named = {one.sites for one in subject.weight_sheets}
    for chosen in [*subject.weight_sheets, *(WeightSheet(site) for site in subject.sheets if site not in named)]:
        site, is_own = chosen.sites, chosen.sites in named
        try:
            sheets = weight_sheets(modules[site], chosen.kind, parameters=chosen.parameters)
        except TypeError as error:
            raise ValueError(
                f"site {site!r} is no layer with weights on a sheet; name the first linear layers of the MLPs, for "
                f"example sites='transformer.h.*.mlp.c_fc' ({error})"
            ) from error
        for parameter, weights in sheets.items():
            name = site if parameter == "weight" else f"{site}.{parameter}"
            name = f"{name}.inputs" if chosen.kind == "input" else name
            recorded = subject.sheets.get(site) if chosen.kind != "input" else chosen.sheet
            sheet = placed(chosen, len(weights), name) if recorded is None else recorded
            found.append(LayerWeights(name, chosen, is_own, weights.detach(), sheet))
    return found


def _cells(layer: LayerWeights) -> tuple[tuple[int, int], Sequence[int] | None]:
    """Rows, columns and the cell of every unit: those the run was told, where its sheet is the one that is there."""
    chosen, sheet = layer.chosen, layer.sheet
    if chosen.shape is not None and sheet.extent_mm == tuple(map(float, chosen.shape)):
        return chosen.shape, chosen.order
    shape, cells = grid_cells(sheet)
    return shape, cells.tolist()


def _no_room(layer: LayerWeights, shape: tuple[int, int]) -> str:
    """What to say of a sheet of which the blur would leave nothing."""
    factor = layer.chosen.factor
    factors = (factor, factor) if isinstance(factor, int | float) else factor
    small = [one for one in zip(("rows", "columns"), shape, factors, strict=True) if shrunk(*one[1:]) < 1]
    said = (f"factor {along:g} is too large for the {length} {axis}" for axis, length, along in small[:1])
    return "".join(f"{one} of a {_size(shape)} sheet and leaves none of them." for one in said)


def _or_nan(number: float | None) -> float:
    return math.nan if number is None else number


def _said(layer: LayerWeights) -> dict[str, str]:
    """How a layer was looked at, in words."""
    factor = layer.chosen.factor
    axes = (factor,) if isinstance(factor, (int, float)) else dict.fromkeys(factor)
    return {
        "of": f"{layer.chosen.kind} units",
        "factor": " x ".join(f"{number:g}" for number in axes),
        "blur": layer.chosen.blur,
        "as": "the run's own" if layer.is_own else "published",
    }


def _chosen(layers: Sequence[LayerWeights]) -> str:
    """Which blur, and why."""
    why = {
        "the run's own": "as the run itself was told (section smoothness of its config.yaml)",
        "published": "as published, since no configuration of the run says otherwise",
    }
    said = dict.fromkeys(tuple(_said(layer).values()) for layer in layers)
    parts = [f"{of} with a blur of factor {factor} ({blur}), {why[reason]}" for of, factor, blur, reason in said]
    return f"Measured: {'; '.join(parts)}." if parts else ""


def _mean_losses(rows: Sequence[Mapping[str, Any]], found: Sequence[Referenced]) -> list[dict[str, Any]]:
    """Means over layers that were looked at in the same way."""
    ways: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        ways.setdefault((row["of"], row["factor"], row["blur"]), []).append(index)
    means = []
    for (of, factor, blur), members in ways.items():
        mean = {"of": of, "factor": factor, "blur": blur, "layers": len(members)}
        mean |= _losses(mean_over_sheets([found[index] for index in members]))
        expected = [rows[index]["random weights"] for index in members]
        means.append(mean | {"random weights": None if None in expected else float(np.mean(expected))})
    return means


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"


def _losses(one: Referenced) -> dict[str, Any]:
    """The loss is 1 less the smoothness that was tested."""
    nulls = {name: replace(null, mean=1 - null.mean) for name, null in one.nulls.items()}
    return Referenced(1 - one.value, nulls).to_columns("loss")
