"""Locality inside a network: receptive fields on a sheet, attention through them, and locally connected maps."""

from topographic.layers.attention import (
    NORMALIZATIONS,
    SpatialQuerying,
    normalised_fields,
    spatial_querying_attention,
    written_out,
)
from topographic.layers.fields import SharedFields
from topographic.layers.lateral import LateralSmoothing
from topographic.layers.local_weights import LocalWeights, locally_connected
from topographic.layers.receptive_fields import RECEPTIVE_FIELDS, receptive_fields

__all__ = [
    "NORMALIZATIONS",
    "RECEPTIVE_FIELDS",
    "LateralSmoothing",
    "LocalWeights",
    "SharedFields",
    "SpatialQuerying",
    "locally_connected",
    "normalised_fields",
    "receptive_fields",
    "spatial_querying_attention",
    "written_out",
]
