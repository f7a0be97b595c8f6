"""Values of units as a picture of their sheet: an axis goes in, the same axis comes out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from topographic.drawing.marks import draw_outline, draw_scale_bar
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
    is_rooted : bool
        Whether colours grow with the square root of a value, so that faint and strong pictures can share one scale.
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
    if has_scale:
        draw_scale_bar(sheet, ax)
    return ax


def draw_sheets(
    sheets: Mapping[str, tuple[Sheet, np.ndarray]],
    *,
    limit: float | None = None,
    is_signed: bool = True,
    is_rooted: bool = False,
    colour_label: str | None = None,
    outlines: Sequence[Mapping[str, np.ndarray]] = (),
) -> "Figure":
    """Draw many sheets on one colour scale: layers to the right, kinds of modules downwards, with one colour bar.

    Parameters
    ----------
    sheets : mapping of str to (Sheet, ndarray)
        The sheet of every site, and a value for each of its units. More than six layers lie in blocks one under the
        other.
    limit : float, optional
        Shared limit of the colour scale, the same for every model that is compared; `symmetric_limit` of all values
        by default.
    is_signed, is_rooted : bool
        As in `draw_sheet`.
    colour_label : str, optional
        What the colours mean, with their unit.
    outlines : sequence of mapping of str to ndarray of bool
        Units to draw a line around, by site; the first thin, the others thick.

    Returns
    -------
    matplotlib Figure
        A picture per site, a bar of some millimetres, and one colour bar.

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
    layer_names, kinds, table = arrange_sites(list(sheets))
    labels = site_labels(list(sheets))
    each_named = not layer_names or max(map(len, kinds)) > 14  # a longer name is longer than its row is high
    places = fold_layers(table) if layer_names else table
    rows, columns = (1 + max(place[axis] for place in places.values()) for axis in (0, 1))
    side = min(1.9, max(0.62, 4.6 / columns))
    figure = new_figure(max(side * columns, 2.4) + 0.35, side * 1.04 * rows + 0.95)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    titled, named = set(), set()
    for site, (sheet, values) in sheets.items():
        layer, kind = table[site]
        panel = panels[places[site]]
        panel.set_axis_on()
        draw_sheet(sheet, values, panel, limit=limit, is_signed=is_signed, is_rooted=is_rooted)
        for width, chosen in zip((0.6, *(1.5 for _ in outlines[1:])), outlines, strict=False):
            if site in chosen:
                draw_outline(sheet, chosen[site], panel, width=width)
        if each_named:
            panel.set_title(labels[site], fontsize=9 if layer_names else 7, color=INK)
            continue
        if layer not in titled:  # above the first kind of every layer
            panel.set_title(layer_names[layer], fontsize=9, color=INK)
            titled.add(layer)
        if places[site][0] not in named:
            panel.set_ylabel(kinds[kind], fontsize=9, color=INK)
            named.add(places[site][0])
    sizes = {tuple(np.ptp(sheet.positions_mm.numpy(), axis=0)) for sheet, _ in sheets.values()}
    last = max(places, key=lambda site: (places[site][0], -places[site][1]))
    for site in [last] if len(sizes) == 1 else places:
        draw_scale_bar(sheets[site][0], panels[places[site]])
    shown = panels[next(iter(places.values()))]
    drawn = (shown.images or shown.collections)[0]
    place = {"location": "bottom", "shrink": 0.6, "aspect": 34, "pad": 0.02}
    colour_bar(figure, drawn, panels, colour_label or "value", extend="both" if is_signed else "max", **place)
    return figure


def _root(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.sqrt(np.abs(values))


def _square(values: np.ndarray) -> np.ndarray:
    return values * np.abs(values)
