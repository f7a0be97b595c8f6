import numpy as np
import pytest

from topographic.maps.profiles import Profile
from topographic.plots.profile_figures import draw_by_depth, draw_profiles


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


def test_what_figures_refuse():
    with pytest.raises(ValueError, match="0 profiles of 0 lists of conditions; expected at least one"):
        draw_profiles([])
    with pytest.raises(ValueError, match="2 profiles of 2 lists of conditions"):
        draw_profiles([profile("x", [1.0, 2.0, 3.0]), profile("y", [1.0], ("S",))])
    with pytest.raises(ValueError, match="line 'a' has 1 values for 2 sheets"):
        draw_by_depth({"a": [1.0]}, ["0", "1"])
