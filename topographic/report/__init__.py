"""What it looked like: figures, tables and pages."""

from topographic.report.figures import (
    draw_distance_curves,
    draw_map,
    draw_maps,
    draw_null_distribution,
    draw_spatial_curves,
    draw_training_curves,
)
from topographic.report.page import write_page

__all__ = [
    "draw_distance_curves",
    "draw_map",
    "draw_maps",
    "draw_null_distribution",
    "draw_spatial_curves",
    "draw_training_curves",
    "write_page",
]
