"""Pictures of surfaces: which side is seen, what hides what, and what the colours say."""

import numpy as np
import pytest

from topographic.brain import SurfaceMesh
from topographic.maps import UnitMap
from topographic.plots.surface_figures import VIEWS, draw_surface_map, draw_surface_views

pytest.importorskip("matplotlib", reason="needs the extra topographic[report]")


def box(x_mm, y_mm, z_mm, name="box"):
    """One small triangle parallel to each face of a box: left, right, back, front, bottom, top."""
    low, high = np.zeros(3), np.array([x_mm, y_mm, z_mm], dtype=float)
    points, corners = [], []
    for axis in range(3):
        for side in (low, high):
            centre = (low + high) / 2
            centre[axis] = side[axis]
            for other in np.delete(np.eye(3), axis, axis=0):
                points.append(centre + other)
            points.append(centre - 1)
            points[-1][axis] = side[axis]
            corners.append(range(len(points) - 3, len(points)))
    return SurfaceMesh(name, np.array(points), np.array(corners))


def drawn(ax):
    """Centres of the triangles as drawn, in the order of drawing, and their colours."""
    (collection,) = ax.collections
    centres = np.array([path.vertices[:3].mean(0) for path in collection.get_paths()])
    return centres, collection.get_facecolors()[:, :3]


def on_faces(mesh, values, **arguments):
    """Map with one value for each triangle of three corners of its own."""
    return UnitMap("site", np.repeat(np.asarray(values, dtype=float), 3), mesh.sheet, "t", **arguments)


FACES = ("left", "right", "back", "front", "bottom", "top")


@pytest.mark.parametrize("view", VIEWS)
def test_the_face_on_the_viewers_side_is_drawn_last(view):
    mesh = box(40, 60, 50)
    values = np.full(6, -1.0)
    values[FACES.index(view)] = 1.0
    _, colours = drawn(draw_surface_map(on_faces(mesh, values), mesh, view=view, limit=2.0))
    reddish = colours[:, 0] > colours[:, 2]
    assert reddish.tolist() == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("view", "to_the_right", "upwards"),
    [
        ("left", "back", "top"),
        ("right", "front", "top"),
        ("front", "left", "top"),
        ("back", "right", "top"),
        ("top", "right", "front"),
        ("bottom", "left", "front"),
    ],
)
def test_what_is_right_and_what_is_up(view, to_the_right, upwards):
    """A viewer at the front of a head has its left side on the right hand."""
    mesh = box(40, 60, 50)
    for face, axis in ((to_the_right, 0), (upwards, 1)):
        values = np.full(6, -1.0)
        values[FACES.index(face)] = 1.0
        centres, colours = drawn(draw_surface_map(on_faces(mesh, values), mesh, view=view, limit=2.0))
        reddish = colours[:, 0] > colours[:, 2]
        assert reddish.sum() == 1
        assert centres[reddish, axis] == centres[:, axis].max()


def test_views_are_rotations():
    for rows in VIEWS.values():
        assert np.linalg.det(np.array(rows)) == 1, "a mirror image would swap the hemispheres"


def test_colours_say_the_values():
    mesh = box(4, 4, 4)
    values = on_faces(mesh, [0, 0, 0, 0, 0, 0]).values.copy()
    values[15:] = 1.0, 2.0, 3.0  # the top triangle, mean 2
    strong = drawn(draw_surface_map(UnitMap("x", values, mesh.sheet, "t"), mesh, view="top", limit=2.0))[1][-1]
    beyond = drawn(draw_surface_map(UnitMap("x", 5 * values, mesh.sheet, "t"), mesh, view="top", limit=2.0))[1][-1]
    np.testing.assert_allclose(strong, beyond)
    zero = drawn(draw_surface_map(UnitMap("x", 0 * values, mesh.sheet, "t"), mesh, view="top", limit=2.0))[1][-1]
    assert zero.min() > 0.95, "zero is white where the light falls straight"
    values[16] = np.nan
    (grey,) = {tuple(drawn(draw_surface_map(UnitMap("x", values, mesh.sheet, "t"), mesh, view="top"))[1][-1])}
    assert max(grey) - min(grey) < 0.01, "one corner without a value leaves the triangle without"


