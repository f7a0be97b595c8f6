"""Surfaces: files read as they were written, graphs as geometry has them, the published map's Moran's I."""

import numpy as np
import pytest
from scipy.io import netcdf_file
from scipy.spatial import Delaunay

from topographic.brain import (
    SurfaceMesh,
    load_mesh,
    load_surface_map,
    load_surface_series,
    threshold_as_published,
)
from topographic.maps import UnitMap, control_fdr, morans_i
from topographic.maps.clusters import clusters

nibabel = pytest.importorskip("nibabel", reason="needs the extra topographic[brain]")
h5py = pytest.importorskip("h5py", reason="needs the extra topographic[brain]")

VALUES = np.array([3.0, 1, np.nan, 4, 1, 5])


def save_netcdf4(path, columns, **attributes):
    with h5py.File(path, "w") as opened:
        opened["coords"] = np.arange(len(next(iter(columns.values()))))
        opened["coords"].make_scale("coords")
        for name, values in columns.items():
            opened[name] = values
            opened[name].dims[0].attach_scale(opened["coords"])
            opened[name].attrs.update(attributes)
    return path


def save_classic(path, columns, **attributes):
    with netcdf_file(path, "w") as opened:
        opened.createDimension("coords", len(next(iter(columns.values()))))
        for name, values in {"coords": np.arange(6, dtype="i4"), **columns}.items():
            variable = opened.createVariable(name, values.dtype, ("coords",))
            variable[:] = values
            if name != "coords":
                for key, value in attributes.items():
                    setattr(variable, key, value)
    return path


class TestMesh:
    def test_edges_are_those_of_the_triangles(self):
        points = np.random.default_rng(0).normal(size=(40, 2))
        triangles = Delaunay(points)
        mesh = SurfaceMesh("x", np.column_stack([points, np.zeros(40)]), triangles.simplices)
        starts, neighbours = triangles.vertex_neighbor_vertices
        expected = {(i, j) for i in range(40) for j in neighbours[starts[i] : starts[i + 1]] if i < j}
        assert {tuple(edge) for edge in mesh.edges.tolist()} == expected
        assert mesh.sheet.positions_mm.shape == (40, 3)

    def test_a_file_comes_back(self, save_gifti, plane):
        mesh = plane(3, 4, 0.5)
        read = load_mesh(save_gifti("x.surf.gii", mesh))
        np.testing.assert_array_equal(read.positions_mm, mesh.positions_mm)
        np.testing.assert_array_equal(read.triangles, mesh.triangles)

    def test_fsaverage5_ships_with_nilearn(self):
        pytest.importorskip("nilearn", reason="needs the extra topographic[brain]")
        mesh = load_mesh("fsaverage5/pial_left")
        assert (mesh.positions_mm.shape, mesh.triangles.shape) == ((10242, 3), (20480, 3))
        # Euler's formula for a closed surface without handles: V - E + F = 2
        assert 10242 - len(mesh.edges) + 20480 == 2
        assert mesh.positions_mm[:, 0].mean() < 0, "the left hemisphere lies at negative x"
        with pytest.raises(ValueError, match=r"no fsaverage5 surface 'pail_left'; expected one of \['pial_left'"):
            load_mesh("fsaverage5/pail_left")

    @pytest.mark.parametrize(
        ("positions", "triangles", "message"),
        [
            (np.zeros((4, 2)), [[0, 1, 2]], r"positions \(4, 2\) and triangles \(1, 3\); expected \(vertices, 3\)"),
            (np.full((3, 3), np.nan), [[0, 1, 2]], "holds NaN or infinity"),
            (np.zeros((3, 3)), [[0, 1, 3]], "expected triangles over vertices 0 to 2"),
            (np.zeros((3, 3)), [[0, 1, 1]], "names one vertex twice"),
            (np.zeros((3, 3)), [[1, 0, 1]], "names one vertex twice"),
        ],
    )
    def test_what_no_mesh_can_be(self, positions, triangles, message):
        with pytest.raises(ValueError, match=message):
            SurfaceMesh("x", positions, triangles)

    def test_absent_truncated_or_foreign(self, tmp_path, save_gifti, plane):
        with pytest.raises(FileNotFoundError, match=r"no mesh at .*none\.surf\.gii; give a \.surf\.gii file"):
            load_mesh(tmp_path / "none.surf.gii")
        with pytest.raises(ValueError, match="holds no surface"):
            load_mesh(save_gifti("x.func.gii", [("t", VALUES)]))
        whole = save_gifti("x.surf.gii", plane(3, 4)).read_bytes()
        for content in (whole[:700], b"", b"no xml"):
            (tmp_path / "half.surf.gii").write_bytes(content)
            with pytest.raises(ValueError, match=r"half\.surf\.gii is truncated or not a GIFTI file"):
                load_mesh(tmp_path / "half.surf.gii")


