"""Marks upon a picture of a sheet: which units are meant, and how long a millimetre is."""

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

from topographic.drawing.style import INK, import_matplotlib
from topographic.sheets import Sheet, grid_shape, spacing_mm, to_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_outline", "draw_scale_bar"]


def draw_outline(
    sheet: Sheet,
    units: Bool[np.ndarray, " units"],
    ax: "Axes",
    *,
    colour: str = INK,
    width: float = 0.8,
) -> "Axes":
    """Draw a line around some units of a sheet, on the picture that `draw_sheet` has made of it.

    Parameters
    ----------
    sheet : Sheet
        Where the units lie; flat.
    units : ndarray of bool, shape (units,)
        True for those inside. On a lattice the line runs between units inside and outside; elsewhere every unit has
        a ring of its own.
    ax : matplotlib Axes
        With the picture.
    colour : str
        Of the line.
    width : float
        Of the line, in points.

    Returns
    -------
    matplotlib Axes
        The same.

    Raises
    ------
    ValueError
        If there is not one truth value per unit.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.drawing import draw_outline, draw_sheet
    >>> from topographic.sheets import grid
    >>> sheet, values = grid((2, 3)), np.arange(6.0)
    >>> ax = draw_outline(sheet, values > 3, draw_sheet(sheet, values))
    """
    if units.shape != (sheet.n_units,):
        raise ValueError(
            f"units of shape {units.shape} for the {sheet.n_units} units of sheet {sheet.name!r}; give one truth value "
            "per unit, in the order of the sheet"
        )
    if grid_shape(sheet) is None:
        places = sheet.positions_mm.numpy()[units]
        ax.scatter(places[:, 1], places[:, 0], s=16, facecolors="none", edgecolors=colour, linewidths=width)
        return ax
    inside = np.pad(np.nan_to_num(to_grid(sheet, units.astype(np.float64))) > 0, 1)
    # a line lies wherever two places that touch are not on the same side; half a place off their centres
    rows, columns = np.nonzero(inside[1:] != inside[:-1])
    across = [((column - 1.5, row - 0.5), (column - 0.5, row - 0.5)) for row, column in zip(rows, columns, strict=True)]
    rows, columns = np.nonzero(inside[:, 1:] != inside[:, :-1])
    down = [((column - 0.5, row - 1.5), (column - 0.5, row - 0.5)) for row, column in zip(rows, columns, strict=True)]
    lines = import_matplotlib("collections").LineCollection(
        across + down, colors=colour, linewidths=width, capstyle="projecting", clip_on=False, zorder=3
    )
    ax.add_collection(lines, autolim=False)
    return ax


def draw_scale_bar(sheet: Sheet, ax: "Axes") -> "Axes":
    """Draw a bar of a round number of millimetres under a picture of a sheet, at most a third of its width.

    Parameters
    ----------
    sheet : Sheet
        Where the units lie; flat.
    ax : matplotlib Axes
        With the picture.

    Returns
    -------
    matplotlib Axes
        The same.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.drawing import draw_scale_bar, draw_sheet
    >>> from topographic.sheets import grid
    >>> ax = draw_scale_bar(grid((14, 14)), draw_sheet(grid((14, 14)), np.zeros(196)))
    >>> ax.texts[0].get_text()
    '2 mm'
    """
    low, high = sorted(ax.get_xlim())
    mm_per_place = spacing_mm(sheet) if grid_shape(sheet) is not None else 1.0  # what one step of the axis is
    length_mm = _round_length((high - low) * mm_per_place / 3)
    places = ax.get_xaxis_transform()  # along the sheet in its own places, downwards in heights of the picture
    ends = [low, low + length_mm / mm_per_place]
    ax.plot(ends, [-0.06, -0.06], transform=places, color=INK, linewidth=1.6, solid_capstyle="butt", clip_on=False)
    ax.set_xlim(*ax.get_xlim(), auto=False)
    ax.text(
        ends[1] + (high - low) * 0.04, -0.06, f"{length_mm:g} mm", transform=places, fontsize=7.5, color=INK,
        va="center_baseline",
    )  # fmt: skip
    return ax


def _round_length(at_most_mm: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is no longer."""
    power = 10.0 ** math.floor(math.log10(at_most_mm))
    return next(factor * power for factor in (5.0, 2.0, 1.0) if factor * power <= at_most_mm * (1 + 1e-9))
