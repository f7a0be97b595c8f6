"""What all figures share: how matplotlib is had, colours, axes, and a picture as an address.

matplotlib is used without pyplot, so neither the backend nor the settings of the caller's session are touched.
"""

import base64
import html
import importlib
import importlib.util
import io
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "COLOUR_MAP",
    "FAINT",
    "INK",
    "MISSING",
    "PALE",
    "UNSIGNED_COLOUR_MAP",
    "ZERO_LINE",
    "colour_bar",
    "data_uri",
    "finish",
    "import_matplotlib",
    "new_axes",
    "new_figure",
    "notebook_html",
    "notebook_png",
    "quieten",
    "rendered",
]

_NOTEBOOK_DPI = 90

# colours that the common forms of colour blindness keep apart (Okabe & Ito 2008)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
INK, FAINT, MISSING, PALE = "#222222", "#d9d9d9", "#c9c9c9", "#ececec"
ZERO_LINE = {"color": "#666666", "linewidth": 0.9}
COLOUR_MAP, UNSIGNED_COLOUR_MAP = "RdBu_r", "OrRd"


def import_matplotlib(module: str = "") -> Any:
    """Import matplotlib or one of its modules, or say how to get it."""
    try:
        return importlib.import_module(f"matplotlib.{module}".rstrip("."))
    except ImportError as error:
        raise ImportError(
            f"figures need matplotlib, which is not installed ({error}); run `pip install topographic[report]`"
        ) from error


def new_figure(width_inches: float, height_inches: float) -> "Figure":
    """A figure that makes room for its labels."""
    return import_matplotlib("figure").Figure(figsize=(width_inches, height_inches), layout="constrained")


def new_axes(width_inches: float, height_inches: float) -> "Axes":
    """The axes of a figure of their own."""
    return new_figure(width_inches, height_inches).subplots()


def finish(ax: "Axes", x_label: str, y_label: str) -> "Axes":
    """Name both axes, explain what has a label, and leave the rest quiet."""
    ax.set_xlabel(x_label, fontsize=10)
    ax.set_ylabel(y_label, fontsize=10)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=9)
    quieten(ax)
    return ax


def quieten(ax: "Axes", *, grid_axis: Literal["x", "y"] = "y") -> None:
    """Leave two spines and a faint grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#888888")
    ax.tick_params(colors=INK, labelsize=9, color="#888888")
    ax.grid(axis=grid_axis, color=PALE, linewidth=0.8)
    ax.set_axisbelow(True)


def colour_bar(
    figure: Any, drawn: Any, axes: Any, label: str, *, extend: Literal["both", "max"] = "both", **place: Any
) -> None:
    """Say what the colours of one or more axes mean; values may lie beyond the scale."""
    bar = figure.colorbar(drawn, ax=axes, extend=extend, label=label, **place)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9, colors=INK)
    if type(drawn.norm).__name__ == "FuncNorm":  # a scale of roots: ticks at squares lie evenly
        bar.set_ticks(_square_ticks(drawn.norm.vmin, drawn.norm.vmax))
        bar.minorticks_off()


def _square_ticks(low: float, high: float) -> list[float]:
    """Squares of multiples of a round number, with their signs, between both ends."""
    root = math.sqrt(high)
    power = 10.0 ** math.floor(math.log10(root / 2))
    step = next(factor * power for factor in (5.0, 2.0, 1.0) if factor * power <= root / 2)
    above = [(step * count) ** 2 for count in range(1, math.floor(root / step) + 1)]
    return [*(-tick for tick in reversed(above) if -tick >= low), 0.0, *above]


def rendered(figure: "Figure", kind: Literal["png", "svg"] = "png", *, dots_per_inch: int = 200) -> bytes:
    """A figure as the content of a file."""
    settings = {"svg.hashsalt": "topographic"}  # element names from the content, not from a random number
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with import_matplotlib().rc_context(settings), io.BytesIO() as buffer:
        figure.savefig(buffer, format=kind, dpi=dots_per_inch, facecolor="white", metadata=metadata)
        return buffer.getvalue()


def data_uri(figure: "Figure", kind: Literal["png", "svg"] = "svg") -> str:
    """Render a figure into an address that carries the whole picture."""
    return _address(rendered(figure, kind), "svg+xml" if kind == "svg" else "png")


def notebook_png(draw: Callable[[], Any]) -> bytes | None:
    """What a notebook shows of a figure; nothing where matplotlib is missing: the text still appears."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    return rendered(draw(), dots_per_inch=_NOTEBOOK_DPI)


def notebook_html(line: str, png: bytes | None) -> str:
    """One line of text, and the picture below it if there is one."""
    picture = "" if png is None else f'<br><img alt="{html.escape(line)}" src="{_address(png, "png")}">'
    return f"<code>{html.escape(line)}</code>{picture}"


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
