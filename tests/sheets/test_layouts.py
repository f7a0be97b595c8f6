import functools

import pytest
import torch

from topographic.sheets import LAYOUTS, Sheet, from_positions, grid, grid_shape, head_tiles, permuted_grid
from topographic.sheets.layouts import strip_warning


@pytest.mark.parametrize(
    ("n_units", "shape"), [(784, (28, 28)), (768, (24, 32)), (3072, (48, 64)), (30, (5, 6)), (2, (1, 2)), (1, (1, 1))]
)
def test_grid_takes_the_squarest_rectangle(n_units, shape):
    assert grid_shape(grid(n_units)) == shape


def test_grid_is_row_major():
    sheet = grid((2, 3), spacing_mm=0.5)
    assert sheet.positions_mm.tolist() == [[0, 0], [0, 0.5], [0, 1.0], [0.5, 0], [0.5, 0.5], [0.5, 1.0]]


@pytest.mark.parametrize("name", ["transformer.h.0.attn", "transformer.h.0.mlp", "transformer.h.1.attn"])
def test_permuted_grid_is_a_bijection_onto_the_grid(name):
    sheet = permuted_grid(784, name, seed=3)
    assert sheet.is_bijective
    assert torch.equal(torch.unique(sheet.positions_mm, dim=0), torch.unique(grid(784).positions_mm, dim=0))


def test_permutations_differ_by_site_and_seed_and_repeat():
    one = permuted_grid(784, "a", seed=0)
    assert one == permuted_grid(784, "a", seed=0)
    fixed = (one.positions_mm == permuted_grid(784, "b", seed=0).positions_mm).all(1).sum()
    assert fixed < 10, "a fixed point is expected once on average"
    assert not torch.equal(one.positions_mm, permuted_grid(784, "a", seed=1).positions_mm)


def test_permuting_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    permuted_grid(100, "a")
    assert torch.equal(before, torch.get_rng_state())


def test_head_tiles_are_contiguous_squares():
    sheet = head_tiles(784, "attn", n_heads=16)
    assert sheet.is_bijective
    assert grid_shape(sheet) == (28, 28)
    for head in range(16):
        block = sheet.positions_mm[head * 49 : (head + 1) * 49]
        assert block.min(0).values.tolist() == [7.0 * (head // 4), 7.0 * (head % 4)]
        assert (block.max(0).values - block.min(0).values).tolist() == [6.0, 6.0]
    assert sheet.positions_mm[49 * 5 + 8].tolist() == [7 + 1, 7 + 1]


def test_given_positions():
    layout = from_positions(torch.tensor([[0.0, 0.0], [1.5, 2.0]]))
    assert layout(2, "x").positions_mm[1].tolist() == [1.5, 2.0]
    with pytest.raises(ValueError, match="has 3 units; the given positions place 2"):
        layout(3, "x")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_places_every_unit(layout):
    arguments = {"n_heads": 4} if layout is head_tiles else {}
    sheet = layout(36, "x", **arguments)
    assert isinstance(sheet, Sheet)
    assert (sheet.n_units, sheet.name, sheet.is_bijective) == (36, "x", True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid(13), "13 units fill no rectangle but 1 x 13"),
        (lambda: grid(12, shape=(5, 3)), "12 units do not fill 5 x 3 = 15 places"),
        (lambda: grid(0), "expected at least 1"),
        (lambda: grid(4, spacing_mm=0.0), "expected a positive length in mm"),
        (lambda: head_tiles(784, n_heads=10), "10 heads do not divide 784 units"),
    ],
)
def test_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("n_units", "layout", "multiple_of", "said"),
    [
        (62, grid, 2, "a strip of 2 x 31, where they have few neighbours; choose 60 (6 x 10) or 64 (8 x 8)"),
        (62, grid, 1, "a strip of 2 x 31, where they have few neighbours; choose 60 (6 x 10) or 63 (7 x 9)"),
        (62, grid, 31, "a strip of 2 x 31, where they have few neighbours"),
        (10, grid, 1, None),
        (100, grid, 1, None),
        (22, grid, 1, "a strip of 2 x 11, where they have few neighbours; choose 20 (4 x 5) or 24 (4 x 6)"),
        (
            124,
            functools.partial(head_tiles, n_heads=2),
            2,
            "2 x 62, where they have few neighbours; choose 98 (7 x 14) or 128 (8 x 16)",
        ),
        (13, grid, 1, None),  # refused elsewhere
    ],
)
def test_a_strip_is_said_with_better_widths(n_units, layout, multiple_of, said):
    found = strip_warning(n_units, layout, multiple_of=multiple_of)
    assert found is None if said is None else said in found
    with torch.device("meta"):
        assert strip_warning(n_units, layout, multiple_of=multiple_of) == found
