"""Distances, lattices and adjacency, all from the positions a sheet carries."""

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from scipy.sparse import csr_array
from scipy.spatial import KDTree
from torch import Tensor

from topographic.sheets.sheet import Sheet

__all__ = [
    "NORMS",
    "adjacency",
    "adjacent_pairs",
    "distances",
    "grid_cells",
    "grid_shape",
    "lattice_coordinates",
    "spacing_mm",
    "to_grid",
]


def distances(
    positions_mm: Float[Tensor, "*batch units axes"],
    others_mm: Float[Tensor, "*batch others axes"] | None = None,
    *,
    norm: str = "l2",
    period_mm: tuple[float, ...] | None = None,
) -> Float[Tensor, "*batch units others"]:
    """Distance between every unit and every other.

    ``d_ij = || x_i - x_j ||``, with each coordinate difference folded to the shorter way round
    when the sheet is a torus.

    Parameters
    ----------
    positions_mm : Tensor, shape (..., units, axes)
        Positions in mm.
    others_mm : Tensor, shape (..., others, axes), optional
        Positions to measure to; the same ones by default.
    norm : {"l1", "l2", "linf"}
        City-block, Euclidean or Chebyshev distance.
    period_mm : tuple of float, optional
        Period per axis of a torus (`Sheet.period_mm`).

    Returns
    -------
    Tensor, shape (..., units, others)
        Distances in mm.
    """
    if norm not in NORMS:
        raise ValueError(f"norm={norm!r}; expected one of {sorted(NORMS)}")
    others_mm = positions_mm if others_mm is None else others_mm
    difference = (positions_mm.unsqueeze(-2) - others_mm.unsqueeze(-3)).abs()
    if period_mm is not None:
        period = torch.as_tensor(period_mm, dtype=difference.dtype, device=difference.device)
        difference = difference.remainder(period)
        difference = torch.minimum(difference, period - difference)
    return NORMS[norm](difference)


NORMS = {
    "l1": lambda difference: difference.sum(-1),
    # not `.norm()`: its gradient at distance zero is NaN, and torch.cdist loses digits in float32
    "l2": lambda difference: difference.square().sum(-1).sqrt(),
    "linf": lambda difference: difference.amax(-1),
}


def spacing_mm(sheet: Sheet) -> float:
    """Lattice step, or for units off a lattice the smallest distance between two that do not coincide.

    Parameters
    ----------
    sheet : Sheet
        Any sheet.

    Returns
    -------
    float
        Spacing in mm; 1.0 for a sheet with a single place.
    """
    step = _lattice_step_mm(sheet)
    if step is not None:
        return step
    places = np.unique(sheet.positions_mm.numpy(), axis=0)
    if len(places) < 2:
        return 1.0
    nearest, _ = KDTree(places).query(places, k=2)
    return float(nearest[:, 1].min())


def _lattice_step_mm(sheet: Sheet) -> float | None:
    if sheet.edges is not None or sheet.positions_mm.shape[1] != 2:
        return None
    positions: Float[np.ndarray, "units 2"] = sheet.positions_mm.numpy()
    offsets = positions - positions.min(0)
    # nanometres: positions that went through micrometres or float32 still count as on the lattice
    gaps = np.concatenate([np.diff(np.unique((axis * 1e6).round())) for axis in offsets.T]).astype(np.float64)
    gaps = gaps[gaps > 1e3]
    if gaps.size == 0:
        return 1.0
    step = float(gaps.min()) / 1e6
    steps = offsets / step
    return step if np.abs(steps - steps.round()).max() < 1e-3 else None


def lattice_coordinates(sheet: Sheet) -> Int64[Tensor, "units 2"] | None:
    """Row and column of each unit if all units lie on one square lattice.

    Parameters
    ----------
    sheet : Sheet
        Any sheet.

    Returns
    -------
    Tensor of int64, shape (units, 2), or None
        Row and column from 0, or None when the sheet is a mesh or its units lie off a lattice.
    """
    step = _lattice_step_mm(sheet)
    if step is None:
        return None
    return ((sheet.positions_mm - sheet.positions_mm.min(0).values) / step).round().long()