def test_vertices_without_a_value_show_the_folds():
    mesh = box(4, 4, 4)
    depth = np.linspace(-1, 1, 18)
    empty = UnitMap("x", np.r_[np.full(15, np.nan), 1.0, 1.0, 1.0], mesh.sheet, "t")
    _, colours = drawn(draw_surface_map(empty, mesh, view="left", sulcal_depth=depth))
    # the right face lies behind the left one, both without a value and both square to the light
    assert colours[0, 0] > colours[-1, 0], "deeper is darker"
    assert np.ptp(colours[[0, -1]], axis=1).max() < 1e-9


def test_light_falls_from_the_viewer():
    mesh = box(4, 4, 4)
    _, colours = drawn(draw_surface_map(on_faces(mesh, np.zeros(6)), mesh, view="top", limit=1.0))
    assert sorted(np.round(colours[:, 0] / colours.max(), 2)) == [0.55] * 4 + [1.0] * 2


def test_the_axes_that_go_in_come_out_and_hold_the_whole_surface():
    from matplotlib.figure import Figure

    mesh = box(40, 60, 50)
    ax = Figure().subplots()
    assert draw_surface_map(on_faces(mesh, range(6)), mesh, ax, view="left") is ax
    assert ax.get_xlim()[0] < -60
    assert ax.get_xlim()[1] > 0
    assert (ax.get_ylim()[0] < 0, ax.get_ylim()[1] > 50) == (True, True)
    assert ax.get_aspect() == 1.0
    (collection,) = ax.collections
    assert collection.get_rasterized()


def test_several_views_share_one_scale(tmp_path):
    mesh = box(20, 60, 50)
    figure = draw_surface_views(on_faces(mesh, range(6)), mesh, ("left", "front"), limit=3.0)
    left, front, bar = figure.axes
    assert [one.texts[0].get_text() for one in (left, front)] == ["from the left", "from the front"]
    assert bar.get_xlim() == (-3.0, 3.0)
    assert bar.get_xlabel() == "t"
    figure.savefig(tmp_path / "x.png", dpi=60)
    widths = [ax.get_position().width for ax in (left, front)]
    assert widths[0] / widths[1] == pytest.approx(60 / 20, rel=0.1)


def test_what_cannot_be_drawn():
    mesh, other = box(4, 4, 4), SurfaceMesh("small", np.eye(3), [[0, 1, 2]])
    one = on_faces(mesh, range(6))
    with pytest.raises(ValueError, match="map at 'site' has 18 vertices and mesh 'small' 3; give surfaces of one"):
        draw_surface_map(one, other)
    with pytest.raises(ValueError, match="sulcal_depth at 'site' has 4 vertices and mesh 'box' 18"):
        draw_surface_map(one, mesh, sulcal_depth=np.zeros(4))
    for draw in (lambda: draw_surface_map(one, mesh, view="lateral"), lambda: draw_surface_views(one, mesh, ["above"])):
        with pytest.raises(ValueError, match=r"view='(lateral|above)'; expected one of \['left', 'right'"):
            draw()


def test_a_real_hemisphere(shared):
    """The flat surface is cut, so some vertices lie in no triangle: they are neither drawn nor in the way."""
    from topographic.brain import load_mesh

    mesh = load_mesh(shared / "data/brain/fslr32k/S1200.L.flat.32k_fs_LR.surf.gii")
    full = load_mesh(shared / "data/brain/fslr32k/S1200.L.midthickness_MSMAll.32k_fs_LR.surf.gii")
    ax = draw_surface_map(UnitMap("x", full.positions_mm[:, 1], full.sheet, "y (mm)"), mesh, view="top")
    centres, colours = drawn(ax)
    assert len(centres) == len(mesh.triangles) == 59013
    front, back = colours[:, 0] > colours[:, 2] + 0.5, colours[:, 2] > colours[:, 0] + 0.5
    assert centres[front, 0].mean() < centres[back, 0].mean(), "the frontal lobe lies left on the flat left hemisphere"
