import numpy as np
import pytest

from topographic.plots.group_figures import draw_motion, draw_over_subjects

pytest.importorskip("matplotlib", reason="needs the extra topographic[report]")


def test_every_subject_has_a_line_and_the_mean_its_interval():
    values = np.array([[0.0, 0.2], [0.1, 0.4], [0.2, 0.3]])
    ax = draw_over_subjects(
        values, ([0.0, 0.2], [0.2, 0.5]), ["0", "1"], references={"controls": [0.1, 0.1]}, y_label="mean r"
    )
    drawn = [line.get_xydata()[:, 1].tolist() for line in ax.lines]
    for row in (*values.tolist(), [0.1, 0.1]):
        assert row in drawn
    mean = next(line for line in ax.lines if line.get_label() == "mean")
    np.testing.assert_allclose(mean.get_ydata(), [0.1, 0.3])
    (bars,) = [one for one in ax.collections if len(one.get_segments()) == 2]
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], [[0.0, 0.2], [0.2, 0.5]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["each subject", "controls", "mean"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("depth", "mean r")


def test_one_subject_has_no_interval():
    ax = draw_over_subjects(np.array([[0.0, 0.2]]), ([np.nan] * 2, [np.nan] * 2), ["0", "1"])
    assert not ax.collections


def test_a_named_point_for_each_subject():
    ax = draw_motion([0.1, 0.2], [0.3, 0.1], ["s1", "s2"], y_label="mean r")
    assert ax.collections[0].get_offsets().tolist() == [[0.1, 0.3], [0.2, 0.1]]
    assert [(one.get_text(), one.xy) for one in ax.texts] == [("s1", (0.1, 0.3)), ("s2", (0.2, 0.1))]
    many = draw_motion(np.arange(30), np.arange(30), [str(one) for one in range(30)], ax)
    assert many is ax
    assert len(ax.texts) == 2
    with pytest.raises(ValueError, match=r"2 displacements, 1 scores, 2 names; give one of each"):
        draw_motion([0.1, 0.2], [0.3], ["s1", "s2"])
