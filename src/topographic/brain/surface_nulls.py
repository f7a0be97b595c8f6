"""What Moran's I of a surface map is worth: maps without structure on the same mesh.

A map that came without its responses has no label null; that needs the subjects (`topographic.brain.group_map`).
What remains are the unit null, which any smoothed recording beats, and the floor that its smoothness alone makes.
A rotation of the surface ("spin test") answers another question, whether two maps agree: it keeps the smoothness
of the map, and so its Moran's I, as it is.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import csr_array

from topographic.maps import UnitMap
from topographic.maps.nulls import check_draws, stream
from topographic.sheets import Sheet, adjacent_pairs

__all__ = ["estimated_fwhm_mm", "smooth_noise_nulls"]

_MAX_ROUNDS = 2000


def smooth_noise_nulls(unit_map: UnitMap, fwhm_mm: float, n_draws: int = 200, *, seed: int = 0) -> UnitMap:
    """Add the floor: white noise on the same mesh, smoothed along it.

    White noise is averaged with its neighbours, ``x <- (x + mean over neighbours) / 2``, until its smoothness
    (`estimated_fwhm_mm`) is nearest to ``fwhm_mm``.

    Parameters
    ----------
    unit_map : UnitMap
        Map on a mesh.
    fwhm_mm : float
        Smoothness of the noise: that of the recording, which preprocessing and voxel size decide.
    n_draws : int
        Number of noise maps.
    seed : int
        Seed of the noise.

    Returns
    -------
    UnitMap
        The map with ``nulls["floor"]``, shape (n_draws, units), each of mean 0 and sd 1; its provenance holds
        ``floor_fwhm_mm``, the smoothness reached.

    Raises
    ------
    ValueError
        If the sheet is no mesh, or the smoothness is not positive or cannot be reached.

    Notes
    -----
    With the smoothness of the map itself (`estimated_fwhm_mm`) the floor equals the map almost by construction,
    because both numbers come from the likeness of neighbours: then it only says that Moran's I of a mesh map is a
    measure of its smoothness. Noise does not cross vertices without a value.
    """
    check_draws(n_draws, seed, least=2)
    present = _present(unit_map)
    if not 0 < fwhm_mm < np.inf:
        raise ValueError(f"fwhm_mm={fwhm_mm}; expected a positive length in mm, the smoothness of the recording")
    graph, length_mm = _graph(unit_map.sheet, present)
    degree = np.maximum(graph.sum(axis=1), 1)[:, None]
    noise = stream(seed, "floor", unit_map.site).standard_normal((int(present.sum()), n_draws))
    reached = 0.0
    for _ in range(_MAX_ROUNDS):
        smoother = (noise + graph @ noise / degree) / 2
        before, reached = reached, _smoothness_mm(smoother.T, graph, length_mm)
        if reached >= fwhm_mm:
            if reached - fwhm_mm < fwhm_mm - before or before == 0:
                noise = smoother
            else:
                reached = before
            break
        noise = smoother
    else:
        raise ValueError(f"fwhm_mm={fwhm_mm} was not reached ({reached:.1f} mm): it is wider than the surface allows")
    noise = (noise - noise.mean(axis=0)) / noise.std(axis=0)
    maps = np.full((n_draws, len(present)), np.nan, dtype=np.float32)
    maps[:, present] = noise.T
    provenance = {**unit_map.provenance, "floor_fwhm_mm": float(reached)}
    return replace(unit_map, nulls={**unit_map.nulls, "floor": maps}, provenance=provenance)


def estimated_fwhm_mm(unit_map: UnitMap) -> float:
    """Smoothness of a map along its mesh, as the kernel that would give white noise the same.

    ``FWHM = d sqrt(-2 ln 2 / ln(1 - var(x_i - x_j) / (2 var(x))))`` over neighbours i, j at mean distance d.

    Parameters
    ----------
    unit_map : UnitMap
        Map on a mesh.

    Returns
    -------
    float
        Full width at half maximum in mm; 0 where neighbours are not alike.

    Raises
    ------
    ValueError
        If the sheet is no mesh, or the map is constant.

    References
    ----------
    Hagler, Saygin & Sereno 2006, NeuroImage 33.
    """
    present = _present(unit_map)
    graph, length_mm = _graph(unit_map.sheet, present)
    return _smoothness_mm(unit_map.values[None, present].astype(np.float64), graph, length_mm)


def _present(unit_map: UnitMap) -> Bool[np.ndarray, " units"]:
    present = ~np.isnan(unit_map.values)
    if present.sum() < 3 or np.ptp(unit_map.values[present]) == 0:
        raise ValueError(f"the map at {unit_map.site!r} is constant or has fewer than 3 values; nothing can be drawn")
    return present


def _graph(sheet: Sheet, present: Bool[np.ndarray, " units"]) -> tuple[csr_array, float]:
    """Neighbours among the units that are present, and their mean distance."""
    if sheet.edges is None:
        raise ValueError(
            f"sheet {sheet.name!r} is no mesh (it has no edges); use the floor that t_map draws for flat sheets"
        )
    pairs = adjacent_pairs(sheet).numpy()
    pairs = pairs[present[pairs].all(axis=1)]
    if not len(pairs):
        raise ValueError(f"sheet {sheet.name!r}: no two units with a value are neighbours")
    positions = sheet.positions_mm.numpy()
    length_mm = float(np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1).mean())
    rows, columns = (np.cumsum(present) - 1)[pairs].T
    return csr_array((np.ones(len(pairs)), (rows, columns)), shape=(int(present.sum()),) * 2), length_mm


def _smoothness_mm(maps: Float[np.ndarray, "maps units"], graph: csr_array, length_mm: float) -> float:
    rows, columns = graph.nonzero()
    unlike = np.square(maps[:, rows] - maps[:, columns]).mean() / (2 * maps.var(axis=1).mean())
    return length_mm * float(np.sqrt(-2 * np.log(2) / np.log(1 - unlike))) if unlike < 1 else 0.0
