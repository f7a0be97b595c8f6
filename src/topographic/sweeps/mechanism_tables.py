"""The part of a sweep's page on mechanisms of topography: what each costs, makes and is good for."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from topographic.evaluation.results import Findings, Picture, Table
from topographic.plots.mechanism_figures import Mechanism, draw_mechanisms
from topographic.sweeps.choices import Mechanisms
from topographic.sweeps.collect import (
    CellNumbers,
    Measure,
    Replicates,
    Setting,
    grouped_rows,
    over_replicates,
    paired_difference,
)
from topographic.sweeps.pace import Pace

__all__ = ["laid_out_settings", "mechanisms_part"]

_LOSS, _PAIRS = Measure("validation loss"), Measure("accuracy")
_ORDER = ("I of activity", "t_g", "smoothness", "I")
_OF_WEIGHTS = ("I of weights", "smoothness of weights")
_X = "I of activity"
_COUNTED = ("tokens", "images", "parameters", "time (s)")  # alike in all replicates, or no number of a model


def laid_out_settings(settings: Sequence[Setting]) -> list[Setting]:
    """Settings of the models whose units were laid out after training as well, under names of their own."""
    found = []
    for one in settings:
        again = [_again(cell) for cell in one.cells if cell.laid_out]
        if again:
            name = f"{one.name}, laid out afterwards"
            found.append(Setting(name, one.levels, again, one.reference or one))
    return found


def _again(one: CellNumbers) -> CellNumbers:
    kept = {name: one.about.get(name) for name in ("parameters", "validation loss", "accuracy")}
    return dataclasses.replace(one, about={**kept, **one.laid_out}, maps={}, laid_out={})


def mechanisms_part(settings: Sequence[Setting], choices: Mechanisms, pace: Mapping[str, Pace]) -> Findings:
    """Tables and figure of all settings, those laid out afterwards included."""
    every = [*settings, *laid_out_settings(settings)]
    tables = [
        Table("cost", "What each costs", [_cost(one, pace) for one in every], _COST_NOTE),
        *(
            Table(f"order_{place}", f"Order: {place}", [_order(one, place) for one in every], _ORDER_NOTE)
            for place in choices.sites
        ),
        Table("uses", "What is left of a changed model", [_uses(one) for one in every], _USES_NOTE),
        # without what a setting consists of, which its name stands for and grouped.csv has
        Table(
            "mechanisms",
            "Everything over seeds",
            grouped_rows(every, list(_measures(every)), with_levels=False),
            _LONG_NOTE,
        ),
    ]
    return Findings(
        "Mechanisms of topography",
        f"Every mechanism is trained on the same tokens in the same order, and measured at the same places: "
        f"{', '.join(choices.sites)}. Means over the sheets of a place, then over seeds, with one standard deviation.",
        [one for one in tables if len(one.columns) > 1],
        _pictures(every, choices),
    )


def _measures(settings: Sequence[Setting]) -> Iterator[Measure]:
    names = dict.fromkeys(name for one in settings for cell in one.cells for name in cell.about)
    yield from (Measure(name) for name in names if name not in _COUNTED)


def _cost(one: Setting, pace: Mapping[str, Pace]) -> dict[str, Any]:
    row: dict[str, Any] = {"mechanism": one.name, "parameters": one.cells[0].about["parameters"]}
    row |= {"validation loss": _said(one, _LOSS), "minus reference": _difference(one, _LOSS)}
    if one.numbers(_PAIRS):
        row["minimal pairs"] = _said(one, _PAIRS)
    if one.name in pace:
        step = pace[one.name]
        row |= {"s/step": step.seconds, "times reference": step.ratio, "kept (MiB)": step.kept_mib}
    return row


def _order(one: Setting, place: str) -> dict[str, Any]:
    row: dict[str, Any] = {"mechanism": one.name}
    for name in (*_ORDER, *_OF_WEIGHTS):
        measure = Measure(f"{place}: {name}")
        if one.numbers(measure):
            row[name] = _said(one, measure)
            row[f"z ({name})"] = _said(one, Measure(f"{measure.name}, z (unit)"), 1)
    labels = Measure(f"{place}: I, z (label)")
    return row | {"z (I, labels)": _said(one, labels, 1), "dimensions": _said(one, Measure(f"{place}: dimensions"), 1)}


def _uses(one: Setting) -> dict[str, Any]:
    names = ("downsampled", "downsampled, units permuted", "pruned", "lesion: sentences", "lesion: specificity")
    names += ("lesion: specificity beyond other patches",)
    row: dict[str, Any] = {"mechanism": one.name}
    row |= {name: _said(one, Measure(name)) for name in names if one.numbers(Measure(name))}
    judged = one.numbers(Measure("lesion: p"))
    return row | ({"lesion: p": ", ".join(f"{p:.2f}" for p in judged.values())} if judged else {})


def _said(one: Setting, measure: Measure, digits: int = 3) -> str:
    values = [value for value in one.numbers(measure).values() if math.isfinite(value)]
    if not values:
        return ""
    found = over_replicates(values)
    return f"{found.mean:.{digits}f}" + (f" ± {found.sd:.{digits}f}" if found.n > 1 else "")


def _difference(one: Setting, measure: Measure) -> str:
    if one.reference is None:
        return ""
    found = paired_difference(one.numbers(measure), one.reference.numbers(measure))
    return "" if found is None else _interval(found.difference)


def _interval(found: Replicates) -> str:
    said = f"{found.mean:+.3f}"
    return said if found.n == 1 else f"{said} [{found.low:+.3f}, {found.high:+.3f}]"


def _pictures(settings: Sequence[Setting], choices: Mechanisms) -> list[Picture]:
    controls = {one.reference.name for one in settings if one.reference is not None}
    panels: dict[str, list[Mechanism]] = {}
    for place in choices.sites:
        measure = Measure(f"{place}: {_X}")
        for one in settings:
            is_control = one.name in controls or any(one.name.startswith(f"{name}, ") for name in controls)
            beside = one.reference.numbers(_LOSS) if one.reference is not None else one.numbers(_LOSS)
            x, y = one.numbers(measure), one.numbers(_LOSS)
            shared = [seed for seed in x if seed in y and seed in beside]
            if shared:
                values = [x[seed] for seed in shared], [y[seed] - beside[seed] for seed in shared]
                panels.setdefault(place, []).append(Mechanism(one.name, *values, is_control=is_control))
    if not panels:
        return []
    figure = draw_mechanisms(
        panels, x_label="Moran's I of activity", y_label="validation loss above the control (nats per token)"
    )
    return [Picture("mechanisms", "Cost against topography", figure, _HOW_TO_READ)]


_COST_NOTE = (
    "minus reference: paired by seed, 95 % interval of Student's t. s/step, kept (MiB): a training step with all "
    "terms, models taking turns, median, and activations kept for the way back; times reference: median of the ratios "
    "within a round."
)
_ORDER_NOTE = (
    "I of activity: Moran's I of the response to one stimulus, mean over stimuli. t_g: topographic statistic. "
    "smoothness: fall of the correlation of responses with distance. I: of the map of sentences against nonword "
    "strings. I of weights: of the weights by which one input is heard, mean over inputs. z: in standard deviations of "
    "the same with the units permuted; of the map's I with the labels permuted, too."
)
_USES_NOTE = (
    "Loss on held-out text above the whole model's, in nats per token: layers with fewer units, the same with the "
    "units permuted, and pruned to as few parameters. lesion: a patch around the peak of every map is silenced, chosen "
    "on half of the items; of the others: what sentences lose, what they lose beyond nonword strings, and that beyond "
    "other patches as large and compact, with p of every seed."
)
_LONG_NOTE = "low, high: 95 % interval of Student's t over seeds. difference: to the reference, seed by seed."
_HOW_TO_READ = "Small dots are seeds, large ones their means, bars one standard deviation over seeds."
