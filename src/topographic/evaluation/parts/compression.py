"""What a model can still do with fewer weights, by pruning and by smaller sheets."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from topographic.evaluation.choices import Choices
from topographic.evaluation.published_numbers import as_number, published
from topographic.evaluation.results import Findings, Picture, Table
from topographic.evaluation.subject import Subject
from topographic.evaluation.wording import counted
from topographic.interventions import CompressionEffect, downsampling_curve, matched_fractions, pruning_curve
from topographic.plots.layer_figures import draw_compression
from topographic.recording.sites import modules_by_site
from topographic.sheets import grid_cells

__all__ = ["compression"]


def compression(subject: Subject, choices: Choices) -> Findings:
    """Curves of downsampling, of pruning to as few parameters, and of downsampling with the units permuted."""
    measure = subject.loss_and_accuracy(choices.lesion_pairs)
    sites, modules, notes = list(subject.sheets), modules_by_site(subject.model), []
    whole = dict(measure(subject.model))
    small, fractions = [], list(choices.removed)
    is_full = all(math.prod(grid_cells(sheet)[0]) == sheet.n_units for sheet in subject.sheets.values())
    if is_full and all(isinstance(modules[site], (nn.Linear, Conv1D)) for site in sites):
        small = downsampling_curve(
            subject.model,
            sites,
            choices.removed,
            measure,
            layout=subject.sheets,
            keep_bias=True,
            n_draws=choices.permuted_draws,
            seed=choices.seed,
        )
        # both leave biases alone, so that weights are compared with weights
        fractions = matched_fractions(subject.model, sites, small)
    else:
        convolutions = (
            "It takes linear layers, and some of these are convolutions, whose accuracy falls to chance in the paper."
        )
        holes = "It reads between the units of a sheet, and some of these sheets have empty cells."
        notes.append(f"Downsampling: not measured. {convolutions if is_full else holes}")
    pruned = pruning_curve(subject.model, sites, fractions, measure)
    n_parameters = sum(parameter.numel() for parameter in subject.model.parameters())
    start = [CompressionEffect(name, "whole model", 0.0, n_parameters, value) for name, value in whole.items()]
    effects = [*start, *small, *pruned]
    permuted = Table(
        "permuted",
        "Does it matter where units lie?",
        _permuted_rows(small),
        keys=("measure", "removed"),
        headline=("downsampled", "units permuted", "sd", "p"),
    )
    return Findings(
        "Compression",
        _explained(subject, choices),
        [
            Table(
                "curves",
                "Loss and accuracy",
                _rows(effects, whole, subject.kind),
                "Δ: change from the whole model.",
                keys=("method", "removed"),
                headline=("parameters", "loss", "Δ loss", "accuracy", "Δ accuracy"),
            ),
            *([permuted] if small else []),
            *_published_table(subject.kind),
        ],
        [
            Picture(
                "curves",
                "Against the parameters that are left",
                draw_compression(effects, subject.measures),
                "From the whole model on the left to the smallest on the right. Band: ± 2 sd over draws.",
                headline=True,
            )
        ],
        notes,
    )


def _published_table(kind: str) -> list[Table]:
    """Losses after downsampling, where they are published for this kind of model."""
    about: dict[tuple[str, ...], dict[str, float | int]] = {}
    for one in published(f"toponets_{kind}"):
        if "removed" in one.setting:
            about.setdefault((one.setting["tau"], one.setting["removed"]), {})[one.measure] = one.value
    rows = [
        {"tau": as_number(tau), "removed": as_number(removed), "parameters": f"{found['millions of parameters']} M"}
        | {"loss": found["loss"], "BLiMP": found["BLiMP"]}
        for (tau, removed), found in about.items()
    ]
    note = (
        "Read off the figure of Deb et al. (ICLR 2025): another model, loss on its own text; BLiMP's chance is 0.5. Of "
        "pruning only curves are published. Only tau = 50 survives."
    )
    return [Table("published", "Downsampling, published NanoGPT by tau", rows, note)] if rows else []


def _explained(subject: Subject, choices: Choices) -> str:
    return (
        f"Weights are taken from {counted(len(subject.sheets), 'layer')}. Downsampling: each sheet of units is made "
        "smaller by bilinear interpolation of the incoming weights, and activations are interpolated back, so that the "
        "next layer sees all units. Units permuted: the same with the units elsewhere on the sheet, which changes "
        f"nothing in the whole model and undoes topography ({choices.permuted_draws} draws): does it matter where "
        "units lie? p: share of draws that come as near to the whole model. Pruning: the smallest weights of each "
        "layer set to zero, as many as leave the same number of parameters; zeros save no room unless they are stored "
        "as such."
    )


def _rows(effects: Sequence[CompressionEffect], whole: dict[str, float], kind: str) -> list[dict[str, Any]]:
    """One row per model, with all its measures."""
    found: dict[tuple[str, float, int], dict[str, float]] = {}
    for effect in effects:
        found.setdefault((effect.method, effect.fraction, effect.n_parameters), {})[effect.measure] = effect.value
    rows = []
    for (method, fraction, n_parameters), values in found.items():
        row = {"method": method, "removed": fraction, "parameters": n_parameters, "loss": values["loss"]}
        row["Δ loss"] = values["loss"] - whole["loss"]
        if kind == "language":
            row["perplexity"] = math.exp(values["loss"])
        rows.append(row | {"accuracy": values["accuracy"], "Δ accuracy": values["accuracy"] - whole["accuracy"]})
    return rows


def _permuted_rows(effects: Sequence[CompressionEffect]) -> list[dict[str, Any]]:
    """One row per measure and smaller model, beside the same with the units permuted."""
    rows = []
    for effect in effects:
        if effect.unit_null is not None:
            null = effect.unit_null
            row = {"measure": effect.measure, "removed": effect.fraction, "parameters": effect.n_parameters}
            row |= {"downsampled": effect.value, "units permuted": null.mean, "sd": null.sd, "z": null.z, "p": null.p}
            rows.append(row)
    return sorted(rows, key=lambda row: row["measure"], reverse=True)
