"""Dose and response of patches around a peak."""

import numpy as np
import pytest
import torch
from torch import nn

from topographic.interventions import grown_patch, lesion_curve
from topographic.layouts import Adaptor, rebased
from topographic.maps import UnitMap
from topographic.recording import Responses
from topographic.sheets import grid
from topographic.stimuli import StimulusSet

SHEET = grid((12, 12), "0.sheet")


def peak_at(row, column):
    places = SHEET.positions_mm.numpy() - [row, column]
    return UnitMap("0.sheet", np.exp(-np.square(places).sum(1) / 20), SHEET, "t")


class TestPatch:
    def test_patches_are_connected_nested_and_follow_the_values(self):
        unit_map = peak_at(5, 6)
        small, large = grown_patch(unit_map, 5), grown_patch(unit_map, 21)
        assert (small.n_selected, large.n_selected) == (5, 21)
        assert (large.mask | small.mask == large.mask).all()
        assert unit_map.values[large.mask].min() >= np.sort(unit_map.values)[-21]

    def test_a_unit_without_a_value_ends_it(self):
        values = np.array([3.0, np.nan, 5.0, 1.0])
        line = UnitMap("a", values, grid((1, 4)), "t")
        assert grown_patch(line, 2).mask.tolist() == [False, False, True, True]
        with pytest.raises(ValueError, match="connected with 2 units that have a value; expected 3"):
            grown_patch(line, 3)


@pytest.fixture
def network():
    """What a rebased layer says is read from a disc of its sheet of 12 x 12 units."""
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(144, 144))[0]
    disc = torch.from_numpy(np.square(SHEET.positions_mm.numpy() - [5, 6]).sum(1) < 9).float()
    model = nn.Sequential(nn.Linear(1, 144), nn.Linear(144, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(turn @ torch.ones(144, 1))
        model[0].bias.zero_()
        model[1].weight.copy_((turn @ disc)[None])
    return model, Adaptor("0", torch.zeros(144), torch.ones(144), turn, grid((12, 12), "0"))


def measure(model):
    with torch.no_grad():
        return {"read": float(model(torch.ones(1, 1)))}


@pytest.mark.parametrize("is_matched", [False, True])
def test_on_a_rebased_model_the_effect_grows_with_the_patch_and_beats_its_controls(network, is_matched):
    model, adaptor = network
    unit_map = UnitMap("0.sheet", peak_at(5, 6).values, adaptor.sheet, "t")
    generator = np.random.default_rng(0)
    shown = StimulusSet("tokens", [str(one) for one in range(50)], ["a"] * 50)
    removed = {"0.sheet": Responses("0.sheet", 1 + 0.3 * generator.standard_normal((50, 144)), adaptor.sheet, shown)}
    before = measure(model)["read"]
    with rebased(model, adaptor):
        curve = lesion_curve(
            model, unit_map, [21, 5], measure, removed=removed if is_matched else None, tolerance=0.3, n_draws=19
        )
    assert measure(model)["read"] == before
    table = curve.to_frame()
    assert not curve.unmeasured
    lesion = table[table["kind"] == "lesion"].set_index("size")["value"]
    assert lesion[5] == pytest.approx(before - 5, abs=1e-3)
    assert lesion[21] == pytest.approx(before - 21, abs=1e-3)
    connected = table[table["kind"] == "connected"].set_index("size")
    assert (connected["p (corrected)"] >= connected["p"]).all()
    assert connected.loc[21, "p"] <= 2 / 20
    assert connected.loc[21, "effect"] < -5
    assert (set(table["kind"]) == {"intact", "lesion", "connected"}) == is_matched


def test_a_size_without_room_is_told_and_the_others_stay(network):
    model, adaptor = network
    shown = StimulusSet("tokens", [str(one) for one in range(50)], ["a"] * 50)
    values = 1 + 0.3 * np.random.default_rng(0).standard_normal((50, 144))
    unit_map = UnitMap("0.sheet", peak_at(5, 6).values, adaptor.sheet, "t")
    values[:, grown_patch(unit_map, 3).mask] *= 30
    removed = {"0.sheet": Responses("0.sheet", values, adaptor.sheet, shown)}
    with rebased(model, adaptor):
        curve = lesion_curve(model, unit_map, [3], measure, removed=removed, n_draws=5)
    assert list(curve.unmeasured) == [3]
    assert "remove as much as the lesion" in curve.unmeasured[3]
    assert curve.to_frame().empty


@pytest.mark.parametrize("sizes", [[], [3, 3]])
def test_sizes(network, sizes):
    with pytest.raises(ValueError, match="expected different numbers of units, at least one"):
        lesion_curve(network[0], peak_at(1, 1), sizes, measure)
