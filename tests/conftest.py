"""Fixtures shared by all tests."""

import gc
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# two cores, several workers: more threads than one each only make them wait for one another
torch.set_num_threads(1)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


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
