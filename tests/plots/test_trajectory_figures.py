import pytest

from topographic.plots.trajectory_figures import Course, draw_courses


def test_a_panel_per_number_with_seeds_means_and_untrained_weights():
    courses = [Course(f"a-{seed}", "a", [None, 0, 8, 16], [0.5, 0.5, 0.6 + seed, 0.7]) for seed in range(2)]
    figure = draw_courses(dict.fromkeys(("accuracy", "perplexity", "I", "overlap"), courses))
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_visible()] == ["accuracy", "perplexity", "I", "overlap"]
    first = figure.axes[0]
    thin, other, mean = first.lines
    assert mean.get_linewidth() > thin.get_linewidth() == other.get_linewidth()
    assert mean.get_xdata() == pytest.approx([4, 8, 16])  # no tokens stand left of the fewest
    assert mean.get_ydata() == pytest.approx([0.5, 1.1, 0.7])
    assert first.get_xscale() == "log"
    assert first.collections[0].get_offsets().tolist()[0] == [2.0, 0.5]
    assert figure.axes[1].get_yscale() == "log"
    assert first.get_legend() is not None
    assert figure.axes[1].get_legend() is None
