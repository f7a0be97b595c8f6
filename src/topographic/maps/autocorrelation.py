"""Moran's I: how alike neighbouring units are, beside the three references that say what that means."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import csr_array
from scipy.special import ndtr

from topographic.maps.collection import Numbers
from topographic.maps.references import BesideNulls, NotMeasurable, NullReference, compare, null_title
from topographic.maps.unit_map import UnitMap
from topographic.maps.wording import number
from topographic.recording.by_site import by_site
from topographic.sheets import Sheet, adjacent_pairs

__all__ = ["MoransI", "each_morans_i", "morans_i"]

Contiguity = Literal["queen", "rook"]

_MAPS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class MoransI(BesideNulls):
    """Moran's I of a map, with its references.

    Parameters
    ----------
    value : float
        Moran's I.
    expected : float
        Its expectation without spatial structure, ``-1 / (n - 1)``.
    z_normal, p_normal : float
        z and two-sided p if the values were independent normal deviates. They say nothing about a
        map that was smoothed or whose units respond alike; the nulls do.
    nulls : mapping of str to NullReference
        I under each null that the map carries: "floor", white noise through the same readout; "unit", the units
        permuted before the readout (is there any spatial structure?); "label", the stimulus labels permuted (is the
        structure about this contrast?). ``floor``, ``unit_null`` and ``label_null`` read these, None where not drawn.
    """

    value: float
    expected: float
    z_normal: float
    p_normal: float
    nulls: Mapping[str, NullReference] = field(default_factory=dict)

    def __str__(self) -> str:
        """The value, and a line for each null."""
        first = (
            f"Moran's I = {number(self.value, 3)}, expected {number(self.expected, 3)} "
            f"(normal z = {number(self.z_normal, 1)})"
        )
        lines = [f"  {null_title(name):<13}{one}" for name, one in self.nulls.items()]
        return "\n".join([first, *(lines or ["  no null was drawn"])])


def _together(found: dict[str, MoransI]) -> Numbers:
    return Numbers(found, "Moran's I")


@by_site(_together)
def morans_i(unit_map: UnitMap, contiguity: Contiguity = "queen") -> MoransI:
    """Moran's I of a map, its nulls included.

    ``I = (n / W) sum_ij w_ij z_i z_j / sum_i z_i^2`` with ``z = x - mean(x)``, ``w_ij = 1 / degree_i``
    between neighbours (row-standardised) and ``W = sum_ij w_ij``.

    Null hypotheses are those of the maps' own nulls: values are those of white noise (floor), units might lie anywhere
    (unit), labels of stimuli might be exchanged (label).

    Parameters
    ----------
    unit_map : UnitMap or mapping of site to UnitMap
        Map on a lattice, torus or mesh; several give `Numbers`, a table corrected over the sites. Units whose value is
        NaN are left out with their edges. A unit without a neighbour has no weights; it counts in ``n`` and in the
        variance only.
    contiguity : {"queen", "rook"}
        Eight neighbours or four on a lattice; a mesh uses its own edges.

    Returns
    -------
    MoransI
        Value, expectation, normal z and p, and a `NullReference` for each null the map carries, its
        p one-sided (greater).

    Raises
    ------
    NotMeasurable
        If the map is constant, has fewer than three values, or no two units are neighbours.
    ValueError
        If a null map has no value where the map has one.

    Notes
    -----
    z and p follow Cliff & Ord's normality assumption, as in esda. The code released with TopoLM
    drops units that are not significant before computing I on brain maps, which inflates it; here
    every unit with a value counts.

    References
    ----------
    Moran 1950, Biometrika 37; Cliff & Ord 1981, Spatial Processes, ch. 1-2.
    """
    present = ~np.isnan(unit_map.values)
    if present.sum() < 3 or np.ptp(unit_map.values[present]) == 0:
        raise NotMeasurable(
            f"the map at {unit_map.site!r} is constant or has fewer than 3 values ({present.sum()} of "
            f"{len(present)}); Moran's I needs values that vary: check the responses of this site"
        )
    weights = _weights(unit_map.sheet, contiguity, present)
    # float32 null maps stay that: rounding moves I by 1e-7
    chosen = slice(None) if present.all() else present
    in_type = {kind: weights.in_type(kind) for kind in {maps.dtype for maps in unit_map.nulls.values()}}
    value = float(_autocorrelation(unit_map.values[None, chosen].astype(np.float64), weights)[0])
    nulls = {}
    for null, maps in unit_map.nulls.items():
        draws = _autocorrelation(maps[:, chosen], in_type[maps.dtype])
        if np.isnan(draws).any() and np.isnan(maps[:, present]).any():
            raise ValueError(
                f"the map at {unit_map.site!r}: null {null!r} is NaN where the map is not; draw it from the same units"
            )
        nulls[null] = compare(value, draws)
    expected, sd = _normal_moments(weights, int(present.sum()))
    z = (value - expected) / sd
    return MoransI(
        value=value,
        expected=expected,
        z_normal=z,
        p_normal=float(2 * ndtr(-abs(z))),
        nulls=nulls,
    )


def each_morans_i(
    maps: Float[np.ndarray, "maps units"], sheet: Sheet, contiguity: Contiguity = "queen"
) -> Float[np.ndarray, " maps"]:
    """Moran's I of many maps of one sheet, which have a value everywhere; a constant map gets the expectation."""
    return _autocorrelation(maps, _weights_of_all(sheet, contiguity))


