import doctest
import sys

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from topographic.drawing import draw_sheet, draw_sheets, picture, symmetric_limit
from topographic.sheets import Sheet, from_positions, grid, permuted_grid, to_grid

SHEET = grid((3, 5), "h.0.attn")


def hot_corner():
    """Three rows, five columns, one hot unit at the right end of the first row."""
    values = np.zeros(15)
    values[4] = 2.0
    return values


def pixels_of(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def test_a_picture_is_not_transposed():
    (image,) = draw_sheet(SHEET, hot_corner(), limit=2.0).images
    np.testing.assert_array_equal(np.asarray(image.get_array()), hot_corner().reshape(3, 5))
    assert image.get_clim() == (-2.0, 2.0)


def test_on_paper_it_is_neither_transposed_nor_mirrored():
    figure = Figure(figsize=(5, 3), dpi=20)
    draw_sheet(SHEET, hot_corner(), figure.add_axes((0, 0, 1, 1)), limit=2.0)
    pixels = pixels_of(figure)
    height, width = pixels.shape[:2]
    redness = pixels[..., 0] - pixels[..., 2]
    centres = redness[height // 6 :: height // 3, width // 10 :: width // 5][:3, :5]
    assert np.unravel_index(centres.argmax(), centres.shape) == (0, 4)
    assert (np.abs(np.delete(centres.ravel(), 4)) < 5).all()  # zero is white, not pale red or blue


@pytest.mark.parametrize("is_signed", [True, False])
def test_every_pixel_is_that_of_an_image_drawn_by_hand(is_signed):
    """Written out in matplotlib's own words, with nothing of this library but the order of units."""
    sheet, values = permuted_grid(54, "s", seed=3), np.random.default_rng(0).normal(size=54)
    values[7] = np.nan
    by_hand, own = (Figure(figsize=(3, 3), dpi=50) for _ in range(2))
    ax = by_hand.subplots()
    colours = colormaps["RdBu_r" if is_signed else "OrRd"].with_extremes(bad="#c9c9c9")
    scale = {"vmin": -1.5 if is_signed else 0.0, "vmax": 1.5, "cmap": colours}
    ax.imshow(np.ma.masked_invalid(to_grid(sheet, values)), interpolation="nearest", origin="upper", **scale)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color("#d9d9d9")
    draw_sheet(sheet, values, own.subplots(), limit=1.5, is_signed=is_signed)
    np.testing.assert_array_equal(pixels_of(own), pixels_of(by_hand))


def test_values_of_one_sign_have_no_blue():
    (image,) = draw_sheet(SHEET, hot_corner(), limit=2.0, is_signed=False).images
    assert image.get_clim() == (0.0, 2.0)
    assert min(image.cmap(0.0)[:3]) > 0.85, "zero is nearly white"


def test_roots_let_faint_values_be_seen_on_the_same_scale():
    values = np.array([-16.0, -1.0, 0.0, 1.0, 4.0, 16.0])
    ax = draw_sheet(grid((1, 6)), values, limit=16.0, is_rooted=True, colour_label="t")
    (image,) = ax.images
    assert image.get_clim() == (-16.0, 16.0)
    np.testing.assert_allclose(np.asarray(image.norm(values)), [0, 0.375, 0.5, 0.625, 0.75, 1], atol=1e-12)
    assert ax.figure.axes[1].get_yticks().tolist() == [-16, -4, 0, 4, 16], "squares lie evenly"


def test_a_picture_follows_positions_not_unit_order():
    sheet, values = permuted_grid(15, "s", seed=3), np.arange(15.0)
    (image,) = draw_sheet(sheet, values).images
    assert not np.array_equal(np.asarray(image.get_array()).ravel(), values)
    row, column = np.argwhere(np.asarray(image.get_array()) == 7.0)[0]
    assert sheet.positions_mm[7].tolist() == [row, column]


def test_units_without_a_value_are_masked():
    values = np.array([1, 1, 1, np.nan, 1, 1])
    (image,) = draw_sheet(grid((2, 3)), values).images
    assert np.ma.getmaskarray(image.get_array()).tolist() == [[False] * 3, [True, False, False]]


def test_sheets_off_a_lattice_are_drawn_as_points():
    positions = np.array([[0.0, 0.0], [0.3, 1.7], [2.2, 0.4]])
    ax = draw_sheet(from_positions(positions)(3, "s"), np.array([1.0, -1.0, 0.5]), limit=1.0)
    (points,) = ax.collections
    np.testing.assert_allclose(np.asarray(points.get_offsets()), positions[:, ::-1])
    assert ax.yaxis_inverted()
    assert points.get_clim() == (-1.0, 1.0)


def test_the_axes_that_go_in_come_out_and_carry_what_was_asked_for():
    figure = Figure(layout="constrained")
    left, right = figure.subplots(1, 2)
    assert draw_sheet(SHEET, hot_corner(), left) is left
    assert (left.get_title(), len(figure.axes)) == ("", 2)
    draw_sheet(SHEET, hot_corner(), right, limit=2.0, title="layer 0", colour_label="Welch's t")
    assert right.get_title() == "layer 0"
    bar = figure.axes[2]
    assert bar.get_ylabel() == "Welch's t"
    assert bar.get_ylim() == (-2.0, 2.0)


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"sheet 'cortex' is a mesh in 3 dimensions; expected a flat sheet.*use|draw"):
        draw_sheet(Sheet(name="cortex", positions_mm=np.eye(3)), np.ones(3))
    with pytest.raises(ValueError, match=r"values of shape \(14,\) for the 15 units of sheet 'h\.0\.attn'; give one"):
        draw_sheet(SHEET, np.ones(14))


def test_a_limit_survives_one_extreme_unit():
    quiet, loud = np.linspace(-1, 1, 400), np.linspace(-3, 3, 400)
    assert symmetric_limit([quiet, loud]) == pytest.approx(np.percentile(np.abs([quiet, loud]), 99.5))
    loud[0] = 1000.0
    assert symmetric_limit([quiet, loud]) < 4
    assert symmetric_limit([np.zeros(4)]) == symmetric_limit([]) == 1.0
    assert symmetric_limit([np.array([np.nan, -2.0])]) == pytest.approx(2.0)


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install topographic\[report\]"):
        draw_sheet(SHEET, hot_corner())


def test_the_examples_run():
    assert doctest.testmod(picture).failed == 0


def test_a_scale_of_points_counts_millimetres_too():
    places = from_positions(np.array([[0.0, 0.0], [0.3, 2.0], [1.1, 10.0]]))(3, "points")
    ax = draw_sheet(places, np.arange(3.0), has_scale=True)
    (bar,), (text,) = ax.lines, ax.texts
    np.testing.assert_allclose(np.ptp(bar.get_xdata()), float(text.get_text().removesuffix(" mm")))


def test_many_sheets_share_one_scale_and_one_bar():
    values = {f"h.{n}.mlp": (SHEET, n * hot_corner()) for n in range(1, 8)}
    figure = draw_sheets(values, colour_label="t")
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == 7
    limit = symmetric_limit([one for _, one in values.values()])
    assert {ax.images[0].get_clim() for ax in panels} == {(-limit, limit)}
    assert len([ax for ax in figure.axes if ax.get_xlabel() == "t"]) == 1
    with pytest.raises(ValueError, match=r"no sheets to draw; expected \{site: \(sheet, values\)\}: give at least one"):
        draw_sheets({})
