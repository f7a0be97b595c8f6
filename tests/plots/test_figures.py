import dataclasses
import doctest

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from topographic.drawing import draw_sheet
from topographic.drawing.style import new_axes
from topographic.maps import DistanceCurve, UnitMap
from topographic.plots import draw_distance_curves, draw_map, draw_maps, draw_training_curves, figures, symmetric_limit
from topographic.plots.figures import draw_spatial_curves, series, spatial_names
from topographic.sheets import Sheet, grid, to_grid


def a_map(values, sheet=None, site="h.0.attn"):
    values = np.asarray(values, dtype=np.float32)
    return UnitMap(site=site, values=values.ravel(), sheet=sheet or grid(values.shape, site), statistic="welch_t")


def hot_corner():
    """Three rows, five columns, one hot unit at the right end of the first row."""
    values = np.zeros((3, 5))
    values[0, 4] = 2.0
    return a_map(values)


def pixels_of(ax):
    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.mark.parametrize("options", [{}, {"limit": 1.5}, {"limit": 1.5, "is_signed": False}])
def test_a_map_is_the_picture_of_its_sheet_pixel_for_pixel(options):
    one = hot_corner()
    given = new_axes(2.4, 2.4)
    assert draw_map(one, given, **options) is given
    np.testing.assert_array_equal(pixels_of(given), pixels_of(draw_sheet(one.sheet, one.values, **options)))


def test_a_map_alone_has_a_name_a_colour_bar_and_a_scale():
    one = hot_corner()
    ax = draw_map(one)
    assert ax.get_title() == one.site
    bar = [other for other in ax.figure.axes if other is not ax]
    assert [other.get_ylabel() for other in bar] == ["t"]
    assert [text.get_text() for text in ax.texts] == ["1 mm"], "of a sheet of 3 x 5 mm"
    (scale,) = ax.lines
    np.testing.assert_allclose(np.ptp(scale.get_xdata()), 1.0)
    assert draw_map(one, title="", colour_label="z").get_title() == ""


def test_maps_find_their_limit_themselves():
    figure = draw_maps({"h.0.attn": hot_corner(), "h.1.attn": a_map(np.full((3, 5), 4.0))})
    assert {ax.images[0].get_clim() for ax in figure.axes if ax.images} == {(-4.0, 4.0)}


def test_values_of_one_sign_have_no_blue():
    figure = draw_maps({"h.0.attn": hot_corner()}, limit=2.0, is_signed=False)
    assert figure.axes[0].images[0].get_clim() == (0.0, 2.0)
    assert draw_map(hot_corner(), limit=2.0).images[0].get_clim() == (-2.0, 2.0)


def test_a_map_has_a_title_and_a_colour_bar_when_asked():
    ax = draw_map(hot_corner(), title="layer 0", colour_label="Welch's t")
    assert ax.get_title() == "layer 0"
    assert [other.get_ylabel() for other in ax.figure.axes[1:]] == ["Welch's t"]


def test_meshes_are_refused():
    sheet = Sheet(name="cortex", positions_mm=np.eye(3))
    with pytest.raises(ValueError, match=r"mesh in 3 dimensions.*flat"):
        draw_map(a_map([1.0, 2.0, 3.0], sheet))


def test_a_limit_is_shared():
    quiet, loud = a_map(np.linspace(-1, 1, 400).reshape(20, 20)), a_map(np.linspace(-3, 3, 400).reshape(20, 20))
    together = np.abs(np.concatenate([quiet.values, loud.values]))
    assert symmetric_limit([quiet, loud]) == pytest.approx(np.percentile(together, 99.5))


