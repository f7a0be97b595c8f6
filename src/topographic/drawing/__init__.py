"""One sheet on an axis."""
