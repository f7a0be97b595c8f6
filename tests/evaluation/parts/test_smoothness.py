import dataclasses

import numpy as np
import pytest

from topographic.evaluation import Choices
from topographic.evaluation.parts.smoothness import smooth_responses
from topographic.maps import correlation_by_distance, correlation_range, difference_by_distance, difference_rise, t_map
from topographic.sheets import grid

CHOICES = Choices(n_draws=39)
LAYERS = ["layer 0 mlp.c_fc", "layer 1 mlp.c_fc"]


def by_sheet(table, **wanted):
    return {row["sheet"]: row for row in table.rows if all(row[key] == value for key, value in wanted.items())}


def test_both_definitions_of_smoothness_stand_apart_and_find_the_planted_layer(net_subject):
    found = smooth_responses(net_subject, CHOICES)
    means, ranges, rises, published = found.tables
    heard = net_subject.recorded("localizer")
    for (label, row), (rise_label, rise), one in zip(
        by_sheet(ranges).items(), by_sheet(rises).items(), heard.values(), strict=True
    ):
        assert label == rise_label
        assert row["smoothness"] == pytest.approx(correlation_range(correlation_by_distance(one)))
        tuning = t_map(one, "sentences", "nonwords")
        assert rise["smoothness"] == pytest.approx(difference_rise(difference_by_distance(tuning)))
        assert "p (label)" not in row
        assert {"p (floor)", "p (unit)", "p (label)"} < set(rise)
    rough, smooth = by_sheet(ranges).values()
    assert smooth["p (unit)"] == smooth["p (floor)"] == 1 / 40
    assert smooth["smoothness"] > 0.5 > 0.2 > smooth["unit null"]
    assert rough["p (unit)"] > 0.02
    assert by_sheet(rises)[LAYERS[1]]["p (unit)"] == 1 / 40
    assert [row["definition"] for row in means.rows] == ["range (TopoNets)", "rise (TDANN)"]
    assert means.rows[0]["smoothness"] == pytest.approx((rough["smoothness"] + smooth["smoothness"]) / 2)
    of_tau = {(row["model"], row["tau"]): row["smoothness"] for row in published.rows}
    assert (of_tau["GPT-Neo-125M", 0], of_tau["GPT-Neo-125M", 50], of_tau["NanoGPT", 1]) == (0.08, 1.11, 0.85)
    assert list(found.maps) == [f"sentences-nonwords/{site}" for site in net_subject.sites]
    curves = found.pictures[0].figure.axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in curves.lines}
    one = heard[net_subject.sites[1]]
    curve = correlation_by_distance(one)
    np.testing.assert_allclose(drawn[LAYERS[1]], curve.values[curve.n_pairs >= 20], atol=1e-9)
    assert len(drawn[LAYERS[1]]) == len(drawn["units permuted (mean)"]) < 15
    caption = "Dashed: the same responses, units permuted. Bins of fewer than 20 pairs of units are not drawn."
    assert found.pictures[0].note == caption
    assert means.note.endswith("read it beside its unit null.")
    assert "trained on other text;" in published.note
    assert np.ptp(drawn["units permuted (mean)"]) < 0.1


def test_nothing_is_dashed_where_sheets_differ_in_size(net_subject):
    small, large = (grid(shape) for shape in ((9, 16), (12, 12)))
    layout = dict(zip(net_subject.sites, (small, large), strict=True))
    (picture, _) = smooth_responses(dataclasses.replace(net_subject, layout=layout), Choices(n_draws=19)).pictures
    assert [line.get_label() for line in picture.figure.axes[0].lines[1:]] == LAYERS
    assert picture.note == "Bins of fewer than 20 pairs of units are not drawn."


def test_a_vision_model_is_measured_the_same_way(image_subject):
    responses = smooth_responses(image_subject, CHOICES)
    intact = image_subject.recorded("localizer")["fc1"]
    assert len(intact.stimuli) == 40, "no scrambled image among them"
    (row,), (rise,) = responses.tables[1].rows, responses.tables[2].rows
    assert row["smoothness"] == pytest.approx(correlation_range(correlation_by_distance(intact)))
    tuning = t_map(intact, ("faces",), ("objects", "characters", "animals", "vehicles"))
    assert rise["smoothness"] == pytest.approx(difference_rise(difference_by_distance(tuning)))
    assert "faces - other categories" in responses.text
    assert list(responses.maps) == ["faces-other_categories/fc1"]
    of_tau = {(row["model"], row["tau"]): row for row in responses.tables[3].rows}
    assert of_tau["ResNet-18", 10] == {"model": "ResNet-18", "tau": 10, "smoothness": 0.82, "ImageNet top-1": 0.636}
    assert "trained on other images;" in responses.tables[3].note
