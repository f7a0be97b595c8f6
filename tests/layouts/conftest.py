"""Populations whose map is known, and adaptors drawn at random."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from topographic.layouts import Adaptor
from topographic.sheets import Sheet, grid


class Planted(NamedTuple):
    """Tuning that is smooth on a hidden lattice, then mixed; what it was fitted on and what it is judged on."""

    sheet: Sheet
    fitted: np.ndarray
    judged: np.ndarray
    mixing: np.ndarray


@pytest.fixture
def planted():
    """Function that makes a population with a hidden map, mixed by a random rotation or permutation."""

    def make(shape, n_samples, *, mixed_by, seed=0, sigma=1.5, noise=0.3, wrap=False):
        draw = np.random.default_rng(seed)
        n_units = shape[0] * shape[1]
        sheet = grid(n_units, shape=shape, wrap=wrap)
        apart = np.abs(sheet.positions_mm.numpy()[:, None] - sheet.positions_mm.numpy()[None])
        if wrap:
            apart = np.minimum(apart, np.array(shape) - apart)
        kernel = np.exp(-(apart**2).sum(-1) / (2 * sigma**2))
        kernel /= np.linalg.norm(kernel, axis=0)
        hidden = draw.normal(size=(2 * n_samples, n_units)) @ kernel
        hidden += noise * draw.normal(size=hidden.shape)
        if mixed_by == "rotation":
            mixing = np.linalg.qr(draw.normal(size=(n_units, n_units)))[0]
            mixed = hidden @ mixing
        else:
            mixing = draw.permutation(n_units)
            mixed = hidden[:, mixing]
        return Planted(sheet, mixed[:n_samples], mixed[n_samples:], mixing)

    return make


@pytest.fixture
def make_adaptor():
    """An adaptor of any kind with everything drawn at random."""

    def make(site, n_units=36, kind="rotation", seed=0, **kwargs):
        draw = torch.Generator().manual_seed(seed)
        mean, scale = torch.randn(n_units, generator=draw), 0.2 + torch.rand(n_units, generator=draw)
        square = torch.randn(n_units, n_units, generator=draw)
        rotation = torch.linalg.qr(square)[0]
        matrix = {
            "assigned": torch.randperm(n_units, generator=draw),
            "rotation": rotation,
            "linear": rotation @ torch.diag(torch.linspace(0.5, 2, n_units)) @ rotation.roll(1, 0),
        }[kind]
        return Adaptor(site, mean, scale, matrix, grid(n_units, f"{site}.sheet"), kind, **kwargs)

    return make
