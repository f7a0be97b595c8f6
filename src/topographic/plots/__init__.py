"""Pictures: an axis goes in, the same axis comes out."""

from topographic.plots.figures import (
    draw_distance_curves,
    draw_map,
    draw_maps,
    draw_spatial_curves,
    draw_training_curves,
    symmetric_limit,
)
from topographic.plots.nulls import draw_null_distribution
from topographic.plots.sample_figures import draw_sample_grids

__all__ = [
    "draw_distance_curves",
    "draw_map",
    "draw_maps",
    "draw_null_distribution",
    "draw_sample_grids",
    "draw_spatial_curves",
    "draw_training_curves",
    "symmetric_limit",
]
