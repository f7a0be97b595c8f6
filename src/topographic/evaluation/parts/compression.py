"""The compression part of a suite: what a model can still do with fewer weights, by pruning and by smaller sheets."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from topographic.evaluation.image_subject import AnyBench, ImageBench
from topographic.evaluation.parts.behaviour import language_performance
from topographic.evaluation.results import Findings, Picture, Table
from topographic.evaluation.subject import Bench, Choices
from topographic.interventions import CompressionEffect, downsampling_curve, matched_fractions, pruning_curve
from topographic.plots.layer_figures import draw_compression
from topographic.recording.sites import modules_by_site
from topographic.sheets import grid_cells

__all__ = ["compression", "image_compression"]

# Deb et al. (ICLR 2025, arXiv:2501.16396), NanoGPT of 124.4 million parameters, read off the figure:
# parameters in millions, then validation loss and BLiMP at tau 0, 0.5, 1 and 50
_TAUS = (0, 0.5, 1, 50)
_PUBLISHED = {
    0.0: (124.4, (3.1, 3.1, 3.15, 3.40), (0.760, 0.745, 0.720, 0.699)),
    0.2: (118.1, (13.7, 9.6, 8.5, 3.53), (0.460, 0.500, 0.484, 0.683)),
    0.5: (109.7, (14.1, 10.1, 8.75, 3.62), (0.492, 0.501, 0.484, 0.680)),
    0.8: (101.5, (14.8, 10.1, 8.9, 3.70), (0.466, 0.517, 0.479, 0.671)),
}


def compression(bench: Bench, choices: Choices) -> Findings:
    """Curves of downsampling, of pruning to as few parameters, and of downsampling with the units permuted."""
    performance = language_performance(bench, choices)

    def measure(model: nn.Module) -> dict[str, float]:
        found = performance(model)
        return {"loss": math.log(found["perplexity"]), "accuracy": found["accuracy"]}

    published = [
        {"tau": tau, "removed": removed, "parameters": f"{millions} M", "loss": losses[index], "BLiMP": blimp[index]}
        for index, tau in enumerate(_TAUS)
        for removed, (millions, losses, blimp) in _PUBLISHED.items()
    ]
    note = (
        "Read off the figure of Deb et al. (ICLR 2025): another model, loss on its own text; BLiMP's chance is 0.5. Of "
        "pruning only curves are published. Only tau = 50 survives."
    )
    table = Table("published", "Downsampling, published NanoGPT by tau", published, note)
    labels = {"loss": "loss (nats per token)", "accuracy": "accuracy on minimal pairs"}
    return _compressed(bench, choices, measure, labels, [table])


def image_compression(bench: ImageBench, choices: Choices) -> Findings:
    """The same curves for a vision model, by its loss and accuracy on test images."""
    labels = {"loss": "loss (nats per image)", "accuracy": "accuracy on test images"}
    if bench.test is None:
        note = "Compression: not measured, because no test images are named; say test_set=cifar10, for example."
        return Findings("Compression", _explained(bench, choices), [_curves_table([])], (), [note])
    return _compressed(bench, choices, bench.recognised, labels, [])


def _compressed(
    bench: AnyBench,
    choices: Choices,
    measure: Callable[[nn.Module], dict[str, float]],
    labels: dict[str, str],
    published: list[Table],
) -> Findings:
    sites, modules, notes = list(bench.sheets), modules_by_site(bench.model), []
    whole = dict(measure(bench.model))
    small, fractions = [], list(choices.removed)
    is_full = all(math.prod(grid_cells(sheet)[0]) == sheet.n_units for sheet in bench.sheets.values())
    if is_full and all(isinstance(modules[site], (nn.Linear, Conv1D)) for site in sites):
        small = downsampling_curve(
            bench.model,
            sites,
            choices.removed,
            measure,
            layout=bench.sheets,
            keep_bias=True,
            n_draws=choices.permuted_draws,
            seed=choices.seed,
        )
        # both leave biases alone, so that weights are compared with weights
        fractions = matched_fractions(bench.model, sites, small)
    else:
        convolutions = (
            "It takes linear layers, and some of these are convolutions, whose accuracy falls to chance in the paper."
        )
        holes = "It reads between the units of a sheet, and some of these sheets have empty cells."
        notes.append(f"Downsampling: not measured. {convolutions if is_full else holes}")
    pruned = pruning_curve(bench.model, sites, fractions, measure)
    n_parameters = sum(parameter.numel() for parameter in bench.model.parameters())
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
        _explained(bench, choices),
        [_curves_table(_rows(effects, whole, bench.kind)), *([permuted] if small else []), *published],
        [
            Picture(
                "curves",
                "Against the parameters that are left",
                draw_compression(effects, labels),
                "From the whole model on the left to the smallest on the right. Band: ± 2 sd over draws.",
                headline=True,
            )
        ],
        notes,
    )


def _explained(bench: AnyBench, choices: Choices) -> str:
    layers = "1 layer" if len(bench.sheets) == 1 else f"{len(bench.sheets)} layers"
    return (
        f"Weights are taken from {layers}. Downsampling: each sheet of units is made smaller by "
        "bilinear interpolation of the incoming weights, and activations are interpolated back, so that the next layer "
        "sees all units. Units permuted: the same with the units elsewhere on the sheet, which changes nothing in the "
        f"whole model and undoes topography ({choices.permuted_draws} draws): does it matter where units lie? p: share "
        "of draws that come as near to the whole model. Pruning: the smallest weights of each layer set to zero, as "
        "many as leave the same number of parameters; zeros save no room unless they are stored as such."
    )


def _curves_table(rows: list[dict[str, Any]]) -> Table:
    return Table(
        "curves",
        "Loss and accuracy",
        rows,
        "Δ: change from the whole model.",
        keys=("method", "removed"),
        headline=("parameters", "loss", "Δ loss", "accuracy", "Δ accuracy"),
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