class TestMap:
    @pytest.mark.parametrize("kind", ["gifti", "netcdf4", "classic"])
    def test_values_come_back_on_their_vertices(self, kind, tmp_path, save_gifti, plane):
        mesh = plane(2, 3)
        columns = {"t": VALUES, "p": np.array([0.1, 0.2, np.nan, 0.3, 0.4, 0.5])}
        if kind == "gifti":
            path = save_gifti("x.func.gii", columns.items())
        else:
            path = {"netcdf4": save_netcdf4, "classic": save_classic}[kind](tmp_path / "x.nc", columns)
        loaded = load_surface_map(path, mesh, variable="t", p_variable="p")
        np.testing.assert_array_equal(loaded.values, VALUES.astype(np.float32))
        np.testing.assert_allclose(loaded.p, columns["p"], rtol=1e-7)
        assert (loaded.site, loaded.statistic) == (path.name, "t")
        counts = {key: loaded.provenance[key] for key in ("n_vertices", "n_without_value", "n_alone")}
        assert counts == {"n_vertices": 6, "n_without_value": 1, "n_alone": 0}
        assert loaded.sheet == mesh.sheet
        loaded.save(tmp_path / "map.safetensors")
        again = UnitMap.load(tmp_path / "map.safetensors")
        assert again.sheet.checksum == mesh.sheet.checksum
        assert np.isnan(again.values[2])

    def test_one_variable_needs_no_name_and_arrays_may_go_by_number(self, save_gifti, plane):
        assert load_surface_map(save_gifti("a.gii", [("", VALUES)]), plane(2, 3)).statistic == "0"
        both = save_gifti("b.func.gii", [("", VALUES), ("", 2 * VALUES)])
        np.testing.assert_array_equal(load_surface_map(both, plane(2, 3), variable="1").values, 2 * VALUES)
        with pytest.raises(ValueError, match=r"holds \['0', '1'\]; say which with variable="):
            load_surface_map(both, plane(2, 3))

    @pytest.mark.parametrize("save", [save_netcdf4, save_classic])
    def test_packed_integers_and_fill_values(self, save, tmp_path, plane):
        stored = np.array([10, 20, -99, 30, 0, 40], dtype="i2")
        attributes = {"_FillValue": np.int16(-99), "scale_factor": 0.5, "add_offset": 1.0}
        loaded = load_surface_map(save(tmp_path / "x.nc", {"t": stored}, **attributes), plane(2, 3))
        np.testing.assert_array_equal(loaded.values, [6, 11, np.nan, 16, 1, 21])

    def test_zeros_of_the_medial_wall(self, save_gifti, plane):
        path = save_gifti("x.func.gii", [("t", [1, 0, 2, 0, 3, 4])])
        assert load_surface_map(path, plane(2, 3)).provenance["n_without_value"] == 0
        loaded = load_surface_map(path, plane(2, 3), missing_value=0.0, site="lh")
        np.testing.assert_array_equal(np.isnan(loaded.values), [False, True, False, True, False, False])
        assert loaded.site == "lh"

    def test_a_vertex_whose_neighbours_have_no_values_is_counted(self, save_gifti, plane):
        values = np.full(12, np.nan)
        values[[0, 10, 11]] = 1.0, 2.0, 4.0
        loaded = load_surface_map(save_gifti("x.func.gii", [("t", values)]), plane(3, 4))
        assert loaded.provenance["n_alone"] == 1

    def test_a_vertex_in_no_triangle(self, save_gifti, plane):
        mesh = plane(2, 3)
        cut = SurfaceMesh("cut", np.vstack([mesh.positions_mm, [[9, 9, 9]]]), mesh.triangles)
        path = save_gifti("x.func.gii", [("t", [*VALUES, np.nan])])
        assert load_surface_map(path, cut).provenance["n_without_value"] == 2
        path = save_gifti("y.func.gii", [("t", [*VALUES, 1.0])])
        with pytest.raises(
            ValueError, match=r"1 vertices have a value but lie in no triangle of mesh 'cut' \(first: 6"
        ):
            load_surface_map(path, cut)

    def test_what_does_not_fit(self, tmp_path, save_gifti, plane):
        path = save_gifti("x.func.gii", [("t", VALUES), ("d", VALUES)])
        with pytest.raises(ValueError, match=r"has no variable 'p'; expected one of \['t', 'd'\]"):
            load_surface_map(path, plane(2, 3), variable="p")
        with pytest.raises(ValueError, match=r"'t' has shape \(6,\); mesh 'plane' has 12 vertices: give the mesh"):
            load_surface_map(path, plane(3, 4), variable="t")
        with pytest.raises(ValueError, match="'d' holds numbers outside 0 to 1; expected p values"):
            load_surface_map(path, plane(2, 3), variable="t", p_variable="d")
        with pytest.raises(FileNotFoundError, match=r"no surface map at .*none\.nc"):
            load_surface_map(tmp_path / "none.nc", plane(2, 3))
        (tmp_path / "x.txt").write_text("1 2 3")
        with pytest.raises(ValueError, match=r"ends in none of \['\.gii', '\.gii\.gz', '\.nc'\]"):
            load_surface_map(tmp_path / "x.txt", plane(2, 3))
        for content in (b"CDF\x01 broken", b"\x89HDF broken", b""):
            (tmp_path / "x.nc").write_bytes(content)
            with pytest.raises(ValueError, match=r"x\.nc is truncated or not a NetCDF file"):
                load_surface_map(tmp_path / "x.nc", plane(2, 3))

    def test_moran_equals_esda_with_missing_vertices(self, save_gifti, plane):
        esda, libpysal = pytest.importorskip("esda"), pytest.importorskip("libpysal")
        mesh, generator = plane(9, 11), np.random.default_rng(1)
        values = generator.normal(size=99).cumsum()
        values[generator.choice(99, 12, replace=False)] = np.nan
        loaded = load_surface_map(save_gifti("x.func.gii", [("t", values)]), mesh)
        kept = np.flatnonzero(~np.isnan(values))
        graph = {int(v): [] for v in kept}
        for a, b in mesh.edges.tolist():
            if a in graph and b in graph:
                graph[a].append(b)
                graph[b].append(a)
        weights = libpysal.weights.W(graph, silence_warnings=True)
        expected = esda.Moran(loaded.values[weights.id_order], weights, permutations=0)
        found = morans_i(loaded)
        assert found.value == pytest.approx(expected.I, abs=1e-6)
        assert found.z_normal == pytest.approx(expected.z_norm, abs=1e-4)


