"""Cortex: surface maps as unit maps, the models that make them from recordings, and encoding models."""

from topographic.brain.downsample import convolve_hrf, delay, downsample, trim, zscore_runs
from topographic.brain.glm import RunModel, design_matrix, group_map, load_events, run_statistic, subject_map
from topographic.brain.surface import (
    SurfaceMesh,
    load_mesh,
    load_surface_map,
    load_surface_series,
    threshold_as_published,
)
from topographic.brain.surface_nulls import estimated_fwhm_mm, smooth_noise_nulls

__all__ = [
    "RunModel",
    "SurfaceMesh",
    "design_matrix",
    "estimated_fwhm_mm",
    "group_map",
    "load_events",
    "load_mesh",
    "load_surface_map",
    "load_surface_series",
    "run_statistic",
    "smooth_noise_nulls",
    "subject_map",
    "threshold_as_published",
]
