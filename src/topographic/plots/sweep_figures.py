"""Figures of a sweep: what topography costs, and what every factor does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from topographic.drawing.style import COLOURS, INK, PALE, finish, import_matplotlib, new_axes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["TradeOff", "draw_factor", "draw_trade_off", "draw_trade_offs"]

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
CONTROL_COLOUR = "#8a8a8a"
# from dark to light along one colour map, so that more alpha looks like more; its yellow end is lost on white
_COLOUR_RANGE = (0.05, 0.82)


@dataclass(frozen=True)
class TradeOff:
    """One setting of a sweep in a trade-off figure."""

    level: float  # decides its colour: the weight of the spatial loss, 0 for a control
    kind: str  # decides its marker: what else is special about it; empty for nothing
    x: Sequence[float]  # one value per replicate, in the same order as y
    y: Sequence[float]


def draw_trade_off(
    settings: Sequence[TradeOff],
    ax: "Axes | None" = None,
    *,
    x_label: str = "",
    y_label: str = "",
    level_name: str = "alpha",
    legend: bool = True,
) -> "Axes":
    """Draw two numbers of every setting against each other: replicates small, their mean large."""
    kinds, colours = _kinds(settings), _colours(settings)
    ax = ax if ax is not None else new_axes(6.6, 4.2)
    joined = sorted((one for one in settings if one.kind == kinds[0]), key=lambda one: one.level)
    ax.plot([np.mean(one.x) for one in joined], [np.mean(one.y) for one in joined], color="#c4c4c4", zorder=1)
    for one in settings:
        colour, marker = colours[one.level], MARKERS[kinds.index(one.kind)]
        ax.scatter(one.x, one.y, s=13, color=colour, marker=marker, alpha=0.45, linewidths=0, zorder=2)
        spread = [np.std(side, ddof=1) if len(side) > 1 else 0.0 for side in (one.x, one.y)]
        middle = np.mean(one.x), np.mean(one.y)
        ax.errorbar(*middle, xerr=spread[0], yerr=spread[1], fmt="none", ecolor=colour, elinewidth=1.1, zorder=3)
        ax.scatter(*middle, s=78, color=colour, marker=marker, edgecolors="white", linewidths=0.9, zorder=4)
    finish(ax, x_label, y_label)
    ax.grid(axis="x", color=PALE, linewidth=0.8)
    if legend:
        _explain(ax, settings, level_name)
    return ax


def draw_trade_offs(
    panels: Mapping[str, Sequence[TradeOff]], *, x_label: str, y_label: str, level_name: str = "alpha"
) -> "Figure":
    """Draw several trade-offs of the same settings side by side."""
    figure = new_figure(2.0 + 3.9 * len(panels), 3.9)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for index, (ax, (title, settings)) in enumerate(zip(axes, panels.items(), strict=True)):
        draw_trade_off(settings, ax, x_label=x_label, y_label=y_label if index == 0 else "", legend=False)
        ax.set_title(title, fontsize=10, color=INK, loc="left")
    _explain(axes[-1], [one for settings in panels.values() for one in settings], level_name)
    return figure


def draw_factor(levels: Sequence[str], panels: Mapping[str, Sequence[Mapping[Any, float]]], *, name: str) -> "Figure":
    """Draw what happens as one factor changes: a panel per number, a thin line per replicate."""
    ragged = [label for label, values in panels.items() if len(values) != len(levels)]
    if ragged or not panels:
        raise ValueError(
            f"panels {ragged or 'none'} for {len(levels)} levels of {name}; give for every number a mapping per level"
        )
    figure = new_figure(0.6 + 2.6 * len(panels), 2.9)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    places = np.arange(len(levels))
    for ax, (label, values) in zip(axes, panels.items(), strict=True):
        for replicate in dict.fromkeys(key for one in values for key in one):
            line = [one.get(replicate, np.nan) for one in values]
            ax.plot(places, line, color="#9db8cc", linewidth=0.9, marker="o", markersize=3.2, zorder=2)
        found = [np.array(list(one.values())) for one in values]
        known = [place for place, one in zip(places, found, strict=True) if one.size]
        means = [one.mean() for one in found if one.size]
        spread = [one.std(ddof=1) if one.size > 1 else 0.0 for one in found if one.size]
        ax.errorbar(known, means, yerr=spread, fmt="o", color=COLOURS[0], markersize=7, elinewidth=1.3, zorder=3)
        ax.set_xticks(places, list(levels), rotation=0 if max(map(len, levels)) * len(levels) < 32 else 30)
        ax.set_xlim(-0.4, len(levels) - 0.6)
        finish(ax, name, "")
        ax.set_title(label, fontsize=10, color=INK, loc="left")
    return figure


def _kinds(settings: Sequence[TradeOff]) -> list[str]:
    kinds = list(dict.fromkeys(one.kind for one in settings))
    kinds.sort(key=lambda kind: kind != "")  # the plain settings come first, in their own order
    uneven = [one for one in settings if len(one.x) != len(one.y) or not len(one.x)]
    if not settings or len(kinds) > len(MARKERS) or uneven:
        raise ValueError(
            f"{len(settings)} settings of {len(kinds)} kinds, {len(uneven)} of them with unequal or no values; "
            f"expected at least one setting, at most {len(MARKERS)} kinds, and an x and a y per replicate"
        )
    return kinds


def _colours(settings: Sequence[TradeOff]) -> dict[float, Any]:
    levels = sorted({one.level for one in settings})
    topographic = [level for level in levels if level != 0]
    places = np.linspace(*_COLOUR_RANGE, max(len(topographic), 2))
    colours = dict(zip(topographic, import_matplotlib().colormaps["plasma"](places), strict=False))
    return {level: colours.get(level, CONTROL_COLOUR) for level in levels}


def _explain(ax: "Axes", settings: Sequence[TradeOff], level_name: str) -> None:
    """Two legends to the right of the axes: colours, then markers if there are several."""
    lines = import_matplotlib("lines")
    plain = {"linestyle": "none", "markeredgecolor": "white", "markeredgewidth": 0.7, "markersize": 8.5}
    colours, kinds = _colours(settings), _kinds(settings)
    handles = [
        lines.Line2D([], [], marker="o", color=colour, label=f"{level:g}", **plain) for level, colour in colours.items()
    ]
    style = {"frameon": False, "fontsize": 9, "title_fontsize": 9, "alignment": "left", "borderaxespad": 0.0}
    first = ax.legend(handles=handles, title=level_name, loc="upper left", bbox_to_anchor=(1.03, 1.0), **style)
    if len(kinds) == 1:
        return
    ax.add_artist(first)
    handles = [
        lines.Line2D([], [], marker=marker, color="#555555", label=kind or "as the recipe", **plain)
        for kind, marker in zip(kinds, MARKERS, strict=False)
    ]
    ax.legend(handles=handles, title="otherwise", loc="lower left", bbox_to_anchor=(1.03, 0.0), **style)
