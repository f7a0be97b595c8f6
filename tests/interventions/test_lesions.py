import numpy as np
import pytest
import torch
from torch import nn

from topographic.interventions.lesions import lesion_effects
from topographic.maps import Selection
from topographic.sheets import grid

SHEETS = {"0": grid((6, 6), "0")}


@pytest.fixture
def network():
    """Only units 0 to 5 (the first row of the sheet) carry the answer."""
    network = nn.Sequential(nn.Linear(1, 36), nn.Linear(36, 1, bias=False))
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[0].bias.zero_()
        network[1].weight.zero_()
        network[1].weight[0, :6] = 1.0
    return network


def measure(model):
    with torch.no_grad():
        return {"output": float(model(torch.ones(1, 1)))}


def table(network, mask, **arguments):
    rows = lesion_effects(network, [Selection("0", mask, SHEETS["0"], "test")], SHEETS, measure, **arguments)
    return {row.kind: row for row in rows}


def test_a_planted_lesion_beats_every_control(network):
    rows = table(network, np.arange(36) < 6, n_draws=40)
    assert (rows["intact"].value, rows["lesion"].value) == (6.0, 0.0)
    for control in ("model", "layer", "connected"):
        assert rows[control].value == 6.0, "no control touches the units that matter: they are disjoint"
        assert rows[control].p == pytest.approx(1 / 41)
        assert rows[control].n_units == 6


def test_a_lesion_beside_the_point_does_not(network):
    rows = table(network, np.arange(36) >= 30, n_draws=40)
    assert rows["lesion"].value == 6.0
    assert all(rows[control].p == 1.0 for control in ("model", "layer", "connected"))


def test_same_seed_same_table(network):
    mask = np.arange(36) % 6 == 1
    assert str(table(network, mask, n_draws=5, seed=3)) == str(table(network, mask, n_draws=5, seed=3))
    assert str(table(network, mask, n_draws=5, seed=3)) != str(table(network, mask, n_draws=5, seed=4))
