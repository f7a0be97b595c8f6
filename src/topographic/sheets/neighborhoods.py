"""Neighbourhoods: the groups of units whose correlations a spatial loss looks at."""

import torch
from jaxtyping import Int64
from torch import Tensor

from topographic.sheets.geometry import grid_shape, lattice_coordinates
from topographic.sheets.sheet import Sheet

__all__ = [
    "NEIGHBORHOODS",
    "global_neighborhoods",
    "local_centres",
    "local_neighborhoods",
    "sample_neighborhoods",
    "scattered_neighborhoods",
]


def local_neighborhoods(
    sheet: Sheet, radius: int = 5, *, closed: bool = False
) -> Int64[Tensor, "neighborhoods units_per_neighborhood"]:
    """All whole square blocks of the sheet, one for each admissible centre.

    ``M_c = { u : || x_u - x_c ||_inf < radius }`` (``<=`` when closed), in lattice steps.

    Parameters
    ----------
    sheet : Sheet
        Sheet whose units fill a lattice one-to-one.
    radius : int
        Radius in lattice steps; 5 gives the 9 x 9 blocks of TopoLM (11 x 11 when closed).
    closed : bool
        Count units at exactly ``radius`` as well.

    Returns
    -------
    Tensor of int64, shape (neighborhoods, units_per_neighborhood)
        Unit indices, ascending in each row; rows ordered by centre unit (`local_centres`).
        Only whole squares are kept; on a torus every unit is a centre.

    Raises
    ------
    ValueError
        If the units do not fill a lattice, or no whole square of that radius fits.

    Notes
    -----
    The masks released with TopoLM are scattered sets rather than blocks; `scattered_neighborhoods`
    gives such sets on purpose.
    """
    members, _ = _local(sheet, radius, closed)
    return members


def local_centres(sheet: Sheet, radius: int = 5, *, closed: bool = False) -> Int64[Tensor, " neighborhoods"]:
    """Centre unit of every row of `local_neighborhoods`.

    Parameters
    ----------
    sheet, radius, closed
        As in `local_neighborhoods`.

    Returns
    -------
    Tensor of int64, shape (neighborhoods,)
        Unit indices, ascending.
    """
    _, centres = _local(sheet, radius, closed)
    return centres


def _local(sheet: Sheet, radius: int, closed: bool) -> tuple[Tensor, Tensor]:
    if radius < 1:
        raise ValueError(f"radius={radius}; expected a whole number of lattice steps, at least 1")
    cells, shape = lattice_coordinates(sheet), grid_shape(sheet)
    if cells is None or shape is None:
        raise ValueError(
            f"sheet {sheet.name!r}: units lie off a square lattice, so blocks are not defined; "
            "use scattered_neighborhoods(sheet, k) or global_neighborhoods(sheet)"
        )
    rows, columns = shape
    if not sheet.is_bijective or rows * columns != sheet.n_units:
        raise ValueError(
            f"sheet {sheet.name!r}: {sheet.n_units} units do not fill its {rows} x {columns} lattice one-to-one, so "
            "blocks are not whole; use permuted_grid, or scattered_neighborhoods(sheet, k)"
        )
    reach = int(radius) if closed else int(radius) - 1
    side = 2 * reach + 1
    if side > min(rows, columns) or side < 2:
        largest = (min(rows, columns) + 1) // 2 - (1 if closed else 0)
        raise ValueError(
            f"sheet {sheet.name!r}: radius={radius} needs a {side} x {side} block on a {rows} x {columns} sheet; "
            f"choose a radius from {1 if closed else 2} to {largest}"
        )
    unit_at = torch.empty(rows, columns, dtype=torch.int64)
    unit_at[cells[:, 0], cells[:, 1]] = torch.arange(sheet.n_units)
    if sheet.wrap:
        centres = torch.arange(sheet.n_units)
    else:
        inside = (cells >= reach) & (cells < torch.tensor([rows, columns]) - reach)
        centres = inside.all(1).nonzero().squeeze(1)
    step = torch.arange(-reach, reach + 1)
    block_rows = (cells[centres, 0, None, None] + step[:, None]) % rows
    block_columns = (cells[centres, 1, None, None] + step[None, :]) % columns
    members = unit_at[block_rows, block_columns].flatten(1)
    return members.sort(1).values, centres


def scattered_neighborhoods(
    sheet: Sheet, k: int = 81, *, n_neighborhoods: int = 400, generator: torch.Generator
) -> Int64[Tensor, "neighborhoods units_per_neighborhood"]:
    """Random sets of ``k`` units from anywhere on the sheet.

    Parameters
    ----------
    sheet : Sheet
        Any sheet.
    k : int
        Units per set; 81 equals the size of TopoLM's 9 x 9 blocks.
    n_neighborhoods : int
        Number of sets.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    Tensor of int64, shape (n_neighborhoods, k)
        Unit indices without repetition within a row, ascending.

    Raises
    ------
    ValueError
        If ``k`` is below 3 or above the number of units.
    """
    if not 3 <= k <= sheet.n_units:
        raise ValueError(f"sheet {sheet.name!r}: k={k}; expected 3 to {sheet.n_units} units per neighbourhood")
    keys = torch.rand(n_neighborhoods, sheet.n_units, generator=generator, dtype=torch.float64)
    return keys.argsort(1)[:, :k].sort(1).values


def global_neighborhoods(sheet: Sheet) -> Int64[Tensor, "1 units"]:
    """One neighbourhood that holds every unit.

    Parameters
    ----------
    sheet : Sheet
        Any sheet.

    Returns
    -------
    Tensor of int64, shape (1, units)
        All unit indices.
    """
    return torch.arange(sheet.n_units).unsqueeze(0)


def sample_neighborhoods(
    neighborhoods: Int64[Tensor, "neighborhoods units_per_neighborhood"], n: int, *, generator: torch.Generator
) -> Int64[Tensor, "n units_per_neighborhood"]:
    """Some of the neighbourhoods, drawn without replacement.

    Parameters
    ----------
    neighborhoods : Tensor of int64, shape (neighborhoods, units_per_neighborhood)
        What to draw from, on any device.
    n : int
        How many.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    Tensor of int64, shape (n, units_per_neighborhood)
        Different rows in the order of drawing.

    Raises
    ------
    ValueError
        If ``n`` is below 1 or above the number of neighbourhoods.
    """
    if not 1 <= n <= len(neighborhoods):
        raise ValueError(f"n={n} neighbourhoods of {len(neighborhoods)}; ask for 1 to {len(neighborhoods)} of them")
    order = torch.randperm(len(neighborhoods), generator=generator, device=generator.device)
    return neighborhoods[order[:n].to(neighborhoods.device, non_blocking=True)]


NEIGHBORHOODS = {"local": local_neighborhoods, "scattered": scattered_neighborhoods, "global": global_neighborhoods}
