import numpy as np
import pytest
import torch
from libpysal.weights import lat2W
from scipy.spatial.distance import cdist

from topographic.sheets import (
    Sheet,
    adjacency,
    adjacent_pairs,
    distances,
    grid,
    grid_cells,
    grid_shape,
    lattice_coordinates,
    permuted_grid,
    spacing_mm,
    to_grid,
)


@pytest.mark.parametrize(("norm", "metric"), [("l1", "cityblock"), ("l2", "euclidean"), ("linf", "chebyshev")])
def test_distances_equal_scipy(norm, metric, generator):
    one = torch.rand(7, 2, generator=generator, dtype=torch.float64)
    two = torch.rand(5, 2, generator=generator, dtype=torch.float64)
    np.testing.assert_allclose(distances(one, two, norm=norm), cdist(one, two, metric), atol=1e-14)
    np.testing.assert_allclose(distances(one, norm=norm), cdist(one, one, metric), atol=1e-14)


def test_batched_distances(generator):
    positions = torch.rand(3, 6, 2, generator=generator)
    whole = distances(positions)
    for index in range(3):
        assert torch.equal(whole[index], distances(positions[index]))


def test_on_a_torus_the_shorter_way_counts():
    sheet = grid((6, 10), wrap=True)
    between = distances(sheet.positions_mm, period_mm=sheet.period_mm, norm="l1")
    assert between[0, 5 * 10 + 9] == 2
    assert between[0, 3 * 10 + 5] == 8
    assert between.max() == 8


def test_unknown_norm():
    with pytest.raises(ValueError, match=r"norm='l3'; expected one of \['l1', 'l2', 'linf'\]"):
        distances(torch.zeros(2, 2), norm="l3")


@pytest.mark.parametrize("contiguity", ["queen", "rook"])
def test_adjacency_equals_libpysal(contiguity):
    weights = lat2W(4, 7, rook=contiguity == "rook")
    expected = sorted((i, j) for i, neighbours in weights.neighbors.items() for j in neighbours)
    assert adjacent_pairs(grid((4, 7)), contiguity).tolist() == [list(pair) for pair in expected]


def test_adjacency_follows_the_permutation():
    sheet = permuted_grid((4, 7), "x", spacing_mm=0.3)
    between = distances(sheet.positions_mm, norm="linf")
    expected = ((between < 0.31) & ~torch.eye(28, dtype=torch.bool)).nonzero()
    assert torch.equal(adjacent_pairs(sheet), expected)


def test_adjacency_on_a_torus_is_regular():
    for contiguity, degree in (("queen", 8), ("rook", 4)):
        pairs = adjacent_pairs(grid((5, 6), wrap=True), contiguity)
        assert torch.bincount(pairs[:, 0]).tolist() == [degree] * 30


@pytest.mark.parametrize("contiguity", ["queen", "rook"])
@pytest.mark.parametrize(
    "sheet",
    [
        permuted_grid(42, "shuffled"),
        grid((2, 5), wrap=True),
        grid((3, 4), wrap=True),
        grid((1, 6)),
        Sheet("odd", torch.tensor([[0.0, 0], [0, 1], [1, 1], [3, 1], [3, 2], [2, 3]], dtype=torch.float64)),
        Sheet("odd", torch.tensor([[0.0, 0], [0, 1], [0, 1], [1, 1]], dtype=torch.float64)),
        Sheet("odd", torch.tensor([[0.0, 0], [0, 1.0001], [1, 0], [1, 1]], dtype=torch.float64)),
    ],
    ids=["permuted", "narrow torus", "torus", "line", "holes", "shared place", "off the lattice"],
)
def test_adjacency_equals_distances(sheet, contiguity):
    norm = {"queen": "linf", "rook": "l1"}[contiguity]
    near = distances(sheet.positions_mm, norm=norm, period_mm=sheet.period_mm) <= spacing_mm(sheet) * (1 + 1e-6)
    assert torch.equal(adjacent_pairs(sheet, contiguity), near.fill_diagonal_(fill_value=False).nonzero())


