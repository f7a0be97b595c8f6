"""The page of a sweep: what topography costs, what every factor does, each number over seeds."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from topographic.evaluation.results import Findings, Picture, Table, save_findings, save_table
from topographic.maps.wording import p_value
from topographic.plots.sweep_figures import MARKERS, TradeOff, draw_factor, draw_trade_offs
from topographic.sweeps.collect import CellNumbers, Measure, Setting, grouped_rows, level_word, long_rows
from topographic.sweeps.plan import level_of, short_name

__all__ = ["anchor_levels", "factor_levels", "write_sweep"]

_LOSS, _RECOGNISED, _Z = Measure("validation loss"), Measure("test accuracy"), "z (unit)"
_WEIGHTS = Measure("loss of weights")
_COSTS = (_LOSS, _RECOGNISED, Measure("spatial loss"), _WEIGHTS, Measure("accuracy"))
_SMALL_N = 3


class _OnMaps(NamedTuple):
    """What a page calls a number of maps: as a file, in a heading, and beside an axis if it is drawn."""

    file: str
    title: str
    axis: str = ""


_ON_MAPS = {
    "I": _OnMaps("morans_i", "Moran's I"),
    "z (unit)": _OnMaps("z_unit", "Moran's I against the unit null (z)", "I against unit null (z)"),
    "z (label)": _OnMaps("z_label", "Moran's I against the label null (z)", "I against label null (z)"),
    "mean |t|": _OnMaps("mean_abs_t", "Mean |t|", "mean |t|"),
    "dimensions": _OnMaps("dimensions", "Effective dimensionality", "effective dimensionality"),
}


def write_sweep(
    folder: Path,
    found: Sequence[CellNumbers],
    settings: Sequence[Setting],
    *,
    base: Mapping[str, Any],
    notes: Sequence[str] = (),
    compared: Findings | None = None,
) -> tuple[str, dict[str, Findings]]:
    """Write the table and the same over seeds, and keep what the page of a sweep shows.

    Where mechanisms are ``compared``, that stands in place of what one factor does at a time.
    """
    maps = list(dict.fromkeys(key for one in found for key in one.maps))
    measures = [*_COSTS, *(Measure(name, *key) for key in maps for name in _ON_MAPS)]
    note = "low, high: 95 % interval of Student's t over seeds. difference: to the reference, seed by seed."
    save_table(folder, Table("table", "Every cell, contrast and readout", long_rows(found)))
    save_table(folder, Table("grouped", "Every setting over its seeds", grouped_rows(settings, measures), note))
    caveats = [*notes, *_caveats(found, settings)]
    if compared is not None:
        parts = {"mechanisms": dataclasses.replace(compared, notes=[*compared.notes, *caveats])}
    else:
        parts = _varied(settings, maps, anchor_levels(settings, base), caveats)
    parts["cells"] = _cells(found)
    for name, findings in parts.items():
        save_findings(folder / "collected" / name, findings, {})
    recipe = ", ".join(f"{short_name(key)} {level_word(level)}" for key, level in base.items())
    called = f"A setting is called by what differs from the recipe ({recipe}), which is called base. "
    words = _words(settings)
    lead = (
        f"{len(found)} models of {len(settings)} settings, each trained on {words.training} and mapped with the same "
        f"nulls. {'' if compared is not None else called}Everything in full: table.csv (by cell) and grouped.csv (over "
        "seeds)."
    )
    return lead, {f"collected/{name}": findings for name, findings in parts.items()}


def _varied(
    settings: Sequence[Setting],
    maps: Sequence[tuple[str, float]],
    anchor: Mapping[str, Any],
    notes: Sequence[str],
) -> dict[str, Findings]:
    """What the weight costs, the maps of every contrast, and one factor at a time."""
    parts = {"trade_off": _trade_off(settings, maps, anchor, notes)}
    for contrast in dict.fromkeys(contrast for contrast, _ in maps):
        widths = [fwhm_mm for name, fwhm_mm in maps if name == contrast]
        parts[f"maps_{_file_word(contrast)}"] = _map_part(settings, contrast, widths)
    factors = _factors(settings, maps, anchor)
    return parts | ({"factors": factors} if factors.pictures else {})


def anchor_levels(settings: Sequence[Setting], base: Mapping[str, Any]) -> dict[str, Any]:
    """The level of every factor from which the others are varied: the recipe's, or the commonest if no cell has it."""
    weight = _weight_key(settings)
    topographic = [one for one in settings if level_of(one.recipe, weight)] or list(settings)
    anchor = {}
    for key in settings[0].levels:
        words = Counter(level_word(one.levels[key]) for one in topographic)
        by_word = {level_word(one.levels[key]): one.levels[key] for one in topographic}
        own = level_word(base[key])
        anchor[key] = by_word[own if own in words else words.most_common(1)[0][0]]
    return anchor


