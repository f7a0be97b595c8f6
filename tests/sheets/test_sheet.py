import dataclasses

import numpy as np
import pytest
import torch

from topographic.sheets import Sheet, grid, permuted_grid


def test_a_sheet_comes_back_from_disk(tmp_path):
    edges = torch.tensor([[0, 1], [1, 2]])
    for sheet in (
        permuted_grid(12, "h.0.attn", wrap=True),
        Sheet(name="mesh", positions_mm=np.random.default_rng(0).normal(size=(3, 3)), edges=edges),
        Sheet(name="sites", positions_mm=[[0.0, 0.5], [0.25, 0.0]], is_readout=True),
    ):
        sheet.save(tmp_path / "s.safetensors")
        loaded = Sheet.load(tmp_path / "s.safetensors")
        assert loaded == sheet
        assert hash(loaded) == hash(sheet)
        assert torch.equal(loaded.positions_mm, sheet.positions_mm)
        assert loaded.extent_mm == sheet.extent_mm


def test_a_sheet_is_frozen_and_in_double_precision():
    sheet = Sheet(name="s", positions_mm=torch.rand(4, 2, generator=torch.Generator().manual_seed(0)).half())
    assert sheet.positions_mm.dtype == torch.float64
    with pytest.raises(dataclasses.FrozenInstanceError):
        sheet.name = "t"


def test_equality_sees_geometry():
    sheet = grid(6, "a")
    assert sheet != grid(6, "b")
    assert sheet != dataclasses.replace(sheet, positions_mm=sheet.positions_mm.flip(0))
    assert sheet != dataclasses.replace(sheet, is_readout=True)
    assert sheet != dataclasses.replace(sheet, wrap=True)
    assert sheet != "a"


def test_extent_is_derived_from_positions():
    assert Sheet(name="s", positions_mm=[[0, 0], [2, 5.0]]).extent_mm == (2.0, 5.0)
    assert grid((2, 5)).extent_mm == (2.0, 5.0)
    assert grid((2, 5)).period_mm is None
    assert grid((2, 5), wrap=True).period_mm == (2.0, 5.0)


def test_coincident_units_are_told():
    assert not Sheet(name="s", positions_mm=[[0, 0], [1, 0], [1, 0]]).is_bijective
    assert grid(9).is_bijective


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"positions_mm": np.zeros(3)}, r"has shape \(3,\); expected \(units, 2\)"),
        ({"positions_mm": np.zeros((3, 4))}, r"has shape \(3, 4\)"),
        ({"positions_mm": np.zeros((0, 2))}, "at least one unit"),
        ({"positions_mm": [[0.0, np.nan]]}, "NaN or infinity"),
        ({"positions_mm": np.zeros((3, 2)), "wrap": True}, "torus needs its period"),
        ({"positions_mm": np.zeros((3, 2)), "extent_mm": (1.0,)}, "expected 2 finite lengths"),
        ({"positions_mm": np.zeros((3, 2)), "extent_mm": (0.0, 1.0), "wrap": True}, "cannot be the period"),
        ({"positions_mm": np.zeros((3, 2)), "edges": [[0, 3]]}, "edges name units 0 to 3; 0 to 2 exist"),
        ({"positions_mm": np.zeros((3, 2)), "edges": [[1, 1]]}, "joins a unit to itself"),
        ({"positions_mm": np.zeros((3, 2)), "edges": [1, 2]}, r"expected \(edges, 2\)"),
    ],
)
def test_what_cannot_be_a_sheet(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sheet(name="s", **arguments)


def test_loading_another_noun_is_refused(tmp_path):
    from topographic.maps import Selection

    Selection("s", np.array([True, False]), grid((1, 2)), "rule").save(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="holds a Selection; expected a Sheet"):
        Sheet.load(tmp_path / "x.safetensors")
