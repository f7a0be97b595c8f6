"""What topography costs: spatial losses."""

from topographic.losses.blurs import BLURS
from topographic.losses.neighbors import NEIGHBOR_DISTANCES, neighbor_dissimilarity, wiring_cost, wiring_swaps
from topographic.losses.prototypes import prototype_loss, squared_distances
from topographic.losses.pyramid import laplacian_pyramid_loss, sheet_shape
from topographic.losses.random_weights import random_weights_loss
from topographic.losses.spatial import spatial_correlation_loss
from topographic.losses.weight_sheets import weight_sheets

__all__ = [
    "BLURS",
    "NEIGHBOR_DISTANCES",
    "laplacian_pyramid_loss",
    "neighbor_dissimilarity",
    "prototype_loss",
    "random_weights_loss",
    "sheet_shape",
    "spatial_correlation_loss",
    "squared_distances",
    "weight_sheets",
    "wiring_cost",
    "wiring_swaps",
]
