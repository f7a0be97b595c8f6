"""Figures of trajectories: one panel a number, over tokens seen."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from topographic.drawing.style import COLOURS, finish, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Course", "draw_courses"]

_ACROSS = 3


class Course(NamedTuple):
    """One number of one series over the tokens it has seen; None for untrained weights."""

    series: str
    group: str
    tokens: Sequence[int | None]
    values: Sequence[float]


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
            colour, own = COLOURS[groups.index(group) % len(COLOURS)], [one for one in courses if one.group == group]
            by_tokens: dict[int, list[float]] = {}
            for one in own:
                seen = [
                    (tokens, value) for tokens, value in zip(one.tokens, one.values, strict=True) if tokens is not None
                ]
                ax.plot([t or least / 2 for t, _ in seen], [v for _, v in seen], color=colour, linewidth=0.7, alpha=0.5)
                for tokens, value in seen:
                    by_tokens.setdefault(tokens, []).append(value)
                untrained = [value for tokens, value in zip(one.tokens, one.values, strict=True) if tokens is None]
                ax.scatter([least / 4] * len(untrained), untrained, s=18, facecolors="none", edgecolors=colour)
            means = {t: float(np.mean(v)) for t, v in sorted(by_tokens.items())}
            ax.plot([t or least / 2 for t in means], list(means.values()), color=colour, linewidth=2, label=group)
        ax.set_xscale("log", base=2 if least > 1 else 10)
        if name == "perplexity":
            ax.set_yscale("log")
        finish(ax, "tokens seen (0 at the left)", name)
        if (legend := ax.get_legend()) is not None and ax is not axes[0]:
            legend.remove()
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    return figure
