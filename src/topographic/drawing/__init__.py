"""One sheet on an axis, many in a figure, and what a notebook shows of them."""

from topographic.drawing.marks import draw_outline, draw_scale_bar
from topographic.drawing.picture import draw_sheet, draw_sheets, symmetric_limit
from topographic.drawing.style import notebook_html, notebook_png

__all__ = [
    "draw_outline",
    "draw_scale_bar",
    "draw_sheet",
    "draw_sheets",
    "notebook_html",
    "notebook_png",
    "symmetric_limit",
]
