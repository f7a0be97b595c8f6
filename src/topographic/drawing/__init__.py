"""One sheet on an axis."""

from topographic.drawing.marks import draw_outline, draw_scale_bar
from topographic.drawing.picture import draw_sheet, symmetric_limit

__all__ = ["draw_outline", "draw_scale_bar", "draw_sheet", "symmetric_limit"]
