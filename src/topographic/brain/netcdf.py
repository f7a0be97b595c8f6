"""NetCDF files of either format: variables with the names of their axes, text as text, numbers as meant."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

__all__ = ["NetCDFVariable", "load_netcdf", "netcdf_axes"]

T = TypeVar("T")
_PACKING = (("scale_factor", 1.0), ("add_offset", 0.0))
_FILLS = ("_FillValue", "missing_value")
# what stands in the name of an axis of an HDF5 file that has no values of its own
_AXIS_ONLY = "This is a netCDF dimension but not a netCDF variable"


class NetCDFVariable(NamedTuple):
    """Values of a variable and the names of their axes."""

    axes: tuple[str, ...]
    values: np.ndarray


class _Stored(NamedTuple):
    """A variable that is not read yet."""

    axes: tuple[str, ...]
    read: Callable[[], np.ndarray]
    attributes: Mapping[str, Any]


def netcdf_axes(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Names of the variables of a file, and of the axes of each; an axis that is no variable has none."""
    return _read(Path(path), lambda stored: {name: one.axes for name, one in stored.items()})


def load_netcdf(path: str | Path, names: Sequence[str]) -> dict[str, NetCDFVariable]:
    """Variables by name (`netcdf_axes`), from the classic format or NetCDF-4, for which h5py is needed.

    Text comes as text, whether stored as strings or letter by letter along an axis, which is gone then; packed integers
    come unpacked, fill values as NaN, other numbers as they are. ValueError if the file is broken.
    """

    def chosen(stored: Mapping[str, _Stored]) -> dict[str, NetCDFVariable]:
        return {name: NetCDFVariable(stored[name].axes, _decoded(stored[name])) for name in names}

    return _read(Path(path), chosen)


def _read(path: Path, use: Callable[[dict[str, _Stored]], T]) -> T:
    if not path.is_file():
        raise FileNotFoundError(f"no NetCDF file at {path}")
    with open(path, "rb") as opened:
        is_classic = opened.read(3) == b"CDF"
    try:
        with _classic(path) if is_classic else _netcdf4(path) as stored:
            return use(stored)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is truncated or not a NetCDF file; copy it again") from error


@contextlib.contextmanager
def _classic(path: Path) -> Iterator[dict[str, _Stored]]:
    from scipy.io import netcdf_file

    with netcdf_file(path, mmap=False) as opened:
        yield {
            name: _stored(one.dimensions, one.data, one.data, one._attributes) for name, one in opened.variables.items()
        }


@contextlib.contextmanager
def _netcdf4(path: Path) -> Iterator[dict[str, _Stored]]:
    import h5py  # a NetCDF-4 file is an HDF5 file

    with h5py.File(path) as opened:
        found = {}
        for name, data in opened.items():
            if not isinstance(data, h5py.Dataset) or _text(data.attrs.get("NAME", "")).startswith(_AXIS_ONLY):
                continue
            is_scale = _text(data.attrs.get("CLASS", "")) == "DIMENSION_SCALE"
            axes = [
                str(scales[0].name).rsplit("/", 1)[-1] if len(scales) else name if is_scale else f"phony_dim_{axis}"
                for axis, scales in enumerate(data.dims)
            ]
            is_string = h5py.check_string_dtype(data.dtype) is not None and data.dtype != np.dtype("S1")
            found[name] = _stored(axes, data, data.asstr() if is_string else data, data.attrs)
        yield found


def _stored(axes: Sequence[str], array: Any, source: Any, attributes: Mapping[str, Any]) -> _Stored:
    """Letters lose their axis, as they will when they are read."""
    in_letters = array.dtype == np.dtype("S1") and array.ndim > 0
    return _Stored(tuple(axes[:-1] if in_letters else axes), lambda: np.asarray(source[()]), attributes)


def _decoded(stored: _Stored) -> np.ndarray:
    values = stored.read()
    if values.dtype == np.dtype("S1") and values.ndim:
        values = np.ascontiguousarray(values).view(f"S{values.shape[-1]}")[..., 0]
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    if values.dtype.kind == "O":
        return values.astype(str)
    if not any(key in stored.attributes for key in (*_FILLS, *dict(_PACKING))):
        return values.astype(values.dtype.newbyteorder("="))
    found = values.astype(np.float64)
    for key in _FILLS:
        if key in stored.attributes:
            found[values == np.ravel(stored.attributes[key])[0]] = np.nan
    scale, offset = (np.ravel(stored.attributes.get(key, default))[0] for key, default in _PACKING)
    return found * scale + offset


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