def test_a_mesh_uses_its_edges():
    sheet = Sheet(name="mesh", positions_mm=torch.zeros(3, 3), edges=[[0, 2], [2, 0], [1, 2]])
    assert adjacent_pairs(sheet).tolist() == [[0, 2], [1, 2], [2, 0], [2, 1]]


@pytest.mark.parametrize("contiguity", ["queen", "rook"])
def test_the_graph_holds_the_pairs_and_nothing_else(contiguity):
    sheet = permuted_grid((4, 7), "x")
    graph = adjacency(sheet, contiguity)
    assert graph.shape == (28, 28)
    assert set(graph.data.tolist()) == {1}
    assert sorted(zip(*(axis.tolist() for axis in graph.nonzero()), strict=True)) == [
        tuple(pair) for pair in adjacent_pairs(sheet, contiguity).tolist()
    ]


def test_unknown_contiguity():
    with pytest.raises(ValueError, match="expected 'queen' or 'rook'"):
        adjacent_pairs(grid(4), "bishop")


def test_cells_are_counted_along_the_rows():
    shape, cells = grid_cells(grid((3, 4), spacing_mm=0.5))
    assert (shape, cells.tolist()) == ((3, 4), list(range(12)))
    sheet = permuted_grid((3, 4), "sheet")
    shape, cells = grid_cells(sheet)
    assert sorted(cells.tolist()) == list(range(12))
    values = np.arange(12.0)
    np.testing.assert_array_equal(to_grid(sheet, values).ravel()[cells.numpy()], values)
    assert grid_cells(Sheet("gap", torch.tensor([[0.0, 2.0], [1.0, 0.0], [0.0, 1.0]])))[1].tolist() == [2, 3, 1]


def test_cells_need_a_lattice_with_one_unit_in_a_place():
    mesh = Sheet("mesh", torch.rand(3, 3), edges=torch.tensor([[0, 1]]))
    with pytest.raises(ValueError, match="sheet 'mesh' is not a lattice, so its units have no rows"):
        grid_cells(mesh)
    with pytest.raises(ValueError, match="sheet 'pair' has 3 units in 2 places; expected one unit in a place"):
        grid_cells(Sheet("pair", torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]])))


def test_to_grid_puts_every_value_at_its_place():
    sheet = permuted_grid((3, 5), "x")
    values = np.arange(15.0)
    picture = to_grid(sheet, values)
    assert picture.shape == (3, 5)
    for unit, (row, column) in enumerate(sheet.positions_mm.long().tolist()):
        assert picture[row, column] == unit
    stacked = to_grid(sheet, np.stack([values, -values]))
    np.testing.assert_array_equal(stacked[1], -picture)


def test_to_grid_averages_coincident_units_and_leaves_holes():
    sheet = Sheet(name="x", positions_mm=[[0, 0], [1, 1], [1, 1.0]])
    np.testing.assert_array_equal(to_grid(sheet, np.array([1.0, 2.0, 4.0])), [[1.0, np.nan], [np.nan, 3.0]])


def test_to_grid_keeps_missing_values_in_their_place():
    picture = to_grid(grid((2, 2)), np.array([1.0, np.nan, 3.0, 4.0]))
    np.testing.assert_array_equal(picture, [[1.0, np.nan], [3.0, 4.0]])


def test_to_grid_refuses_meshes_and_wrong_lengths():
    mesh = Sheet(name="mesh", positions_mm=torch.zeros(3, 3), edges=[[0, 1]])
    with pytest.raises(ValueError, match="is not a lattice"):
        to_grid(mesh, np.zeros(3))
    with pytest.raises(ValueError, match="has 4 units and got 3 values"):
        to_grid(grid(4), np.zeros(3))


def test_lattices_are_recognised():
    assert grid_shape(permuted_grid((4, 6), "x", spacing_mm=0.25)) == (4, 6)
    assert lattice_coordinates(Sheet(name="x", positions_mm=[[0, 0], [1, 0.4], [0, 1.0]])) is None
    assert spacing_mm(grid(9, spacing_mm=0.7)) == pytest.approx(0.7)
    assert spacing_mm(Sheet(name="x", positions_mm=[[2.0, 2.0]])) == 1.0
