"""Maps as smooth as a given one and otherwise random; what they are for is to ask whether two maps agree.

Neighbouring units of a topographic sheet are no independent samples, so that a permutation of units calls nearly
any two smooth maps correlated. Five nulls keep the smoothness, each with a hypothesis of its own:

- label: the second map under relabelled items, with the true covariance between units; exact wherever labels may
  be exchanged, and the first choice for maps that carry it;
- spectral: Moran spectral randomisation, for maps of any origin on any sheet; takes the modes of the sheet for
  independent, which a population of few dimensions is not;
- shift: the map moved around a torus; takes nothing for granted but that the sheet is the same everywhere;
- spin: the map turned on a sphere, which takes as little for granted, for a cortex and its medial wall;
- variogram: noise about as smooth as the map over all but the shortest distances, for sheets of any shape.
"""

import functools
import math
import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import linalg
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from topographic.maps.nulls import check_draws, stream
from topographic.maps.references import NotMeasurable, Referenced, compare
from topographic.maps.unit_map import UnitMap
from topographic.sheets import Sheet, adjacency, distances, grid_cells

__all__ = [
    "SURROGATES",
    "map_correlation",
    "region_overlap",
    "shifted_maps",
    "spectral_surrogates",
    "spun_maps",
    "variogram_surrogates",
]

_MOST_UNITS = 6000  # a dense eigendecomposition of more takes minutes and gigabytes
_MOST_MATCHED = 2000  # neighbours at nine distances are held at once, 36 numbers for every pair of units
_ROUND = 0.01  # by how much of the radius vertices of a sphere may lie off it


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


def spun_maps(
    unit_map: UnitMap, n_draws: int, *, seed: int = 0, mirrored: bool = False
) -> Float[np.ndarray, "draws units"]:
    """The map turned on its sphere by random rotations (the spin test).

    ``m*_v = m_u`` with ``u`` the vertex nearest to ``R x_v`` and ``R`` a random rotation. Where a turned vertex meets
    one without a value, the medial wall, the surrogate has none (NaN).

    Parameters
    ----------
    unit_map : UnitMap
        Map on a spherical mesh about the origin, as FreeSurfer's ``sphere`` is.
    n_draws : int
        How many.
    seed : int
        Seed of the rotations, which are those of every map with that seed, whatever its site.
    mirrored : bool
        Turn by the mirror image of every rotation (x to -x), for the right hemisphere beside the left: what is
        symmetric stays so.

    Returns
    -------
    ndarray, shape (draws, units)
        The turned maps.

    Raises
    ------
    ValueError
        If the sheet is no sphere about the origin.

    Notes
    -----
    Rotations are uniform over all rotations. Those of the code released with the paper come of random Euler angles,
    which are not.

    References
    ----------
    Alexander-Bloch et al. 2018, NeuroImage 178.
    """
    check_draws(n_draws, seed, least=2)
    positions = unit_map.sheet.positions_mm.numpy().astype(np.float64)
    radius = np.linalg.norm(positions, axis=1)
    if positions.shape[1] != 3 or not np.ptp(radius) <= _ROUND * radius.mean():
        raise ValueError(
            f"the sheet at {unit_map.site!r} is no sphere about the origin; a spin needs one: put the map on the "
            "spherical mesh of its surface, or use null='spectral'"
        )
    return unit_map.values[_turned(_Hashable(unit_map.sheet), n_draws, seed, mirrored)]


def variogram_surrogates(unit_map: UnitMap, n_draws: int, *, seed: int = 0) -> Float[np.ndarray, "draws units"]:
    """Random maps whose variogram is near the map's: about as different at every distance.

    A permuted map is smoothed over its nearest ``k`` units and mixed with noise, with ``k`` and the shares those whose
    variogram ``mean of (x_u - x_v)^2 / 2 by distance`` is nearest to the map's.

    Parameters
    ----------
    unit_map : UnitMap
        Map on any sheet of at most 2,000 units with a value. Distances are straight (around a torus the shorter way);
        on a mesh they run along its edges.
    n_draws : int
        How many.
    seed : int
        Seed.

    Returns
    -------
    ndarray, shape (draws, units)
        Random maps of mean 0, NaN where the map is.

    Raises
    ------
    ImportError
        If brainsmash is missing.
    ValueError
        If the sheet is larger, smaller than 20 units, or in pieces.

    Notes
    -----
    Made by brainsmash with its own settings: nine neighbourhoods from 10 to 90 % of the units, variograms over the
    nearest quarter of all pairs. Smooth maps of few units are matched badly: on 14 x 14 units (sigma 1.5 units)
    neighbours differ five times as much in the surrogates as in the map (seven times in permuted units), those four
    units apart 1.7 times. Spectral surrogates keep Moran's I exactly and cost a hundredth: prefer these, and use the
    others for comparison with published results.

    References
    ----------
    Burt et al. 2020, NeuroImage 220.
    """
    check_draws(n_draws, seed, least=2)
    try:
        from brainsmash.mapgen.base import Base
    except ImportError as error:
        raise ImportError(
            "variogram-matched surrogates need brainsmash; run `pip install 'topographic[nulls]'`"
        ) from error
    present = np.isfinite(unit_map.values)
    if not 20 <= present.sum() <= _MOST_MATCHED:
        raise ValueError(
            f"the map at {unit_map.site!r} has {present.sum()} units with a value; variogram surrogates take 20 to "
            f"{_MOST_MATCHED}: use null='spectral'"
        )
    between = _between_mm(unit_map.sheet)[np.ix_(present, present)]
    if not np.isfinite(between).all():
        raise ValueError(f"the mesh at {unit_map.site!r} is in pieces; variogram surrogates need it whole")
    number = int(stream(seed, "variogram", unit_map.site).integers(1 << 31))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # brainsmash stacks rows by a name that numpy gives up
        made = Base(unit_map.values[present].astype(np.float64), between, seed=number)(n_draws, batch_size=100)
    drawn = np.full((n_draws, len(present)), np.nan, np.float32)
    drawn[:, present] = made
    return drawn


