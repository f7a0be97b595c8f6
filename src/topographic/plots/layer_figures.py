"""Figures with one line per layer, and curves of models that are made smaller."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from topographic.interventions import CompressionEffect
from topographic.plots.figures import INK, RUN_COLOURS, _finish, _matplotlib, _new_axes, _quieten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_by_layer", "draw_compression"]

Line = tuple[Sequence[float | int] | np.ndarray, Sequence[float | int] | np.ndarray]

_MOST_IN_LEGEND = 6
_METHODS = {"pruning": ("smallest weights pruned", RUN_COLOURS[1]), "downsampling": ("smaller sheets", RUN_COLOURS[0])}


def draw_by_layer(
    lines: Mapping[str, Line],
    ax: "Axes | None" = None,
    *,
    references: Mapping[str, Line] | None = None,
    x_label: str = "",
    y_label: str = "",
) -> "Axes":
    """Draw one line per layer, from the first in dark to the last in light colours."""
    if not lines:
        raise ValueError("no line to draw; expected one per layer")
    ax = ax if ax is not None else _new_axes(5.6, 3.4)
    ax.axhline(0.0, color="#666666", linewidth=0.9)
    colours = _matplotlib().colormaps["viridis"](np.linspace(0.0, 0.88, max(len(lines), 2)))
    many = len(lines) > _MOST_IN_LEGEND
    for index, (colour, (name, (x, y))) in enumerate(zip(colours, lines.items(), strict=False)):
        named = not many or index in (0, len(lines) // 2, len(lines) - 1)
        ax.plot(x, y, color=colour, linewidth=1.6, marker="o", markersize=2.5, label=name if named else f"_{name}")
    for name, (x, y) in (references or {}).items():
        ax.plot(x, y, color="#8a8a8a", linewidth=1.4, linestyle=(0, (4, 2)), label=name)
    if all(float(place).is_integer() for x, _ in lines.values() for place in x):
        ax.xaxis.set_major_locator(_matplotlib("ticker").MaxNLocator(integer=True))
    return _finish(ax, x_label, y_label)


def draw_compression(effects: Sequence[CompressionEffect], measures: Mapping[str, str]) -> "Figure":
    """Draw what a model can do against the number of its parameters, one panel per measure."""
    if not effects or not measures:
        raise ValueError(f"{len(effects)} effects, {len(measures)} measures; expected at least one of each")
    figure = _matplotlib("figure").Figure(figsize=(4.4 * len(measures), 3.5), layout="constrained")
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    most = max(effect.n_parameters for effect in effects)
    scale, unit = (1e6, "millions") if most >= 1e6 else (1e3, "thousands")
    for panel, (measure, label) in zip(panels, measures.items(), strict=True):
        shown = sorted((one for one in effects if one.measure == measure), key=lambda one: -one.n_parameters)
        whole = [one for one in shown if one.fraction == 0]
        if whole:
            panel.axhline(whole[0].value, color="#666666", linewidth=1.0, linestyle=":", label="whole model")
        nulls = [(one.value, 0.0) for one in whole[:1]]
        nulls += [(one.unit_null.mean, one.unit_null.sd) for one in shown if one.unit_null is not None]
        if len(nulls) > len(whole[:1]):
            x = [one.n_parameters / scale for one in shown if one in whole[:1] or one.unit_null is not None]
            means, sds = np.array(nulls).T
            panel.fill_between(x, means - 2 * sds, means + 2 * sds, color="#bdbdbd", alpha=0.5, linewidth=0)
            panel.plot(x, means, color="#8a8a8a", marker="o", markersize=4, label="smaller sheets, units permuted")
        for method, (name, colour) in _METHODS.items():
            points = [one for one in shown if one in whole[:1] or (one.method == method and one.fraction > 0)]
            x, y = [one.n_parameters / scale for one in points], [one.value for one in points]
            panel.plot(x, y, color=colour, marker="o", markersize=5, linewidth=1.8, label=name)
        panel.set_xlabel(f"parameters left ({unit})", fontsize=10)
        panel.set_ylabel(label, fontsize=10, color=INK)
        panel.invert_xaxis()
        _quieten(panel)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure
