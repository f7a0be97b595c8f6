"""Tiny files in the formats that image data come in."""

import io
import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest


def idx(array: np.ndarray) -> bytes:
    """Unsigned bytes as an idx file."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_files(pixels: np.ndarray, classes: np.ndarray, prefix: str = "t10k") -> dict[str, bytes]:
    """Images and labels as MNIST has them."""
    return {
        f"{prefix}-images-idx3-ubyte": idx(pixels[..., 0]),
        f"{prefix}-labels-idx1-ubyte": idx(classes.astype("u1")),
    }


def png(array: np.ndarray) -> bytes:
    """One picture."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def cifar10_png_files(pixels: np.ndarray, classes: np.ndarray) -> dict[str, bytes]:
    """The test split as the package has it."""
    sheet = png(pixels.reshape(len(pixels), 1024, 3))
    return {"test_batch.png": sheet, "test_lables.json": json.dumps(classes.tolist()).encode()}


def cifar10_batch(pixels: np.ndarray, classes: np.ndarray) -> bytes:
    """One batch of the authors' binary version."""
    return b"".join(
        bytes([number]) + image.transpose(2, 0, 1).tobytes() for number, image in zip(classes, pixels, strict=True)
    )


def pgm(picture: np.ndarray, comment: str = "") -> bytes:
    """One gray picture."""
    height, width = picture.shape
    return b"P5\n" + comment.encode() + f"{width} {height}\n255\n".encode() + picture.tobytes()


def npy(array: np.ndarray) -> bytes:
    """One array."""
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.fixture
def made() -> SimpleNamespace:
    """The functions above."""
    return SimpleNamespace(
        idx=idx,
        idx_files=idx_files,
        png=png,
        cifar10_png_files=cifar10_png_files,
        cifar10_batch=cifar10_batch,
        pgm=pgm,
        npy=npy,
    )
