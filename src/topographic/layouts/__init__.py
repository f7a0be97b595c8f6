"""Layouts found for any model, not trained: where units, or directions, of a population lie on a sheet."""

from topographic.layouts.assignment import fit_assignment
from topographic.layouts.cache import cached_activations
from topographic.layouts.contiguous import contiguous_sheet, fit_contiguous
from topographic.layouts.population import moments, shuffled_within_units
from topographic.layouts.rotation import fit_linear, fit_rotation, fit_rotations

__all__ = [
    "cached_activations",
    "contiguous_sheet",
    "fit_assignment",
    "fit_contiguous",
    "fit_linear",
    "fit_rotation",
    "fit_rotations",
    "moments",
    "shuffled_within_units",
]
