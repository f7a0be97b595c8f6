"""Figures of a group of subjects: scores by depth with every subject's own line, and scores beside head motion."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from topographic.drawing.style import COLOURS, INK, PALE, ZERO_LINE, finish, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_motion", "draw_over_subjects"]

_SUBJECT = "#9a9a9a"
_MOST_NAMED = 24  # points with names beside them; more would lie on each other


def draw_over_subjects(
    values: Float[np.ndarray, "subjects layers"],
    interval: tuple[Sequence[float], Sequence[float]],
    labels: Sequence[str],
    ax: "Axes | None" = None,
    *,
    references: Mapping[str, Sequence[float]] | None = None,
    y_label: str = "",
) -> "Axes":
    """Draw a score of every layer: subjects thin, their mean thick with its interval, other means for comparison.

    Parameters
    ----------
    values : ndarray, shape (subjects, layers)
        Scores.
    interval : (low, high)
        Of the mean of each layer; NaN where there is none.
    labels : sequence of str
        Of the layers, the first one first.
    ax : Axes, optional
        Where to draw.
    references : mapping of str to sequence of float, optional
        Further means over subjects, by name: of untrained weights, of controls.
    y_label : str
        What is drawn.

    Returns
    -------
    Axes
        With a legend.
    """
    ax = ax if ax is not None else new_axes(max(5.2, 1.6 + 0.5 * len(labels)), 3.7)
    ax.axhline(0.0, **ZERO_LINE)
    places, mean = np.arange(len(labels)), values.mean(axis=0)
    for index, row in enumerate(values):
        ax.plot(places, row, color=_SUBJECT, linewidth=0.8, alpha=0.7, label="_" if index else "each subject", zorder=1)
    # one colour after the first for every reference, dashed: they are no layers
    for index, (name, line) in enumerate((references or {}).items(), start=1):
        style = {"color": COLOURS[index % len(COLOURS)], "linewidth": 1.3, "linestyle": (0, (4, 2))}
        ax.plot(places, list(line), label=name, zorder=2, **style)
    low, high = (np.asarray(side, dtype=float) for side in interval)
    if np.isfinite(low).all():
        spread = np.maximum([mean - low, high - mean], 0)
        ax.errorbar(places, mean, yerr=spread, fmt="none", ecolor=COLOURS[0], elinewidth=1.4, capsize=3, zorder=3)
    ax.plot(places, mean, color=COLOURS[0], linewidth=2.0, marker="o", markersize=5, label="mean", zorder=4)
    ax.set_xticks(places, labels)
    finish(ax, "depth", y_label)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, fontsize=9)
    return ax


def draw_motion(
    displacement_mm: Sequence[float] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    names: Sequence[str],
    ax: "Axes | None" = None,
    *,
    y_label: str = "",
) -> "Axes":
    """Draw a score of every subject over how much it moved, a point with a name each.

    Parameters
    ----------
    displacement_mm, scores : sequence of float
        One of each per subject.
    names : sequence of str
        Of the subjects.
    ax : Axes, optional
        Where to draw.
    y_label : str
        What the score is.

    Returns
    -------
    Axes
        Without a line through the points: the relation that is tested is one of ranks.
    """
    if not len(displacement_mm) == len(scores) == len(names):
        raise ValueError(
            f"{len(displacement_mm)} displacements, {len(scores)} scores, {len(names)} names; give one of each"
        )
    ax = ax if ax is not None else new_axes(5.2, 3.7)
    ax.scatter(displacement_mm, scores, s=42, color=COLOURS[0], edgecolors="white", linewidths=0.8, zorder=3)
    if len(names) <= _MOST_NAMED:
        for x, y, name in zip(displacement_mm, scores, names, strict=True):
            ax.annotate(name, (x, y), (5, 4), textcoords="offset points", fontsize=8, color=INK)
    ax.margins(0.12)
    finish(ax, "mean framewise displacement (mm)", y_label)
    ax.grid(axis="x", color=PALE, linewidth=0.8)
    return ax
