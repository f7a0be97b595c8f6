import math

import numpy as np
import pytest
import torch

from topographic.layers import RECEPTIVE_FIELDS, receptive_fields
from topographic.layers.receptive_fields import check_fields
from topographic.sheets import Sheet, grid, head_tiles, permuted_grid


@pytest.mark.parametrize(("side", "fraction", "units"), [(20, 0.1, 37), (20, 0.2, 81), (20, 0.3, 121), (28, 0.3, 241)])
def test_discs_have_as_many_units_as_the_published_ones(side, fraction, units):
    fields = receptive_fields(grid(side * side, wrap=True), fraction)
    assert fields.sum(-1).unique().tolist() == [units]


@pytest.mark.parametrize(("name", "fraction"), [("querying", 0.1), ("reweighting", 0.3)])
def test_discs_are_those_of_the_published_code(shared, name, fraction):
    with np.load(shared / "golden" / "topoformer_attention_10x10.npz") as golden:
        np.testing.assert_array_equal(receptive_fields(grid(100, wrap=True), fraction), golden[f"{name}_mask"])


@pytest.mark.parametrize("kind", RECEPTIVE_FIELDS)
@pytest.mark.parametrize(
    "sheet",
    [grid(36, wrap=True), grid(36), grid((3, 12), spacing_mm=0.5), permuted_grid(25), head_tiles(64, n_heads=4)],
    ids=["torus", "plane", "rectangle", "permuted", "tiles"],
)
def test_fields_are_symmetric_and_every_unit_lies_in_its_own(sheet, kind):
    fields = receptive_fields(sheet, 0.2, kind)
    assert fields.dtype == torch.bool
    assert (fields == fields.T).all()
    assert fields.diagonal().all()


def test_a_disc_goes_round_a_torus_and_ends_at_an_edge():
    torus, plane = (receptive_fields(grid(100, wrap=wrap), 0.1)[0].reshape(10, 10) for wrap in (True, False))
    assert torus[9, 0]
    assert torus[0, 9]
    assert not plane[9].any()
    assert (plane <= torus).all()


def test_positions_and_not_the_order_of_units_decide():
    placed, regular = permuted_grid(100, wrap=True), grid(100, wrap=True)
    order = (placed.positions_mm[:, 0] * 10 + placed.positions_mm[:, 1]).long()
    expected = receptive_fields(regular, 0.2)[order][:, order]
    assert (receptive_fields(placed, 0.2) == expected).all()


def test_distance_in_mm_changes_nothing():
    assert (receptive_fields(grid(64, spacing_mm=0.3), 0.2) == receptive_fields(grid(64), 0.2)).all()


def test_random_fields_fall_off_as_a_gaussian_and_are_as_large_as_discs():
    sheet, fraction = grid(400, wrap=True), 0.2
    fields = torch.stack([receptive_fields(sheet, fraction, "gaussian", seed=seed) for seed in range(30)]).double()
    assert fields.sum(-1).mean() == pytest.approx(fraction * 400, rel=0.02)
    for distance in (3, 6):
        expected = math.exp(-math.pi * distance**2 / (fraction * 400))
        assert fields[:, torch.arange(400 - distance), torch.arange(400 - distance) + distance][
            :, torch.arange(400 - distance) % 20 < 20 - distance
        ].mean() == pytest.approx(expected, abs=0.02)
    first, again = (receptive_fields(sheet, fraction, "gaussian", seed=0) for _ in range(2))
    assert (first == again).all()
    assert (first != fields[1].bool()).any()


def test_full_fields_hold_every_unit_and_discs_of_all_leave_corners_out():
    assert receptive_fields(grid(49, wrap=True), 0.1, "full").all()
    assert not receptive_fields(grid(100, wrap=True), 1.0).all()


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.01, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ValueError, match=r"fraction=.*above 0 and at most 1"):
        receptive_fields(grid(16), fraction)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind='square'; expected one of"):
        receptive_fields(grid(16), 0.2, "square")


@pytest.mark.parametrize(
    "sheet",
    [
        Sheet(name="mesh", positions_mm=torch.eye(3), edges=torch.tensor([[0, 1], [1, 2]])),
        Sheet(name="line", positions_mm=torch.tensor([[0.0, 0.0], [0.0, 1.0]])),
    ],
    ids=lambda sheet: sheet.name,
)
def test_a_sheet_without_area_is_refused(sheet):
    with pytest.raises(ValueError, match="no plane with an area"):
        receptive_fields(sheet, 0.2)


def test_fields_that_fit_no_units_and_empty_fields_are_refused():
    with pytest.raises(ValueError, match=r"shape \(3, 3\) for 4 units; expected \(4, 4\)"):
        check_fields(torch.ones(3, 3, dtype=torch.bool), 4)
    fields = torch.eye(4, dtype=torch.bool)
    fields[2] = False
    with pytest.raises(ValueError, match="1 of 4 receptive fields hold no unit"):
        check_fields(fields, 4)
