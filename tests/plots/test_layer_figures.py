import numpy as np
import pytest

from topographic.interventions import CompressionEffect
from topographic.maps import NullReference, Profile
from topographic.plots.layer_figures import draw_by_depth, draw_by_layer, draw_compression, draw_profiles


def test_one_line_per_layer_in_the_order_of_depth():
    lines = {f"layer {layer}": (np.arange(3), np.array([1.0, 0.5, layer])) for layer in range(3)}
    ax = draw_by_layer(lines, references={"permuted": ([0, 2], [0.1, 0.1])}, x_label="lag", y_label="change")
    drawn = {line.get_label(): line for line in ax.lines[1:]}
    assert list(drawn) == ["layer 0", "layer 1", "layer 2", "permuted"]
    for name, (x, y) in lines.items():
        np.testing.assert_array_equal(drawn[name].get_xydata(), np.stack([x, y], axis=1))
    brightness = [np.mean(drawn[name].get_color()[:3]) for name in lines]
    assert brightness == sorted(brightness)
    assert drawn["permuted"].get_linestyle() == "--"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("lag", "change")
    assert draw_by_layer(lines, ax) is ax


def test_many_layers_are_named_first_middle_and_last():
    ax = draw_by_layer({"a": ([0, 2], [0.5, 0.7]), "b": ([0, 2], [0.1, 0.2])}, bands={"b": ([0.0, 0.1], [0.3, 0.4])})
    (band,) = ax.collections
    assert band.get_paths()[0].get_extents().extents.tolist() == [0.0, 0.0, 2.0, 0.4]
    ax = draw_by_layer({f"layer {layer}": ([0, 1], [1, 0]) for layer in range(12)})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["layer 0", "layer 6", "layer 11"]
    assert len(ax.lines) == 1 + 12


def effect(measure, method, fraction, n_parameters, value, null=None):
    reference = None if null is None else NullReference(*null, 0.0, 0.1, 9)
    return CompressionEffect(measure, method, fraction, n_parameters, value, reference)


def test_curves_start_at_the_whole_model_and_lose_parameters_to_the_right():
    effects = [
        effect("loss", "whole model", 0.0, 2_000_000, 3.0),
        effect("accuracy", "whole model", 0.0, 2_000_000, 0.8),
        effect("loss", "downsampling", 0.8, 1_000_000, 3.5, (5.0, 0.2)),
        effect("loss", "downsampling", 0.5, 1_500_000, 3.2, (4.0, 0.1)),
        effect("loss", "pruning", 0.5, 1_500_000, 3.1),
    ]
    loss, accuracy = draw_compression(effects, {"loss": "loss (nats)", "accuracy": "accuracy"}).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert drawn["smaller sheets"] == [[2.0, 3.0], [1.5, 3.2], [1.0, 3.5]]
    assert drawn["smallest weights pruned"] == [[2.0, 3.0], [1.5, 3.1]]
    assert drawn["smaller sheets, units permuted"] == [[2.0, 3.0], [1.5, 4.0], [1.0, 5.0]]
    band = loss.collections[0].get_paths()[0].vertices
    assert {(1.0, 4.6), (1.0, 5.4), (1.5, 3.8), (1.5, 4.2)} <= {(x, round(y, 9)) for x, y in band.tolist()}
    assert loss.get_xlim()[0] > loss.get_xlim()[1]
    assert loss.get_xlabel() == "parameters left (millions)"
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss (nats)", "accuracy")
    assert accuracy.lines[0].get_ydata()[0] == 0.8
    assert not accuracy.collections, "without a null there is no band"


def test_small_models_are_counted_in_thousands():
    (panel,) = draw_compression([effect("loss", "pruning", 0.5, 40_000, 3.0)], {"loss": "loss"}).axes
    assert panel.get_xlabel() == "parameters left (thousands)"
    assert [line.get_label() for line in panel.lines if len(line.get_xdata())] == ["smallest weights pruned"]


def test_what_figures_refuse():
    with pytest.raises(ValueError, match="no line to draw; expected one per layer"):
        draw_by_layer({})
    with pytest.raises(ValueError, match="0 effects, 1 measures; expected at least one of each"):
        draw_compression([], {"loss": "loss"})


def profile(name, means, conditions=("S", "W", "N")):
    means = np.array(means)
    return Profile(name, 7, conditions, means, means - 0.1, means + 0.3, np.full(len(means), 20))


