"""Sheets for a model that has none: where its units, or directions, come to lie, and how it shows them there."""

from topographic.layouts.adaptors import Adaptor, Adaptors, ModelSource, is_layout
from topographic.layouts.assignment import fit_assignment
from topographic.layouts.cache import cached_activations
from topographic.layouts.contiguous import contiguous_sheet, fit_contiguous
from topographic.layouts.fitting import fit_layout
from topographic.layouts.population import moments, shuffled_within_units
from topographic.layouts.rebased import rebase, rebased
from topographic.layouts.rotation import fit_linear, fit_rotation, fit_rotations

__all__ = [
    "Adaptor",
    "Adaptors",
    "ModelSource",
    "cached_activations",
    "contiguous_sheet",
    "fit_assignment",
    "fit_contiguous",
    "fit_layout",
    "fit_linear",
    "fit_rotation",
    "fit_rotations",
    "is_layout",
    "moments",
    "rebase",
    "rebased",
    "shuffled_within_units",
]
