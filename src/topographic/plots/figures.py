"""Figures of runs: an axis goes in, the same axis comes out; without one, each makes a figure of its own."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from topographic import drawing
from topographic.drawing.style import COLOURS, ZERO_LINE, finish, new_axes
from topographic.maps import DistanceCurve, UnitMap
from topographic.maps.unit_map import statistic_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "draw_distance_curves",
    "draw_map",
    "draw_maps",
    "draw_spatial_curves",
    "draw_training_curves",
    "series",
    "spatial_names",
    "symmetric_limit",
]


def symmetric_limit(unit_maps: Sequence[UnitMap], percentile: float = 99.5) -> float:
    """One limit for the colour scale of many maps.

    Parameters
    ----------
    unit_maps : sequence of UnitMap
        All maps that are compared.
    percentile : float
        Of all absolute values together, so that one extreme unit does not wash out the rest.

    Returns
    -------
    float
        The limit; 1 where there is nothing but zeros.

    Examples
    --------
    >>> from topographic.plots import symmetric_limit
    >>> symmetric_limit([])
    1.0
    """
    return drawing.symmetric_limit([unit_map.values for unit_map in unit_maps], percentile)


def draw_map(
    unit_map: UnitMap,
    ax: "Axes | None" = None,
    *,
    limit: float | None = None,
    is_signed: bool = True,
    title: str | None = None,
    colour_label: str | None = None,
) -> "Axes":
    """Draw one map as a picture of its sheet, zero in white.

    Row and column of the picture are those of the sheet (`topographic.sheets.to_grid`): the unit with
    the smallest coordinates lies at the top left. Sheets off a lattice are drawn as points.

    Parameters
    ----------
    unit_map : UnitMap
        The map, on a flat sheet.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure, with the site's name, a colour bar and a scale in mm.
    limit : float, optional
        Value of the darkest red; its negative is the darkest blue. `symmetric_limit` of this map by default.
    is_signed : bool
        Whether values may lie on both sides of zero; if not, there is no blue.
    title : str, optional
        What to write above the picture; "" for nothing.
    colour_label : str, optional
        What the colours mean, with their unit; gives the picture a colour bar.

    Returns
    -------
    matplotlib Axes
        With the picture and no ticks.

    Raises
    ------
    ValueError
        If the sheet lies in three dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.maps import UnitMap
    >>> from topographic.plots import draw_map
    >>> from topographic.sheets import grid
    >>> ax = draw_map(UnitMap("h.0.mlp", np.arange(6.0), grid((2, 3)), "welch_t"), limit=3.0)
    >>> ax.get_title()
    'h.0.mlp'
    """
    alone = ax is None
    if alone:
        title = unit_map.site if title is None else title
        colour_label = statistic_label(unit_map.statistic) if colour_label is None else colour_label
    told = {"title": title, "colour_label": colour_label, "has_scale": alone}
    return drawing.draw_sheet(unit_map.sheet, unit_map.values, ax, limit=limit, is_signed=is_signed, **told)


def draw_maps(
    unit_maps: Mapping[str, UnitMap],
    *,
    limit: float | None = None,
    colour_label: str = "t",
    is_signed: bool = True,
    is_rooted: bool = False,
    outlines: Sequence[Mapping[str, Bool[np.ndarray, " units"]]] = (),
) -> "Figure":
    """Draw the maps of one model sheet by sheet: layers to the right, kinds of modules downwards, with a colour bar.

    Parameters
    ----------
    unit_maps : mapping of str to UnitMap
        One map per site. More than six layers lie in blocks one under the other.
    limit : float, optional
        Shared limit of the colour scale; give the same for every model that is compared. By default
        `symmetric_limit` of these maps.
    colour_label : str
        What the colours mean, with their unit.
    is_signed : bool
        As in `draw_map`.
    is_rooted : bool
        As in `topographic.drawing.draw_sheet`.
    outlines : sequence of mappings of str to ndarray of bool, shape (units,)
        Units of each site to draw a line around, thin for the first mapping, thicker for the next ones.

    Returns
    -------
    matplotlib Figure
        One picture per site, and a bar of a few mm under the last row of them, or under every sheet where these
        differ in size.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.maps import UnitMap
    >>> from topographic.plots import draw_maps
    >>> from topographic.sheets import grid
    >>> maps = {site: UnitMap(site, np.arange(6.0), grid((2, 3)), "welch_t") for site in ("h.0.mlp", "h.1.mlp")}
    >>> figure = draw_maps(maps)
    """
    sheets = {site: (one.sheet, one.values) for site, one in unit_maps.items()}
    scale = {"limit": limit, "is_signed": is_signed, "is_rooted": is_rooted}
    return drawing.draw_sheets(sheets, colour_label=colour_label, outlines=outlines, **scale)


def draw_training_curves(
    records: Mapping[str, Sequence[Mapping[str, Any]]], ax: "Axes | None" = None, *, label: str = "task loss (nats)"
) -> "Axes":
    """Draw the task loss of several runs against the training step, same axes for all.

    Parameters
    ----------
    records : mapping of str to sequence of mappings
        For each run the lines of its ``metrics.jsonl``: "task_loss" becomes a line, "eval_loss" dots.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    label : str
        What the loss is, with its unit.

    Returns
    -------
    matplotlib Axes
        With one colour per run.

    Examples
    --------
    >>> from topographic.plots import draw_training_curves
    >>> ax = draw_training_curves({"a run": [{"step": 10, "task_loss": 6.2}, {"step": 20, "task_loss": 5.9}]})
    """
    ax = ax if ax is not None else new_axes(4.7, 3.1)
    dots = {"marker": "o", "linestyle": "--", "markersize": 4, "linewidth": 1.2}
    any_held_out = False
    for colour, (run, lines) in zip(itertools.cycle(COLOURS), records.items(), strict=False):
        ax.plot(*series(lines, "task_loss"), color=colour, linewidth=1.3, alpha=0.8, label=run)
        held_out = series(lines, "eval_loss")
        if held_out[0].size:
            any_held_out = True
            ax.plot(*held_out, color=colour, **dots)
    if any_held_out:
        ax.plot([], [], color="#666666", linewidth=1.3, label="training")
        ax.plot([], [], color="#666666", label="validation", **dots)
    return finish(ax, "optimizer step", label)


def draw_spatial_curves(records: Mapping[str, Sequence[Mapping[str, Any]]], ax: "Axes | None" = None) -> "Axes":
    """Draw the spatial loss of every sheet of several runs against the training step, same axes for all.

    Parameters
    ----------
    records : mapping of str to sequence of mappings
        For each run the lines of its ``metrics.jsonl``, with the loss of each sheet, unweighted, as "spatial/<site>".
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes
        Each sheet thin, the mean over sheets thick. Runs without such a loss are left out.

    Examples
    --------
    >>> from topographic.plots import draw_spatial_curves
    >>> ax = draw_spatial_curves({"a run": [{"step": 10, "spatial/h.0": 0.5}, {"step": 20, "spatial/h.0": 0.4}]})
    """
    ax = ax if ax is not None else new_axes(4.7, 3.1)
    for colour, (run, lines) in zip(itertools.cycle(COLOURS), records.items(), strict=False):
        names = spatial_names(lines)
        for name in names:
            ax.plot(*series(lines, name), color=colour, linewidth=0.8, alpha=0.35)
        logged = [line for line in lines if names and all(name in line for name in names)]
        values = np.array([[line[name] for name in names] for line in logged], dtype=float)  # None becomes NaN, a gap
        means = [{"step": line["step"], "mean": row.mean()} for line, row in zip(logged, values, strict=True)]
        if means:
            ax.plot(*series(means, "mean"), color=colour, linewidth=2.4, label=f"{run} (mean of {_sheets(len(names))})")
    return finish(ax, "optimizer step", "spatial loss of a sheet")


def spatial_names(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names under which the spatial loss of single sheets was logged."""
    return list(dict.fromkeys(name for line in lines for name in line if name.startswith("spatial/")))


