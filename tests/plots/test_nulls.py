import doctest
import itertools

import numpy as np
import pytest

from topographic.maps import NullReference, Referenced
from topographic.plots import nulls
from topographic.plots.nulls import draw_null_distribution, null_names, null_title

NULL = NullReference(mean=0.4, sd=0.1, z=3.0, p=0.01, n_draws=99)


def numbered(value, **nulls):
    return Referenced(value, nulls)


def test_null_bands_reach_two_deviations_either_way():
    numbers = {"first": numbered(0.7, unit=NULL), "second": Referenced(-0.2)}
    ax = draw_null_distribution(numbers)
    (band,) = ax.patches
    assert (band.get_x(), band.get_width()) == (pytest.approx(0.2), pytest.approx(0.4))
    assert abs(band.get_y() + band.get_height() / 2) < 1e-9, "the unit null lies in the middle of its row"
    np.testing.assert_allclose(np.asarray(ax.collections[0].get_offsets()), [[0.7, 0], [-0.2, 1]])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    assert ax.yaxis_inverted(), "the first row is on top"


def test_the_legend_of_the_nulls_is_inside_the_figure():
    ax = draw_null_distribution({
        "layer 10 attention output": numbered(0.7, floor=NULL, unit=NULL, label=NULL),
        "mean": Referenced(0.1),
    })
    ax.figure.draw_without_rendering()
    box, whole = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1 + 1
    assert box.y1 <= whole.y1


def test_known_nulls_come_first_and_any_other_has_a_title():
    numbers = [numbered(0.7, spin=NULL), numbered(0.7, label=NULL, phase=NULL, floor=NULL), Referenced(0.1)]
    assert null_names(numbers) == ["floor", "label", "spin", "phase"]
    assert [null_title(name) for name in ("floor", "spin")] == ["kernel floor", "spin null"]


def test_nulls_of_any_name_are_drawn_beside_each_other():
    names = ["unit", "spin", "phase", "block"]
    ax = draw_null_distribution({"a": numbered(0.7, **dict.fromkeys(names, NULL)), "b": numbered(0.5)})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["this map", *map(null_title, names)]
    spans = sorted((band.get_y(), band.get_y() + band.get_height()) for band in ax.patches)
    assert len(spans) == 4
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans)), "none hides another"
    assert -0.5 < spans[0][0] < spans[-1][1] < 0.5, "all in their row"
    assert len({band.get_facecolor() for band in ax.patches}) == 4


def test_the_examples_run():
    assert doctest.testmod(nulls).failed == 0
