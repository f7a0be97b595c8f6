import dataclasses
import math

import pytest
from torch import nn

from topographic.behaviour import minimal_pairs, perplexity, token_log_probabilities
from topographic.evaluation import Choices, NotMeasurable
from topographic.evaluation.parts.compression import compression
from topographic.interventions import downsample, prune
from topographic.sheets import Sheet, grid

CHOICES = Choices(removed=(0.5, 0.8), permuted_draws=5, lesion_pairs=2)


def loss_of(bench, model):
    pairs = bench.minimal_pairs(2)
    surprisal = token_log_probabilities(model, bench.tokenizer, bench.passages(pairs), progress=False)
    return math.log(perplexity(surprisal)), minimal_pairs(model, bench.tokenizer, pairs, progress=False).accuracy


def test_curves_are_those_of_the_compressed_models_at_equal_parameters(net_subject):
    found = compression(net_subject, CHOICES)
    curves, permuted, published = found.tables
    rows = {(row["method"], row["removed"]): row for row in curves.rows}
    whole, *others = curves.rows
    model, sites = net_subject.model, net_subject.sites
    assert (whole["loss"], whole["accuracy"]) == pytest.approx(loss_of(net_subject, model), rel=1e-5)
    assert (whole["Δ loss"], whole["Δ accuracy"]) == (0, 0)
    small = downsample(model, sites, 0.5, keep_bias=True)
    row = rows["downsampling", 0.5]
    assert (row["loss"], row["accuracy"]) == pytest.approx(loss_of(net_subject, small), rel=1e-5)
    assert row["Δ loss"] == pytest.approx(row["loss"] - whole["loss"])
    assert row["perplexity"] == pytest.approx(math.exp(row["loss"]))
    assert [one["parameters"] for one in others[:2]] == [one["parameters"] for one in others[2:]]
    assert whole["parameters"] - row["parameters"] == 2 * 36 * (144 - 8 * 8)
    share = 1 - 64 / 144
    assert rows["pruning", share]["loss"] == pytest.approx(
        loss_of(net_subject, prune(model, sites, share))[0], rel=1e-5
    )
    assert {one["measure"] for one in permuted.rows} == {"loss", "accuracy"}
    assert len(permuted.rows) == 2 * 2
    of_tau = {(row["tau"], row["removed"]): (row["parameters"], row["loss"], row["BLiMP"]) for row in published.rows}
    assert of_tau[50, 0.8] == ("101.5 M", 3.70, 0.671)
    assert of_tau[0, 0.2] == ("118.1 M", 13.7, 0.460)
    assert len(of_tau) == 16


def test_a_smooth_layer_survives_where_it_lies_and_not_elsewhere(net_subject):
    """Only the smooth layer is made smaller: where its units lie decides what is lost."""
    smooth = dataclasses.replace(net_subject, sites=[net_subject.sites[1]])
    found = compression(smooth, dataclasses.replace(CHOICES, removed=(0.5,), permuted_draws=19))
    (loss,) = (row for row in found.tables[1].rows if row["measure"] == "loss")
    whole = found.tables[0].rows[0]["loss"]
    assert found.text.startswith("Weights are taken from 1 layer. ")
    assert loss["p"] == 1 / 20
    assert abs(loss["downsampled"] - whole) < 0.3 * abs(loss["units permuted"] - whole)


def test_a_vision_model_is_compressed_the_same_way(image_subject):
    found = compression(image_subject, CHOICES)
    rows = {(row["method"], row["removed"]): row for row in found.tables[0].rows}
    model = image_subject.model
    for row, expected in (
        (rows["whole model", 0.0], model),
        (rows["downsampling", 0.8], downsample(model, "fc1", 0.2)),
        (rows["pruning", 1 - 64 / 144], prune(model, "fc1", 1 - 64 / 144)),
    ):
        recognised = image_subject.recognised(expected)
        assert (row["loss"], row["accuracy"]) == pytest.approx((recognised["loss"], recognised["accuracy"]))
    loss = next(row for row in found.tables[1].rows if row["measure"] == "loss")
    whole = rows["whole model", 0.0]["loss"]
    assert abs(loss["downsampled"] - whole) < 0.3 * abs(loss["units permuted"] - whole), "its weights are smooth"
    assert [table.name for table in found.tables] == ["curves", "permuted"]
    assert found.notes == []


def test_convolutions_are_pruned_only(image_subject):
    class Convolutional(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.conv, self.rest, self.config = nn.Conv2d(1, 1, 3, padding=1), model, model.config

        def forward(self, pixel_values):
            return self.rest(self.conv(pixel_values))

    model = Convolutional(image_subject.model)
    found = compression(dataclasses.replace(image_subject, model=model, sites=["conv", "rest.fc1"]), CHOICES)
    assert [(row["method"], row["removed"]) for row in found.tables[0].rows] == [
        ("whole model", 0.0),
        ("pruning", 0.5),
        ("pruning", 0.8),
    ]
    assert found.notes[0].startswith("Downsampling: not measured. It takes linear layers")
    assert [table.name for table in found.tables] == ["curves"]


def test_sheets_with_empty_cells_are_pruned_only(image_subject):
    def layout(n_units, name):
        return Sheet(name, grid((12, 13)).positions_mm[:n_units])

    found = compression(dataclasses.replace(image_subject, layout=layout), CHOICES)
    assert {row["method"] for row in found.tables[0].rows} == {"whole model", "pruning"}
    assert found.notes == [
        "Downsampling: not measured. It reads between the units of a sheet, and some of these sheets have empty cells."
    ]


def test_without_test_images_nothing_is_measured(image_subject, show):
    with pytest.raises(NotMeasurable, match="no test images are named; say test_set=cifar10, for example"):
        compression(show(image_subject, test_set=None), CHOICES)


def test_what_breaks_inside_is_no_note(net_subject, monkeypatch):
    def broken(*_, **__):
        raise ValueError("a bug")

    monkeypatch.setattr("topographic.evaluation.parts.compression.downsampling_curve", broken)
    with pytest.raises(ValueError, match="a bug"):
        compression(net_subject, CHOICES)
