import dataclasses

import numpy as np
import pytest
from sklearn.decomposition import PCA

from topographic.evaluation.parts.sheets import dimensionality, smooth_responses
from topographic.evaluation.subject import Choices
from topographic.maps import correlation_by_distance, correlation_range, difference_by_distance, difference_rise, t_map
from topographic.recording import record_tokens
from topographic.sheets import grid
from topographic.stimuli import StimulusSet

CHOICES = Choices(n_draws=39)
SAMPLES = ("items, mean over their tokens", "tokens of the text")
LAYERS = ["layer 0 mlp.c_fc", "layer 1 mlp.c_fc"]


def by_sheet(table, **wanted):
    return {row["sheet"]: row for row in table.rows if all(row[key] == value for key, value in wanted.items())}


def test_both_definitions_of_smoothness_stand_apart_and_find_the_planted_layer(net_bench):
    found = smooth_responses(net_bench, CHOICES)
    means, ranges, rises, published = found.tables
    heard = net_bench.recorded("localizer")
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
    assert list(found.maps) == [f"sentences-nonwords/{site}" for site in net_bench.sites]
    curves = found.pictures[0].figure.axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in curves.lines}
    one = heard[net_bench.sites[1]]
    curve = correlation_by_distance(one)
    np.testing.assert_allclose(drawn[LAYERS[1]], curve.values[curve.n_pairs >= 20], atol=1e-9)
    assert len(drawn[LAYERS[1]]) == len(drawn["units permuted (mean)"]) < 15
    caption = "Dashed: the same responses, units permuted. Bins of fewer than 20 pairs of units are not drawn."
    assert found.pictures[0].note == caption
    assert means.note.endswith("read it beside its unit null.")
    assert "trained on other text;" in published.note
    assert np.ptp(drawn["units permuted (mean)"]) < 0.1


def test_nothing_is_dashed_where_sheets_differ_in_size(net_bench):
    small, large = (grid(shape) for shape in ((9, 16), (12, 12)))
    layout = dict(zip(net_bench.sites, (small, large), strict=True))
    (picture, _) = smooth_responses(dataclasses.replace(net_bench, layout=layout), Choices(n_draws=2)).pictures
    assert [line.get_label() for line in picture.figure.axes[0].lines[1:]] == LAYERS
    assert picture.note == "Bins of fewer than 20 pairs of units are not drawn."


def test_dimensionality_of_items_and_of_tokens(net_bench):
    found = dimensionality(net_bench, CHOICES)
    means, layers, published = found.tables
    items, tokens = (by_sheet(layers, samples=samples) for samples in SAMPLES)
    passages = net_bench.passages(net_bench.minimal_pairs())
    shown = StimulusSet("passages", passages, ("text",) * len(passages))
    heard = record_tokens(net_bench.model, net_bench.tokenizer, shown, net_bench.sites)
    for recorded, rows in ((net_bench.recorded("localizer"), items), (heard, tokens)):
        for one, row in zip(recorded.values(), rows.values(), strict=True):
            eigenvalues = PCA().fit(one.values.astype(float)).explained_variance_
            assert row["dimensionality"] == pytest.approx(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum())
            assert 1 <= row["dimensionality"] < row["independent units"] < row["bound"]
    assert items[LAYERS[0]]["n samples"] == 240
    assert tokens[LAYERS[0]]["n samples"] == sum(len(net_bench.tokenizer(passage)["input_ids"]) for passage in passages)
    assert [row["samples"] for row in means.rows] == list(SAMPLES)
    assert means.rows[0]["dimensionality"] == pytest.approx(np.mean([row["dimensionality"] for row in items.values()]))
    of_tau = {(row["model"], row["tau"]): row["dimensionality"] for row in published.rows}
    assert (of_tau["NanoGPT", 0], of_tau["NanoGPT", 50], of_tau["GPT-Neo-125M", 5]) == (41.6, 11.0, 17.3)


def test_a_vision_model_is_measured_the_same_way(image_bench):
    responses = smooth_responses(image_bench, CHOICES)
    intact = image_bench.recorded("localizer")["fc1"]
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
    dimensions = dimensionality(image_bench, CHOICES)
    assert "trained on other images;" in dimensions.tables[2].note
    shown, test = dimensions.tables[1].rows
    for row, one in ((shown, intact), (test, image_bench.recorded("test")["fc1"])):
        eigenvalues = PCA().fit(one.values.astype(float)).explained_variance_
        assert row["dimensionality"] == pytest.approx(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum(), rel=1e-6)
    assert {row["model"] for row in dimensions.tables[2].rows} == {"ResNet-18", "ResNet-50", "ViT-B/32", "TDANN"}