def test_every_sheet_has_its_own_panel_and_all_one_scale():
    rng = np.random.default_rng(0)
    sites = [f"h.{layer}.{kind}" for layer in range(3) for kind in ("attn", "mlp")]
    maps = {site: a_map(rng.normal(size=(3, 5)) * (1 + index), site=site) for index, site in enumerate(sites)}
    figure = draw_maps(maps, limit=2.5)
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == 6
    assert {ax.images[0].get_clim() for ax in panels} == {(-2.5, 2.5)}
    figure.draw_without_rendering()
    panels = [panels[index] for index in (0, 3, 1, 4, 2, 5)]  # subplots come row by row, kind by kind
    for site, panel in zip(sites, panels, strict=True):
        np.testing.assert_array_equal(
            np.asarray(panel.images[0].get_array()), to_grid(maps[site].sheet, maps[site].values)
        )
    corners = np.array([[ax.get_position().x0, ax.get_position().y1] for ax in panels]).reshape(3, 2, 2)
    assert (np.diff(corners[:, :, 0], axis=0) > 0).all(), "layers go to the right"
    assert (np.diff(corners[:, :, 1], axis=1) < 0).all(), "kinds go down"
    assert [panel.get_title() for panel in panels] == ["layer 0", "", "layer 1", "", "layer 2", ""]
    assert [panel.get_ylabel() for panel in panels] == ["attn", "mlp", "", "", "", ""]


def test_the_limit_is_that_of_the_maps_unless_given():
    quiet, loud = a_map(np.eye(2), site="h.0.mlp"), a_map(3 * np.eye(2), site="h.1.mlp")
    panels = [ax for ax in draw_maps({"h.0.mlp": quiet, "h.1.mlp": loud}).axes if ax.images]
    assert {ax.images[0].get_clim()[1] for ax in panels} == {symmetric_limit([quiet, loud])}


def test_every_block_of_layers_names_its_kind_and_each_layer():
    maps = {f"h.{layer}.mlp": a_map(np.full((2, 2), layer), site=f"h.{layer}.mlp") for layer in range(8)}
    figure = draw_maps(maps, limit=8.0)
    panels = sorted((ax for ax in figure.axes if ax.images), key=lambda ax: ax.images[0].get_array()[0, 0])
    assert [panel.get_title() for panel in panels] == [f"layer {layer}" for layer in range(8)]
    assert [panel.get_ylabel() for panel in panels] == ["mlp", "", "", "", "mlp", "", "", ""]
    figure.draw_without_rendering()
    assert len({round(panel.get_position().y1, 3) for panel in panels}) == 2


def test_names_longer_than_their_rows_give_way_to_labels_of_every_panel():
    sites = [f"resnet.encoder.stages.{stage}.layers.{layer}.convolution" for stage in (0, 1) for layer in (0, 1)]
    figure = draw_maps({site: a_map(np.eye(2), site=site) for site in sites}, limit=1.0)
    panels = [ax for ax in figure.axes if ax.images]
    assert {panel.get_title() for panel in panels} == {"layer 0.0", "layer 0.1", "layer 1.0", "layer 1.1"}
    assert {panel.get_ylabel() for panel in panels} == {""}


def test_many_layers_of_two_kinds_lie_in_blocks_one_under_the_other():
    sites = [f"h.{layer}.{kind}" for layer in range(14) for kind in ("attn", "mlp")]
    maps = {site: a_map(np.full((2, 2), index), site=site) for index, site in enumerate(sites)}
    figure = draw_maps(maps, limit=28.0)
    panels = {ax.images[0].get_array()[0, 0]: ax for ax in figure.axes if ax.images}
    assert [panels[index].get_title() for index in (0, 1, 10, 26)] == ["layer 0", "", "layer 5", "layer 13"]
    assert [panels[index].get_ylabel() for index in (0, 1, 2, 10, 11, 20)] == ["attn", "mlp", "", "attn", "mlp", "attn"]
    figure.draw_without_rendering()
    places = {index: panel.get_position() for index, panel in panels.items()}
    assert places[0].y1 > places[1].y1 > places[10].y1 > places[11].y1
    assert places[0].x0 == pytest.approx(places[10].x0)