def test_series_are_scans_by_vertices(save_gifti):
    scans = np.arange(12.0).reshape(4, 3)
    read = load_surface_series(save_gifti("run.func.gii", [("", scan) for scan in scans]))
    np.testing.assert_array_equal(read, scans)
    with pytest.raises(ValueError, match=r"holds arrays of shapes \[\(2,\), \(3,\)\]; expected one a scan"):
        load_surface_series(save_gifti("bad.func.gii", [("", [1, 2]), ("", [1, 2, 3])]))


class TestThreshold:
    def test_what_fails_and_what_is_left_alone_goes(self, plane):
        values = np.arange(1.0, 13.0)
        q = np.full(12, 0.5)
        q[[0, 1, 11]] = 0.01
        kept = threshold_as_published(UnitMap("x", values, plane(3, 4).sheet, "t", q=q))
        np.testing.assert_array_equal(np.flatnonzero(~np.isnan(kept.values)), [0, 1])
        assert kept.statistic == "t where q < 0.05 (thresholded: inflates Moran's I)"
        assert kept.provenance["n_passed"] == 2

    def test_it_inflates(self, plane):
        """The same smooth noise, before and after keeping its extremes."""
        mesh, generator = plane(40, 40), np.random.default_rng(2)
        values = generator.normal(size=1600)
        smooth = values.copy()
        for a, b in ((0, 1), (1, 0)):
            np.add.at(smooth, mesh.edges[:, a], values[mesh.edges[:, b]])
        q = np.where(np.abs(smooth) > 1.5 * smooth.std(), 0.01, 1.0)
        whole = UnitMap("x", smooth, mesh.sheet, "t", q=q, nulls={"label": np.zeros((2, 1600))})
        kept = threshold_as_published(whole)
        assert kept.nulls == {}
        assert morans_i(kept).value > morans_i(UnitMap("x", smooth, mesh.sheet, "t")).value + 0.2

    def test_what_it_needs(self, plane):
        bare = UnitMap("x", np.arange(12.0), plane(3, 4).sheet, "t")
        with pytest.raises(ValueError, match="has no q; correct all maps together with control_fdr first"):
            threshold_as_published(bare)
        with pytest.raises(ValueError, match="q=nan; expected a rate above 0"):
            threshold_as_published(UnitMap("x", np.arange(12.0), bare.sheet, "t", q=np.ones(12)), q=float("nan"))
        with pytest.raises(ValueError, match=r"no two neighbours pass q < 0\.05; nothing would be left"):
            threshold_as_published(UnitMap("x", np.arange(12.0), bare.sheet, "t", q=np.ones(12)))


