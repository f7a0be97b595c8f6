"""Pictures of cortical surfaces: an axis goes in, the same axis comes out.

A mesh is drawn as what it is, coloured triangles, those behind first; so no viewer is needed beyond matplotlib.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from topographic.brain import SurfaceMesh
from topographic.drawing import symmetric_limit
from topographic.drawing.style import COLOUR_MAP, INK, MISSING, colour_bar, import_matplotlib, new_axes, new_figure
from topographic.maps import UnitMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["VIEWS", "draw_surface_map", "draw_surface_views"]


def draw_surface_map(
    unit_map: UnitMap,
    mesh: SurfaceMesh,
    ax: "Axes | None" = None,
    *,
    view: str = "left",
    limit: float | None = None,
    sulcal_depth: Float[np.ndarray, " vertices"] | None = None,
) -> "Axes":
    """Draw a map on a surface as seen from one side, zero in white, vertices without a value in grey.

    Notes
    -----
    A triangle has the mean of its corners, and no value unless all three have one. Triangles are drawn from back to
    front by their centres, which is exact but for those that pierce each other.
    """
    n_vertices = len(mesh.positions_mm)
    depths = n_vertices if sulcal_depth is None else len(sulcal_depth)
    for name, length in (("map", unit_map.sheet.n_units), ("sulcal_depth", depths)):
        if length != n_vertices:
            raise ValueError(
                f"{name} at {unit_map.site!r} has {length} vertices and mesh {mesh.name!r} {n_vertices}; give surfaces "
                "of one resolution and hemisphere"
            )
    if view not in VIEWS:
        raise ValueError(f"view={view!r}; expected one of {list(VIEWS)}")
    ax = ax if ax is not None else new_axes(4.0, 3.2)
    limit = symmetric_limit([unit_map.values]) if limit is None else limit
    seen = mesh.positions_mm @ np.array(VIEWS[view], dtype=float).T
    corners = seen[mesh.triangles]
    colours = _colours(unit_map, mesh, limit, sulcal_depth) * _light(corners)[:, None]
    order = np.argsort(corners[:, :, 2].mean(axis=1), kind="stable")
    triangles = import_matplotlib("collections").PolyCollection(
        corners[order][:, :, :2],
        facecolors=colours[order],
        edgecolors="face",
        linewidths=0.2,
        rasterized=True,  # tens of thousands of triangles make an SVG that no browser opens
    )
    ax.add_collection(triangles)
    used = seen[np.unique(mesh.triangles)]
    low, high = used.min(axis=0), used.max(axis=0)
    margin = 0.02 * (high - low).max()
    ax.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin), aspect="equal")
    ax.set_axis_off()
    return ax


def draw_surface_views(
    unit_map: UnitMap,
    mesh: SurfaceMesh,
    views: Sequence[str] = ("left", "right"),
    *,
    limit: float | None = None,
    sulcal_depth: Float[np.ndarray, " vertices"] | None = None,
    colour_label: str | None = None,
) -> "Figure":
    """Draw a map on a surface from several sides, with one colour bar."""
    limit = symmetric_limit([unit_map.values]) if limit is None else limit
    if unknown := [view for view in views if view not in VIEWS]:
        raise ValueError(f"view={unknown[0]!r}; expected one of {list(VIEWS)}")
    spans = [np.ptp(mesh.positions_mm @ np.array(VIEWS[view], dtype=float).T, axis=0) for view in views]
    widths = [2.5 * across / max(span[1] for span in spans) for across, *_ in spans]
    figure = new_figure(max(sum(widths), 3.0), 3.3)
    panels = figure.subplots(1, len(views), squeeze=False, width_ratios=widths)[0]
    for panel, view in zip(panels, views, strict=True):
        draw_surface_map(unit_map, mesh, panel, view=view, limit=limit, sulcal_depth=sulcal_depth)
        low, high = panel.get_ylim()
        panel.set_ylim(low, high + 0.1 * (high - low))  # room for the name: a title would be cut off, as axes are off
        style = {"ha": "center", "va": "top", "fontsize": 9.5, "color": INK}
        panel.text(0.5, 1.0, f"from the {view}", transform=panel.transAxes, **style)
    scale = import_matplotlib("colors").Normalize(-limit, limit)
    drawn = import_matplotlib("cm").ScalarMappable(scale, COLOUR_MAP)
    place = {"location": "bottom", "shrink": 0.5, "aspect": 28}
    colour_bar(figure, drawn, list(panels), colour_label or unit_map.statistic, **place)
    return figure


def _colours(
    unit_map: UnitMap, mesh: SurfaceMesh, limit: float, sulcal_depth: np.ndarray | None
) -> Float[np.ndarray, "triangles 3"]:
    """Red, green and blue of every triangle."""
    values = unit_map.values[mesh.triangles].mean(axis=1)
    colour_map: Any = import_matplotlib().colormaps[COLOUR_MAP]
    colours = colour_map(np.clip(np.nan_to_num(values) / (2 * limit) + 0.5, 0, 1))[:, :3]
    missing = np.isnan(values)
    colours[missing] = import_matplotlib("colors").to_rgb(MISSING)
    if sulcal_depth is not None:
        low, high = np.nanpercentile(sulcal_depth, [5, 95])
        depth = (np.nan_to_num(sulcal_depth)[mesh.triangles[missing]].mean(axis=1) - low) / max(high - low, 1e-12)
        colours[missing] = 0.45 + 0.4 * np.clip(depth, 0, 1)[:, None]
    return colours


def _light(corners: Float[np.ndarray, "triangles 3 3"]) -> Float[np.ndarray, " triangles"]:
    """Brightness of every triangle under a lamp at the viewer; 1 all over a flat surface."""
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.linalg.norm(across, axis=1)
    facing = np.divide(np.abs(across[:, 2]), size, out=np.ones_like(size), where=size > 0)
    return 0.55 + 0.45 * facing


# rows: what runs to the right, upwards and towards the viewer in the picture; x is right, y front, z up
VIEWS = {
    "left": ((0, -1, 0), (0, 0, 1), (-1, 0, 0)),
    "right": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "front": ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    "back": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "top": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "bottom": ((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
}