def test_lines_surround_units_thin_first_and_thick_after():
    maps = {site: a_map(np.eye(3), site=site) for site in ("h.0.mlp", "h.1.mlp")}
    first, second = (np.arange(9) < count for count in (3, 1))
    figure = draw_maps(maps, limit=1.0, outlines=[{"h.0.mlp": first, "h.1.mlp": first}, {"h.1.mlp": second}])
    left, right = (ax for ax in figure.axes if ax.images)
    assert [len(lines.get_segments()) for lines in left.collections] == [8]
    assert [len(lines.get_segments()) for lines in right.collections] == [8, 4]
    thin, thick = (lines.get_linewidth()[0] for lines in right.collections)
    assert thin < thick


def test_one_bar_of_millimetres_for_sheets_of_one_size_and_one_each_otherwise():
    sites = ("h.0.attn", "h.0.mlp")

    def bars(*sides):
        maps = {site: a_map(np.zeros((side, side)), site=site) for site, side in zip(sites, sides, strict=True)}
        return [text.get_text() for ax in draw_maps(maps, limit=1.0).axes for text in ax.texts]

    assert bars(6, 6) == ["2 mm"]
    assert bars(6, 12) == ["2 mm", "2 mm"]
    assert bars(6, 16) == ["2 mm", "5 mm"]


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
    lines = [{"step": 10, "x": 1.0}, {"step": 20, "x": 2.0}, {"step": 10, "x": 3.0}, {"step": 40}]
    steps, values = series(lines, "x")
    assert (steps.tolist(), values.tolist()) == ([10, 20], [3, 2])
    assert series([], "x")[0].shape == (0,)


def test_what_was_logged_as_no_number_is_a_gap():
    """A loss that was NaN stands as null in metrics.jsonl; a line across it would hide it."""
    lines = [
        {"step": step, "task_loss": loss, "spatial/a": loss, "spatial/b": 0.5}
        for step, loss in ((10, 5.0), (20, None), (30, 4.0), (40, float("nan")))
    ]
    steps, losses = series(lines, "task_loss")
    assert steps.tolist() == [10, 20, 30, 40]
    assert np.isnan(losses).tolist() == [False, True, False, True]
    ax = draw_training_curves({"a": [*lines, {"step": 30, "eval_loss": 4.5}, {"step": 40, "eval_loss": None}]})
    for line, gaps in zip(ax.lines[:2], ([1, 3], [1]), strict=True):
        assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == gaps
    mean = draw_spatial_curves({"a": lines}).lines[-1]
    np.testing.assert_array_equal(mean.get_ydata(), [2.75, np.nan, 2.25, np.nan])
    for drawn in (ax, draw_training_curves({"a": [{"step": 1, "task_loss": None}]})):
        drawn.figure.draw_without_rendering()


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


def test_distance_curves_say_how_many_pairs_stand_behind_each_point():
    many = DistanceCurve(np.array([0.0, 1.0, 2.0, 4.0]), np.array([0.9, 0.5, 0.1]), np.array([40, 1200, 10]))
    ax = draw_distance_curves({"a": [many], "b": [many]})
    (behind,) = (other for other in ax.figure.axes if other is not ax)
    assert [bar.get_height() for bar in behind.patches] == [40, 1200, 10]
    assert [label.get_text() for label in behind.get_yticklabels()] == ["0", "1,200 pairs"]
    ax.figure.draw_without_rendering()
    tops = [behind.transData.transform((0, bar.get_height()))[1] for bar in behind.patches]
    lines = [ax.transData.transform((0, value))[1] for value in (0.0, 0.1, 0.5, 0.9)]
    assert max(tops) < min(lines), "no line lies on a bar"
    other = dataclasses.replace(many, edges_mm=np.array([0.0, 1.0, 2.0, 5.0]))
    assert len(draw_distance_curves({"a": [many], "b": [other]}).figure.axes) == 1


def test_sheets_with_different_bins_have_no_mean():
    ax = draw_distance_curves({"a": [curve([0.9, 0.5, 0.1]), curve([0.9, 0.5, 0.1], (0.0, 1.0, 2.0, 5.0))]})
    assert all(line.get_linewidth() < 2 for line in ax.lines)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a (2 sheets)"]


def test_the_examples_run():
    assert doctest.testmod(figures).failed == 0