def factor_levels(settings: Sequence[Setting], key: str, anchor: Mapping[str, Any]) -> list[Setting]:
    """Settings that depart from the anchor in one factor at most."""
    others = [name for name in anchor if name != key]
    chosen = [one for one in settings if all(one.levels[name] == anchor[name] for name in others)]
    if all(isinstance(one.levels[key], int | float) for one in chosen):
        chosen.sort(key=lambda one: one.levels[key])
    return chosen


def _trade_off(
    settings: Sequence[Setting], maps: Sequence[tuple[str, float]], anchor: Mapping[str, Any], notes: Sequence[str]
) -> Findings:
    weight, words = _weight_key(settings), _words(settings)
    drawn = _drawable(settings, {key: level for key, level in anchor.items() if key != weight})
    if len(drawn) < len(settings):
        left_out = len(settings) - len(drawn)
        notes = [*notes, f"{left_out} settings have no marker of their own and are in the tables only."]
    pictures = []
    for contrast in dict.fromkeys(contrast for contrast, _ in maps):
        widths = [fwhm_mm for name, fwhm_mm in maps if name == contrast]
        for name, heading, x_label, relative in words.trade_offs:
            measures = {_readout(width): (words.task, Measure(_Z, contrast, width)) for width in widths}
            panels = {readout: _points(drawn, both, weight, relative) for readout, both in measures.items()}
            if all(panels.values()):
                labels = {"x_label": x_label, "y_label": "Moran's I against the unit null (z)"}
                figure = draw_trade_offs(panels, **labels, level_name=short_name(weight))
                file = f"{name}_{_file_word(contrast)}"
                pictures.append(Picture(file, f"{heading}: {contrast}", figure, _HOW_TO_READ))
    tables = [_over_seeds(one.name.replace(" ", "_"), one.name.capitalize(), settings, [one]) for one in _COSTS]
    weights = "Loss of weights is what smoothness.weight multiplies, mean over sheets, after the last step. "
    weighed = any(one.numbers(_WEIGHTS) for one in settings)
    return Findings(
        "What topography costs",
        f"{words.what_is_measured} {weights * weighed}Autocorrelation is Moran's I of the map of Welch's t, "
        "mean over sheets, in standard deviations of the unit null (units permuted before the readout), so that the "
        "smoothness of the readout does not count. It says how smooth maps are, not what they are about: for that, "
        "see the label null and mean |t|.",
        [one for one in tables if one.rows],
        pictures,
        notes,
    )


def _map_part(settings: Sequence[Setting], contrast: str, widths: Sequence[float]) -> Findings:
    tables = []
    for name, words in _ON_MAPS.items():
        # the dimensionality is that of the responses before any readout, equal at all widths
        measures = [Measure(name, contrast, width) for width in (widths[:1] if name == "dimensions" else widths)]
        tables.append(_over_seeds(words.file, words.title, settings, measures))
    return Findings(
        f"Maps: {contrast}",
        "Means over sheets, then over seeds with sd and the 95 % interval of Student's t. difference: to the reference "
        "of the same seed. Positive z against the label null: smoother than maps of randomly relabelled items.",
        [one for one in tables if one.rows],
    )


def _factors(settings: Sequence[Setting], maps: Sequence[tuple[str, float]], anchor: Mapping[str, Any]) -> Findings:
    pictures = []
    for key in anchor:
        chosen = factor_levels(settings, key, anchor)
        if len(chosen) < 2:
            continue
        levels, factor = [level_word(one.levels[key]) for one in chosen], short_name(key)
        for contrast, fwhm_mm in maps:
            measures = {"validation loss (nats)": _LOSS, "test accuracy": _RECOGNISED}
            measures |= {one.axis: Measure(name, contrast, fwhm_mm) for name, one in _ON_MAPS.items() if one.axis}
            panels = {label: [one.numbers(measure) for one in chosen] for label, measure in measures.items()}
            panels = {label: values for label, values in panels.items() if any(values)}
            title = f"{factor}: {contrast}, {_readout(fwhm_mm)}"
            figure = draw_factor(levels, panels, name=factor)
            pictures.append(Picture(f"{factor}_{_file_word(contrast)}_fwhm_{fwhm_mm:g}", title, figure))
    others = ", ".join(f"{short_name(key)} {level_word(value)}" for key, value in anchor.items())
    return Findings(
        "One factor at a time",
        f"Each factor is varied while the others stay as in the recipe ({others}). A thin line per seed; large dots "
        "are means over seeds with one standard deviation to either side.",
        (),
        pictures,
    )


def _cells(found: Sequence[CellNumbers]) -> Findings:
    maps = {key for one in found for row in one.maps.values() for key in row} | {"contrast", "FWHM (mm)"}
    rows = [{key: cell for key, cell in row.items() if key not in maps} for row in long_rows(found)]
    unique = list({row["cell"]: row for row in rows}.values())
    return Findings("Cells", "Every model, at the end of its training.", [Table("cells", "One row per model", unique)])


