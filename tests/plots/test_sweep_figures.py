import numpy as np
import pytest
from matplotlib.figure import Figure

from topographic.plots.sweep_figures import MARKERS, TradeOff, draw_factor, draw_trade_off, draw_trade_offs

SETTINGS = [
    TradeOff(1.0, "", [5.0, 5.2], [30.0, 34.0]),
    TradeOff(0.0, "", [4.8, 4.9], [0.0, 1.0]),
    TradeOff(0.25, "radius 3", [4.9, 5.1, 5.3], [12.0, 10.0, 11.0]),
    TradeOff(0.25, "", [4.9], [20.0]),
]


def points(ax):
    """Every scatter: its places, colour and marker vertices."""
    return [
        (one.get_offsets().data.tolist(), tuple(one.get_facecolor()[0][:3]), len(one.get_paths()[0].vertices))
        for one in ax.collections
        if hasattr(one, "get_sizes") and len(one.get_sizes())
    ]


def test_replicates_are_small_and_their_mean_is_large():
    ax = draw_trade_off(SETTINGS, x_label="loss", y_label="z")
    drawn = points(ax)
    assert len(drawn) == 2 * len(SETTINGS)
    for index, one in enumerate(SETTINGS):
        seeds, mean = drawn[2 * index], drawn[2 * index + 1]
        assert seeds[0] == [list(pair) for pair in zip(one.x, one.y, strict=True)]
        assert mean[0] == [[pytest.approx(np.mean(one.x)), pytest.approx(np.mean(one.y))]]
        assert seeds[1:] == mean[1:], "same colour, same marker"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("loss", "z")


def test_colour_says_the_level_and_the_marker_the_kind():
    drawn = [points(draw_trade_off(SETTINGS))[2 * index] for index in range(4)]
    assert drawn[2][1] == drawn[3][1], "both 0.25"
    assert len({one[1] for one in drawn}) == 3
    assert drawn[0][2] == drawn[1][2] == drawn[3][2] != drawn[2][2]
    grey = drawn[1][1]
    assert grey[0] == grey[1] == grey[2], "the control is grey"


def test_a_line_joins_the_plain_settings_by_level():
    (line,) = (one for one in draw_trade_off(SETTINGS).lines if len(one.get_xdata()) > 1)
    assert line.get_xdata().tolist() == pytest.approx([4.85, 4.9, 5.1])
    assert line.get_ydata().tolist() == pytest.approx([0.5, 20, 32])


def test_panels_share_one_explanation():
    figure = draw_trade_offs({"a": SETTINGS, "b": SETTINGS}, x_label="loss", y_label="z", level_name="weight")
    assert isinstance(figure, Figure)
    legends = [child for ax in figure.axes for child in ax.get_children() if type(child).__name__ == "Legend"]
    assert [legend.get_title().get_text() for legend in legends] == ["weight", "otherwise"]
    assert [text.get_text() for text in legends[0].get_texts()] == ["0", "0.25", "1"]
    assert [text.get_text() for text in legends[1].get_texts()] == ["as the recipe", "radius 3"]
    alone = draw_trade_offs({"a": SETTINGS[:2]}, x_label="loss", y_label="z")
    assert sum(type(child).__name__ == "Legend" for child in alone.axes[0].get_children()) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "0 settings of 0 kinds"),
        ([TradeOff(1.0, "", [1.0], [])], "1 of them with unequal or no values"),
        ([TradeOff(1.0, f"kind {k}", [1.0], [1.0]) for k in range(len(MARKERS) + 1)], "at most 10 kinds"),
    ],
)
def test_what_cannot_be_drawn(settings, message):
    with pytest.raises(ValueError, match=message):
        draw_trade_off(settings)


def test_factors_show_a_line_per_replicate_and_their_means():
    values = [{0: 1.0, 1: 3.0}, {0: 2.0}, {0: 5.0, 1: 7.0}]
    figure = draw_factor(["3", "5", "7"], {"loss": values, "z": values}, name="radius")
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["loss", "z"]
    ax = figure.axes[0]
    first, second, means = (line.get_ydata() for line in ax.lines[:3])
    assert first.tolist() == [1, 2, 5]
    assert np.isnan(second[1])
    assert means.tolist() == [2, 2, 6]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["3", "5", "7"]


def test_a_panel_with_another_number_of_levels_is_refused():
    with pytest.raises(ValueError, match=r"panels \['loss'\] for 2 levels of radius"):
        draw_factor(["3", "5"], {"loss": [{0: 1.0}]}, name="radius")
    with pytest.raises(ValueError, match="panels none"):
        draw_factor(["3"], {}, name="radius")
