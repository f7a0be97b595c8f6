"""The task loss and what is added to it: all that a training loop of one's own needs."""

from topographic.objectives.config import SmoothnessConfig, SpatialConfig, WeightSheetConfig
from topographic.objectives.finite import check_finite
from topographic.objectives.objective import Draw, Objective, SpatialCorrelation, Term
from topographic.objectives.terms import configured_objective, configured_weight_sheets, smoothness_term, spatial_term
from topographic.objectives.weight_terms import (
    SCHEDULES,
    WeightSheet,
    WeightSmoothness,
    cosine_schedule,
    linear_schedule,
)

__all__ = [
    "SCHEDULES",
    "Draw",
    "Objective",
    "SmoothnessConfig",
    "SpatialConfig",
    "SpatialCorrelation",
    "Term",
    "WeightSheet",
    "WeightSheetConfig",
    "WeightSmoothness",
    "check_finite",
    "configured_objective",
    "configured_weight_sheets",
    "cosine_schedule",
    "linear_schedule",
    "smoothness_term",
    "spatial_term",
]
