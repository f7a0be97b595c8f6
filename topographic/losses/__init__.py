"""What topography costs: spatial losses."""

from topographic.losses.spatial import spatial_correlation_loss

__all__ = ["spatial_correlation_loss"]
