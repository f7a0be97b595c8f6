import base64
import sys

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from topographic.maps import DistanceCurve, NullReference, Referenced, UnitMap
from topographic.plots import draw_distance_curves, draw_map, draw_null_distribution, draw_training_curves
from topographic.plots.figures import data_uri, draw_maps, draw_spatial_curves, series, spatial_names, symmetric_limit
from topographic.sheets import Sheet, from_positions, grid, permuted_grid, to_grid


def a_map(values, sheet=None, site="h.0.attn"):
    values = np.asarray(values, dtype=np.float32)
    return UnitMap(site=site, values=values.ravel(), sheet=sheet or grid(values.shape, site), statistic="welch_t")


def hot_corner():
    """Three rows, five columns, one hot unit at the right end of the first row."""
    values = np.zeros((3, 5))
    values[0, 4] = 2.0
    return a_map(values)


def test_map_is_not_transposed():
    ax = draw_map(hot_corner(), limit=2.0)
    (image,) = ax.images
    expected = np.zeros((3, 5))
    expected[0, 4] = 2.0
    np.testing.assert_array_equal(np.asarray(image.get_array()), expected)
    assert image.get_clim() == (-2.0, 2.0)


def test_map_on_paper_is_neither_transposed_nor_mirrored():
    figure = Figure(figsize=(5, 3), dpi=20)
    ax = figure.add_axes((0, 0, 1, 1))
    draw_map(hot_corner(), ax, limit=2.0)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    height, width = pixels.shape[:2]
    redness = pixels[..., 0] - pixels[..., 2]
    centres = redness[height // 6 :: height // 3, width // 10 :: width // 5][:3, :5]
    assert np.unravel_index(centres.argmax(), centres.shape) == (0, 4)
    assert (np.abs(np.delete(centres.ravel(), 4)) < 5).all()  # zero is white, not pale red or blue


def test_values_of_one_sign_have_no_blue():
    ax = draw_map(hot_corner(), limit=2.0, is_signed=False)
    assert ax.images[0].get_clim() == (0.0, 2.0)
    red, green, blue, _ = ax.images[0].cmap(0.0)
    assert min(red, green, blue) > 0.85, "zero is nearly white"
    assert draw_map(hot_corner(), limit=2.0).images[0].get_clim() == (-2.0, 2.0)
    figure = draw_maps({"h.0.attn": hot_corner()}, limit=2.0, is_signed=False)
    assert figure.axes[0].images[0].get_clim() == (0.0, 2.0)


def test_map_follows_positions_not_unit_order():
    sheet = permuted_grid(15, "s", seed=3)
    values = np.arange(15.0)
    (image,) = draw_map(a_map(values, sheet)).images
    assert not np.array_equal(np.asarray(image.get_array()).ravel(), values)
    row, column = np.argwhere(np.asarray(image.get_array()) == 7.0)[0]
    assert sheet.positions_mm[7].tolist() == [row, column]


def test_units_without_a_value_are_masked():
    values = np.ones((2, 3))
    values[1, 0] = np.nan
    (image,) = draw_map(a_map(values)).images
    assert np.ma.getmaskarray(image.get_array()).tolist() == [[False] * 3, [True, False, False]]


def test_sheets_off_a_lattice_are_drawn_as_points():
    positions = np.array([[0.0, 0.0], [0.3, 1.7], [2.2, 0.4]])
    ax = draw_map(a_map([1.0, -1.0, 0.5], from_positions(positions)(3, "s")), limit=1.0)
    (points,) = ax.collections
    np.testing.assert_allclose(np.asarray(points.get_offsets()), positions[:, ::-1])
    assert ax.yaxis_inverted()
    assert points.get_clim() == (-1.0, 1.0)


def test_meshes_are_refused():
    sheet = Sheet(name="cortex", positions_mm=np.eye(3))
    with pytest.raises(ValueError, match=r"mesh in 3 dimensions.*flat"):
        draw_map(a_map([1.0, 2.0, 3.0], sheet))


def test_limit_is_shared_and_survives_one_extreme_unit():
    quiet, loud = a_map(np.linspace(-1, 1, 400).reshape(20, 20)), a_map(np.linspace(-3, 3, 400).reshape(20, 20))
    together = np.abs(np.concatenate([quiet.values, loud.values]))
    assert symmetric_limit([quiet, loud]) == pytest.approx(np.percentile(together, 99.5))
    values = np.array(loud.values)
    values[0] = 1000.0
    assert symmetric_limit([quiet, a_map(values.reshape(20, 20))]) < 4
    assert symmetric_limit([a_map(np.zeros((2, 2)))]) == 1.0
    assert symmetric_limit([]) == 1.0
    assert symmetric_limit([a_map([[np.nan, -2.0]])]) == pytest.approx(2.0)


def test_every_sheet_has_its_own_panel_and_all_one_scale():
    rng = np.random.default_rng(0)
    sites = [f"h.{layer}.{kind}" for layer in range(3) for kind in ("attn", "mlp")]
    maps = {site: a_map(rng.normal(size=(3, 5)) * (1 + index), site=site) for index, site in enumerate(sites)}
    figure = draw_maps(maps, limit=2.5)
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == 6
    assert {ax.images[0].get_clim() for ax in panels} == {(-2.5, 2.5)}
    figure.draw_without_rendering()
    for site, panel in zip(sites, panels, strict=True):  # subplots come row by row
        np.testing.assert_array_equal(
            np.asarray(panel.images[0].get_array()), to_grid(maps[site].sheet, maps[site].values)
        )
    corners = np.array([[ax.get_position().x0, ax.get_position().y1] for ax in panels]).reshape(3, 2, 2)
    assert (np.diff(corners[:, :, 0], axis=1) > 0).all(), "kinds go to the right"
    assert (np.diff(corners[:, :, 1], axis=0) < 0).all(), "layers go down"
    assert [panels[index].get_ylabel() for index in (0, 2, 4)] == ["layer 0", "layer 1", "layer 2"]
    assert [panel.get_title() for panel in panels[:2]] == ["attn", "mlp"]


def test_many_layers_of_one_kind_lie_in_rows_of_six():
    maps = {f"h.{layer}.mlp": a_map(np.full((2, 2), layer), site=f"h.{layer}.mlp") for layer in range(8)}
    figure = draw_maps(maps, limit=8.0)
    panels = [ax for ax in figure.axes if ax.images]
    assert [panel.get_title() for panel in panels] == [f"layer {layer}" for layer in range(8)]
    assert [panel.images[0].get_array()[0, 0] for panel in panels] == list(range(8))
    figure.draw_without_rendering()
    assert len({round(panel.get_position().y1, 3) for panel in panels}) == 2
    assert figure.get_suptitle() == "mlp"


def test_names_wider_than_their_columns_give_way_to_labels_of_every_panel():
    sites = [f"resnet.encoder.stages.{stage}.layers.{layer}.convolution" for stage in (0, 1) for layer in (0, 1)]
    figure = draw_maps({site: a_map(np.eye(2), site=site) for site in sites}, limit=1.0)
    panels = [ax for ax in figure.axes if ax.images]
    assert [panel.get_title() for panel in panels] == ["layer 0.0", "layer 0.1", "layer 1.0", "layer 1.1"]
    assert {panel.get_ylabel() for panel in panels} == {""}


def test_many_layers_of_two_kinds_lie_in_blocks_side_by_side():
    sites = [f"h.{layer}.{kind}" for layer in range(14) for kind in ("attn", "mlp")]
    maps = {site: a_map(np.full((2, 2), index), site=site) for index, site in enumerate(sites)}
    figure = draw_maps(maps, limit=28.0)
    panels = {ax.images[0].get_array()[0, 0]: ax for ax in figure.axes if ax.images}
    assert [panels[index].get_title() for index in (0, 1, 14, 15)] == ["attn", "mlp", "attn", "mlp"]
    assert [panels[index].get_ylabel() for index in (0, 1, 12, 14, 26)] == [
        "layer 0",
        "",
        "layer 6",
        "layer 7",
        "layer 13",
    ]
    figure.draw_without_rendering()
    places = {index: panel.get_position() for index, panel in panels.items()}
    assert places[1].x0 < places[14].x0 < places[15].x0
    assert places[0].y1 == pytest.approx(places[14].y1)


def test_maps_without_layers_carry_their_names():
    figure = draw_maps({name: a_map(np.eye(2), site=name) for name in ("stem", "head")}, limit=1.0)
    assert [ax.get_title() for ax in figure.axes if ax.images] == ["stem", "head"]


def test_training_curves_draw_what_was_logged():
    records = {
        "a": [
            {"step": 20, "task_loss": 5.0},
            {"step": 10, "task_loss": 6.0},
            {"step": 20, "eval_loss": 5.5},
        ],
        "b": [{"step": 10, "task_loss": 7.0}, {"step": 20, "task_loss": 6.5}],
    }
    ax = draw_training_curves(records)
    drawn = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in ax.lines if len(line.get_xdata())]
    assert drawn == [([10, 20], [6, 5]), ([20], [5.5]), ([10, 20], [7, 6.5])]
    assert ax.lines[0].get_color() == ax.lines[1].get_color() != ax.lines[2].get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "training", "validation"]
    ax = draw_training_curves({"b": records["b"]})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["b"]