def map_correlation(
    first: UnitMap | Sequence[UnitMap],
    second: UnitMap | Sequence[UnitMap],
    *,
    null: str | None = None,
    n_draws: int = 999,
    seed: int = 0,
) -> Referenced:
    """Pearson's r of two maps of one sheet, against maps as smooth as the second.

    The null hypothesis: the second map is unrelated to the first; what they share comes of both being smooth.

    Parameters
    ----------
    first, second : UnitMap, or sequence of UnitMap
        Maps on the same sheet, or on the same sheets side by side, as those of the left and the right hemisphere.
        Units where either has no value are left out.
    null : {"label", "spectral", "shift", "spin", "variogram"}, optional
        "label": the label-null maps that the second one carries; others: see `spectral_surrogates`, `shifted_maps`,
        `spun_maps` (two maps: the second is turned by mirrored rotations) and `variogram_surrogates`. By default the
        label null where it is carried, else spectral.
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
    NotMeasurable
        If a turned map shares next to no unit with the first, because most have no value.

    Notes
    -----
    Spectral surrogates take the modes of the sheet for independent. Maps of one population that varies along few
    directions correlate by chance more than that: for these the label null alone keeps its level
    (docs/calibration.md).

    References
    ----------
    Wagner & Dray 2015, Methods Ecol. Evol. 6; Markello & Misic 2021, NeuroImage 236; Alexander-Bloch et al. 2018,
    NeuroImage 178; Burt et al. 2020, NeuroImage 220.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.maps import UnitMap, map_correlation
    >>> from topographic.sheets import grid
    >>> one, other = (UnitMap("a", np.sin(np.arange(64.0) / k), grid((8, 8)), "value") for k in (3, 5))
    >>> 0 < map_correlation(one, other).nulls["spectral"].p <= 1
    True
    """
    (reference, values), name, drawn = _beside_surrogates(first, second, null, n_draws, seed)
    value = float(_correlations(reference, values[None])[0])
    return Referenced(value, {name: compare(value, _correlations(reference, drawn), two_sided=True)})


def region_overlap(
    first: UnitMap | Sequence[UnitMap],
    second: UnitMap | Sequence[UnitMap],
    n_units: int,
    *,
    null: str | None = None,
    n_draws: int = 999,
    seed: int = 0,
) -> Referenced:
    """Dice overlap of the top units of two maps of one sheet, against maps as smooth as the second.

    ``Dice = 2 |A and B| / (|A| + |B|)`` with ``A`` and ``B`` the ``n_units`` units of largest value. The null
    hypothesis is that of `map_correlation`.

    Parameters
    ----------
    first, second : UnitMap, or sequence of UnitMap
        As in `map_correlation`.
    n_units : int
        Size of either region.
    null, n_draws, seed
        As in `map_correlation`; every surrogate gives a region of the same share of the units that have a value in it,
        which is held against what of the first region lies there.

    Returns
    -------
    Referenced
        Dice with one null, its p one-sided (greater).

    Raises
    ------
    ValueError
        As `map_correlation`, or if there are not that many units with a value.
    NotMeasurable
        As `map_correlation`.
    """
    (reference, values), name, drawn = _beside_surrogates(first, second, null, n_draws, seed)
    if not 1 <= n_units < len(values):
        raise ValueError(f"n_units={n_units}; expected 1 to {len(values) - 1}, fewer than the units with a value")
    region = _top(reference, n_units)
    value = float((_top(values, n_units) & region).sum() / n_units)
    return Referenced(value, {name: compare(value, np.array([_dice(region, one, n_units) for one in drawn]))})


