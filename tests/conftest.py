"""Fixtures shared by all tests."""

import gc
import io
import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import jaxtyping
import numpy as np
import pytest
import torch

pytest_plugins = ["fixtures.diffusion_runs", "fixtures.trained_runs", "fixtures.written_runs"]

# two cores, several workers: more threads than one each only make them wait for one another
torch.set_num_threads(1)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def shapes_checked(request, monkeypatch):
    """Shape annotations run, except where a test repeats what others check: they take most of its time."""
    if request.node.get_closest_marker("unchecked"):
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def shared() -> Path:
    """The folder of golden values, stimuli and data beside the checkout; the test skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no golden values or data at {folder}")
    return folder


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of randomness."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def process_group(tmp_path) -> Iterator[None]:
    """A distributed group of this process alone, on gloo.

    The group outlives the wrappers made in the test: where a wrapper's reducer is the last to let go of it, the
    group's destructor waits for gloo's threads while holding the lock that they may be waiting for.
    """
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    gc.collect()
    time.sleep(0.2)
    torch.distributed.destroy_process_group()


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
    """Functions that make tiny files in the formats that image data come in."""
    return SimpleNamespace(
        idx=idx,
        idx_files=idx_files,
        png=png,
        cifar10_png_files=cifar10_png_files,
        cifar10_batch=cifar10_batch,
        pgm=pgm,
        npy=npy,
    )


@pytest.fixture
def image_folders(made: SimpleNamespace, tmp_path: Path) -> dict[str, Path]:
    """Folders of every image set, of noise: 30 pictures of ten classes, and three of each of eight faces."""
    draw = np.random.default_rng(0)
    classes = np.arange(30) % 10
    small, large = draw.integers(0, 256, (30, 28, 28, 1), np.uint8), draw.integers(0, 256, (30, 32, 32, 3), np.uint8)
    files = {
        "mnist": made.idx_files(small, classes) | made.idx_files(small[:20], classes[:20], "train"),
        "fashion_mnist": made.idx_files(255 - small, classes),
        "cifar10": made.cifar10_png_files(large, classes)
        | {f"data_batch_{at}.bin": made.cifar10_batch(large[at - 1 :: 5], classes[at - 1 :: 5]) for at in range(1, 6)},
        "orl_faces": {
            f"s{person}/{number}.pgm": made.pgm(draw.integers(0, 256, (112, 92), np.uint8))
            for person in range(1, 9)
            for number in range(1, 4)
        },
    }
    for name, contents in files.items():
        for file, content in contents.items():
            path = tmp_path / "image sets" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return {name: tmp_path / "image sets" / name for name in files}
