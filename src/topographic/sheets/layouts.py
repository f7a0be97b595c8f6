"""Ways to lay units out. A layout is a function ``(n_units, name) -> Sheet``."""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from topographic.sheets.sheet import Sheet

__all__ = ["LAYOUTS", "Layout", "from_positions", "grid", "head_tiles", "permuted_grid", "strip_warning"]

Layout = Callable[..., Sheet]


def grid(
    n_units: int | tuple[int, int],
    name: str = "sheet",
    *,
    shape: tuple[int, int] | None = None,
    spacing_mm: float = 1.0,
    wrap: bool = False,
) -> Sheet:
    """Row-major rectangle: unit ``u`` lies at row ``u // columns``, column ``u % columns``.

    Parameters
    ----------
    n_units : int or (int, int)
        Number of units, or rows and columns.
    name : str
        Name of the sheet.
    shape : (int, int), optional
        Rows and columns; the most nearly square rectangle by default (784 -> 28 x 28,
        768 -> 24 x 32).
    spacing_mm : float
        Distance between neighbouring units.
    wrap : bool
        Join opposite edges (a torus).

    Returns
    -------
    Sheet
        Sheet of ``n_units`` units.

    Raises
    ------
    ValueError
        If the units do not fill the rectangle.
    """
    if isinstance(n_units, tuple):
        shape, n_units = n_units, n_units[0] * n_units[1]
    rows, columns = _rectangle(n_units, name, shape)
    _check_spacing(name, spacing_mm)
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    positions = torch.stack([row.flatten(), column.flatten()], dim=1).double() * spacing_mm
    return Sheet(name=name, positions_mm=positions, extent_mm=(rows * spacing_mm, columns * spacing_mm), wrap=wrap)


def permuted_grid(
    n_units: int | tuple[int, int],
    name: str = "sheet",
    *,
    seed: int = 0,
    shape: tuple[int, int] | None = None,
    spacing_mm: float = 1.0,
    wrap: bool = False,
) -> Sheet:
    """Random one-to-one assignment of units to grid places, a different one for every sheet name.

    Permuting keeps a pattern from propagating unchanged through the residual stream (TopoLM, section 3).

    Parameters
    ----------
    n_units : int or (int, int)
        Number of units, or rows and columns.
    name : str
        Name of the sheet; together with ``seed`` it determines the permutation.
    seed : int
        Seed shared by all sheets of a model.
    shape, spacing_mm, wrap
        As in `grid`.

    Returns
    -------
    Sheet
        Sheet whose positions are a permutation of those of `grid`.

    Notes
    -----
    The layout released with TopoLM is not a bijection (about 710 distinct places for 784 units);
    this one is, by construction.
    """
    regular = grid(n_units, name, shape=shape, spacing_mm=spacing_mm, wrap=wrap)
    key = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))
    order = torch.randperm(regular.n_units, generator=generator)
    return Sheet(name=name, positions_mm=regular.positions_mm[order], extent_mm=regular.extent_mm, wrap=wrap)


