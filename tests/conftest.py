"""Fixtures shared by all tests."""

import os
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
