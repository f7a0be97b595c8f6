import pytest
import torch

from topographic.layouts import Adaptor
from topographic.sheets import grid


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
