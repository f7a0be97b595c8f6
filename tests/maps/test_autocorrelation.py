import warnings

import numpy as np
import pytest
from esda import Moran
from libpysal.weights import W, lat2W
from scipy.spatial import Delaunay

from topographic.maps import NotMeasurable, UnitMap, morans_i
from topographic.maps.autocorrelation import _autocorrelation, _row_standardised_weights
from topographic.sheets import Sheet, adjacent_pairs, grid, permuted_grid


def esda(values, pairs):
    """Moran's I by esda, for neighbours given as ordered pairs."""
    neighbours = {unit: [] for unit in range(len(values))}
    for one, other in pairs:
        neighbours[int(one)].append(int(other))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Moran(values.astype(np.float64), W(neighbours, silence_warnings=True), permutations=0)


def mesh(n_vertices=80):
    points = np.random.default_rng(0).random((n_vertices, 2))
    triangles = Delaunay(points).simplices
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]]), axis=1)
    return Sheet("mesh", np.c_[points, np.zeros(n_vertices)], edges=np.unique(edges, axis=0))


SHEETS = {
    "square": grid((8, 8)),
    "oblong": grid((6, 10)),
    "line": grid((1, 30)),
    "permuted": permuted_grid(60, "p", shape=(6, 10)),
    "torus": grid((7, 9), wrap=True),
    "mesh": mesh(),
}


@pytest.mark.parametrize("contiguity", ["queen", "rook"])
@pytest.mark.parametrize("sheet", SHEETS.values(), ids=SHEETS)
def test_it_equals_esda(sheet, contiguity):
    values = np.random.default_rng(1).standard_normal(sheet.n_units).astype(np.float32)
    found = morans_i(UnitMap("s", values, sheet, "t"), contiguity)
    expected = esda(values, adjacent_pairs(sheet, contiguity))
    assert found.value == pytest.approx(expected.I, abs=1e-12)
    assert found.expected == pytest.approx(expected.EI, abs=1e-15)
    assert found.z_normal == pytest.approx(expected.z_norm, rel=1e-9)
    assert found.p_normal == pytest.approx(expected.p_norm, rel=1e-9)


def test_golden(shared):
    golden, sheet = np.load(shared / "golden" / "moran_28x28.npz"), grid(784)
    maps = golden["maps"].reshape(10, 784)
    for contiguity in ("queen", "rook"):
        weights = _row_standardised_weights(sheet, contiguity, np.ones(784, bool))
        np.testing.assert_allclose(_autocorrelation(maps, weights), golden[f"I_{contiguity}"], atol=1e-12)
        # through the door a map is float32, which moves the last digits
        found = [morans_i(UnitMap("s", one, sheet, "t"), contiguity).value for one in maps]
        np.testing.assert_allclose(found, golden[f"I_{contiguity}"], atol=1e-8)
    third = morans_i(UnitMap("s", maps[3], sheet, "t"))
    assert third.expected == golden["expected_I"]
    assert third.z_normal == pytest.approx(float(golden["z_norm_map3"]), rel=1e-7)
    assert third.p_normal == pytest.approx(float(golden["p_norm_map3"]), rel=1e-4)  # 1e-307: its logarithm is exact


def test_a_transposed_sheet_would_show():
    """Stripes along the rows of an oblong sheet: neighbours within a row agree, rows alternate."""
    stripes = (np.arange(6)[:, None] % 2) * np.ones(10)
    oblong = UnitMap("s", stripes.ravel(), grid((6, 10)), "t")
    transposed = UnitMap("s", stripes.T.ravel(), grid((6, 10)), "t")
    expected = Moran(stripes.ravel(), lat2W(6, 10, rook=True), permutations=0).I
    assert morans_i(oblong, "rook").value == pytest.approx(expected, abs=1e-12)
    assert abs(morans_i(transposed, "rook").value - expected) > 0.05
    # a gradient down the rows, wherever the units sit
    sheet = permuted_grid(60, "p", shape=(6, 10))
    gradient = UnitMap("s", sheet.positions_mm[:, 0].numpy(), sheet, "t")
    ordered = UnitMap("s", np.repeat(np.arange(6.0), 10), grid((6, 10)), "t")
    assert morans_i(gradient).value == pytest.approx(morans_i(ordered).value, abs=1e-12)
    assert morans_i(gradient).value > 0.8


