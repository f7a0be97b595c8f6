"""Figures of trajectories: one panel a number, over tokens seen."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from topographic.drawing.style import COLOURS, INK, finish, new_figure, quieten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Course", "Growth", "draw_courses", "draw_growth"]

_ACROSS = 3
_CONTROL = "#8a8a8a"
_DASHES = ("--", ":", "-.", (0, (1, 3)), (0, (6, 2)))
_APART = 0.085  # of an axis: as high as a line of small print


class Course(NamedTuple):
    """One number of one series over the tokens it has seen; None for untrained weights."""

    series: str
    group: str
    tokens: Sequence[int | None]
    values: Sequence[float]


class Growth(NamedTuple):
    """What is drawn of models of one size: by panel their courses, and by panel and name those of controls."""

    title: str
    panels: Mapping[str, Sequence[Course]]
    controls: Mapping[str, Mapping[str, Sequence[Course]]]


def draw_growth(sizes: Sequence[Growth]) -> "Figure":
    """Draw alignment, competence and topography over tokens: a row per size, a column per number.

    Parameters
    ----------
    sizes : sequence of Growth
        With the same panels.

    Returns
    -------
    Figure
        Panels of a column share their axes; controls are grey, means over all series of the size.

    Examples
    --------
    >>> course = Course("a-0", "a", [None, 0, 8, 16], [0.1, 0.1, 0.3, 0.4])
    >>> figure = draw_growth([Growth("8 parameters", {"r": [course]}, {"r": {"random units": [course]}})])
    >>> figure.axes[0].get_title(loc="left")
    'r'
    """
    names = list(sizes[0].panels)
    n_controls = {name: max(len(size.controls.get(name, {})) for size in sizes) for name in names}
    figure = new_figure(3.0 * len(names) + 1.2, 2.5 * len(sizes) + 0.7)
    wide = {"width_ratios": [1.35 if n_controls[name] > 1 else 1 for name in names]}
    axes = figure.subplots(len(sizes), len(names), squeeze=False, sharex=True, sharey="col", gridspec_kw=wide)
    every = [one for size in sizes for courses in size.panels.values() for one in courses]
    least = min((tokens for one in every for tokens in one.tokens if tokens), default=1)
    most = max((tokens for one in every for tokens in one.tokens if tokens), default=1)
    entries: dict[str, Any] = {}
    ends: dict[Any, dict[str, float]] = {}
    for size, along in zip(sizes, axes, strict=True):
        groups = list(dict.fromkeys(one.group for courses in size.panels.values() for one in courses))
        for ax, name in zip(along, names, strict=True):
            for place, (control, courses) in enumerate(size.controls.get(name, {}).items()):
                at, means = _mean_course(courses, least)
                ax.plot(at, means, color=_CONTROL, linewidth=1.2, linestyle=_DASHES[place % len(_DASHES)], zorder=1)
                ends.setdefault(ax, {})[control] = means[-1]
            for group in groups:
                own = [one for one in size.panels[name] if one.group == group]
                if own:
                    line = _draw_group(ax, own, COLOURS[groups.index(group) % len(COLOURS)], least)
                    entries.setdefault(group, line)
            _tokens_axis(ax, least, most)
            quieten(ax)
        along[0].set_ylabel(size.title, fontsize=10, color=INK)
    for ax, named in ends.items():
        _name_ends(ax, named)
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(name, fontsize=10, loc="left", color=INK)
    for ax in axes[-1]:
        ax.set_xlabel("tokens seen", fontsize=10)
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return figure


def _tokens_axis(ax: "Axes", least: int, most: int) -> None:
    """Tokens on a logarithmic axis, none at all at its left end."""
    ax.set_xscale("log", base=2 if least > 1 else 10)
    doublings = int(np.log2(max(most / least, 1)) + 1e-9)
    step = max(1, -(-doublings // 3))  # three labels or fewer beside that of none
    ticks = [float(least * 2**power) for power in range(doublings % step, doublings + 1, step)][-3:]
    ax.set_xticks([least / 2, *ticks], ["0", *map(_short, ticks)])
    ax.minorticks_off()


def _short(tokens: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.3g}{letter}"
    return f"{tokens:g}"


def _name_ends(ax: "Axes", named: Mapping[str, float]) -> None:
    """Names of lines right of where they end, moved apart where they would cover one another."""
    low, high = ax.get_ylim()
    order = sorted(named, key=lambda name: named[name])
    rank = _APART * np.arange(len(order))
    wanted = np.array([(named[name] - low) / (high - low) for name in order])
    places = isotonic_regression(wanted - rank).x + rank  # the nearest that are far enough apart
    for name, place in zip(order, places, strict=True):
        ax.text(1.02, place, name, transform=ax.transAxes, fontsize=8, color=_CONTROL, va="center")


def _draw_group(ax: "Axes", courses: Sequence[Course], colour: str, least: int) -> Any:
    """Series thin, their mean thick, untrained weights as open circles left of all; the thick line."""
    for one in courses:
        seen = [(t, v) for t, v in zip(one.tokens, one.values, strict=True) if t is not None]
        ax.plot([t or least / 2 for t, _ in seen], [v for _, v in seen], color=colour, linewidth=0.7, alpha=0.5)
        untrained = [v for t, v in zip(one.tokens, one.values, strict=True) if t is None]
        ax.scatter([least / 4] * len(untrained), untrained, s=18, facecolors="none", edgecolors=colour)
    at, means = _mean_course(courses, least)
    return ax.plot(at, means, color=colour, linewidth=2, label=courses[0].group)[0]


def _mean_course(courses: Sequence[Course], least: int) -> tuple[list[float], list[float]]:
    """Means over series at every number of tokens; none at all stand left of the fewest."""
    by_tokens: dict[int, list[float]] = {}
    for one in courses:
        for tokens, value in zip(one.tokens, one.values, strict=True):
            if tokens is not None:
                by_tokens.setdefault(tokens, []).append(value)
    at = sorted(by_tokens)
    return [float(tokens or least / 2) for tokens in at], [float(np.mean(by_tokens[tokens])) for tokens in at]


def draw_courses(panels: Mapping[str, Sequence[Course]]) -> "Figure":
    """Draw every number in a panel of its own: series thin, the mean of those of a group thick.

    Parameters
    ----------
    panels : mapping of str to sequence of Course
        By what is drawn.

    Returns
    -------
    Figure
        Tokens on a logarithmic axis, 0 and untrained weights at its left end.

    Examples
    --------
    >>> figure = draw_courses({"accuracy": [Course("a-0", "a", [None, 0, 8, 16], [0.5, 0.5, 0.6, 0.7])]})
    >>> figure.axes[0].get_ylabel()
    'accuracy'
    """
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(4.2 * across, 3.0 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    groups = list(dict.fromkeys(one.group for courses in panels.values() for one in courses))
    least = min((t for courses in panels.values() for one in courses for t in one.tokens if t), default=1)
    for ax, (name, courses) in zip(axes, panels.items(), strict=False):
        for group in groups:
            own = [one for one in courses if one.group == group]
            if own:
                _draw_group(ax, own, COLOURS[groups.index(group) % len(COLOURS)], least)
        ax.set_xscale("log", base=2 if least > 1 else 10)
        if name == "perplexity":
            ax.set_yscale("log")
        finish(ax, "tokens seen (0 at the left)", name)
        if (legend := ax.get_legend()) is not None and ax is not axes[0]:
            legend.remove()
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    return figure
