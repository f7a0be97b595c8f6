"""Figure of mechanisms of topography: what each costs against how ordered it makes a sheet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from topographic.drawing.style import COLOURS, INK, PALE, ZERO_LINE, finish, import_matplotlib, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Mechanism", "draw_mechanisms"]

_CONTROL = "#8a8a8a"
_MARKERS = ("o", "s", "^", "D")
_ROOM_INCHES = 2.3


@dataclass(frozen=True)
class Mechanism:
    """One mechanism in a panel."""

    name: str
    x: Sequence[float]  # one value per replicate, in the same order as y
    y: Sequence[float]
    is_control: bool = False


def draw_mechanisms(
    panels: Mapping[str, Sequence[Mechanism]], *, x_label: str, y_label: str, zero: float | None = 0.0
) -> "Figure":
    """Draw what mechanisms cost against what they make, a panel for each place: replicates small, their mean large."""
    if not panels or not any(panels.values()):
        raise ValueError("no mechanisms to draw; give at least one in one panel")
    figure = new_figure(_ROOM_INCHES + 3.3 * len(panels), 4.4)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    names = list(dict.fromkeys(one.name for some in panels.values() for one in some))
    plain = [one.name for some in panels.values() for one in some if one.is_control]
    coloured = [name for name in names if name not in plain]
    for index, (ax, (title, some)) in enumerate(zip(axes, panels.items(), strict=True)):
        if zero is not None:
            ax.axhline(zero, **ZERO_LINE, zorder=1)
        for one in some:
            colour, marker, face = _look(one.name, plain, coloured)
            ax.scatter(one.x, one.y, s=12, color=colour, marker=marker, alpha=0.4, linewidths=0, zorder=2)
            middle = np.mean(one.x), np.mean(one.y)
            spread = [np.std(side, ddof=1) if len(side) > 1 else 0.0 for side in (one.x, one.y)]
            ax.errorbar(*middle, xerr=spread[0], yerr=spread[1], fmt="none", ecolor=colour, elinewidth=1.0, zorder=3)
            ax.scatter(*middle, s=64, facecolor=face, edgecolor=colour, marker=marker, linewidths=1.4, zorder=4)
        finish(ax, x_label, y_label if index == 0 else "")
        ax.grid(axis="x", color=PALE, linewidth=0.8)
        ax.set_title(title, fontsize=10, color=INK, loc="left")
    line = import_matplotlib("lines").Line2D
    handles = []
    for name in names:
        colour, marker, face = _look(name, plain, coloured)
        look = {"marker": marker, "markerfacecolor": face, "markeredgecolor": colour, "markeredgewidth": 1.4}
        handles.append(line([], [], linestyle="none", markersize=7, label=name, **look))
    axes[-1].legend(
        handles=handles, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=8.5, labelcolor=INK
    )
    return figure


def _look(name: str, plain: Sequence[str], coloured: Sequence[str]) -> tuple[str, str, str]:
    """Colour, marker and filling; controls are grey, every second one hollow."""
    if name in plain:
        index = list(dict.fromkeys(plain)).index(name)
        return _CONTROL, _MARKERS[index % len(_MARKERS)], "white" if index else _CONTROL
    index = coloured.index(name)
    colour = COLOURS[index % len(COLOURS)]
    return colour, _MARKERS[index // len(COLOURS) % len(_MARKERS)], colour
