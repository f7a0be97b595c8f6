"""The neighbourhoods that a fit looks at, for any sheet."""

import torch
from jaxtyping import Int64
from torch import Tensor

from topographic.sheets import Sheet, distances, grid_shape, local_neighborhoods

__all__ = ["fitting_neighborhoods"]


def fitting_neighborhoods(sheet: Sheet, radius: int = 5) -> Int64[Tensor, "neighborhoods units_per_neighborhood"]:
    """Whole blocks of a lattice, smaller where the sheet is; elsewhere as many units, the nearest around each unit."""
    shape = grid_shape(sheet)
    if shape is not None and min(shape) >= 3 and sheet.is_bijective and shape[0] * shape[1] == sheet.n_units:
        return local_neighborhoods(sheet, min(radius, (min(shape) + 1) // 2))
    if sheet.n_units < 3:
        raise ValueError(f"sheet {sheet.name!r} has {sheet.n_units} units; a map needs at least 3")
    k = min((2 * radius - 1) ** 2, sheet.n_units)
    apart = distances(sheet.positions_mm, period_mm=sheet.period_mm)
    return torch.unique(apart.sort(stable=True, dim=1).indices[:, :k].sort(1).values, dim=0)