@pytest.mark.parametrize("sheet", [grid((6, 10)), mesh()], ids=["grid", "mesh"])
def test_units_without_a_value_leave_with_their_edges(sheet):
    rng = np.random.default_rng(2)
    values = rng.standard_normal(sheet.n_units).astype(np.float32)
    values[rng.choice(sheet.n_units, 15, replace=False)] = np.nan
    kept = np.flatnonzero(~np.isnan(values))
    pairs = adjacent_pairs(sheet).numpy()
    pairs = np.searchsorted(kept, pairs[np.isin(pairs, kept).all(1)])
    found, expected = morans_i(UnitMap("s", values, sheet, "t")), esda(values[kept], pairs)
    assert found.value == pytest.approx(expected.I, abs=1e-12)
    assert found.z_normal == pytest.approx(expected.z_norm, rel=1e-9)


def test_islands_have_no_weight_but_count_as_values():
    values = np.random.default_rng(3).standard_normal(6).astype(np.float32)
    sheet = Sheet("mesh", np.random.default_rng(0).random((6, 2)), edges=np.array([[0, 1], [1, 2], [2, 3]]))
    found, expected = morans_i(UnitMap("s", values, sheet, "t")), esda(values, adjacent_pairs(sheet))
    assert found.value == pytest.approx(expected.I, abs=1e-12)
    assert found.expected == -1 / 5


def test_every_null_map_gets_the_same_treatment():
    rng = np.random.default_rng(4)
    sheet, pairs = SHEETS["permuted"], adjacent_pairs(SHEETS["permuted"])
    nulls = {null: rng.standard_normal((5, 60)).astype(np.float32) for null in ("floor", "unit", "label")}
    found = morans_i(UnitMap("s", rng.standard_normal(60), sheet, "t", nulls=nulls))
    for null, reference in (("floor", found.floor), ("unit", found.unit_null), ("label", found.label_null)):
        expected = [esda(one, pairs).I for one in nulls[null]]
        np.testing.assert_allclose(reference.draws, expected, atol=1e-7)
        assert reference.p == (1 + np.sum(np.array(expected) >= found.value)) / 6


def test_a_null_map_without_variance_counts_as_unstructured():
    nulls = {"label": np.stack([np.zeros(60), np.ones(60)])}
    found = morans_i(UnitMap("s", np.arange(60.0), SHEETS["oblong"], "t", nulls=nulls))
    assert found.label_null.draws.tolist() == [-1 / 59, -1 / 59]


def test_it_reads_well():
    nulls = {"unit": np.random.default_rng(0).standard_normal((99, 60))}
    lines = str(morans_i(UnitMap("s", np.arange(60.0), SHEETS["oblong"], "t", nulls=nulls))).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Moran's I = 0.8")
    assert lines[1].startswith("  unit null    ")
    assert "over 99 draws: z = " in lines[1]
    assert lines[1].endswith("p = .010")
    bare = UnitMap("s", np.arange(60.0), SHEETS["oblong"], "t")
    assert str(morans_i(bare)).splitlines()[1] == "  no null was drawn"


@pytest.mark.parametrize("values", [np.full(60, 2.0), np.r_[1.0, 2.0, np.full(58, np.nan)]])
def test_a_constant_map_is_refused(values):
    with pytest.raises(NotMeasurable, match=r"the map at 's' is constant or has fewer than 3 values"):
        morans_i(UnitMap("s", values, grid((6, 10)), "t"))


def test_a_sheet_without_neighbours_is_refused():
    sheet = Sheet("mesh", np.random.default_rng(0).random((4, 2)), edges=np.empty((0, 2), np.int64))
    with pytest.raises(NotMeasurable, match="no two units with a value are neighbours; give the sheet `edges`"):
        morans_i(UnitMap("s", np.arange(4.0), sheet, "t"))


def test_null_maps_need_values_where_the_map_has_them():
    nulls = {"unit": np.array([[0.0, np.nan, 1.0, 2.0], [1.0, 2.0, 3.0, 5.0]])}
    with pytest.raises(ValueError, match="null 'unit' is NaN where the map is not"):
        morans_i(UnitMap("s", np.arange(4.0), grid((2, 2)), "t", nulls=nulls))
