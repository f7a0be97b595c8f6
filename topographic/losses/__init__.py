"""What topography costs: spatial losses."""
