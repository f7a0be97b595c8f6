"""The task loss and what is added to it: all that a training loop of one's own needs.

Names are fetched when they are first used, so that reading a configuration does not load torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topographic.objectives.config import (
        NeighborActivationsConfig,
        NeighborWeightsConfig,
        SmoothnessConfig,
        SpatialConfig,
        WeightSheetConfig,
        WiringConfig,
    )
    from topographic.objectives.finite import check_finite
    from topographic.objectives.neighbor_terms import NeighborActivations, NeighborWeights, WiringCost
    from topographic.objectives.objective import Draw, Objective, SpatialCorrelation, Term
    from topographic.objectives.terms import (
        configured_objective,
        configured_weight_sheets,
        smoothness_term,
        spatial_term,
    )
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
    "NeighborActivations",
    "NeighborActivationsConfig",
    "NeighborWeights",
    "NeighborWeightsConfig",
    "Objective",
    "SmoothnessConfig",
    "SpatialConfig",
    "SpatialCorrelation",
    "Term",
    "WeightSheet",
    "WeightSheetConfig",
    "WeightSmoothness",
    "WiringConfig",
    "WiringCost",
    "check_finite",
    "configured_objective",
    "configured_weight_sheets",
    "cosine_schedule",
    "linear_schedule",
    "smoothness_term",
    "spatial_term",
]

_FILES = {
    "config": (
        "NeighborActivationsConfig",
        "NeighborWeightsConfig",
        "SmoothnessConfig",
        "SpatialConfig",
        "WeightSheetConfig",
        "WiringConfig",
    ),
    "finite": ("check_finite",),
    "neighbor_terms": ("NeighborActivations", "NeighborWeights", "WiringCost"),
    "objective": ("Draw", "Objective", "SpatialCorrelation", "Term"),
    "terms": ("configured_objective", "configured_weight_sheets", "smoothness_term", "spatial_term"),
    "weight_terms": ("SCHEDULES", "WeightSheet", "WeightSmoothness", "cosine_schedule", "linear_schedule"),
}


def __getattr__(name: str) -> Any:
    """Import the file that holds a name."""
    for file, names in _FILES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