class TestPublishedMap:
    @pytest.fixture
    def published(self, shared):
        return load_surface_map(
            shared / "data/brain/hauptman2024_verb_noun/group-level-contrast-even.nc",
            shared / "data/brain/fslr32k/S1200.L.midthickness_MSMAll.32k_fs_LR.surf.gii",
            variable="t_values",
            p_variable="p_values",
        )

    def test_morans_i_and_what_the_threshold_makes_of_it(self, published):
        assert published.provenance["n_without_value"] == 2891
        assert published.provenance["n_alone"] == 0
        assert morans_i(published).value == pytest.approx(0.939, abs=1e-3)
        corrected = control_fdr({published.site: published})[published.site]
        kept = threshold_as_published(corrected)
        assert morans_i(kept).value > 0.98
        largest = clusters(corrected)[0]
        assert largest.n_selected > 100
        assert (corrected.q[largest.mask] < 0.05).all()
        assert (corrected.values[largest.mask] > 0).all()

    def test_the_flat_surface_is_cut(self, shared):
        with pytest.raises(
            ValueError, match=r"223 vertices have a value but lie in no triangle of mesh 'S1200\.L\.flat"
        ):
            load_surface_map(
                shared / "data/brain/hauptman2024_verb_noun/group-level-contrast-even.nc",
                shared / "data/brain/fslr32k/S1200.L.flat.32k_fs_LR.surf.gii",
                variable="t_values",
            )