def test_bars_and_intervals_stand_where_they_belong():
    ax = draw_profiles([profile("network", [3.0, 2.0, 1.0]), profile("cluster", [0.5, -1.0, 0.0])])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["network\n7 units", "cluster\n7 units"]
    containers = [one for one in ax.containers if hasattr(one, "patches")]
    assert [one.get_label() for one in containers] == ["S", "W", "N"]
    heights = np.array([[bar.get_height() for bar in one.patches] for one in containers])
    np.testing.assert_allclose(heights, [[3.0, 0.5], [2.0, -1.0], [1.0, 0.0]])
    centres = np.array([[bar.get_x() + bar.get_width() / 2 for bar in one.patches] for one in containers])
    assert (np.diff(centres, axis=0) > 0).all(), "conditions from left to right"
    np.testing.assert_allclose(centres.mean(0), [0, 1], atol=1e-12)
    for index, lines in enumerate(ax.collections[:3]):
        segments = np.array([segment[:, 1] for segment in lines.get_segments()])
        np.testing.assert_allclose(segments, heights[index][:, None] + [-0.1, 0.3])
        np.testing.assert_allclose([segment[0, 0] for segment in lines.get_segments()], centres[index])
    assert ax.get_ylabel() == "mean response"


def test_given_axes_are_used():
    ax = draw_profiles([profile("network", [3.0, 2.0, 1.0])])
    assert draw_profiles([profile("network", [1.0, 1.0, 1.0])], ax) is ax
    assert draw_by_depth({"a": [1.0]}, ["layer 0"], ax) is ax


def test_an_interval_beside_its_mean_can_be_drawn():
    one = Profile("x", 1, ("a",), np.array([1.0]), np.array([1.2]), np.array([1.5]), np.array([3]), absolute=True)
    ax = draw_profiles([one])
    assert ax.get_ylabel() == "mean |response|"
    np.testing.assert_allclose(ax.collections[0].get_segments()[0][:, 1], [1.0, 1.5])


def test_lines_by_depth():
    ax = draw_by_depth({"noun - verb": [0.1, 0.5], "concrete": [0.3, 0.2]}, ["layer 0", "layer 1"], y_label="Moran's I")
    lines = {line.get_label(): line.get_ydata() for line in ax.lines if not line.get_label().startswith("_")}
    np.testing.assert_array_equal(lines["noun - verb"], [0.1, 0.5])
    np.testing.assert_array_equal(lines["concrete"], [0.3, 0.2])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["layer 0", "layer 1"]
    assert ax.get_ylabel() == "Moran's I"


def test_figures_of_several_models_can_share_their_axis():
    low, high = draw_by_depth({"a": [0.01, 0.02]}, ["0", "1"], at_least=(-0.1, 1.0)).get_ylim()
    assert (low, high) == (-0.1, 1.0)
    low, high = draw_by_depth({"a": [-0.5, 2.0]}, ["0", "1"], at_least=(-0.1, 1.0)).get_ylim()
    assert low < -0.5
    assert high > 2.0


@pytest.mark.parametrize("n_sheets", [1, 2, 12])
def test_nothing_is_cut_off_and_only_crowded_labels_are_slanted(n_sheets):
    names = [f"concrete noun {index} - abstract verb {index}" for index in range(5)]
    by_depth = draw_by_depth(dict.fromkeys(names, [0.1] * n_sheets), [f"layer {k} attention" for k in range(n_sheets)])
    one = draw_profiles([profile("network", [1.0] * 4, ("sentences", "unconnected words", "jabberwocky", "nonwords"))])
    for ax in (by_depth, one):
        ax.figure.draw_without_rendering()
        for artist in (ax.get_legend(), *ax.get_xticklabels()):
            extent = artist.get_window_extent()
            assert 0 <= extent.x0 < extent.x1 <= ax.figure.bbox.width
            assert 0 <= extent.y0 < extent.y1 <= ax.figure.bbox.height
    assert {label.get_rotation() for label in by_depth.get_xticklabels()} == {60.0 if n_sheets == 12 else 0.0}


def test_many_sheets_are_not_all_named():
    ax = draw_by_depth({"a": [float(index) for index in range(60)]}, [f"layer {index}" for index in range(60)])
    assert [label.get_text() for label in ax.get_xticklabels()][:3] == ["layer 0", "layer 3", "layer 6"]
    assert list(ax.get_xticks()) == list(range(0, 60, 3))
    assert ax.figure.get_figwidth() == 9.0


def test_what_figures_of_profiles_and_depth_refuse():
    with pytest.raises(ValueError, match="0 profiles of 0 lists of conditions; expected at least one"):
        draw_profiles([])
    with pytest.raises(ValueError, match="2 profiles of 2 lists of conditions"):
        draw_profiles([profile("x", [1.0, 2.0, 3.0]), profile("y", [1.0], ("S",))])
    with pytest.raises(ValueError, match="line 'a' has 1 values for 2 sheets"):
        draw_by_depth({"a": [1.0]}, ["0", "1"])
