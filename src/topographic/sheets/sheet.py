"""`Sheet`: where the units of one site lie."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from topographic.storage import load_noun, save_arrays

__all__ = ["Sheet"]


@no_type_check  # lists and arrays are welcome: __post_init__ converts and checks what the fields then hold
@dataclass(frozen=True, eq=False)
class Sheet:
    """Where the units of one site lie on cortex.

    Parameters
    ----------
    name : str
        Name of the sheet, usually that of the recorded site.
    positions_mm : Tensor or array, shape (units, 2) or (units, 3)
        Coordinates of every unit in mm, float64. Column 0 runs down the rows of a grid, column 1
        along its columns; three columns are for units on a surface mesh.
    extent_mm : sequence of float, optional
        Height and width of the tissue, that is the period when ``wrap`` is set.
        Derived from the positions where it is not given.
    wrap : bool
        Whether opposite edges are joined (a torus).
    edges : Tensor or array, shape (edges, 2), optional
        Undirected neighbour pairs of unit indices, for sheets that are graphs (surface meshes).
        Where it is given it defines adjacency in place of the distances.
    is_readout : bool
        True when the "units" are the sites of a smoothed readout, so that a mask made on them is
        not mistaken for a mask of units.

    Raises
    ------
    TypeError, ValueError
        If positions are not finite, have a wrong shape, or edges name units that do not exist.
    """

    name: str
    positions_mm: Float[Tensor, "units axes"]
    extent_mm: tuple[float, ...] | None = None
    wrap: bool = False
    edges: Int64[Tensor, "edges 2"] | None = None
    is_readout: bool = False

    def __post_init__(self) -> None:
        """Convert, then refuse anything a sheet cannot be."""
        positions = torch.as_tensor(self.positions_mm).detach().to("cpu", torch.float64).contiguous()
        if positions.ndim != 2 or positions.shape[1] not in (2, 3) or positions.shape[0] == 0:
            raise ValueError(
                f"sheet {self.name!r}: positions_mm has shape {tuple(positions.shape)}; expected (units, 2), or "
                "(units, 3) on a mesh, with at least one unit: pass one row of coordinates per unit"
            )
        if not torch.isfinite(positions).all():
            raise ValueError(f"sheet {self.name!r}: positions_mm holds NaN or infinity; give every unit a finite place")
        object.__setattr__(self, "positions_mm", positions)
        object.__setattr__(self, "extent_mm", _checked_extent(self.name, positions, self.extent_mm, self.wrap))
        if self.edges is not None:
            object.__setattr__(self, "edges", _checked_edges(self.name, positions.shape[0], self.edges))

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.positions_mm.shape[0]

    @property
    def period_mm(self) -> tuple[float, ...] | None:
        """Extent if the sheet is a torus, else None."""
        return self.extent_mm if self.wrap else None

    @property
    def is_bijective(self) -> bool:
        """Whether no two units share a place."""
        return torch.unique(self.positions_mm, dim=0).shape[0] == self.n_units

    @property
    def checksum(self) -> str:
        """SHA-256 of the geometry (not of the name); equal layouts have equal checksums."""
        digest = hashlib.sha256(self.positions_mm.numpy().tobytes())
        digest.update(repr((self.extent_mm, self.wrap, self.is_readout)).encode())
        if self.edges is not None:
            digest.update(self.edges.numpy().tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        """Equal name and equal geometry."""
        if not isinstance(other, Sheet):
            return NotImplemented
        return self.name == other.name and self.checksum == other.checksum

    def __hash__(self) -> int:
        """Hash of name and geometry."""
        return hash((self.name, self.checksum))

    def __repr__(self) -> str:
        """Short form: positions are counted, not printed."""
        kind = "mesh" if self.edges is not None else "torus" if self.wrap else "sheet"
        return f"Sheet({self.name!r}, {self.n_units} units, {kind}, extent_mm={self.extent_mm})"

    def to_arrays(self, prefix: str = "") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays, whose names begin with ``prefix``, and JSON metadata, for nouns that are stored with their sheet."""
        arrays = {f"{prefix}positions_mm": self.positions_mm.numpy()}
        if self.edges is not None:
            arrays[f"{prefix}edges"] = self.edges.numpy()
        extent = None if self.extent_mm is None else list(self.extent_mm)
        return arrays, {"name": self.name, "extent_mm": extent, "wrap": self.wrap, "is_readout": self.is_readout}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], metadata: dict[str, Any], prefix: str = "") -> "Sheet":
        """Inverse of `to_arrays`; other arrays are left alone."""
        edges = torch.from_numpy(arrays[f"{prefix}edges"]) if f"{prefix}edges" in arrays else None
        return cls(positions_mm=torch.from_numpy(arrays[f"{prefix}positions_mm"]), edges=edges, **metadata)

    def save(self, path: str | Path) -> None:
        """Write the sheet to a safetensors file."""
        arrays, metadata = self.to_arrays()
        save_arrays(path, arrays, {"noun": "Sheet", "sheet": metadata})

    @classmethod
    def load(cls, path: str | Path) -> "Sheet":
        """Read what `save` wrote."""
        arrays, metadata = load_noun(path, "Sheet")
        return cls.from_arrays(arrays, metadata["sheet"])


def _checked_extent(
    name: str, positions_mm: Tensor, extent_mm: Sequence[float] | None, wrap: bool
) -> tuple[float, ...] | None:
    if extent_mm is None:
        if wrap:
            raise ValueError(f"sheet {name!r}: wrap=True without extent_mm; a torus needs its period: pass extent_mm")
        span = positions_mm.max(0).values - positions_mm.min(0).values
        return tuple(span.tolist())
    extent = tuple(float(length) for length in extent_mm)
    if len(extent) != positions_mm.shape[1] or not all(np.isfinite(extent)) or min(extent) < 0:
        raise ValueError(
            f"sheet {name!r}: extent_mm={extent}; expected {positions_mm.shape[1]} finite lengths in mm, one per axis"
        )
    if wrap and min(extent) <= 0:
        raise ValueError(f"sheet {name!r}: extent_mm={extent} cannot be the period of a torus; give lengths above 0")
    return extent


def _checked_edges(name: str, n_units: int, edges: Any) -> Tensor:
    checked = torch.as_tensor(edges).detach().to("cpu", torch.int64).contiguous()
    if checked.ndim != 2 or checked.shape[1] != 2:
        raise ValueError(f"sheet {name!r}: edges has shape {tuple(checked.shape)}; expected (edges, 2) unit indices")
    if checked.numel() and (checked.min() < 0 or checked.max() >= n_units):
        raise ValueError(
            f"sheet {name!r}: edges name units {int(checked.min())} to {int(checked.max())}; 0 to {n_units - 1} exist"
        )
    if (checked[:, 0] == checked[:, 1]).any():
        raise ValueError(f"sheet {name!r}: an edge joins a unit to itself; remove such pairs")
    return checked
