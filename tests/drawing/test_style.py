import base64
import sys

import numpy as np
import pytest
from matplotlib import rcParams

from topographic.drawing import draw_sheet, style
from topographic.drawing.style import colour_bar, data_uri, finish, new_axes, new_figure, quieten
from topographic.sheets import grid


def a_picture():
    return draw_sheet(grid((2, 3)), np.arange(6.0)).figure


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_pictures_carry_themselves_and_are_the_same_each_time(kind, start):
    one, two = (data_uri(a_picture(), kind) for _ in range(2))
    assert one == two
    head, content = one.split(";base64,")
    assert head == {"png": "data:image/png", "svg": "data:image/svg+xml"}[kind]
    assert base64.b64decode(content).startswith(start)


def test_settings_and_backend_of_the_caller_are_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would raise
    before = rcParams.copy()
    data_uri(a_picture())
    data_uri(a_picture(), "png")
    assert rcParams.copy() == before


def test_axes_are_named_and_only_what_has_a_label_is_explained():
    ax = new_axes(3.0, 2.0)
    ax.plot([0, 1], [0, 1])
    assert finish(ax, "step", "loss") is ax
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_legend()) == ("step", "loss", None)
    assert not ax.spines["top"].get_visible()
    ax.plot([0, 1], [1, 0], label="a run")
    assert [text.get_text() for text in finish(ax, "", "").get_legend().get_texts()] == ["a run"]


def test_the_grid_lies_on_one_axis_behind_the_data():
    ax = new_axes(3.0, 2.0)
    quieten(ax, grid_axis="x")
    assert ax.get_axisbelow()
    assert [any(line.get_visible() for line in axis.get_gridlines()) for axis in (ax.xaxis, ax.yaxis)] == [True, False]


def test_one_bar_says_the_colours_of_several_axes():
    figure = new_figure(4.0, 2.0)
    axes = figure.subplots(1, 2)
    drawn = [draw_sheet(grid((2, 3)), np.arange(6.0), ax, limit=5.0).images[0] for ax in axes]
    colour_bar(figure, drawn[0], axes, "t", extend="max", location="bottom")
    bar = figure.axes[-1]
    assert len(figure.axes) == 3
    assert bar.get_xlabel() == "t"
    assert bar.get_xlim() == (-5.0, 5.0)


def test_a_notebook_gets_text_where_matplotlib_is_missing(monkeypatch):
    found = style.importlib.util.find_spec
    monkeypatch.setattr(style.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    assert style.notebook_png(lambda: 1 / 0) is None
    assert style.notebook_html("a < b", None) == "<code>a &lt; b</code>"


def test_a_notebook_gets_a_picture():
    png = style.notebook_png(lambda: style.new_figure(1.0, 1.0))
    assert png.startswith(b"\x89PNG")
    assert 'src="data:image/png;base64,iVBOR' in style.notebook_html("one", png)