def _caveats(found: Sequence[CellNumbers], settings: Sequence[Setting]) -> list[str]:
    """What makes models less comparable than they look."""
    notes = []
    few = [one.name for one in settings if len(one.cells) < _SMALL_N]
    if few:
        notes.append(f"Fewer than {_SMALL_N} seeds, so that sd and intervals mean little: {', '.join(few)}.")
    pairs = max((len(one.cells) for one in settings if one.reference is not None), default=0)
    if pairs > 1:
        notes.append(
            f"With {pairs} seeds no p of the sign-flip test is below {p_value(2 / 2**pairs)}; the t test supposes that "
            "differences are normal. Neither is corrected for the number of settings and measures."
        )
    for column in (found[0].cell.recipe.counted, "parameters"):
        values = sorted({one.about[column] for one in found})
        if len(values) > 1:
            notes.append(f"The models differ in {column}: {values[0]:,} to {values[-1]:,}.")
    early = {
        one.cell.recipe.training.max_steps % one.cell.recipe.training.eval_steps
        for one in found
        if one.about.get("validation loss") is not None
    } - {0}
    if early:
        notes.append(
            f"The last validation was up to {max(early)} steps before the end, since eval_steps does not divide "
            "max_steps."
        )
    if all(one.about.get("validation loss") is None for one in found):
        notes.append("No text was held out (data.validation_fraction=0), so there is no validation loss.")
    return notes


def _drawable(settings: Sequence[Setting], others: Mapping[str, Any]) -> list[tuple[Setting, str]]:
    """Settings for which there are markers, with what is special about them beside the weight."""
    kinds = [[key for key, level in others.items() if one.levels[key] != level] for one in settings]
    for most in (len(others), 1, 0):
        chosen = [
            (one, ", ".join(f"{short_name(key)} {level_word(one.levels[key])}" for key in kind))
            for one, kind in zip(settings, kinds, strict=True)
            if len(kind) <= most
        ]
        if len({kind for _, kind in chosen}) <= len(MARKERS):
            break
    return chosen


def _points(
    drawn: Sequence[tuple[Setting, str]], both: tuple[Measure, Measure], weight: str, relative: bool
) -> list[TradeOff]:
    references = {one.reference.name for one, _ in drawn if one.reference is not None}
    points = []
    for one, kind in drawn:
        x, y = (one.numbers(measure) for measure in both)
        if relative:
            reference = one if one.name in references else one.reference
            beside = reference.numbers(both[0]) if reference is not None else {}
            x = {seed: x[seed] - beside[seed] for seed in x if seed in beside}
        shared = [seed for seed in x if seed in y]
        if shared:
            values = [x[seed] for seed in shared], [y[seed] for seed in shared]
            points.append(TradeOff(level_of(one.recipe, weight), kind, *values))
    return points


def _weight_key(settings: Sequence[Setting]) -> str:
    """What makes the models topographic: the spatial loss or, where no model has one, the smoothness of weights."""
    spatial = any(one.recipe.spatial.weight for one in settings)
    return "spatial.weight" if spatial else "smoothness.weight"


class _Words(NamedTuple):
    """What a page calls the task, by what models are shown."""

    training: str
    task: Measure
    what_is_measured: str
    trade_offs: tuple[tuple[str, str, str, bool], ...]  # file, heading, label of the task, relative to the reference


def _words(settings: Sequence[Setting]) -> _Words:
    return _WORDS[settings[0].recipe.counted]


def _file_word(contrast: str) -> str:
    """A contrast as part of a file name, which a link can hold."""
    return contrast.replace(" ", "_")


def _readout(fwhm_mm: float) -> str:
    return f"FWHM {fwhm_mm:g} mm" if fwhm_mm else "no readout"


def _over_seeds(name: str, title: str, settings: Sequence[Setting], measures: Sequence[Measure]) -> Table:
    """Rows of one measure; its name and contrast stand in the headings, levels in the names of the settings."""
    told = {"measure", "contrast", *(short_name(key) for key in settings[0].levels)}
    rows = grouped_rows(settings, measures)
    return Table(name, title, [{key: cell for key, cell in row.items() if key not in told} for row in rows])


_HOW_TO_READ = (
    "Small dots are seeds, large ones their means, bars one standard deviation over seeds. A line joins the settings "
    "that differ in the weight alone."
)
_WORDS = {
    "tokens": _Words(
        "the same text for the same number of tokens",
        _LOSS,
        "Task loss is the mean cross-entropy on held-out text.",
        (
            ("trade_off", "Task loss against autocorrelation", "validation task loss (nats per token)", False),
            (
                "cost",
                "The same, loss above the reference of the same seed",
                "task loss above the reference (nats)",
                True,
            ),
        ),
    ),
    "images": _Words(
        "equally many of the same images",
        _RECOGNISED,
        "Test accuracy is the share of test images that are recognised, validation loss the mean cross-entropy of "
        "their classes.",
        (
            ("trade_off", "Test accuracy against autocorrelation", "test accuracy", False),
            ("cost", "The same, less the reference of the same seed", "test accuracy less the reference's", True),
        ),
    ),
}