def _beside_surrogates(
    first: UnitMap | Sequence[UnitMap], second: UnitMap | Sequence[UnitMap], null: str | None, n_draws: int, seed: int
) -> tuple[Float[np.ndarray, "2 units"], str, Float[np.ndarray, "draws units"]]:
    """Both maps at the units where they have values, the name of the null, and surrogates of the second there."""
    ones, others = ([maps] if isinstance(maps, UnitMap) else list(maps) for maps in (first, second))
    if len(ones) != len(others) or not ones:
        raise ValueError(f"{len(ones)} maps and {len(others)}; expected as many of both, one for each sheet")
    for one, other in zip(ones, others, strict=True):
        if one.sheet.checksum != other.sheet.checksum:
            raise ValueError(
                f"maps at {one.site!r} and {other.site!r} lie on different sheets; compare maps whose units are the "
                "same"
            )
    null = null or ("label" if all("label" in one.nulls for one in others) else "spectral")
    if null == "spin" and len(others) > 2:
        raise ValueError(f"a spin of {len(others)} maps; expected those of the left and the right hemisphere")
    drawn = []
    for index, one in enumerate(others):
        if null == "label":
            if "label" not in one.nulls:
                raise ValueError(f"the map at {one.site!r} has no label null; make it with t_map(..., n_draws=1000)")
            drawn.append(one.nulls["label"])
        elif null == "spin":
            drawn.append(spun_maps(one, n_draws, seed=seed, mirrored=index == 1))
        elif null in SURROGATES:
            drawn.append(SURROGATES[null](one, n_draws, seed=seed))
        else:
            raise ValueError(f"null={null!r}; expected one of {['label', *SURROGATES]}")
    values = np.stack([np.concatenate([one.values for one in maps]) for maps in (ones, others)]).astype(np.float64)
    present = np.isfinite(values).all(0)
    drawn_there = np.concatenate(drawn, axis=1)[:, present].astype(np.float64)
    if present.sum() < 3 or (np.isfinite(drawn_there).sum(1) < 3).any():
        raise NotMeasurable(
            f"{present.sum()} units at {', '.join(one.site for one in ones)} have a value in both maps, and a "
            "surrogate has fewer than 3 of them: too few to compare"
        )
    return values[:, present], null, drawn_there


def _correlations(
    reference: Float[np.ndarray, " units"], maps: Float[np.ndarray, "draws units"]
) -> Float[np.ndarray, " draws"]:
    """Pearson's r of a map with others, of each over the units where it has a value."""
    there = np.isfinite(maps)
    if there.all():
        return _standardised(maps) @ _standardised(reference[None])[0]
    return np.array([
        (_standardised(one[None, inside]) @ _standardised(reference[None, inside])[0])[0]
        for one, inside in zip(maps, there, strict=True)
    ])


def _dice(region: Bool[np.ndarray, " units"], drawn: Float[np.ndarray, " units"], n_units: int) -> float:
    """Overlap with the top units of a surrogate where that has values: as large a share of these."""
    there = np.isfinite(drawn)
    top = _top(np.where(there, drawn, -np.inf), max(1, round(n_units * there.sum() / len(there))))
    return float(2 * (top & region).sum() / (top.sum() + (region & there).sum()))


def _standardised(maps: np.ndarray) -> np.ndarray:
    """Maps of mean 0 and length 1, so that a product of two is their correlation."""
    centred = maps.astype(np.float64) - maps.mean(1, keepdims=True, dtype=np.float64)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    if not (length > 1e-12 * np.abs(maps).max(initial=1.0) * math.sqrt(maps.shape[1])).all():
        raise ValueError("a map is constant, so that it correlates with nothing; give maps whose values vary")
    return centred / length


def _top(values: Float[np.ndarray, " units"], n_units: int) -> Bool[np.ndarray, " units"]:
    chosen = np.zeros(len(values), bool)
    chosen[np.argsort(-values, kind="stable")[:n_units]] = True
    return chosen


def _between_mm(sheet: Sheet) -> Float[np.ndarray, "units units"]:
    """Distances of all units: along the edges of a mesh, straight or around the torus elsewhere."""
    if sheet.edges is None:
        return distances(sheet.positions_mm, period_mm=sheet.period_mm).numpy().astype(np.float64)
    first, second = sheet.edges.numpy().T
    positions = sheet.positions_mm.numpy().astype(np.float64)
    lengths = np.linalg.norm(positions[first] - positions[second], axis=1)
    return shortest_path(csr_array((lengths, (first, second)), shape=(sheet.n_units,) * 2), directed=False)


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


@functools.lru_cache(maxsize=4)
def _turned(key: _Hashable, n_draws: int, seed: int, mirrored: bool) -> Int[np.ndarray, "draws units"]:
    """The vertex nearest to each turned one, for every rotation."""
    positions = key.sheet.positions_mm.numpy().astype(np.float64)
    turns = Rotation.random(n_draws, rng=stream(seed, "spin")).as_matrix()
    if mirrored:
        mirror = np.diag([-1.0, 1.0, 1.0])
        turns = mirror @ turns @ mirror
    tree = KDTree(positions)
    return np.stack([tree.query(positions @ turn.T)[1] for turn in turns])


SURROGATES = {
    "spectral": spectral_surrogates,
    "shift": shifted_maps,
    "spin": spun_maps,
    "variogram": variogram_surrogates,
}
