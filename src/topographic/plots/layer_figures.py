"""Figures of an evaluation: a line per layer, a number by depth, response profiles, models that are made smaller."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from topographic.drawing.style import COLOURS, INK, ZERO_LINE, finish, import_matplotlib, new_axes, new_figure, quieten
from topographic.interventions import CompressionEffect
from topographic.maps import Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_by_depth", "draw_by_layer", "draw_compression", "draw_profiles"]

Line = tuple[Sequence[float | int] | np.ndarray, Sequence[float | int] | np.ndarray]

_MOST_IN_LEGEND = 6
_METHODS = {"pruning": ("smallest weights pruned", COLOURS[1]), "downsampling": ("smaller sheets", COLOURS[0])}
_LETTER, _HANDLE = 0.068, 0.65  # inches: a letter of 9 points; the mark of a legend with its spaces


def draw_by_layer(
    lines: Mapping[str, Line],
    ax: "Axes | None" = None,
    *,
    references: Mapping[str, Line] | None = None,
    bands: Mapping[str, Line] | None = None,
    x_label: str = "",
    y_label: str = "",
) -> "Axes":
    """Draw one line per layer, from the first in dark to the last in light colours; bands are low and high of one."""
    if not lines:
        raise ValueError("no line to draw; expected one per layer")
    ax = ax if ax is not None else new_axes(5.6, 3.4)
    ax.axhline(0.0, **ZERO_LINE)
    colours = import_matplotlib().colormaps["viridis"](np.linspace(0.0, 0.88, max(len(lines), 2)))
    many = len(lines) > _MOST_IN_LEGEND
    for index, (colour, (name, (x, y))) in enumerate(zip(colours, lines.items(), strict=False)):
        named = not many or index in (0, len(lines) // 2, len(lines) - 1)
        ax.plot(x, y, color=colour, linewidth=1.6, marker="o", markersize=2.5, label=name if named else f"_{name}")
        if bands and name in bands:
            ax.fill_between(x, *bands[name], color=colour, alpha=0.15, linewidth=0)
    for name, (x, y) in (references or {}).items():
        ax.plot(x, y, color="#8a8a8a", linewidth=1.4, linestyle=(0, (4, 2)), label=name)
    if all(float(place).is_integer() for x, _ in lines.values() for place in x):
        ax.xaxis.set_major_locator(import_matplotlib("ticker").MaxNLocator(integer=True))
    return finish(ax, x_label, y_label)


def draw_compression(effects: Sequence[CompressionEffect], measures: Mapping[str, str]) -> "Figure":
    """Draw what a model can do against the number of its parameters, one panel per measure."""
    if not effects or not measures:
        raise ValueError(f"{len(effects)} effects, {len(measures)} measures; expected at least one of each")
    figure = new_figure(4.4 * len(measures), 3.5)
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    most = max(effect.n_parameters for effect in effects)
    scale, unit = (1e6, "millions") if most >= 1e6 else (1e3, "thousands")
    for panel, (measure, label) in zip(panels, measures.items(), strict=True):
        shown = sorted((one for one in effects if one.measure == measure), key=lambda one: -one.n_parameters)
        whole = [one for one in shown if one.fraction == 0]
        if whole:
            panel.axhline(whole[0].value, color="#666666", linewidth=1.0, linestyle=":", label="whole model")
        nulls = [(one.value, 0.0) for one in whole[:1]]
        nulls += [(one.unit_null.mean, one.unit_null.sd) for one in shown if one.unit_null is not None]
        if len(nulls) > len(whole[:1]):
            x = [one.n_parameters / scale for one in shown if one in whole[:1] or one.unit_null is not None]
            means, sds = np.array(nulls).T
            panel.fill_between(x, means - 2 * sds, means + 2 * sds, color="#bdbdbd", alpha=0.5, linewidth=0)
            panel.plot(x, means, color="#8a8a8a", marker="o", markersize=4, label="smaller sheets, units permuted")
        for method, (name, colour) in _METHODS.items():
            points = [one for one in shown if one in whole[:1] or (one.method == method and one.fraction > 0)]
            x, y = [one.n_parameters / scale for one in points], [one.value for one in points]
            panel.plot(x, y, color=colour, marker="o", markersize=5, linewidth=1.8, label=name)
        panel.set_xlabel(f"parameters left ({unit})", fontsize=10)
        panel.set_ylabel(label, fontsize=10, color=INK)
        panel.invert_xaxis()
        quieten(panel)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def draw_profiles(profiles: Sequence[Profile], ax: "Axes | None" = None) -> "Axes":
    """Draw the mean response in every condition as bars, with the interval over items."""
    if not profiles or len({profile.conditions for profile in profiles}) > 1:
        raise ValueError(
            f"{len(profiles)} profiles of {len({profile.conditions for profile in profiles})} lists of conditions; "
            "expected at least one, all of the same conditions: make them with the same conditions="
        )
    conditions = profiles[0].conditions
    ax = ax if ax is not None else new_axes(1.6 + 1.5 * len(profiles), 3.1)
    width = 0.8 / len(conditions)
    for index, condition in enumerate(conditions):
        places = np.arange(len(profiles)) + (index - (len(conditions) - 1) / 2) * width
        means = np.array([profile.means[index] for profile in profiles])
        # a percentile interval need not hold the mean, a line has no negative length
        low = np.maximum(means - [profile.low[index] for profile in profiles], 0)
        high = np.maximum([profile.high[index] for profile in profiles] - means, 0)
        colour = COLOURS[index % len(COLOURS)]
        ax.bar(places, means, 0.9 * width, color=colour, label=condition, linewidth=0)
        ax.errorbar(places, means, yerr=[low, high], fmt="none", ecolor=INK, elinewidth=1.2, capsize=2)
    ax.axhline(0.0, **ZERO_LINE)
    ax.set_xticks(range(len(profiles)), [f"{profile.name}\n{profile.n_units} units" for profile in profiles])
    finish(ax, "", "mean |response|" if profiles[0].absolute else "mean response")
    _legend_above(ax, conditions)
    return ax


def draw_by_depth(
    numbers: Mapping[str, Sequence[float]],
    labels: Sequence[str],
    ax: "Axes | None" = None,
    *,
    y_label: str = "",
    at_least: tuple[float, float] | None = None,
) -> "Axes":
    """Draw a number of every sheet from the first layer to the last, one line per contrast."""
    ragged = [name for name, values in numbers.items() if len(values) != len(labels)]
    if ragged:
        raise ValueError(
            f"line {ragged[0]!r} has {len(numbers[ragged[0]])} values for {len(labels)} sheets; give one per sheet"
        )
    if ax is None:
        wide = max(4.7, 1.5 + 0.3 * len(labels), 0.9 + min(len(numbers), 2) * _legend_column(numbers))
        ax = new_axes(min(wide, 9.0), 3.6)
    ax.axhline(0.0, **ZERO_LINE)
    for index, (name, values) in enumerate(numbers.items()):
        colour = COLOURS[index % len(COLOURS)]
        ax.plot(range(len(labels)), list(values), color=colour, marker="o", markersize=4, linewidth=1.3, label=name)
    named = range(0, len(labels), -(-len(labels) // 24))
    is_crowded = len(named) * _LETTER * (max(map(len, labels), default=0) + 2) > _inches(ax)
    slant = {"rotation": 60, "ha": "right"} if is_crowded else {}
    ax.set_xticks(named, [labels[index] for index in named], **slant)
    finish(ax, "", y_label)
    if at_least is not None:
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, at_least[0]), max(high, at_least[1]))
    _legend_above(ax, numbers)
    return ax


def _legend_above(ax: "Axes", names: Collection[str]) -> None:
    """A legend over the axes in as many columns as fit."""
    columns = min(len(names), max(1, int(_inches(ax) / _legend_column(names))))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False, fontsize=9)


def _legend_column(names: Iterable[str]) -> float:
    return _HANDLE + _LETTER * max(map(len, names), default=0)


def _inches(ax: "Axes") -> float:
    """Width of the axes once there is room for the labels on their left."""
    cells = ax.get_gridspec()
    columns = cells.ncols if cells is not None else 1
    return ax.figure.get_figwidth() / columns - 0.85  # pyright: ignore[reportAttributeAccessIssue] - no subfigure here
