"""Figures of an evaluation: response profiles as bars, a number by depth as lines."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from topographic.maps.profiles import Profile
from topographic.plots.figures import INK, RUN_COLOURS, _finish, _new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_by_depth", "draw_profiles"]

_LETTER, _HANDLE = 0.068, 0.65  # inches: a letter of 9 points; the mark of a legend with its spaces


def draw_profiles(profiles: Sequence[Profile], ax: "Axes | None" = None) -> "Axes":
    """Draw the mean response in every condition as bars, with the interval over items."""
    if not profiles or len({profile.conditions for profile in profiles}) > 1:
        raise ValueError(
            f"{len(profiles)} profiles of {len({profile.conditions for profile in profiles})} lists of conditions; "
            "expected at least one, all of the same conditions: make them with the same conditions="
        )
    conditions = profiles[0].conditions
    ax = ax if ax is not None else _new_axes(1.6 + 1.5 * len(profiles), 3.1)
    width = 0.8 / len(conditions)
    for index, condition in enumerate(conditions):
        places = np.arange(len(profiles)) + (index - (len(conditions) - 1) / 2) * width
        means = np.array([profile.means[index] for profile in profiles])
        # a percentile interval need not hold the mean, a line has no negative length
        low = np.maximum(means - [profile.low[index] for profile in profiles], 0)
        high = np.maximum([profile.high[index] for profile in profiles] - means, 0)
        colour = RUN_COLOURS[index % len(RUN_COLOURS)]
        ax.bar(places, means, 0.9 * width, color=colour, label=condition, linewidth=0)
        ax.errorbar(places, means, yerr=[low, high], fmt="none", ecolor=INK, elinewidth=1.2, capsize=2)
    ax.axhline(0.0, color="#666666", linewidth=0.9)
    ax.set_xticks(range(len(profiles)), [f"{profile.name}\n{profile.n_units} units" for profile in profiles])
    _finish(ax, "", "mean |response|" if profiles[0].absolute else "mean response")
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
        ax = _new_axes(min(wide, 9.0), 3.6)
    ax.axhline(0.0, color="#666666", linewidth=0.9)
    for index, (name, values) in enumerate(numbers.items()):
        colour = RUN_COLOURS[index % len(RUN_COLOURS)]
        ax.plot(range(len(labels)), list(values), color=colour, marker="o", markersize=4, linewidth=1.3, label=name)
    named = range(0, len(labels), -(-len(labels) // 24))
    is_crowded = len(named) * _LETTER * (max(map(len, labels), default=0) + 2) > _inches(ax)
    slant = {"rotation": 60, "ha": "right"} if is_crowded else {}
    ax.set_xticks(named, [labels[index] for index in named], **slant)
    _finish(ax, "", y_label)
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
