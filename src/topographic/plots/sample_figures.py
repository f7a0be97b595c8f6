"""Figures of models that make images: what they make at several steps of their training, side by side."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from topographic.drawing.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_sample_grids"]

_WIDEST_INCHES, _WIDEST_PANEL_INCHES = 9.3, 5.2


def draw_sample_grids(
    samples: Mapping[str, Mapping[int, UInt8[np.ndarray, "classes images height width channels"]]], *, shown: int = 2
) -> "Figure":
    """Draw samples of every class at several training steps: steps downwards, models beside one another.

    Parameters
    ----------
    samples : mapping of str to mapping of int to ndarray of uint8
        For each model and step images of every class, gray or in colour; a step that a model lacks stays empty.
    shown : int
        Images of each class, one below the other.

    Returns
    -------
    matplotlib Figure
        A row for each step, a column for each model, and in each place a column for each class.

    Raises
    ------
    ValueError
        If there are no samples.

    Examples
    --------
    >>> noise = np.random.default_rng(0).integers(0, 256, (10, 4, 28, 28, 1), dtype=np.uint8)
    >>> figure = draw_sample_grids({"regular": {100: noise, 200: noise}, "frozen": {100: noise, 200: noise}})
    """
    steps = sorted({step for of_model in samples.values() for step in of_model})
    if not steps:
        raise ValueError("no samples to draw; give those of at least one step")
    width = min(_WIDEST_PANEL_INCHES, _WIDEST_INCHES / len(samples))
    strips = {name: {step: _strip(one, shown) for step, one in of_model.items()} for name, of_model in samples.items()}
    tallest = max(strip.shape[0] / strip.shape[1] for of_model in strips.values() for strip in of_model.values())
    figure = new_figure(width * len(samples) + 0.5, (width * tallest + 0.07) * len(steps) + 0.35)
    axes = figure.subplots(len(steps), len(samples), squeeze=False)
    for column, (name, of_model) in enumerate(strips.items()):
        axes[0, column].set_title(name, fontsize=10)
        for row, step in enumerate(steps):
            ax = axes[row, column]
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            if column == 0:
                ax.set_ylabel(f"{step:,}", rotation=0, ha="right", va="center", fontsize=9)
            if step in of_model:
                ax.imshow(of_model[step], interpolation="nearest")
    return figure


def _strip(images: np.ndarray, shown: int) -> UInt8[np.ndarray, "rows columns 3"]:
    """The first images of every class, classes to the right, in one picture of three colours."""
    first = np.pad(images[:, :shown], ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=255)
    classes, n, height, width, channels = first.shape
    picture = first.transpose(1, 2, 0, 3, 4).reshape(n * height, classes * width, channels)[:-1, :-1]
    return np.repeat(picture, 3, axis=2) if channels == 1 else picture
