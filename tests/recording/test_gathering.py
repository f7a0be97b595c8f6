from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from tqdm.auto import tqdm

from topographic.recording.gathering import gather
from topographic.sheets import grid


class Shown(NamedTuple):
    indices: list
    run: object


def test_rows_lie_where_their_items_do_and_the_model_is_given_back_as_it_was():
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(2, 6), nn.Dropout(0.5)), torch.randn(3, 2)
    batches = [Shown([2, 0], lambda: model(inputs[[2, 0]])), Shown([1], lambda: model(inputs[[1]]))]
    with tqdm(total=3, disable=True) as bar:
        values, sheets = gather(model, ["0", "1"], grid, batches, lambda batch, site, heard: heard, n_rows=3, bar=bar)
    assert sheets == {"0": grid(6, "0"), "1": grid(6, "1")}
    np.testing.assert_allclose(values["0"], model[0](inputs).detach(), atol=1e-6)
    np.testing.assert_array_equal(values["0"], values["1"])
    assert model.training
    assert values["0"].dtype == np.float32


def test_other_rows_and_an_error_inside():
    model = nn.Sequential(nn.Linear(2, 6))
    batch = Shown([0], lambda: model(torch.ones(2, 2)))
    settings = {"n_rows": 4, "bar": tqdm(disable=True)}
    values, _ = gather(model, ["0"], grid, [batch], lambda batch, site, heard: heard, rows=lambda _: [1, 3], **settings)
    np.testing.assert_allclose(values["0"][[1, 3]], model(torch.ones(2, 2)).detach(), atol=1e-6)
    with pytest.raises(KeyError):
        gather(model, ["0"], grid, [batch], lambda batch, site, heard: {}["no"], **settings)
    assert model.training
    assert "forward" not in vars(model[0])
