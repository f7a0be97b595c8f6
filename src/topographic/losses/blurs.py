"""How a sheet is blurred: shrunk along each axis and widened again, as matrices."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

__all__ = ["BLURS", "Blur", "antialias_blur", "gaussian_blur", "shrunk", "toponets_blur"]

Blur = Literal["toponets", "antialias", "gaussian"]


def shrunk(length: int, factor: float) -> int:
    """Cells that are left of an axis."""
    # the reciprocal is rounded first, as in F.interpolate(scale_factor=1 / factor): 49 cells at factor 49 leave none
    return math.floor(length * (1 / factor))


def _linear_interpolation(places: np.ndarray, length: int) -> np.ndarray:
    """Matrix (places, length) that reads a row of cells at fractional places; beyond the ends it reads the end cell."""
    return np.maximum(0, 1 - np.abs(np.clip(places, 0, length - 1)[:, None] - np.arange(length)))


def _widening(small: int, length: int) -> np.ndarray:
    return _linear_interpolation((np.arange(length) + 0.5) * small / length - 0.5, small)


def toponets_blur(length: int, factor: float) -> tuple[np.ndarray, ...]:
    """Linear interpolation down by exactly ``factor`` and up to the length again, as TopoNets does.

    Notes
    -----
    At factor 3 shrinking takes every third cell as it is and averages nothing. Where the factor does not
    divide the length, the far edge is stretched: 16 cells give 5, which stand for 15.
    """
    small = shrunk(length, factor)
    return _linear_interpolation((np.arange(small) + 0.5) * factor - 0.5, length), _widening(small, length)


def antialias_blur(length: int, factor: float) -> tuple[np.ndarray, ...]:
    """Mean under a triangle twice as wide as a shrunk cell, and linear interpolation up again."""
    small = shrunk(length, factor)
    step = length / small
    centres = (np.arange(small) + 0.5) * step - 0.5
    triangles = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(length)) / step)
    return triangles / triangles.sum(1, keepdims=True), _widening(small, length)


def gaussian_blur(length: int, factor: float) -> tuple[np.ndarray, ...]:
    """Mean under a Gaussian whose full width at half maximum is ``factor`` cells."""
    sigma = factor / math.sqrt(8 * math.log(2))
    steps = (np.arange(length)[:, None] - np.arange(length)) / sigma
    kernel = np.exp(-(steps**2) / 2)
    return (kernel / kernel.sum(1, keepdims=True),)


BLURS: dict[str, Callable[[int, float], tuple[np.ndarray, ...]]] = {
    "toponets": toponets_blur,
    "antialias": antialias_blur,
    "gaussian": gaussian_blur,
}