class _Weights(NamedTuple):
    """Row-standardised weights ``w_ij``: those of a unit with neighbours sum to 1."""

    once: csr_array  # w_ij + w_ji of each pair, i < j
    sums: Float[np.ndarray, "2 units"]  # 1 / n, and the sums over i of w_ij + w_ji
    total: float  # over all pairs in both directions

    def in_type(self, kind: np.dtype) -> "_Weights":
        """The same in the type of the maps."""
        return self._replace(once=self.once.astype(kind), sums=self.sums.astype(kind))


def _weights(sheet: Sheet, contiguity: Contiguity, present: Bool[np.ndarray, " units"]) -> _Weights:
    if present.all():
        return _weights_of_all(sheet, contiguity)
    return _row_standardised_weights(sheet, contiguity, present)


@functools.lru_cache(maxsize=256)  # a sheet has many maps: every contrast, at every width of the readout
def _weights_of_all(sheet: Sheet, contiguity: Contiguity) -> _Weights:
    return _row_standardised_weights(sheet, contiguity, np.ones(sheet.n_units, bool))


def _row_standardised_weights(sheet: Sheet, contiguity: Contiguity, present: Bool[np.ndarray, " units"]) -> _Weights:
    """Weights among the units that are present."""
    pairs = adjacent_pairs(sheet, contiguity).numpy()
    if not present.all():
        pairs = pairs[present[pairs].all(axis=1)]
    if not len(pairs):
        raise NotMeasurable(f"sheet {sheet.name!r}: no two units with a value are neighbours; give the sheet `edges`")
    place = np.cumsum(present) - 1
    rows, columns = np.ascontiguousarray(place[pairs].T)
    n_units = int(present.sum())
    degree = np.bincount(rows, minlength=n_units)
    share = 1.0 / np.maximum(degree, 1)
    in_use = (degree > 0).astype(np.float64)
    sums = np.stack([np.full(n_units, 1 / n_units), in_use + np.bincount(columns, share[rows], n_units)])
    # both directions of every pair are there, sorted
    rows, columns = rows[rows < columns], columns[rows < columns]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_units))])
    # of 32 bits, half as much to read as those of 64
    places = (columns.astype(np.int32), starts.astype(np.int32))
    once = csr_array((share[rows] + share[columns], *places), shape=(n_units, n_units))
    return _Weights(once, sums, float(in_use.sum()))


def _autocorrelation(maps: Float[np.ndarray, "maps units"], weights: _Weights) -> Float[np.ndarray, " maps"]:
    """Moran's I of many maps at once, in their type; a constant map, without a variance, gets the expectation.

    ``sum_ij w_ij z_i z_j = sum_ij w_ij x_i x_j - m sum_i c_i x_i + m^2 W`` with ``c_i = sum_j w_ij + w_ji``: no copy is
    centred, each pair is met once, and a batch of maps stays in the cache.
    """
    n_maps, n_units = maps.shape
    if weights.sums.dtype != maps.dtype:
        weights = weights.in_type(maps.dtype)
    once, sums = weights.once, weights.sums
    # room for every batch in turn: memory that is new each time costs as much as the sums
    room = np.empty(min(n_maps, _MAPS_AT_ONCE) * n_units, maps.dtype)
    mean, joined, squares, agreement = np.empty((4, n_maps), maps.dtype)

    def add_up(batch: slice, given: np.ndarray) -> None:
        of_units = room[: given.size].reshape(n_units, len(given))  # each unit's values side by side
        np.copyto(of_units, given.T)
        mean[batch], joined[batch] = sums @ of_units
        squares[batch] = np.matmul(given[:, None, :], given[:, :, None])[:, 0, 0]  # half the time of einsum's
        agreement[batch] = np.einsum("um,um->m", of_units, once @ of_units)

    flat = []
    for first in range(0, n_maps, _MAPS_AT_ONCE):
        batch = slice(first, first + _MAPS_AT_ONCE)
        given = maps[batch]
        add_up(batch, given)
        if (n_units * mean[batch] ** 2 >= 0.75 * squares[batch]).any():  # digits were lost, all of those of a constant
            flat += [first + one for one in np.flatnonzero(np.ptp(given, axis=1) == 0)]
            add_up(batch, given - mean[batch, None])
    agreement += mean**2 * weights.total - mean * joined
    variation = squares - n_units * mean**2
    variation[flat] = 1.0
    found = n_units / weights.total * (agreement / variation).astype(np.float64)
    found[flat] = -1 / (n_units - 1)
    return found


def _normal_moments(weights: _Weights, n_units: int) -> tuple[float, float]:
    """Mean and standard deviation of I for independent normal values (Cliff & Ord 1981)."""
    total = weights.total
    s1 = np.square(weights.once.data).sum()
    s2 = np.square(weights.sums[1]).sum()
    expected = -1.0 / (n_units - 1)
    variance = (n_units**2 * s1 - n_units * s2 + 3 * total**2) / ((n_units**2 - 1) * total**2) - expected**2
    return expected, float(np.sqrt(variance))
