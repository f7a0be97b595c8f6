import pytest

from topographic.plots.mechanism_figures import Mechanism, draw_mechanisms


def test_every_mechanism_is_drawn_once_in_each_panel_and_named_once():
    some = [
        Mechanism("none", [0.0, 0.1], [0.0, 0.0], is_control=True),
        Mechanism("spatial loss", [0.5, 0.6], [0.1, 0.2]),
    ]
    again = Mechanism("none, laid out afterwards", [0.4], [0.0], is_control=True)
    figure = draw_mechanisms({"attention": [*some, again], "MLP": some}, x_label="I", y_label="loss")
    first, second = figure.axes
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["attention", "MLP"]
    assert (first.get_ylabel(), second.get_ylabel(), second.get_xlabel()) == ("loss", "", "I")
    means = [scatter.get_offsets()[0].tolist() for scatter in first.collections if len(scatter.get_offsets()) == 1]
    assert pytest.approx([0.55, 0.15]) in means
    named = [text.get_text() for text in second.get_legend().get_texts()]
    assert named == ["none", "spatial loss", "none, laid out afterwards"]
    figure.canvas.draw()


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="no mechanisms to draw; give at least one in one panel"):
        draw_mechanisms({"attention": []}, x_label="", y_label="")
