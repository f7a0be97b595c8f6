"""Figures: an axis goes in, the same axis comes out; without one, each makes a figure of its own.

matplotlib is used without pyplot, so neither the backend nor the settings of the caller's session are touched.
"""

import base64
import importlib
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from topographic.maps import DistanceCurve, MoransI, Referenced, UnitMap
from topographic.plots.site_names import arrange_sites, fold_layers, site_labels
from topographic.sheets import grid_shape, to_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "data_uri",
    "draw_distance_curves",
    "draw_map",
    "draw_maps",
    "draw_null_distribution",
    "draw_spatial_curves",
    "draw_training_curves",
    "series",
    "spatial_names",
    "symmetric_limit",
]

# colours that the common forms of colour blindness keep apart (Okabe & Ito 2008)
RUN_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
NULL_COLOURS = {"floor": "#9a9a9a", "unit_null": "#56b4e9", "label_null": "#e69f00"}
NULL_NAMES = {"floor": "kernel floor", "unit_null": "unit null", "label_null": "label null"}
INK, FAINT, MISSING = "#222222", "#d9d9d9", "#c9c9c9"
COLOUR_MAP, UNSIGNED_COLOUR_MAP = "RdBu_r", "OrRd"


def _matplotlib(module: str = "") -> Any:
    """Import matplotlib or one of its modules, or say how to get it."""
    try:
        return importlib.import_module(f"matplotlib.{module}".rstrip("."))
    except ImportError as error:
        raise ImportError(
            f"figures need matplotlib, which is not installed ({error}); run `pip install topographic[report]`"
        ) from error


def _new_axes(width_inches: float, height_inches: float) -> "Axes":
    return _matplotlib("figure").Figure(figsize=(width_inches, height_inches), layout="constrained").subplots()


def _finish(ax: "Axes", x_label: str, y_label: str) -> "Axes":
    ax.set_xlabel(x_label, fontsize=10)
    ax.set_ylabel(y_label, fontsize=10)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=9)
    _quieten(ax)
    return ax