def grid_shape(sheet: Sheet) -> tuple[int, int] | None:
    """Rows and columns of the lattice that holds the sheet.

    Parameters
    ----------
    sheet : Sheet
        Any sheet.

    Returns
    -------
    (int, int) or None
        None when the units do not lie on a lattice.
    """
    cells = lattice_coordinates(sheet)
    return None if cells is None else (int(cells[:, 0].max()) + 1, int(cells[:, 1].max()) + 1)


def grid_cells(sheet: Sheet) -> tuple[tuple[int, int], Int64[Tensor, " units"]]:
    """Rows and columns of a sheet's lattice, and the cell of every unit, counted along the rows.

    Parameters
    ----------
    sheet : Sheet
        Sheet whose units lie on a lattice, one in a place.

    Returns
    -------
    shape : (int, int)
        Rows and columns.
    cells : Tensor of int64, shape (units,)
        ``row * columns + column`` of each unit.

    Raises
    ------
    ValueError
        If the units do not lie on a lattice, or two share a place.
    """
    coordinates, shape = lattice_coordinates(sheet), grid_shape(sheet)
    if coordinates is None or shape is None:
        raise ValueError(f"sheet {sheet.name!r} is not a lattice, so its units have no rows and columns; use `grid`")
    cells = coordinates[:, 0] * shape[1] + coordinates[:, 1]
    n_places = len(torch.unique(cells))
    if n_places < sheet.n_units:
        raise ValueError(
            f"sheet {sheet.name!r} has {sheet.n_units} units in {n_places} places; expected one unit in a place: "
            "choose a layout that is one to one"
        )
    return shape, cells


def to_grid(sheet: Sheet, values: Shaped[np.ndarray, "*batch units"]) -> Float[np.ndarray, "*batch rows columns"]:
    """Lay values out as a picture of the sheet.

    Parameters
    ----------
    sheet : Sheet
        Sheet whose units lie on a lattice.
    values : ndarray, shape (..., units)
        One value per unit, in unit order.

    Returns
    -------
    ndarray of float, shape (..., rows, columns)
        The values at their places; NaN where no unit lies; the mean where several units coincide.

    Raises
    ------
    ValueError
        If the units do not lie on a lattice or the number of values is wrong.
    """
    cells, shape = lattice_coordinates(sheet), grid_shape(sheet)
    if cells is None or shape is None:
        raise ValueError(f"sheet {sheet.name!r} is not a lattice; draw it as points or on its mesh instead")
    values = np.asarray(values)
    if values.shape[-1] != sheet.n_units:
        raise ValueError(f"sheet {sheet.name!r} has {sheet.n_units} units and got {values.shape[-1]} values")
    flat = cells[:, 0].numpy() * shape[1] + cells[:, 1].numpy()
    place = np.zeros((sheet.n_units, shape[0] * shape[1]))
    place[np.arange(sheet.n_units), flat] = 1
    count = place.sum(0)
    # a matrix product would spread one unit's NaN over the whole picture, so NaN is carried apart
    known = ~np.isnan(values)
    total, unknown = np.where(known, values, 0.0) @ place, ~known @ place
    picture = np.where((count > 0) & (unknown == 0), total / np.maximum(count, 1), np.nan)
    return picture.reshape(*values.shape[:-1], *shape)


def _lattice_places(sheet: Sheet) -> Int64[np.ndarray, "rows columns"] | None:
    """Unit in each place of the lattice, -1 where there is none.

    None where steps on the lattice do not lead to the neighbours: units off it by more than rounding or two in a place,
    or a torus that its lattice does not go round in whole steps, at least three.
    """
    step = _lattice_step_mm(sheet)
    if step is None:
        return None
    steps_away = sheet.positions_mm.numpy() / step
    steps_away = steps_away - steps_away.min(0)
    cells = steps_away.round().astype(np.int64)
    if np.abs(steps_away - cells).max() > _ROUNDING:
        return None
    n_rows, n_columns = (cells.max(0) + 1).tolist()
    if sheet.period_mm is not None:
        steps = np.array(sheet.period_mm) / step
        if min(n_rows, n_columns) < 3 or np.abs(steps - (n_rows, n_columns)).max() > _ROUNDING:
            return None
    flat = cells[:, 0] * n_columns + cells[:, 1]
    places = np.full(n_rows * n_columns, -1)
    places[flat] = np.arange(len(flat))
    return places.reshape(n_rows, n_columns) if (places >= 0).sum() == len(flat) else None