def test_spatial_curves_draw_sheets_thin_and_their_mean_thick():
    lines = [
        {"step": 20, "spatial/x": 0.2, "spatial/y": 0.4, "spatial_loss": 9.0},
        {"step": 10, "spatial/x": 0.5, "spatial/y": 0.6, "spatial_loss": 9.0},
        {"step": 20, "eval_loss": 5.0},
    ]
    assert spatial_names(lines) == ["spatial/x", "spatial/y"]
    ax = draw_spatial_curves({"control": [{"step": 10, "task_loss": 5.0}], "a": lines})
    thin, mean = [line for line in ax.lines if line.get_linewidth() < 1], ax.lines[-1]
    assert [line.get_ydata().tolist() for line in thin] == [[0.5, 0.2], [0.6, 0.4]]
    np.testing.assert_allclose(mean.get_ydata(), [0.55, 0.3])
    assert mean.get_linewidth() > 2
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a (mean of 2 sheets)"]
    assert mean.get_color() == draw_training_curves({"control": [], "a": lines}).lines[1].get_color()


def test_a_step_logged_twice_counts_as_logged_last():
    lines = [
        {"step": 10, "x": 1.0},
        {"step": 20, "x": 2.0},
        {"step": 10, "x": 3.0},
        {"step": 30, "x": None},
        {"step": 40},
    ]
    steps, values = series(lines, "x")
    assert (steps.tolist(), values.tolist()) == ([10, 20], [3, 2])
    assert series([], "x")[0].shape == (0,)