def _quieten(ax: "Axes", *, grid_axis: Literal["x", "y"] = "y") -> None:
    """Leave two spines and a faint grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#888888")
    ax.tick_params(colors=INK, labelsize=9, color="#888888")
    ax.grid(axis=grid_axis, color="#ececec", linewidth=0.8)
    ax.set_axisbelow(True)


def symmetric_limit(unit_maps: Sequence[UnitMap], percentile: float = 99.5) -> float:
    """One limit for the colour scale of many maps: the percentile of all absolute values together."""
    magnitudes = [np.abs(unit_map.values[np.isfinite(unit_map.values)]) for unit_map in unit_maps]
    together = np.concatenate(magnitudes) if magnitudes else np.zeros(0)
    limit = float(np.percentile(together, percentile)) if together.size else 0.0
    return limit if limit > 0 else 1.0


def draw_map(
    unit_map: UnitMap, ax: "Axes | None" = None, *, limit: float | None = None, is_signed: bool = True
) -> "Axes":
    """Draw one map as a picture of its sheet, zero in white.

    Row and column of the picture are those of the sheet (`topographic.sheets.to_grid`): the unit with
    the smallest coordinates lies at the top left. Sheets off a lattice are drawn as points.

    Parameters
    ----------
    unit_map : UnitMap
        The map, on a flat sheet.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    limit : float, optional
        Value of the darkest red; its negative is the darkest blue. `symmetric_limit` of this map by default.
    is_signed : bool
        Whether values may lie on both sides of zero; if not, there is no blue.

    Returns
    -------
    matplotlib Axes
        With the picture and no ticks.

    Raises
    ------
    ValueError
        If the sheet lies in three dimensions.
    """
    positions = unit_map.sheet.positions_mm.numpy()
    if positions.shape[1] != 2:
        raise ValueError(
            f"map at {unit_map.site!r} lies on a mesh in {positions.shape[1]} dimensions; draw_map expects a flat "
            "sheet with positions (units, 2): use draw_surface_map"
        )
    ax = ax if ax is not None else _new_axes(2.4, 2.4)
    limit = symmetric_limit([unit_map]) if limit is None else limit
    colours = _matplotlib().colormaps[COLOUR_MAP if is_signed else UNSIGNED_COLOUR_MAP]
    scale = {"cmap": colours.with_extremes(bad=MISSING), "vmin": -limit if is_signed else 0.0, "vmax": limit}
    if grid_shape(unit_map.sheet) is not None:
        picture = np.ma.masked_invalid(to_grid(unit_map.sheet, unit_map.values))
        ax.imshow(picture, **scale, interpolation="nearest", aspect="equal", origin="upper")
    else:
        ax.scatter(positions[:, 1], positions[:, 0], c=unit_map.values, s=12, linewidths=0, plotnonfinite=True, **scale)
        ax.set_aspect("equal")
        ax.invert_yaxis()
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color(FAINT)
    return ax


def draw_maps(
    unit_maps: Mapping[str, UnitMap], *, limit: float, colour_label: str = "t", is_signed: bool = True
) -> "Figure":
    """Draw the maps of one model sheet by sheet, layers downwards (many in blocks side by side), with a colour bar.

    Parameters
    ----------
    unit_maps : mapping of str to UnitMap
        One map per site.
    limit : float
        Shared limit of the colour scale, the same for every model that is compared.
    colour_label : str
        What the colours mean, with their unit.
    is_signed : bool
        As in `draw_map`.

    Returns
    -------
    matplotlib Figure
        One picture per site.
    """
    row_names, column_names, layers = arrange_sites(list(unit_maps))
    in_rows = len(column_names) == 1 and len(unit_maps) > 4  # one kind of module: a strip of all layers is too long
    titles = dict(zip(unit_maps, row_names, strict=True)) if in_rows else site_labels(list(unit_maps))
    each_named = in_rows or not row_names or max(map(len, column_names)) > 14  # a longer name is wider than its column
    places = fold_layers(layers) if row_names else layers
    places = {site: divmod(index, 6) for index, site in enumerate(unit_maps)} if in_rows else places
    rows = 1 + max(row for row, _ in places.values())
    columns = 1 + max(column for _, column in places.values())
    side = 1.5 if rows > 6 or in_rows else 4.2 / max(columns, 2)
    width, height = side * max(columns, 2) + 0.5, side * 1.02 * rows + 1.0
    figure = _matplotlib("figure").Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for site, unit_map in unit_maps.items():
        layer, kind = layers[site]
        panel = panels[places[site]]
        panel.set_axis_on()
        draw_map(unit_map, panel, limit=limit, is_signed=is_signed)
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
    beyond = "both" if is_signed else "max"
    bar = figure.colorbar(
        drawn, ax=panels, location="bottom", shrink=0.75, aspect=28, pad=0.02, extend=beyond, label=colour_label
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9, colors=INK)
    return figure


def draw_training_curves(records: Mapping[str, Sequence[Mapping[str, Any]]], ax: "Axes | None" = None) -> "Axes":
    """Draw the task loss of several runs against the training step, same axes for all.

    Parameters
    ----------
    records : mapping of str to sequence of mappings
        For each run the lines of its ``metrics.jsonl``: "task_loss" becomes a line, "eval_loss" dots.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes
        With one colour per run.
    """
    ax = ax if ax is not None else _new_axes(4.7, 3.1)
    dots = {"marker": "o", "linestyle": "--", "markersize": 4, "linewidth": 1.2}
    any_held_out = False
    for colour, (run, lines) in zip(itertools.cycle(RUN_COLOURS), records.items(), strict=False):
        ax.plot(*series(lines, "task_loss"), color=colour, linewidth=1.3, alpha=0.8, label=run)
        steps, losses = series(lines, "eval_loss")
        if steps.size:
            any_held_out = True
            ax.plot(steps, losses, color=colour, **dots)
    if any_held_out:
        ax.plot([], [], color="#666666", linewidth=1.3, label="training")
        ax.plot([], [], color="#666666", label="validation", **dots)
    return _finish(ax, "optimizer step", "task loss (nats)")


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
    """
    ax = ax if ax is not None else _new_axes(4.7, 3.1)
    for colour, (run, lines) in zip(itertools.cycle(RUN_COLOURS), records.items(), strict=False):
        names = spatial_names(lines)
        for name in names:
            ax.plot(*series(lines, name), color=colour, linewidth=0.8, alpha=0.35)
        logged = [line for line in lines if all(line.get(name) is not None for name in names)]
        means = [{"step": line["step"], "mean": np.mean([line[name] for name in names])} for line in logged if names]
        if means:
            ax.plot(*series(means, "mean"), color=colour, linewidth=2.4, label=f"{run} (mean of {_sheets(len(names))})")
    return _finish(ax, "optimizer step", "spatial loss of a sheet")


