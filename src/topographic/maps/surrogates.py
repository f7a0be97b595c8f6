"""Maps as smooth as a given one and otherwise random; what they are for is to ask whether two maps agree.

Neighbouring units of a topographic sheet are no independent samples, so that a permutation of units calls nearly
any two smooth maps correlated. Three nulls keep the smoothness, each with a hypothesis of its own:

- label: the second map under relabelled items, with the true covariance between units; exact wherever labels may
  be exchanged, and the first choice for maps that carry it;
- spectral: Moran spectral randomisation, for maps of any origin on any sheet; takes the modes of the sheet for
  independent, which a population of few dimensions is not;
- shift: the map moved around a torus; takes nothing for granted but that the sheet is the same everywhere.
"""

import functools
import math

import numpy as np
from jaxtyping import Float
from scipy import linalg

from topographic.maps.nulls import check_draws, stream
from topographic.maps.references import Referenced, compare
from topographic.maps.unit_map import UnitMap
from topographic.sheets import Sheet, adjacency, grid_cells

__all__ = ["SURROGATES", "map_correlation", "region_overlap", "shifted_maps", "spectral_surrogates"]

_MOST_UNITS = 6000  # a dense eigendecomposition of more takes minutes and gigabytes


def spectral_surrogates(unit_map: UnitMap, n_draws: int, *, seed: int = 0) -> Float[np.ndarray, "draws units"]:
    """Moran spectral randomisation: random maps with exactly the Moran's I, mean and variance of a map.

    With ``V`` the eigenvectors of ``H W H`` (``W`` the neighbours of the sheet, ``H = 1 - 1/n`` centres) and
    ``r = V' (x - mean)``, a surrogate is ``mean + V (s * r)`` with ``s`` of random signs ("singleton").

    Parameters
    ----------
    unit_map : UnitMap
        Map on any sheet of at most 6,000 units; units without a value are left out.
    n_draws : int
        How many.
    seed : int
        Seed of the signs.

    Returns
    -------
    ndarray, shape (draws, units)
        Random maps, NaN where the map is.

    Raises
    ------
    ValueError
        If the sheet is larger, or has fewer than 3 units with a value.

    Notes
    -----
    Moran's I of a surrogate equals the map's for binary weights (not row-standardised) to rounding. One
    decomposition per sheet is kept, so that further maps on it cost one matrix product.

    References
    ----------
    Wagner & Dray 2015, Methods Ecol. Evol. 6.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.maps import UnitMap, spectral_surrogates
    >>> from topographic.sheets import grid
    >>> smooth = UnitMap("a", np.arange(36.0), grid((6, 6)), "value")
    >>> spectral_surrogates(smooth, 100).shape
    (100, 36)
    """
    check_draws(n_draws, seed, least=2)
    present = np.isfinite(unit_map.values)
    vectors = _modes(_Hashable(unit_map.sheet), present.tobytes())
    values = unit_map.values[present].astype(np.float64)
    mean = values.mean()
    signs = stream(seed, "spectral", unit_map.site).choice([-1.0, 1.0], size=(n_draws, vectors.shape[1]))
    drawn = np.full((n_draws, len(present)), np.nan, np.float32)
    drawn[:, present] = mean + (signs * (vectors.T @ (values - mean))) @ vectors.T
    return drawn


def shifted_maps(unit_map: UnitMap, n_draws: int, *, seed: int = 0) -> Float[np.ndarray, "draws units"]:
    """The map moved around a torus by random numbers of rows and columns, never by none.

    Parameters
    ----------
    unit_map : UnitMap
        Map on a wrapped grid whose cells are all taken.
    n_draws : int
        How many; at most ``rows * columns - 1`` shifts differ.
    seed : int
        Seed of the shifts.

    Returns
    -------
    ndarray, shape (draws, units)
        The moved maps.

    Raises
    ------
    ValueError
        If the sheet is no wrapped grid, or has empty cells.
    """
    check_draws(n_draws, seed, least=2)
    sheet = unit_map.sheet
    if not sheet.wrap:
        raise ValueError(
            f"the sheet at {unit_map.site!r} has edges; a shift needs a torus: lay it out with wrap=True, or use "
            "null='spectral'"
        )
    (rows, columns), cells = grid_cells(sheet)
    if rows * columns != sheet.n_units:
        raise ValueError(
            f"the sheet at {unit_map.site!r} has {sheet.n_units} units on {rows} x {columns} cells; a shift needs a "
            "unit in every cell: use null='spectral'"
        )
    cells = np.asarray(cells)
    unit_at = np.empty(rows * columns, np.int64)
    unit_at[cells] = np.arange(sheet.n_units)
    moved = stream(seed, "shift", unit_map.site).integers(1, rows * columns, n_draws)
    row, column = np.divmod(cells, columns)
    down, right = np.divmod(moved, columns)
    target = ((row + down[:, None]) % rows) * columns + (column + right[:, None]) % columns
    return unit_map.values[unit_at[target]]


