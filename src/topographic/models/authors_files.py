"""The kinds of file that the authors of TopoLM and TopoNets released, read without running anything they contain.

All are pickles, which may hold instructions to call any function. They are read here by unpicklers that know the few
names such a file needs and refuse every other one before anything happens.
"""

import io
import pickle  # noqa: S403 - only to derive an unpickler that refuses whatever is not listed
import re
import warnings
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["StoredPositions", "read_checkpoint", "read_positions"]


@dataclass(frozen=True, eq=False)
class StoredPositions:
    """Places of the units of one sheet, as the authors stored them.

    Parameters
    ----------
    coordinates : ndarray, shape (units, 2)
        Places on the lattice, one step apart.
    masks : ndarray of bool, shape (neighborhoods, units), optional
        The neighbourhoods the spatial loss was computed on.
    """

    coordinates: Float[np.ndarray, "units 2"]
    masks: Bool[np.ndarray, "neighborhoods units"] | None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a ``.pt`` file that holds nothing but data."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; give the authors' .pt file")
    try:
        stored = _only_data(path)
    except _Refusal as refusal:
        raise ValueError(f"{path} {refusal}, which is refused and was not run; expected nothing but data") from None
    except (RuntimeError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is truncated or not a PyTorch checkpoint; copy it again") from error
    for entry in ("model", "model_args"):
        default = {} if entry == "model_args" else None
        if not isinstance(stored, dict) or not isinstance(stored.get(entry, default), dict):
            held = sorted(map(str, stored)) if isinstance(stored, dict) else type(stored).__name__
            raise ValueError(
                f"{path} has no {entry!r} (it holds {held}); expected a checkpoint of TopoLM's train.py or of nanoGPT"
            )
    return stored


def read_positions(folder: str | Path, n_layer: int) -> dict[str, StoredPositions]:
    """Read the places of the units of every sheet."""
    folder = Path(folder)
    expected = {
        f"layer.{i}.{kind}": f"transformer.h.{i}.{kind}_sheet" for i in range(n_layer) for kind in ("attn", "mlp")
    }
    present = {path.stem for path in folder.glob("*.pkl")}
    if missing := sorted(expected.keys() - present):
        raise FileNotFoundError(f"{folder} lacks {missing[0]}.pkl and {len(missing) - 1} more; expected two per block")
    if surplus := sorted(present - expected.keys()):
        raise ValueError(f"{folder} holds {surplus[0]}.pkl, but the model has {n_layer} blocks; give its own positions")
    return {site: _read_layer(folder / f"{name}.pkl") for name, site in expected.items()}


class _Refusal(Exception):
    """A file asks for something that is not data; says for what."""


def _only_data(file: Path | io.BytesIO) -> Any:
    """What torch.load makes of a file of tensors, numbers, strings and containers."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", str(error))
        raise _Refusal(f"asks for {asked[1]}" if asked else "holds more than tensors and numbers") from None


# what the standard unpickler raises on damaged files, besides its own error
_BROKEN = (EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError)


class _PositionsUnpickler(pickle.Unpickler):  # noqa: S301 - refuses what is not listed
    """Unpickler that builds one record of tensors and nothing else.

    The record's class and the functions are made anew for each file, so that not even they can be tampered with.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        super().__init__(file)
        self.known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch.storage", "_load_from_bytes"): lambda stored: _only_data(io.BytesIO(stored)),
            ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: _tensor(*parts),
        }
        self.record = type("LayerPositions", (), {})

    def find_class(self, module: str, name: str) -> Any:
        """Give what is on the list, refuse the rest."""
        if name == "LayerPositions":
            return self.record
        if (module, name) not in self.known:
            raise _Refusal(f"asks for {module}.{name}")
        return self.known[module, name]


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    needed = 1 + offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if min(size, default=1) < 1 or needed > len(storage) or min((offset, *stride)) < 0:
        raise _Refusal("holds a tensor that reaches beyond its numbers")
    return torch.empty(0, dtype=storage.dtype).set_(storage.untyped(), offset, size, stride).clone()


def _read_layer(path: Path) -> StoredPositions:
    with open(path, "rb") as opened, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TypedStorage is deprecated")
        reader = _PositionsUnpickler(opened)
        try:
            record = reader.load()
        except _Refusal as refusal:
            raise ValueError(
                f"{path} {refusal}, which is refused and was not run; expected nothing but a record of positions"
            ) from None
        except (*_BROKEN, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is truncated or not a file of positions; copy it again") from error
    fields = vars(record) if isinstance(record, reader.record) else {}
    coordinates, masks = fields.get("coordinates"), fields.get("neighborhood_indices")
    if not isinstance(coordinates, Tensor) or coordinates.ndim != 2 or coordinates.shape[1] != 2:
        raise ValueError(f"{path} holds no coordinates of shape (units, 2) but {sorted(fields)}; give a positions file")
    if masks is not None and (not isinstance(masks, Tensor) or masks.shape[1:] != coordinates.shape[:1]):
        raise ValueError(f"{path}: its neighbourhoods do not fit its {len(coordinates)} units; copy it again")
    return StoredPositions(coordinates.double().numpy(), None if masks is None else masks.bool().numpy())
