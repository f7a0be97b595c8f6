"""Where units are: sheets, layouts, distances and neighbourhoods."""

from topographic.sheets.geometry import (
    adjacency,
    adjacent_pairs,
    distances,
    grid_cells,
    grid_shape,
    lattice_coordinates,
    spacing_mm,
    to_grid,
)
from topographic.sheets.layouts import LAYOUTS, Layout, from_positions, grid, head_tiles, permuted_grid
from topographic.sheets.neighborhoods import (
    NEIGHBORHOODS,
    global_neighborhoods,
    local_centres,
    local_neighborhoods,
    sample_neighborhoods,
    scattered_neighborhoods,
)
from topographic.sheets.sheet import Sheet

__all__ = [
    "LAYOUTS",
    "NEIGHBORHOODS",
    "Layout",
    "Sheet",
    "adjacency",
    "adjacent_pairs",
    "distances",
    "from_positions",
    "global_neighborhoods",
    "grid",
    "grid_cells",
    "grid_shape",
    "head_tiles",
    "lattice_coordinates",
    "local_centres",
    "local_neighborhoods",
    "permuted_grid",
    "sample_neighborhoods",
    "scattered_neighborhoods",
    "spacing_mm",
    "to_grid",
]
