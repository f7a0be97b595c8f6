"""Values of units as a picture of their sheet: an axis goes in, the same axis comes out."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from topographic.drawing.site_names import arrange_sites, fold_layers, site_labels
from topographic.drawing.style import (
    COLOUR_MAP,
    FAINT,
    INK,
    MISSING,
    UNSIGNED_COLOUR_MAP,
    colour_bar,
    import_matplotlib,
    new_axes,
    new_figure,
)
from topographic.sheets import Sheet, grid_shape, to_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_sheet", "draw_sheets", "symmetric_limit"]

_SCALE_STEPS = (1.0, 2.0, 5.0, 10.0)
_SCALE_SHARE = 0.3  # of the width of a sheet that its scale is long at most


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
    has_scale: bool = False,
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
    has_scale : bool
        Whether a bar below the picture says how long some millimetres are.

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
    scale = {"cmap": colours.with_extremes(bad=MISSING), "vmin": -limit if is_signed else 0.0, "vmax": limit}
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
    if has_scale:
        _draw_scale(ax, sheet)
    return ax


def draw_sheets(
    sheets: Mapping[str, tuple[Sheet, np.ndarray]],
    *,
    limit: float | None = None,
    is_signed: bool = True,
    colour_label: str | None = None,
) -> "Figure":
    """Draw many sheets as small pictures with one colour scale, layers downwards, many in blocks side by side.

    Parameters
    ----------
    sheets : mapping of str to (Sheet, ndarray)
        The sheet of every site, and a value for each of its units.
    limit : float, optional
        Shared limit of the colour scale; `symmetric_limit` of all values by default.
    is_signed : bool
        As in `draw_sheet`.
    colour_label : str, optional
        What the colours mean, with their unit.

    Returns
    -------
    matplotlib Figure
        A picture per site, and one colour bar.

    Raises
    ------
    ValueError
        If there are no sheets, or as `draw_sheet`.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.sheets import grid
    >>> figure = draw_sheets({site: (grid((2, 3)), np.arange(6.0)) for site in ("h.0.mlp", "h.1.mlp")})
    """
    if not sheets:
        raise ValueError("no sheets to draw; expected {site: (sheet, values)}: give at least one")
    limit = symmetric_limit([values for _, values in sheets.values()]) if limit is None else limit
    names = list(sheets)
    row_names, column_names, layers = arrange_sites(names)
    in_rows = len(column_names) == 1 and len(sheets) > 4  # one kind of module: a strip of all layers is too long
    titles = dict(zip(sheets, row_names, strict=True)) if in_rows else site_labels(names)
    each_named = in_rows or not row_names or max(map(len, column_names)) > 14  # a longer name is wider than its column
    places = fold_layers(layers) if row_names else layers
    places = {site: divmod(index, 6) for index, site in enumerate(sheets)} if in_rows else places
    rows = 1 + max(row for row, _ in places.values())
    columns = 1 + max(column for _, column in places.values())
    side = 1.5 if rows > 6 or in_rows else 4.2 / max(columns, 2)
    width, height = side * max(columns, 2) + 0.5, side * 1.02 * rows + 1.0
    figure = new_figure(width, height)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for site, (sheet, values) in sheets.items():
        layer, kind = layers[site]
        panel = panels[places[site]]
        panel.set_axis_on()
        draw_sheet(sheet, values, panel, limit=limit, is_signed=is_signed)
        if each_named:
            panel.set_title(titles[site], fontsize=9 if row_names else 7, color=INK)
        elif places[site][0] == 0:
            panel.set_title(column_names[kind], fontsize=10, color=INK)
        if not each_named and kind == min(place[1] for place in layers.values() if place[0] == layer):
            panel.set_ylabel(row_names[layer], fontsize=9.5, color=INK)
    if in_rows:
        figure.suptitle(column_names[0], fontsize=10, color=INK)
    shown = panels[next(iter(places.values()))]
    drawn = (shown.images or shown.collections)[0]
    place = {"location": "bottom", "shrink": 0.75, "aspect": 28, "pad": 0.02}
    colour_bar(figure, drawn, panels, colour_label or "value", extend="both" if is_signed else "max", **place)
    return figure


def _draw_scale(ax: "Axes", sheet: Sheet) -> None:
    """A bar of a round number of millimetres below the left corner of a flat sheet."""
    left, right = sorted(ax.get_xlim())
    positions = sheet.positions_mm.numpy()[:, 1]
    shape, span_mm = grid_shape(sheet), float(np.ptp(positions))
    # a picture of a lattice counts columns, points lie in mm
    steps_per_mm = 1.0 if shape is None else (shape[1] - 1) / span_mm if span_mm > 0 else 0.0
    if not steps_per_mm or right <= left:
        return
    longest_mm = _SCALE_SHARE * (right - left) / steps_per_mm
    unit = 10.0 ** math.floor(math.log10(longest_mm))
    length_mm = max(step * unit for step in _SCALE_STEPS if step * unit <= longest_mm * (1 + 1e-9))
    share = length_mm * steps_per_mm / (right - left)
    ax.plot([0, share], [-0.03, -0.03], color=INK, linewidth=2, transform=ax.transAxes, clip_on=False)
    ax.text(
        share / 2, -0.045, f"{length_mm:g} mm", fontsize=8, color=INK, ha="center", va="top", transform=ax.transAxes
    )
