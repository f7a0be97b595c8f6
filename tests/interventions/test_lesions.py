import inspect

import numpy as np
import pytest
import torch
from torch import nn

from topographic.interventions.lesions import lesion_effects
from topographic.maps import Selection
from topographic.sheets import grid, permuted_grid

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


def test_a_measure_may_return_one_number(network):
    chosen = Selection("0", np.arange(36) < 6, SHEETS["0"], "test")
    named = lesion_effects(network, chosen, SHEETS, measure, n_draws=3)
    alone = lesion_effects(network, chosen, None, lambda model: measure(model)["output"], n_draws=3)
    assert [row.measure for row in alone] == ["value"] * 5
    assert [(row.kind, row.value, row.sd) for row in alone] == [(row.kind, row.value, row.sd) for row in named]


def never(model):
    raise AssertionError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_draws": 0}, "n_draws=0; expected at least 1"),
        ({"n_draws": -1}, "n_draws=-1; expected at least 1"),
        ({"seed": -1}, "seed=-1; expected at least 0"),
        ({"mode": "burn"}, "mode='burn'; expected one of"),
        ({"mode": "mean"}, "needs recorded responses of '0'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(network, options, message):
    chosen = [Selection("0", np.arange(36) < 6, SHEETS["0"], "test")]
    with pytest.raises(ValueError, match=message):
        lesion_effects(network, chosen, SHEETS, never, **options)
    with pytest.raises(ValueError, match="has 1 units outside the lesion of 35; choose a smaller lesion"):
        lesion_effects(network, [Selection("0", np.arange(36) < 35, SHEETS["0"], "test")], SHEETS, never)


def test_a_lesion_whose_site_has_no_sheet_gets_no_smaller_controls(network):
    chosen = [Selection("0", np.arange(36) < 6, SHEETS["0"], "test")]
    with pytest.raises(ValueError, match="the lesion has units at '0', which has no sheet; add it to sheets"):
        lesion_effects(network, chosen, {"1": grid((1, 1), "1")}, never)


def test_selections_of_one_site_are_one_lesion(network):
    halves = [Selection("0", np.isin(np.arange(36), units), SHEETS["0"], "test") for units in ((0, 1, 2), (3, 4, 5))]
    rows = {row.kind: row for row in lesion_effects(network, halves, SHEETS, measure, n_draws=5)}
    whole = table(network, np.arange(36) < 6, n_draws=5)
    assert {kind: str(row) for kind, row in rows.items()} == {kind: str(row) for kind, row in whole.items()}


class Carrier(nn.Sequential):
    def sheets(self):
        return {"0": permuted_grid((6, 6), "0")}


def test_controls_lie_on_the_sheets_that_a_model_carries(network):
    model = Carrier(*network)
    own = Selection("0", np.arange(36) < 6, model.sheets()["0"], "test")
    rows = lesion_effects(model, own, None, measure, n_draws=3)
    assert [row.value for row in rows] == [
        row.value for row in lesion_effects(network, own, model.sheets(), measure, n_draws=3)
    ]
    other = Selection("0", np.arange(36) < 6, SHEETS["0"], "test")
    with pytest.raises(ValueError, match="the selection puts the units of site '0' elsewhere than the sheet"):
        lesion_effects(model, other, None, never)
    with pytest.raises(ValueError, match="sheets= puts the units of site '0' elsewhere than the sheet"):
        lesion_effects(model, own, SHEETS, never)
    assert len(lesion_effects(model, other, SHEETS, measure, n_draws=2, relayout=True)) == 5


def test_what_is_no_selection_is_refused_in_one_line(network):
    for given, described in (
        ({"0": SHEETS["0"]}, "a dict of 1 Sheet"),
        ([np.arange(36) < 6], "an? ndarray"),
        ("0", "the"),
    ):
        with pytest.raises(TypeError, match=rf"^selections is {described}.*; expected a Selection: as select"):
            inspect.unwrap(lesion_effects)(network, given, SHEETS, never)