def _sheets(number: int) -> str:
    return "1 sheet" if number == 1 else f"{number} sheets"


def spatial_names(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names under which the spatial loss of single sheets was logged."""
    return list(dict.fromkeys(name for line in lines for name in line if name.startswith("spatial/")))


def series(lines: Sequence[Mapping[str, Any]], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one quantity in the lines of a ``metrics.jsonl``."""
    latest = {line["step"]: line[quantity] for line in lines if line.get(quantity) is not None}
    table = np.asarray(sorted(latest.items()), dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


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
        Each sheet thin, the mean over sheets thick where all have the same bins, and a line at zero.
    """
    ax = ax if ax is not None else _new_axes(4.9, 3.3)
    ax.axhline(0.0, color="#666666", linewidth=0.9)
    for colour, (run, sheets) in zip(itertools.cycle(RUN_COLOURS), curves.items(), strict=False):
        for curve in sheets:
            ax.plot(curve.centres_mm, curve.values, color=colour, linewidth=0.8, alpha=0.35)
        edges = sheets[0].edges_mm
        label = f"{run} (mean of {_sheets(len(sheets))})"
        if all(np.array_equal(curve.edges_mm, edges) for curve in sheets):
            mean = np.ma.masked_invalid([curve.values for curve in sheets]).mean(axis=0)
            ax.plot(sheets[0].centres_mm, mean, color=colour, linewidth=2.8, label=label)
        else:
            ax.plot([], [], color=colour, linewidth=0.8, label=f"{run} ({len(sheets)} sheets)")
    return _finish(ax, "distance between two units (mm)", "correlation of their responses")


def draw_null_distribution(numbers: Mapping[str, MoransI | Referenced], ax: "Axes | None" = None) -> "Axes":
    """Draw where the statistic of each sheet lies against its three nulls.

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
    """
    ax = ax if ax is not None else _new_axes(4.7, 1.2 + 0.36 * len(numbers))
    ax.axvline(0.0, color="#666666", linewidth=0.9)
    for null, offset in (("floor", -0.24), ("unit_null", 0.0), ("label_null", 0.24)):
        references = {row: getattr(number, null) for row, number in enumerate(numbers.values())}
        bands = {row: reference for row, reference in references.items() if reference is not None}
        ax.barh(
            [row + offset for row in bands],
            [4 * reference.sd for reference in bands.values()],
            left=[reference.mean - 2 * reference.sd for reference in bands.values()],
            height=0.22,
            color=NULL_COLOURS[null],
            linewidth=0,
            label=NULL_NAMES[null],
        )
    dots = {"s": 36, "color": INK, "edgecolors": "white", "linewidths": 0.8, "zorder": 5, "label": "this map"}
    ax.scatter([number.value for number in numbers.values()], range(len(numbers)), **dots)
    ax.legend(loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=4, frameon=False, fontsize=8.5, handlelength=1.0)
    ax.use_sticky_edges = False
    ax.margins(x=0.05)
    ax.set_yticks(range(len(numbers)), list(numbers))
    ax.set_ylim(len(numbers) - 0.4, -0.6)
    ax.set_xlabel("Moran's I", fontsize=10)
    _quieten(ax, grid_axis="x")
    return ax


def data_uri(figure: "Figure", kind: Literal["png", "svg"] = "svg") -> str:
    """Render a figure into an address that carries the whole picture."""
    settings = {"svg.hashsalt": "topographic"}  # element names from the content, not from a random number
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with _matplotlib().rc_context(settings), io.BytesIO() as buffer:
        figure.savefig(buffer, format=kind, dpi=200, facecolor="white", metadata=metadata)
        encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/{'svg+xml' if kind == 'svg' else 'png'};base64,{encoded}"
