"""`Adaptor`: how the activity of one site is shown on a sheet, and how a change on the sheet gets back into it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from topographic.sheets import Sheet
from topographic.sheets.expectations import expect_kind
from topographic.storage import (
    digest,
    load_json,
    load_noun,
    save_arrays,
    save_json,
    write_folder_atomically,
)

__all__ = ["KINDS", "Adaptor", "Adaptors", "ModelSource", "is_layout", "to_sheet", "to_stream"]

KINDS = ("assigned", "rotation", "linear")
_INDEX = "adaptors.json"
_OFF = 1e-3  # how far a matrix times its inverse may be from the identity, in any entry
_POINT = "sheet"


# no_type_check: these run inside compiled models, where run-time checks of annotations cannot be traced


@no_type_check
def to_sheet(
    activations: Float[Tensor, "*samples units"],
    mean: Float[Tensor, " units"],
    scale: Float[Tensor, " units"],
    matrix: Float[Tensor, "units units"] | Int64[Tensor, " units"],
) -> Float[Tensor, "*samples units"]:
    """``(X - m) S^-1 Q``; a matrix of one axis is an index: place ``i`` shows unit ``matrix[i]``."""
    standardised = (activations - mean.to(activations.dtype)) / scale.to(activations.dtype)
    return standardised[..., matrix] if matrix.ndim == 1 else standardised @ matrix.to(activations.dtype)


@no_type_check
def to_stream(
    change: Float[Tensor, "*samples units"],
    scale: Float[Tensor, " units"],
    inverse: Float[Tensor, "units units"] | Int64[Tensor, " units"],
) -> Float[Tensor, "*samples units"]:
    """``dZ Q^-1 S``: what a change on the sheet adds to the activity of the site."""
    back = change[..., inverse] if inverse.ndim == 1 else change @ inverse.to(change.dtype)
    return back * scale.to(change.dtype)


@no_type_check  # lists and arrays are welcome: __post_init__ converts and checks what the fields then hold
@dataclass(frozen=True, eq=False)
class Adaptor:
    """A change of basis between the activity of one site and a sheet.

    ``Z = (X - m) S^-1 Q`` is shown, and what is done to it returns as ``X' = X + (Z' - Z) Q^-1 S``.

    Parameters
    ----------
    site : str
        Name of a module whose output has the units on its last axis.
    mean : Tensor, shape (units,)
        m.
    scale : Tensor, shape (units,)
        Diagonal of S, above 0: the standard deviations of the units, or ones.
    matrix : Tensor, shape (units, units) or, for "assigned", of whole numbers and shape (units,)
        Q; or its index: place ``i`` of the sheet shows unit ``matrix[i]``.
    sheet : Sheet
        Where the columns of Z lie.
    kind : {"assigned", "rotation", "linear"}
        Whether Q permutes, is orthogonal, or is any invertible matrix.
    inverse : Tensor, optional
        Of a "linear" one its inverse, computed in float64 where it is not given; of the others it follows.
    provenance : mapping, optional
        Anything JSON can hold; ``weights`` is the `weights_checksum` of the model it was fitted on, which is then
        checked.

    Raises
    ------
    ValueError
        If shapes do not fit, numbers are not finite, a scale is not above 0, or the matrix is not of its kind.

    Notes
    -----
    Written so, X that nobody edits returns bit by bit, whatever the rounding of Q, and of an edit only the change goes
    through the inverse. Topo-Omni (arXiv:2606.09770) returns ``Z W^+``, which rounds all of X and loses what W, badly
    conditioned, does not carry.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> swap = Adaptor("h.0", torch.zeros(2), torch.tensor([1.0, 2.0]), torch.tensor([1, 0]), grid(2), "assigned")
    >>> swap.to_sheet(torch.tensor([[3.0, 4.0]])), swap.to_stream(torch.tensor([[2.0, 3.0]]))
    (tensor([[2., 3.]]), tensor([[3., 4.]]))
    """

    site: str
    mean: Float[Tensor, " units"]
    scale: Float[Tensor, " units"]
    matrix: Float[Tensor, "units units"] | Int64[Tensor, " units"]
    sheet: Sheet
    kind: str = "rotation"
    inverse: Float[Tensor, "units units"] | Int64[Tensor, " units"] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert to float32 on the CPU, then refuse anything an adaptor cannot be."""
        if not isinstance(self.site, str) or not self.site or any(letter in self.site for letter in "*?"):
            raise ValueError(f"site={self.site!r}; expected the name of one module, without wildcards")
        if self.kind not in KINDS:
            raise ValueError(f"adaptor at {self.site!r}: kind={self.kind!r}; expected one of {list(KINDS)}")
        expect_kind("sheet", self.sheet, Sheet, "such as grid(units)")
        n_units, where = self.sheet.n_units, f"adaptor at {self.site!r}"
        if self.sheet.is_readout:
            raise ValueError(f"{where}: its sheet holds the sites of a readout; give the sheet of the units")
        for name in ("mean", "scale"):
            vector = _numbers(getattr(self, name))
            if vector.shape != (n_units,) or not vector.isfinite().all():
                raise ValueError(
                    f"{where}: {name} has shape {tuple(vector.shape)} and {int((~vector.isfinite()).sum())} entries "
                    f"that are no numbers; expected one finite number for each of the {n_units} units of its sheet"
                )
            object.__setattr__(self, name, vector)
        if (n_dead := int((self.scale <= 0).sum())) > 0:
            raise ValueError(f"{where}: scale is not above 0 at {n_dead} units; leave constant units at a scale of 1")
        matrix, inverse = _SETTLED[self.kind](where, n_units, self.matrix, self.inverse)
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "inverse", inverse)
        try:
            json.dumps(dict(self.provenance))
        except TypeError as error:
            raise ValueError(f"{where}: provenance holds what JSON cannot ({error}); give numbers and words") from error

    @property
    def sheet_site(self) -> str:
        """Name of the module that shows Z while the adaptor is in its place."""
        return f"{self.site}.{_POINT}"

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.sheet.n_units

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of everything that decides Z and where it lies."""
        arrays = {name: array.tobytes().hex() for name, array in self._arrays().items()}
        return digest([self.site, self.kind, self.sheet.checksum, arrays])

    def to_sheet(self, activations: Float[Tensor, "*samples units"]) -> Float[Tensor, "*samples units"]:
        """Z of the activity X of the site, on the CPU."""
        return to_sheet(activations, self.mean, self.scale, self.matrix)

    def to_stream(self, change: Float[Tensor, "*samples units"]) -> Float[Tensor, "*samples units"]:
        """``dZ Q^-1 S``: what a change on the sheet adds to X, on the CPU."""
        return to_stream(change, self.scale, self.inverse)

    def __repr__(self) -> str:
        """One line."""
        return f"Adaptor({self.site!r}, {self.kind}, {self.n_units} units)"

    def _arrays(self) -> dict[str, np.ndarray]:
        # of a permutation and a rotation the inverse follows
        names = ("mean", "scale", "matrix", *(("inverse",) if self.kind == "linear" else ()))
        return {name: getattr(self, name).numpy() for name in names}

    def save(self, path: str | Path) -> None:
        """Write the adaptor and its sheet to one safetensors file."""
        sheet_arrays, sheet = self.sheet.to_arrays("sheet.")
        metadata = {"noun": "Adaptor", "site": self.site, "kind": self.kind, "sheet": sheet}
        save_arrays(path, self._arrays() | sheet_arrays, {**metadata, "provenance": dict(self.provenance)})

    @classmethod
    def load(cls, path: str | Path) -> "Adaptor":
        """Read what `save` wrote."""
        arrays, metadata = load_noun(path, "Adaptor")
        return cls(
            site=metadata["site"],
            **{
                name: torch.from_numpy(arrays[name])
                for name in ("mean", "scale", "matrix", "inverse")
                if name in arrays
            },
            sheet=Sheet.from_arrays(arrays, metadata["sheet"], "sheet."),
            kind=metadata["kind"],
            provenance=metadata["provenance"],
        )


@dataclass(frozen=True)
class ModelSource:
    """The model that a layout belongs to, as `topographic.runs.load_model` finds it."""

    model: str
    """Folder, .gguf file or name on the hub."""
    weights: str
    """`weights_checksum` of the model as it is read in float32."""
    tokenizer: str | None = None
    """Folder or name of its tokenizer; None where it lies beside the model."""

    def __post_init__(self) -> None:
        """Give places on this disk their whole path: a layout is read from other folders too."""
        for name in ("model", "tokenizer"):
            if (given := getattr(self, name)) is not None and Path(given).exists():
                object.__setattr__(self, name, str(Path(given).resolve()))


class Adaptors(Mapping[str, Adaptor]):
    """The adaptors of one model, by site.

    Parameters
    ----------
    adaptors : iterable of Adaptor
        One per site; a mapping gives its values.
    source : ModelSource, optional
        The model they belong to, which makes their folder one that commands can read.

    Raises
    ------
    ValueError
        If there is none, or two share a site.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> one = Adaptor("h.0", torch.zeros(4), torch.ones(4), torch.eye(4), grid(4), "rotation")
    >>> Adaptors([one])
    Adaptors(1 site: h.0; rotation, 4 units; no source)
    """

    def __init__(self, adaptors: Iterable[Adaptor] | Mapping[str, Adaptor], source: ModelSource | None = None) -> None:
        found: dict[str, Adaptor] = {}
        for one in adaptors.values() if isinstance(adaptors, Mapping) else adaptors:
            expect_kind("adaptors", one, Adaptor, "as fit_layout makes them, or Adaptor.load; or several")
            if one.site in found:
                raise ValueError(f"two adaptors for site {one.site!r}; give one per site")
            found[one.site] = one
        if not found:
            raise ValueError("no adaptors; expected at least one")
        self._of_site, self.source = found, source

    def __getitem__(self, site: str) -> Adaptor:
        """The adaptor of a site."""
        return self._of_site[site]

    def __iter__(self) -> Iterator[str]:
        """Sites, in the order they were given."""
        return iter(self._of_site)

    def __len__(self) -> int:
        """Number of sites."""
        return len(self._of_site)

    def __repr__(self) -> str:
        """One line."""
        sites, kinds = list(self), sorted({one.kind for one in self.values()})
        n_units = sorted({one.n_units for one in self.values()})
        named = sites[0] if len(sites) == 1 else f"{sites[0]} to {sites[-1]}"
        source = "no source" if self.source is None else self.source.model
        return (
            f"Adaptors({len(sites)} {'site' if len(sites) == 1 else 'sites'}: {named}; {', '.join(kinds)}, "
            f"{', '.join(map(str, n_units))} units; {source})"
        )

    def save(self, folder: str | Path) -> None:
        """Write a folder of one file per site and an index, in the place of an older one, all or nothing.

        One that holds results of another layout, such as its maps, is refused; with the same layout it stays as it is.
        """
        folder = Path(folder)
        if folder.exists() and not is_layout(folder) and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder} holds something else than a layout; choose another folder")
        if is_layout(folder) and (results := self._results_in(folder)):
            if self._is_saved_in(folder):
                return
            raise FileExistsError(
                f"{folder} holds {', '.join(results)} of the layout that is there; choose another folder, or move them"
            )
        with write_folder_atomically(folder) as staging:
            for site, one in self.items():
                one.save(staging / f"{site}.safetensors")
            source = None if self.source is None else asdict(self.source)
            save_json(staging / _INDEX, {"sites": list(self), "source": source})

    def _results_in(self, folder: Path) -> list[str]:
        """What lies in the folder of a layout and is no part of it."""
        own = {_INDEX, *(f"{site}.safetensors" for site in load_json(folder / _INDEX).get("sites", ()))}
        return sorted(path.name for path in folder.iterdir() if path.name not in own)

    def _is_saved_in(self, folder: Path) -> bool:
        there = Adaptors.load(folder)
        same = there.source == self.source and list(there) == list(self)
        return same and all(there[site].checksum == one.checksum for site, one in self.items())

    @classmethod
    def load(cls, folder: str | Path) -> "Adaptors":
        """Read what `save` wrote."""
        folder = Path(folder)
        if not is_layout(folder):
            raise FileNotFoundError(f"no {_INDEX} in {folder}; give a folder that Adaptors.save wrote")
        index = load_json(folder / _INDEX)
        try:
            sites, source = [str(site) for site in index["sites"]], index["source"]
            source = None if source is None else ModelSource(**source)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{folder / _INDEX} is no index of adaptors ({error}); write it again") from error
        return cls([Adaptor.load(folder / f"{site}.safetensors") for site in sites], source)


def is_layout(folder: str | Path) -> bool:
    """Whether a folder is one that `Adaptors.save` wrote.

    Examples
    --------
    >>> is_layout("runs/absent")
    False
    """
    return (Path(folder) / _INDEX).is_file()


def _numbers(values: Any) -> Tensor:
    return torch.as_tensor(values).detach().to("cpu", torch.float32, copy=True).contiguous()


def _permutation(where: str, n_units: int, matrix: Any, inverse: Any) -> tuple[Tensor, Tensor]:
    order = torch.as_tensor(matrix).detach().cpu()
    whole = not order.is_floating_point() and not order.is_complex() and order.dtype is not torch.bool
    order = order.to(torch.int64, copy=True).contiguous()
    if not whole or order.shape != (n_units,) or not torch.equal(order.sort().values, torch.arange(n_units)):
        raise ValueError(
            f"{where}: its assignment has shape {tuple(order.shape)}, or names units twice; expected every unit from 0 "
            f"to {n_units - 1} once, as whole numbers"
        )
    return order, order.argsort()


def _rotation(where: str, n_units: int, matrix: Any, inverse: Any) -> tuple[Tensor, Tensor]:
    rotation = _square(where, n_units, matrix)
    off = float((rotation.double().T @ rotation.double() - torch.eye(n_units)).abs().max())
    if off > _OFF:
        raise ValueError(
            f"{where}: its matrix is not orthogonal (Q^T Q is off by {off:.2g}); give a rotation, or kind='linear'"
        )
    return rotation, rotation.T.contiguous()


def _linear(where: str, n_units: int, matrix: Any, inverse: Any) -> tuple[Tensor, Tensor]:
    weights = _square(where, n_units, matrix)
    if inverse is None:
        found, info = torch.linalg.inv_ex(weights.double())
        inverse = found.float() if int(info) == 0 else torch.full_like(weights, torch.inf)
    inverse = _numbers(inverse)
    fits = inverse.shape == weights.shape and bool(inverse.isfinite().all())
    off = float((weights.double() @ inverse.double() - torch.eye(n_units)).abs().max()) if fits else torch.inf
    if off > _OFF:
        raise ValueError(
            f"{where}: its matrix has no inverse that undoes it (off by {off:.2g}, condition number "
            f"{float(torch.linalg.cond(weights.double())):.2g}); fit it again with the condition number bounded"
        )
    return weights, inverse


def _square(where: str, n_units: int, matrix: Any) -> Tensor:
    square = _numbers(matrix)
    if square.shape != (n_units, n_units) or not square.isfinite().all():
        raise ValueError(
            f"{where}: its matrix has shape {tuple(square.shape)} and {int((~square.isfinite()).sum())} entries that "
            f"are no numbers; expected ({n_units}, {n_units}), the units of its sheet"
        )
    return square


_SETTLED = {"assigned": _permutation, "rotation": _rotation, "linear": _linear}