def series(lines: Sequence[Mapping[str, Any]], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one quantity in the lines of a ``metrics.jsonl``; NaN where what was logged is no number."""
    latest = {line["step"]: line[quantity] for line in lines if quantity in line}
    steps = sorted(latest)
    return np.array(steps, dtype=float), np.array([latest[step] for step in steps], dtype=float)


def _sheets(number: int) -> str:
    return "1 sheet" if number == 1 else f"{number} sheets"


def draw_distance_curves(curves: Mapping[str, Sequence[DistanceCurve]], ax: "Axes | None" = None) -> "Axes":
    """Draw the correlation of two units' responses against their distance, same axes for all runs.

    Parameters
    ----------
    curves : mapping of str to sequence of DistanceCurve
        For each run one curve per sheet (`topographic.maps.correlation_by_distance`).
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes
        Each sheet thin, the mean over sheets thick where all have the same bins, and a line at zero. Where all sheets
        of all runs have the same bins, grey bars at the foot show how many pairs of one sheet stand behind each point.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.maps import DistanceCurve
    >>> from topographic.plots import draw_distance_curves
    >>> curve = DistanceCurve(np.array([0.0, 1.0, 2.0]), np.array([0.8, 0.1]), np.array([40, 60]))
    >>> ax = draw_distance_curves({"a run": [curve]})
    """
    ax = ax if ax is not None else new_axes(5.6, 3.6)
    ax.axhline(0.0, **ZERO_LINE)
    for colour, (run, sheets) in zip(itertools.cycle(COLOURS), curves.items(), strict=False):
        for curve in sheets:
            ax.plot(curve.centres_mm, curve.values, color=colour, linewidth=0.8, alpha=0.35)
        edges = sheets[0].edges_mm
        label = f"{run} (mean of {_sheets(len(sheets))})"
        if all(np.array_equal(curve.edges_mm, edges) for curve in sheets):
            mean = np.ma.masked_invalid([curve.values for curve in sheets]).mean(axis=0)
            ax.plot(sheets[0].centres_mm, mean, color=colour, linewidth=2.8, label=label)
        else:
            ax.plot([], [], color=colour, linewidth=0.8, label=f"{run} ({len(sheets)} sheets)")
    every = [curve for sheets in curves.values() for curve in sheets]
    finish(ax, "distance between two units (mm)", "correlation of their responses")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, fontsize=9)
    if every and all(np.array_equal(curve.edges_mm, every[0].edges_mm) for curve in every):
        _pair_bars(ax, every)
    return ax


def _pair_bars(ax: "Axes", curves: Sequence[DistanceCurve]) -> None:
    """Bars of the pairs behind each point, in the lowest fifth of the axes, with a scale of their own."""
    pairs = np.mean([curve.n_pairs for curve in curves], axis=0)
    low, high = ax.get_ylim()
    ax.set_ylim(low - (high - low) / 4, high)
    behind = ax.twinx()
    behind.bar(curves[0].centres_mm, pairs, 0.8 * np.diff(curves[0].edges_mm), color="#d5d9dd", linewidth=0)
    behind.set_ylim(0, 5.5 * pairs.max())
    behind.set_yticks([0, pairs.max()], ["0", f"{pairs.max():,.0f} pairs"], fontsize=8, color="#5a636d")
    behind.spines[:].set_visible(False)
    behind.tick_params(length=0)
    ax.set_zorder(behind.get_zorder() + 1)
    ax.patch.set_visible(False)  # the bars lie behind the lines
