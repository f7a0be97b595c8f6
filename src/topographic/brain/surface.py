"""Cortical surfaces: a map over the vertices of a mesh is a `UnitMap` whose sheet is the graph of that mesh."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, no_type_check
from xml.parsers.expat import ExpatError

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from topographic.brain.netcdf import load_netcdf, netcdf_axes
from topographic.maps import UnitMap
from topographic.sheets import Sheet, adjacent_pairs
from topographic.storage import sha256_of_file

__all__ = ["SurfaceMesh", "load_mesh", "load_surface_map", "load_surface_series", "threshold_as_published"]


@no_type_check  # lists and arrays are welcome: __post_init__ converts and checks what the fields then hold
@dataclass(frozen=True, eq=False)
class SurfaceMesh:
    """Triangles over the cortex of one hemisphere.

    Parameters
    ----------
    name : str
        Name of the mesh.
    positions_mm : ndarray, shape (vertices, 3)
        Places of the vertices in mm, float64; x runs to the right, y to the front, z upwards.
    triangles : ndarray of int, shape (triangles, 3)
        Corners of every triangle.

    Raises
    ------
    ValueError
        If a shape is wrong, a place is not finite, or a triangle names a vertex twice or one that does not exist.
    """

    name: str
    positions_mm: Float[np.ndarray, "vertices 3"]
    triangles: Int64[np.ndarray, "triangles 3"]

    def __post_init__(self) -> None:
        """Convert, then refuse anything a mesh cannot be."""
        positions = np.ascontiguousarray(self.positions_mm, dtype=np.float64)
        triangles = np.ascontiguousarray(self.triangles, dtype=np.int64)
        if positions.ndim != 2 or positions.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
            raise ValueError(
                f"mesh {self.name!r}: positions {positions.shape} and triangles {triangles.shape}; expected "
                "(vertices, 3) and (triangles, 3)"
            )
        if not np.isfinite(positions).all():
            raise ValueError(f"mesh {self.name!r}: positions_mm holds NaN or infinity; give every vertex a place")
        if len(triangles) == 0 or triangles.min() < 0 or triangles.max() >= len(positions):
            raise ValueError(
                f"mesh {self.name!r}: expected triangles over vertices 0 to {len(positions) - 1}; check that both "
                "arrays come from one file"
            )
        if (triangles == np.roll(triangles, 1, axis=1)).any():
            raise ValueError(f"mesh {self.name!r}: a triangle names one vertex twice; remove such triangles")
        object.__setattr__(self, "positions_mm", positions)
        object.__setattr__(self, "triangles", triangles)

    @property
    def edges(self) -> Int64[np.ndarray, "edges 2"]:
        """Sides of the triangles, each pair of vertices once."""
        sides = np.concatenate([self.triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
        return np.unique(np.sort(sides, axis=1), axis=0)

    @property
    def sheet(self) -> Sheet:
        """Sheet with one unit per vertex, neighbours along the sides of triangles."""
        return Sheet(
            name=self.name, positions_mm=torch.from_numpy(self.positions_mm), edges=torch.from_numpy(self.edges)
        )


def load_mesh(mesh: str | Path) -> SurfaceMesh:
    """Read a surface.

    Parameters
    ----------
    mesh : str or Path
        A GIFTI file (``*.surf.gii``), or "fsaverage5/NAME" with a name nilearn knows: pial_left, white_left,
        infl_left, sphere_left, flat_left and the same on the right.

    Returns
    -------
    SurfaceMesh
        Places of the vertices and triangles.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file or name, or the file holds no surface.
    """
    if str(mesh).startswith("fsaverage5/"):
        return _read_mesh(_fsaverage5(str(mesh).removeprefix("fsaverage5/")), str(mesh))
    if not Path(mesh).is_file():
        raise FileNotFoundError(f"no mesh at {mesh}; give a .surf.gii file or a name such as 'fsaverage5/pial_left'")
    return _read_mesh(Path(mesh), Path(mesh).name)


def _fsaverage5(name: str) -> Path:
    from nilearn.datasets import fetch_surf_fsaverage

    kinds = [f"{kind}_{side}" for kind in ("pial", "white", "infl", "sphere", "flat") for side in ("left", "right")]
    if name not in kinds:
        raise ValueError(f"no fsaverage5 surface {name!r}; expected one of {kinds}")
    return Path(fetch_surf_fsaverage("fsaverage5")[name])


def _read_mesh(path: Path, name: str) -> SurfaceMesh:
    image = _gifti(path)
    found = [image.get_arrays_from_intent(intent) for intent in ("NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE")]
    if not all(found):
        raise ValueError(f"{path} holds no surface (points and triangles); expected a .surf.gii file")
    return SurfaceMesh(name, found[0][0].data, found[1][0].data)


def load_surface_map(
    path: str | Path,
    mesh: str | Path | SurfaceMesh,
    *,
    variable: str | None = None,
    p_variable: str | None = None,
    missing_value: float | None = None,
    site: str | None = None,
) -> UnitMap:
    """Read one value per vertex into a map whose sheet is the mesh.

    Parameters
    ----------
    path : str or Path
        GIFTI (``*.func.gii``, ``*.shape.gii``) or NetCDF (``*.nc``, both the classic format and NetCDF-4).
    mesh : str, Path or SurfaceMesh
        The surface the values belong to (`load_mesh`).
    variable : str, optional
        Name of the values: a variable of a NetCDF file, or the name or number ("0", "1", ...) of an array of a
        GIFTI file. May be left out where there is but one.
    p_variable : str, optional
        Name of their uncorrected p values, which `control_fdr` and `clusters` can then use.
    missing_value : float, optional
        Number that stands for "no value", such as 0 in files that fill the medial wall with it. NaN always does.
    site : str, optional
        Name for the map; that of the file by default.

    Returns
    -------
    UnitMap
        One value per vertex, NaN where there is none; its provenance counts those (``n_without_value``), and the
        vertices that have a value while none of their neighbours has (``n_alone``).

    Raises
    ------
    FileNotFoundError, ValueError
        If a file or variable does not exist, values and vertices differ in number, p values are no probabilities, or
        a vertex that lies in no triangle has a value.

    Notes
    -----
    Vertices without a value stay in the map: `morans_i` and `clusters` leave them out with their edges. A vertex with
    a value but no neighbour that has one counts in Moran's I, as any unit does, but has no weights. A vertex in no
    triangle of the mesh has no neighbours at all (flat surfaces are cut there); with a value it is an error, since it
    would pass for an unstructured place.
    """
    surface = mesh if isinstance(mesh, SurfaceMesh) else load_mesh(mesh)
    columns = _columns(Path(path))
    names = {"values": _chosen(Path(path), columns, variable, surface)}
    if p_variable is not None:
        names["p"] = _chosen(Path(path), columns, p_variable, surface)
    values = columns[names["values"]].astype(np.float64)
    if missing_value is not None:
        values[values == missing_value] = np.nan
    p = columns[names["p"]].astype(np.float64) if "p" in names else None
    if p is not None and ((p < 0) | (p > 1)).any():
        raise ValueError(f"{path}: {names['p']!r} holds numbers outside 0 to 1; expected p values: name another one")
    return UnitMap(
        site=site or Path(path).name,
        values=values,
        sheet=surface.sheet,
        statistic=names["values"],
        p=p,
        provenance={
            "file": Path(path).name,
            "sha256": sha256_of_file(path),
            "mesh": surface.name,
            **names,
            **_counted(Path(path), values, surface),
        },
    )


def _chosen(path: Path, columns: Mapping[str, np.ndarray], variable: str | None, surface: SurfaceMesh) -> str:
    if variable is None:
        if len(columns) != 1:
            raise ValueError(f"{path} holds {list(columns)[:20]}; say which with variable=")
        variable = next(iter(columns))
    if variable not in columns:
        raise ValueError(f"{path} has no variable {variable!r}; expected one of {list(columns)[:20]}")
    n_vertices = len(surface.positions_mm)
    if columns[variable].shape != (n_vertices,):
        raise ValueError(
            f"{path}: {variable!r} has shape {columns[variable].shape}; mesh {surface.name!r} has {n_vertices} "
            "vertices: give the mesh these values were made on"
        )
    return variable


def _counted(path: Path, values: Float[np.ndarray, " vertices"], surface: SurfaceMesh) -> dict[str, int]:
    present = ~np.isnan(values)
    loose = np.ones(len(values), dtype=bool)
    loose[surface.triangles] = False
    if (loose & present).any():
        raise ValueError(
            f"{path}: {int((loose & present).sum())} vertices have a value but lie in no triangle of mesh "
            f"{surface.name!r} (first: {int(np.flatnonzero(loose & present)[0])}); give the uncut surface, or NaN there"
        )
    return {
        "n_vertices": len(values),
        "n_without_value": int((~present).sum()),
        "n_alone": int(_alone(surface.sheet, present).sum()),
    }


def _alone(sheet: Sheet, present: Bool[np.ndarray, " vertices"]) -> Bool[np.ndarray, " vertices"]:
    """Vertices that are present while none of their neighbours is."""
    pairs = adjacent_pairs(sheet).numpy()
    accompanied = np.zeros(len(present), dtype=bool)
    accompanied[pairs[present[pairs].all(axis=1), 0]] = True
    return present & ~accompanied


def load_surface_series(path: str | Path) -> Float[np.ndarray, "scans vertices"]:
    """Read a recording over time.

    Parameters
    ----------
    path : str or Path
        GIFTI file with one array per scan (``*.func.gii``).

    Returns
    -------
    ndarray of float32, shape (scans, vertices)
        The recording.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file does not exist, is broken, or its arrays differ in length.
    """
    scans = [array.data for array in _gifti(Path(path)).darrays]
    if len({scan.shape for scan in scans}) != 1 or scans[0].ndim != 1:
        raise ValueError(f"{path} holds arrays of shapes {sorted({scan.shape for scan in scans})}; expected one a scan")
    return np.stack(scans).astype(np.float32)


def threshold_as_published(unit_map: UnitMap, *, q: float = 0.05) -> UnitMap:
    """Drop every vertex that is not significant, as the code released with TopoLM does; this inflates Moran's I.

    Parameters
    ----------
    unit_map : UnitMap
        Map with q (`control_fdr`).
    q : float
        Vertices whose adjusted p is not below this lose their value.

    Returns
    -------
    UnitMap
        NaN where the vertex failed or where no neighbour passed; its statistic says that it was thresholded. Its
        nulls are gone: they were not selected in this way, so they would not be comparable.

    Raises
    ------
    ValueError
        If the map has no q, or nothing passes.

    Notes
    -----
    What is left has the same sign as its neighbours by construction, so I says little about the map before the
    selection. The released code also counts vertices without a value as tests with p = 1 when it adjusts p;
    `control_fdr` leaves them out.
    """
    if unit_map.q is None:
        raise ValueError(f"the map at {unit_map.site!r} has no q; correct all maps together with control_fdr first")
    if not 0 < q <= 1:
        raise ValueError(f"q={q}; expected a rate above 0 and at most 1, such as 0.05")
    passed = (unit_map.q < q) & ~np.isnan(unit_map.values)
    passed &= ~_alone(unit_map.sheet, passed)
    if not passed.any():
        raise ValueError(f"the map at {unit_map.site!r}: no two neighbours pass q < {q:g}; nothing would be left")
    return UnitMap(
        site=unit_map.site,
        values=np.where(passed, unit_map.values, np.nan),
        sheet=unit_map.sheet,
        statistic=f"{unit_map.statistic} where q < {q:g} (thresholded: inflates Moran's I)",
        p=unit_map.p,
        q=unit_map.q,
        provenance={**unit_map.provenance, "thresholded_at_q": q, "n_passed": int(passed.sum())},
    )


def _columns(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"no surface map at {path}; give a .gii or .nc file")
    kinds = [suffix for suffix in READERS if path.name.endswith(suffix)]
    if not kinds:
        raise ValueError(f"{path} ends in none of {list(READERS)}; save the map in one of these formats")
    columns = READERS[kinds[0]](path)
    if not columns:
        raise ValueError(f"{path} holds no values; expected one array with a number per vertex")
    return columns


def _gifti(path: Path) -> Any:
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    if not path.is_file():
        raise FileNotFoundError(f"no GIFTI file at {path}")
    try:
        image = nibabel.load(path)
    except (ImageFileError, ExpatError, OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} is truncated or not a GIFTI file; copy it again") from error
    if not isinstance(image, nibabel.GiftiImage) or not image.darrays:
        raise ValueError(f"{path} holds no GIFTI arrays; expected a .gii file")
    return image


def _gifti_columns(path: Path) -> dict[str, np.ndarray]:
    arrays = _gifti(path).darrays
    named = {array.meta.get("Name") or str(index): array.data for index, array in enumerate(arrays)}
    return named if len(named) == len(arrays) else {str(index): array.data for index, array in enumerate(arrays)}


def _netcdf_columns(path: Path) -> dict[str, np.ndarray]:
    """Numbers of one axis that are no coordinates."""
    names = [name for name, axes in netcdf_axes(path).items() if len(axes) == 1 and name not in axes]
    return {name: one.values for name, one in load_netcdf(path, names).items() if one.values.dtype.kind in "iuf"}


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".gii": _gifti_columns,
    ".gii.gz": _gifti_columns,
    ".nc": _netcdf_columns,
}
