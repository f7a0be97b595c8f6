from itertools import pairwise

import pytest

from topographic.plots.trajectory_figures import Course, Growth, draw_courses, draw_growth


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


def test_sizes_are_rows_and_numbers_columns_that_share_their_axes():
    def course(group, seed, rise):
        return Course(f"{group}-{seed}", group, [None, 0, 8, 16], [0.1, 0.1, 0.2 + rise, 0.3 + rise])

    both = [course(group, seed, seed) for group in ("plain", "topographic") for seed in range(2)]
    controls = {"r": {"random units": both[:2]}, "I": {"unit null": both[2:]}}
    sizes = [Growth(title, {"r": both, "I": both}, controls) for title in ("8 parameters", "16 parameters")]
    figure = draw_growth(sizes)
    axes = figure.axes
    assert [ax.get_title(loc="left") for ax in axes] == ["r", "I", "", ""]
    assert [ax.get_ylabel() for ax in axes] == ["8 parameters", "", "16 parameters", ""]
    assert axes[0].get_ylim() == axes[2].get_ylim()
    control, *_ = axes[0].lines
    assert control.get_ydata() == pytest.approx([0.1, 0.7, 0.8])  # a mean over series, grey and broken
    assert control.get_linestyle() == "--"
    thick = [line for line in axes[0].lines if line.get_label() in ("plain", "topographic")]
    assert [line.get_ydata().tolist() for line in thick] == [pytest.approx([0.1, 0.7, 0.8])] * 2
    assert len({line.get_color() for line in thick}) == 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["plain", "topographic"]
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [["random units"], ["unit null"]] * 2
    assert [tick.get_text() for tick in axes[2].get_xticklabels()] == ["0", "8", "16"]


def test_names_of_lines_that_end_alike_lie_apart():
    own = [Course("a-0", "a", [0, 1000, 2_000_000], [0.0, 0.5, 1.0])]
    ends = {"first": 0.5, "second": 0.5, "third": 0.51, "far": 0.0}
    controls = {name: [Course("a-0", "a", [0, 1000, 2_000_000], [end] * 3)] for name, end in ends.items()}
    ax = draw_growth([Growth("8 parameters", {"r": own}, {"r": controls})]).axes[0]
    places = {text.get_text(): text.get_position()[1] for text in ax.texts}
    low, high = ax.get_ylim()
    assert places["far"] == pytest.approx((0 - low) / (high - low))
    near = sorted(places[name] for name in ("first", "second", "third"))
    assert min(after - before for before, after in pairwise(near)) > 0.08
    assert sum(near) / 3 == pytest.approx((0.5033 - low) / (high - low), abs=0.01)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "4k", "64k", "1.02M"]