def map_correlation(
    first: UnitMap, second: UnitMap, *, null: str | None = None, n_draws: int = 999, seed: int = 0
) -> Referenced:
    """Pearson's r of two maps of one sheet, against maps as smooth as the second.

    The null hypothesis: the second map is unrelated to the first; what they share comes of both being smooth.

    Parameters
    ----------
    first, second : UnitMap
        Maps on the same sheet. Units where either has no value are left out.
    null : {"label", "spectral", "shift"}, optional
        "label": the label-null maps that the second one carries; "spectral", "shift": see `spectral_surrogates` and
        `shifted_maps`. By default the label null where it is carried, else spectral.
    n_draws : int
        Surrogates that are drawn; the label null has its own.
    seed : int
        Seed of the surrogates.

    Returns
    -------
    Referenced
        r with one null, its p two-sided: ``(1 + #{|r_draw| >= |r|}) / (n + 1)``.

    Raises
    ------
    ValueError
        If the maps lie on different sheets, one is constant, or the label null is asked for and not carried.

    Notes
    -----
    Spectral surrogates take the modes of the sheet for independent. Maps of one population that varies along few
    directions correlate by chance more than that: for these the label null alone keeps its level
    (docs/calibration.md).

    References
    ----------
    Wagner & Dray 2015, Methods Ecol. Evol. 6; Markello & Misic 2021, NeuroImage 236.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.maps import UnitMap, map_correlation
    >>> from topographic.sheets import grid
    >>> one, other = (UnitMap("a", np.sin(np.arange(64.0) / k), grid((8, 8)), "value") for k in (3, 5))
    >>> 0 < map_correlation(one, other).nulls["spectral"].p <= 1
    True
    """
    _one_sheet(first, second)
    name, drawn = _surrogates(second, null, n_draws, seed)
    present = np.isfinite(first.values) & np.isfinite(second.values)
    reference = _standardised(first.values[None, present])[0]
    value = float(_standardised(second.values[None, present])[0] @ reference)
    return Referenced(value, {name: compare(value, _standardised(drawn[:, present]) @ reference, two_sided=True)})


def region_overlap(
    first: UnitMap, second: UnitMap, n_units: int, *, null: str | None = None, n_draws: int = 999, seed: int = 0
) -> Referenced:
    """Dice overlap of the top units of two maps of one sheet, against maps as smooth as the second.

    ``Dice = 2 |A and B| / (|A| + |B|)`` with ``A`` and ``B`` the ``n_units`` units of largest value.

    Parameters
    ----------
    first, second : UnitMap
        Maps on the same sheet.
    n_units : int
        Size of either region.
    null, n_draws, seed
        As in `map_correlation`; every surrogate gives a region of the same size.

    Returns
    -------
    Referenced
        Dice with one null, its p one-sided (greater).

    Raises
    ------
    ValueError
        As `map_correlation`, or if there are not that many units with a value.
    """
    _one_sheet(first, second)
    present = np.isfinite(first.values) & np.isfinite(second.values)
    if not 1 <= n_units < present.sum():
        raise ValueError(
            f"n_units={n_units}; expected 1 to {int(present.sum()) - 1}, fewer than the units with a value"
        )
    name, drawn = _surrogates(second, null, n_draws, seed)
    region = _top(first.values[None, present], n_units)[0]
    value = float((_top(second.values[None, present], n_units)[0] & region).sum() / n_units)
    return Referenced(value, {name: compare(value, (_top(drawn[:, present], n_units) & region).sum(1) / n_units)})


def _surrogates(unit_map: UnitMap, null: str | None, n_draws: int, seed: int) -> tuple[str, np.ndarray]:
    null = null or ("label" if "label" in unit_map.nulls else "spectral")
    if null == "label":
        if "label" not in unit_map.nulls:
            raise ValueError(f"the map at {unit_map.site!r} has no label null; make it with t_map(..., n_draws=1000)")
        return null, unit_map.nulls["label"]
    if null not in SURROGATES:
        raise ValueError(f"null={null!r}; expected one of {['label', *SURROGATES]}")
    return null, SURROGATES[null](unit_map, n_draws, seed=seed)


def _one_sheet(first: UnitMap, second: UnitMap) -> None:
    if first.sheet.checksum != second.sheet.checksum:
        raise ValueError(
            f"maps at {first.site!r} and {second.site!r} lie on different sheets; compare maps whose units are the same"
        )


def _standardised(maps: np.ndarray) -> np.ndarray:
    """Maps of mean 0 and length 1, so that a product of two is their correlation."""
    centred = maps.astype(np.float64) - maps.mean(1, keepdims=True, dtype=np.float64)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    if not (length > 1e-12 * np.abs(maps).max(initial=1.0) * math.sqrt(maps.shape[1])).all():
        raise ValueError("a map is constant, so that it correlates with nothing; give maps whose values vary")
    return centred / length


def _top(maps: np.ndarray, n_units: int) -> np.ndarray:
    chosen = np.zeros(maps.shape, bool)
    np.put_along_axis(chosen, np.argsort(-maps, axis=1, kind="stable")[:, :n_units], True, axis=1)
    return chosen


class _Hashable:
    """A sheet as the key of a cache: two are equal where their checksums are."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet

    def __hash__(self) -> int:
        return hash(self.sheet.checksum)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashable) and other.sheet.checksum == self.sheet.checksum


@functools.lru_cache(maxsize=8)
def _modes(key: _Hashable, present: bytes) -> Float[np.ndarray, "units modes"]:
    """Eigenvectors of the centred neighbour matrix, without the constant one."""
    inside = np.flatnonzero(np.frombuffer(present, bool))
    if not 3 <= len(inside) <= _MOST_UNITS:
        raise ValueError(
            f"sheet {key.sheet.name!r} has {len(inside)} units with a value; spectral surrogates take 3 to "
            f"{_MOST_UNITS}: on larger meshes rotate the map instead (topographic.brain)"
        )
    weights = adjacency(key.sheet, "queen")[inside][:, inside].toarray().astype(np.float64)
    centred = weights - weights.mean(0) - weights.mean(1)[:, None] + weights.mean()
    constant = np.full((len(inside), 1), 1 / math.sqrt(len(inside)))
    # the constant vector has eigenvalue 0, as others may: pushed below all others, it is the first and is dropped
    push = 2.0 * np.abs(weights).sum(1).max() + 1.0
    return linalg.eigh(centred - push * (constant @ constant.T))[1][:, 1:]


SURROGATES = {"spectral": spectral_surrogates, "shift": shifted_maps}