# of a step: half of what reaches of `adjacent_pairs` allow
_ROUNDING = 2.5e-7


def _pairs_on_lattice(places: Int64[np.ndarray, "rows columns"], contiguity: str, *, wrap: bool) -> np.ndarray:
    """Pairs of neighbours, each once: one step along the rows, the columns and, for a queen, the diagonals."""
    padded = np.pad(places, 1, mode="wrap") if wrap else np.pad(places, 1, constant_values=-1)
    n_rows, n_columns = places.shape
    steps = [(0, 1), (1, 0)] + [(1, 1), (1, -1)] * (contiguity == "queen")
    moved = [padded[1 + down : 1 + down + n_rows, 1 + right : 1 + right + n_columns] for down, right in steps]
    first, second = np.tile(places.ravel(), len(steps)), np.concatenate([other.ravel() for other in moved])
    there = (first >= 0) & (second >= 0)
    return np.stack([first[there], second[there]], axis=1)


def adjacent_pairs(sheet: Sheet, contiguity: str = "queen") -> Int64[Tensor, "pairs 2"]:
    """Every ordered pair of neighbouring units.

    Queen contiguity joins units at most one lattice step away along both axes, rook contiguity
    those one step away along one axis. A mesh uses its own edges for either. Units that share a
    place are neighbours.

    Parameters
    ----------
    sheet : Sheet
        Lattice, torus, mesh or scattered sheet; scattered units count as neighbours within the
        smallest spacing, which is rarely what is wanted, so give such sheets ``edges``.
    contiguity : {"queen", "rook"}
        Which neighbours count.

    Returns
    -------
    Tensor of int64, shape (pairs, 2)
        Both directions of every pair, sorted.
    """
    if contiguity not in ("queen", "rook"):
        raise ValueError(f"contiguity={contiguity!r}; expected 'queen' or 'rook'")
    if sheet.edges is not None:
        half = sheet.edges.numpy()
    elif (places := _lattice_places(sheet)) is not None:
        half = _pairs_on_lattice(places, contiguity, wrap=sheet.wrap)
    else:
        positions, period = sheet.positions_mm.numpy(), None
        if sheet.wrap:
            period = np.asarray(sheet.extent_mm)
            positions = positions % period
        reach = spacing_mm(sheet) * (1 + 1e-6)
        tree = KDTree(positions, boxsize=period)
        half = tree.query_pairs(reach, p=np.inf if contiguity == "queen" else 1, output_type="ndarray")
    pairs = np.concatenate([half, half[:, ::-1]])
    # as one number each, which sort much faster than rows
    numbers = np.sort(pairs[:, 0].astype(np.int64) * sheet.n_units + pairs[:, 1])
    numbers = numbers[np.diff(numbers, prepend=-1) > 0]
    return torch.from_numpy(np.stack(np.divmod(numbers, sheet.n_units), axis=1)).long()


def adjacency(sheet: Sheet, contiguity: str = "queen") -> csr_array:
    """Graph of the sheet: 1 where two units are neighbours.

    Parameters
    ----------
    sheet, contiguity
        As in `adjacent_pairs`.

    Returns
    -------
    scipy.sparse.csr_array of int64, shape (units, units)
        Symmetric, without a diagonal.
    """
    pairs = adjacent_pairs(sheet, contiguity).numpy()
    return csr_array((np.ones(len(pairs), np.int64), (pairs[:, 0], pairs[:, 1])), shape=(sheet.n_units,) * 2)
