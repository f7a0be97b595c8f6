"""One sheet on an axis."""

from topographic.drawing.picture import draw_sheet, symmetric_limit

__all__ = ["draw_sheet", "symmetric_limit"]