def head_tiles(
    n_units: int, name: str = "sheet", *, n_heads: int, spacing_mm: float = 1.0, wrap: bool = False
) -> Sheet:
    """Each attention head a square tile, the tiles on a grid (16 heads of 49 units: 4 x 4 tiles of 7 x 7).

    Parameters
    ----------
    n_units : int
        Number of units, heads times units per head.
    name : str
        Name of the sheet.
    n_heads : int
        Number of heads.
    spacing_mm : float
        Distance between neighbouring units.
    wrap : bool
        Join opposite edges (a torus).

    Returns
    -------
    Sheet
        Sheet on which unit ``j`` of head ``h`` lies at row-major place ``j`` of tile ``h``.

    Raises
    ------
    ValueError
        If the heads do not divide the units.
    """
    if n_heads < 1 or n_units % n_heads:
        raise ValueError(
            f"sheet {name!r}: {n_heads} heads do not divide {n_units} units; choose a divisor of the width"
        )
    tile_rows, tile_columns = _rectangle(n_heads, f"{name} tiles", None)
    rows, columns = _rectangle(n_units // n_heads, f"{name} tile", None)
    whole = grid((tile_rows * rows, tile_columns * columns), name, spacing_mm=spacing_mm, wrap=wrap)
    positions = rearrange(
        whole.positions_mm, "(tr r tc c) axes -> (tr tc r c) axes", tr=tile_rows, r=rows, tc=tile_columns, c=columns
    )
    return Sheet(name=name, positions_mm=positions, extent_mm=whole.extent_mm, wrap=wrap)


def strip_warning(n_units: int, layout: Layout = grid, *, multiple_of: int = 1) -> str | None:
    """What to say where units lie on a strip (sides beyond 1 to 4), with the nearest widths that make a sheet."""
    shape = _shape(n_units, layout)
    if shape is None or max(shape) <= 4 * min(shape):
        return None
    below = range((n_units - 1) // multiple_of * multiple_of, 0, -multiple_of)
    above = range((n_units // multiple_of + 1) * multiple_of, 4 * n_units, multiple_of)
    better = []
    for widths in (below, above):
        found = ((width, _shape(width, layout)) for width in widths)
        nearest = next(((width, one) for width, one in found if one is not None and max(one) <= 2 * min(one)), None)
        if nearest is not None:
            width, (rows, columns) = nearest
            better.append(f"{width} ({rows} x {columns})")
    advice = f"; choose {' or '.join(better)}" if better else ""
    return f"{n_units} units lie on a strip of {shape[0]} x {shape[1]}, where they have few neighbours{advice}"


def _shape(n_units: int, layout: Layout) -> tuple[int, int] | None:
    """Rows and columns of a layout; None if it has none for this width."""
    try:
        with torch.device("cpu"):  # models are built under the meta device
            extent = layout(n_units, "sheet").extent_mm
    except ValueError:
        return None
    return None if extent is None else (round(extent[0]), round(extent[1]))


def from_positions(
    positions_mm: Tensor | np.ndarray, *, wrap: bool = False, extent_mm: tuple[float, ...] | None = None
) -> Layout:
    """Layout that puts every sheet at the same given positions.

    Parameters
    ----------
    positions_mm : Tensor or ndarray, shape (units, 2)
        Positions in mm.
    wrap : bool
        Join opposite edges; needs ``extent_mm``.
    extent_mm : tuple of float, optional
        Height and width.

    Returns
    -------
    callable
        ``(n_units, name) -> Sheet`` which refuses a site of another width.
    """
    n_placed = positions_mm.shape[0]

    def layout(n_units: int, name: str = "sheet", **_: Any) -> Sheet:
        if n_units != n_placed:
            raise ValueError(f"sheet {name!r} has {n_units} units; the given positions place {n_placed}")
        return Sheet(name=name, positions_mm=torch.as_tensor(positions_mm), extent_mm=extent_mm, wrap=wrap)

    return layout


def _rectangle(n_units: int, name: str, shape: tuple[int, int] | None) -> tuple[int, int]:
    if n_units < 1:
        raise ValueError(f"sheet {name!r}: {n_units} units; expected at least 1")
    if shape is not None:
        if shape[0] * shape[1] != n_units:
            raise ValueError(
                f"sheet {name!r}: {n_units} units do not fill {shape[0]} x {shape[1]} = {shape[0] * shape[1]} places; "
                "pass a shape whose product is the width"
            )
        return shape
    rows = next(rows for rows in range(math.isqrt(n_units), 0, -1) if n_units % rows == 0)
    if rows == 1 and n_units > 3:
        raise ValueError(
            f"sheet {name!r}: {n_units} units fill no rectangle but 1 x {n_units}; choose another width, "
            f"or pass shape=(1, {n_units}) if a line is meant"
        )
    return rows, n_units // rows


def _check_spacing(name: str, spacing_mm: float) -> None:
    if not (math.isfinite(spacing_mm) and spacing_mm > 0):
        raise ValueError(f"sheet {name!r}: spacing_mm={spacing_mm}; expected a positive length in mm")


LAYOUTS: dict[str, Layout] = {"grid": grid, "permuted_grid": permuted_grid, "head_tiles": head_tiles}