def curve(values, edges=(0.0, 1.0, 2.0, 4.0)):
    return DistanceCurve(np.array(edges), np.array(values, dtype=float), np.ones(len(edges) - 1, dtype=np.int64))


def test_distance_curves_draw_sheets_thin_and_their_mean_thick():
    ax = draw_distance_curves({"a": [curve([0.9, 0.5, 0.1]), curve([0.7, np.nan, 0.3])], "b": [curve([0, 0, 0])]})
    own = [line for line in ax.lines if line.get_color() == ax.lines[1].get_color()]
    assert [line.get_linewidth() > 2 for line in own] == [False, False, True]
    np.testing.assert_allclose(own[-1].get_ydata(), [0.8, 0.5, 0.2])
    np.testing.assert_allclose(own[-1].get_xdata(), [0.5, 1.5, 3.0])
    assert ax.lines[0].get_ydata() == [0, 0]
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert named == ["a (mean of 2 sheets)", "b (mean of 1 sheet)"]


def test_sheets_with_different_bins_have_no_mean():
    ax = draw_distance_curves({"a": [curve([0.9, 0.5, 0.1]), curve([0.9, 0.5, 0.1], (0.0, 1.0, 2.0, 5.0))]})
    assert all(line.get_linewidth() < 2 for line in ax.lines)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a (2 sheets)"]


def test_null_bands_reach_two_deviations_either_way():
    null = NullReference(mean=0.4, sd=0.1, z=3.0, p=0.01, n_draws=99)
    numbers = {"first": Referenced(0.7, {"unit": null}), "second": Referenced(-0.2)}
    ax = draw_null_distribution(numbers)
    (band,) = ax.patches
    assert (band.get_x(), band.get_width()) == (pytest.approx(0.2), pytest.approx(0.4))
    assert abs(band.get_y() + band.get_height() / 2) < 1e-9, "the unit null lies in the middle of its row"
    np.testing.assert_allclose(np.asarray(ax.collections[0].get_offsets()), [[0.7, 0], [-0.2, 1]])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    assert ax.yaxis_inverted(), "the first row is on top"


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_pictures_carry_themselves_and_are_the_same_each_time(kind, start):
    one, two = (data_uri(draw_map(hot_corner()).figure, kind) for _ in range(2))
    assert one == two
    head, content = one.split(";base64,")
    assert head == {"png": "data:image/png", "svg": "data:image/svg+xml"}[kind]
    assert base64.b64decode(content).startswith(start)


def test_settings_and_backend_of_the_caller_are_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would raise
    before = rcParams.copy()
    data_uri(draw_map(hot_corner()).figure)
    data_uri(draw_maps({"h.0.attn": hot_corner()}, limit=1.0), "png")
    assert rcParams.copy() == before


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install topographic\[report\]"):
        draw_map(hot_corner())


def test_the_legend_of_the_nulls_is_inside_the_figure():
    null = NullReference(mean=0.4, sd=0.1, z=3.0, p=0.01, n_draws=99)
    ax = draw_null_distribution({
        "layer 10 attention output": Referenced(0.7, dict.fromkeys(("floor", "unit", "label"), null)),
        "mean": Referenced(0.1),
    })
    ax.figure.draw_without_rendering()
    box, whole = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1 + 1
    assert box.y1 <= whole.y1
