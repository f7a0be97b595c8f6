"""A number beside its nulls, whatever they are called: their titles, their colours, their picture."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from topographic.drawing.style import COLOURS, INK, ZERO_LINE, new_axes, quieten
from topographic.maps import MoransI, Referenced
from topographic.maps.references import BesideNulls

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["TITLES", "draw_null_distribution", "null_names", "null_title"]

TITLES = {"floor": "kernel floor", "unit": "unit null", "label": "label null"}  # in the order of columns and bands
_BAND_COLOURS = {"floor": "#9a9a9a", "unit": "#56b4e9", "label": "#e69f00"}
_OTHER_COLOURS = (COLOURS[2], COLOURS[3], COLOURS[4], COLOURS[1])


def null_names(numbers: Iterable[BesideNulls]) -> list[str]:
    """Names of all nulls that some number has, those with a title of their own first."""
    found = dict.fromkeys(name for number in numbers for name in number.nulls)
    return [*(name for name in TITLES if name in found), *(name for name in found if name not in TITLES)]


def null_title(name: str) -> str:
    """What a page calls a null."""
    return TITLES.get(name, f"{name} null")


def draw_null_distribution(numbers: Mapping[str, MoransI | Referenced], ax: "Axes | None" = None) -> "Axes":
    """Draw where the statistic of each sheet lies against its nulls.

    Parameters
    ----------
    numbers : mapping of str to MoransI or Referenced
        A statistic and its references per row: sheets, and perhaps their mean. The statistic is a dot,
        each null a band from 2 standard deviations below its mean to 2 above.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes
        First row on top.

    Examples
    --------
    >>> from topographic.maps import Referenced
    >>> from topographic.plots import draw_null_distribution
    >>> ax = draw_null_distribution({"layer 0": Referenced(0.7), "mean": Referenced(0.7)})
    """
    ax = ax if ax is not None else new_axes(4.7, 1.2 + 0.36 * len(numbers))
    ax.axvline(0.0, **ZERO_LINE)
    names = null_names(numbers.values())
    spare = iter(_OTHER_COLOURS * len(names))
    colours = {name: _BAND_COLOURS.get(name) or next(spare) for name in names}
    step = 0.72 / max(len(names), 3)
    for index, name in enumerate(names):
        found = {row: number.nulls.get(name) for row, number in enumerate(numbers.values())}
        bands = {row: reference for row, reference in found.items() if reference is not None}
        ax.barh(
            [row + (index - (len(names) - 1) / 2) * step for row in bands],
            [4 * reference.sd for reference in bands.values()],
            left=[reference.mean - 2 * reference.sd for reference in bands.values()],
            height=step - 0.02,
            color=colours[name],
            linewidth=0,
            label=null_title(name),
        )
    dots = {"s": 36, "color": INK, "edgecolors": "white", "linewidths": 0.8, "zorder": 5, "label": "this map"}
    ax.scatter([number.value for number in numbers.values()], range(len(numbers)), **dots)
    ax.legend(loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=4, frameon=False, fontsize=8.5, handlelength=1.0)
    ax.use_sticky_edges = False
    ax.margins(x=0.05)
    ax.set_yticks(range(len(numbers)), list(numbers))
    ax.set_ylim(len(numbers) - 0.4, -0.6)
    ax.set_xlabel("Moran's I", fontsize=10)
    quieten(ax, grid_axis="x")
    return ax
