"""Values of units as a picture of their sheet: an axis goes in, the same axis comes out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from topographic.drawing.style import (
    COLOUR_MAP,
    FAINT,
    INK,
    MISSING,
    UNSIGNED_COLOUR_MAP,
    colour_bar,
    import_matplotlib,
    new_axes,
)
from topographic.sheets import Sheet, grid_shape, to_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_sheet", "symmetric_limit"]


def symmetric_limit(values: Sequence[np.ndarray], percentile: float = 99.5) -> float:
    """One limit for the colour scale of many pictures.

    Parameters
    ----------
    values : sequence of ndarray
        Values of every picture; what is not finite does not count.
    percentile : float
        Of all absolute values together, so that one extreme unit does not wash out the rest.

    Returns
    -------
    float
        The limit; 1 where there is nothing but zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.drawing import symmetric_limit
    >>> symmetric_limit([np.array([-2.0, 0.0]), np.array([4.0])], percentile=100.0)
    4.0
    """
    magnitudes = [np.abs(one[np.isfinite(one)]) for one in values]
    together = np.concatenate(magnitudes) if magnitudes else np.zeros(0)
    limit = float(np.percentile(together, percentile)) if together.size else 0.0
    return limit if limit > 0 else 1.0


def draw_sheet(
    sheet: Sheet,
    values: Shaped[np.ndarray, " units"],
    ax: "Axes | None" = None,
    *,
    limit: float | None = None,
    is_signed: bool = True,
    title: str | None = None,
    colour_label: str | None = None,
    is_rooted: bool = False,
) -> "Axes":
    """Draw one value per unit as a picture of their sheet, zero in white.

    Row and column of the picture are those of the sheet (`topographic.sheets.to_grid`): the unit with
    the smallest coordinates lies at the top left. Sheets off a lattice are drawn as points.

    Parameters
    ----------
    sheet : Sheet
        Where the units lie; flat.
    values : ndarray, shape (units,)
        One per unit; grey where it is not finite.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    limit : float, optional
        Value of the darkest red; its negative is the darkest blue. `symmetric_limit` of the values by default.
    is_signed : bool
        Whether values may lie on both sides of zero; if not, there is no blue.
    title : str, optional
        What to write above the picture.
    colour_label : str, optional
        What the colours mean, with their unit; gives the picture a colour bar.
    is_rooted : bool
        Whether colours grow with the square root of a value, so that faint and strong pictures can share one scale.

    Returns
    -------
    matplotlib Axes
        With the picture and no ticks.

    Raises
    ------
    ValueError
        If the sheet lies in three dimensions or there is not one value per unit.
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.drawing import draw_sheet
    >>> from topographic.sheets import grid
    >>> ax = draw_sheet(grid((2, 3)), np.arange(6.0), title="six units", colour_label="t")
    >>> ax.figure.savefig("six_units.png")  # doctest: +SKIP
    """
    positions = sheet.positions_mm.numpy()
    if positions.shape[1] != 2:
        raise ValueError(
            f"sheet {sheet.name!r} is a mesh in {positions.shape[1]} dimensions; expected a flat sheet with positions "
            "(units, 2): draw meshes with topographic.plots.draw_surface_map"
        )
    if values.shape != (sheet.n_units,):
        raise ValueError(
            f"values of shape {values.shape} for the {sheet.n_units} units of sheet {sheet.name!r}; give one per unit, "
            "in the order of the sheet"
        )
    ax = ax if ax is not None else new_axes(2.4, 2.4)
    limit = symmetric_limit([values]) if limit is None else limit
    colours = import_matplotlib().colormaps[COLOUR_MAP if is_signed else UNSIGNED_COLOUR_MAP]
    scale: dict[str, Any] = {"vmin": -limit if is_signed else 0.0, "vmax": limit}
    if is_rooted:
        scale = {"norm": import_matplotlib("colors").FuncNorm((_root, _square), **scale)}
    scale["cmap"] = colours.with_extremes(bad=MISSING)
    if grid_shape(sheet) is not None:
        picture = np.ma.masked_invalid(to_grid(sheet, values))
        drawn = ax.imshow(picture, **scale, interpolation="nearest", aspect="equal", origin="upper")
    else:
        places = positions[:, 1], positions[:, 0]
        drawn = ax.scatter(*places, c=values, s=12, linewidths=0, plotnonfinite=True, **scale)
        ax.set_aspect("equal")
        ax.invert_yaxis()
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color(FAINT)
    if title is not None:
        ax.set_title(title, fontsize=9, color=INK)
    if colour_label is not None:
        colour_bar(ax.figure, drawn, ax, colour_label, extend="both" if is_signed else "max")
    return ax


def _root(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.sqrt(np.abs(values))


def _square(values: np.ndarray) -> np.ndarray:
    return values * np.abs(values)
