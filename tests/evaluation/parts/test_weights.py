import dataclasses

import pytest
import torch

from topographic.evaluation import Choices
from topographic.evaluation.parts.weights import layer_weights, smooth_weights
from topographic.losses import laplacian_pyramid_loss, random_weights_loss
from topographic.objectives.config import SmoothnessConfig, WeightSheetConfig
from topographic.runs.own_sheets import own_weight_sheets, smooth_sites
from topographic.sheets import grid, grid_cells, permuted_grid

CHOICES = Choices(n_draws=39)
LAYERS = ["layer 0 mlp.c_fc", "layer 1 mlp.c_fc"]


def by_sheet(table):
    return {row["sheet"]: row for row in table.rows}


def test_smooth_weights_are_told_from_random_ones(net_subject):
    found = smooth_weights(net_subject, CHOICES)
    means, layers = found.tables
    rows = by_sheet(layers)
    assert list(rows) == LAYERS
    for layer, row in enumerate(rows.values()):
        weight = net_subject.model.transformer.h[layer].mlp.c_fc.weight.detach()
        assert row["loss"] == pytest.approx(laplacian_pyramid_loss(weight).item(), abs=1e-6)
        assert row["random weights"] == pytest.approx(random_weights_loss(144))
        assert (row["units"], row["weights per unit"]) == ("12 x 12", 36)
    random, smooth = rows.values()
    assert random["loss"] == pytest.approx(random["random weights"], abs=0.05), "an untrained layer"
    assert random["p (unit)"] > 0.05
    assert smooth["loss"] < 0.1 < smooth["unit null"] - 5 * smooth["sd (unit)"]
    assert smooth["p (unit)"] == 1 / 40
    (mean,) = means.rows
    assert (mean["layers"], mean["loss"]) == (2, pytest.approx((random["loss"] + smooth["loss"]) / 2))
    assert mean["p (unit)"] == 1 / 40
    assert found.notes == []
    said = "output units with a blur of factor 3 (toponets), as published, since no configuration of the run says"
    assert said in found.text
    assert (mean["of"], mean["factor"], mean["blur"]) == ("output units", "3", "toponets")


def trained_with(subject, smoothness):
    """The subject that a run with this section is."""
    sites, layout = smooth_sites(subject.model, smoothness) or (subject.sites, subject.layout)
    own = own_weight_sheets(subject.model, smoothness)
    return dataclasses.replace(subject, sites=sites, layout=layout, weight_sheets=tuple(own))


def test_the_blur_is_the_one_the_run_was_trained_with(net_subject):
    options = {"factor": (2.0, 4.0), "blur": "gaussian"}
    config = SmoothnessConfig(weight=1.0, sites=["transformer.h.*.mlp.c_fc"], **options)
    found = smooth_weights(trained_with(net_subject, config), CHOICES)
    rows = by_sheet(found.tables[1])
    for layer, row in enumerate(rows.values()):
        weight = net_subject.model.transformer.h[layer].mlp.c_fc.weight.detach()
        assert row["loss"] == pytest.approx(laplacian_pyramid_loss(weight, **options).item(), abs=1e-6)
        assert row["random weights"] == pytest.approx(random_weights_loss(144, **options))
        assert row["random weights"] != pytest.approx(random_weights_loss(144), abs=0.01)
        assert (row["of"], row["factor"], row["blur"], row["as"]) == (
            "output units",
            "2 x 4",
            "gaussian",
            "the run's own",
        )
    assert "factor 2 x 4 (gaussian), as the run itself was told (section smoothness of its config.yaml)" in found.text
    assert "as published" not in found.text


def test_a_control_is_measured_at_the_same_layers(net_subject):
    """Whether its layers are named and its weight is 0, or they are only watched."""
    site = "transformer.h.1.mlp.c_fc"
    trained, watching, named = (
        smooth_weights(trained_with(net_subject, SmoothnessConfig(**words, factor=4.0)), CHOICES)
        for words in ({"weight": 1.0, "sites": [site]}, {"watched": [site]}, {"sites": [site]})
    )
    assert trained.tables[1].rows == watching.tables[1].rows == named.tables[1].rows
    assert [row["sheet"] for row in trained.tables[1].rows] == LAYERS[1:]


def test_input_units_lie_on_sheets_of_their_own_beside_the_layers_that_are_recorded(net_subject):
    sheets = [WeightSheetConfig("transformer.h.*.mlp.c_proj", "input", layout="permuted_grid", layout_seed=5)]
    subject = trained_with(net_subject, SmoothnessConfig(weight=1.0, factor=2.0, sheets=sheets))
    assert subject.sites == net_subject.sites, "no output units lie on sheets: as without a configuration"
    found = smooth_weights(subject, CHOICES)
    rows = by_sheet(found.tables[1])
    assert list(rows) == [*(f"layer {layer} mlp.c_proj.inputs" for layer in (0, 1)), *LAYERS]
    for layer in (0, 1):
        weight = subject.model.transformer.h[layer].mlp.c_proj.weight.detach()
        order = grid_cells(permuted_grid(144, f"transformer.h.{layer}.mlp.c_proj", seed=5))[1]
        expected = laplacian_pyramid_loss(weight, 2.0, "input", order=order)
        row = rows[f"layer {layer} mlp.c_proj.inputs"]
        assert row["loss"] == pytest.approx(expected.item(), abs=1e-6)
        assert (row["of"], row["as"], row["weights per unit"]) == ("input units", "the run's own", 36)
        assert rows[LAYERS[layer]]["as"] == "published"
    inputs, outputs = found.tables[0].rows
    assert (inputs["of"], inputs["factor"], inputs["layers"]) == ("input units", "2", 2)
    assert (outputs["of"], outputs["factor"], outputs["layers"]) == ("output units", "3", 2)
    assert outputs["loss"] == pytest.approx(sum(rows[layer]["loss"] for layer in LAYERS) / 2)


def test_biases_and_sheets_with_empty_cells_are_measured(net_subject):
    first, second = (f"transformer.h.{layer}.mlp.c_fc" for layer in (0, 1))
    bias = torch.linspace(0, 1, 144) + torch.arange(144) % 12
    net_subject.model.transformer.h[0].mlp.c_fc.bias = torch.nn.Parameter(bias)
    sheets = [
        WeightSheetConfig(first, shape=(13, 12)),  # its last row is empty
        WeightSheetConfig(first, "bias"),
        WeightSheetConfig(second, shape=(11, 14)),
    ]
    subject = trained_with(net_subject, SmoothnessConfig(weight=1.0, sheets=sheets))
    found = smooth_weights(subject, CHOICES)
    rows = by_sheet(found.tables[1])
    assert list(rows) == [LAYERS[0], f"{LAYERS[0]}.bias", LAYERS[1]]
    for layer, shape in enumerate([(13, 12), (11, 14)]):
        row = rows[LAYERS[layer]]
        weight = subject.model.transformer.h[layer].mlp.c_fc.weight.detach()
        assert row["loss"] == pytest.approx(laplacian_pyramid_loss(weight, shape=shape).item(), abs=1e-6)
        assert row["random weights"] == pytest.approx(random_weights_loss(144, shape=shape))
        assert row["units"] == f"{shape[0]} x {shape[1]}"
    row = rows[f"{LAYERS[0]}.bias"]
    assert row["loss"] == pytest.approx(laplacian_pyramid_loss(bias, kind="bias").item(), abs=1e-6)
    assert (row["of"], row["weights per unit"], row["random weights"]) == ("bias units", 1, None)
    assert row["loss"] < row["unit null"]
    outputs, biases = found.tables[0].rows
    assert (outputs["layers"], biases["layers"], biases["random weights"]) == (2, 1, None)
    assert found.notes == []


def test_gates_of_recurrent_layers(net_subject):
    torch.manual_seed(0)
    net_subject.model.add_module("rnn", torch.nn.GRU(7, 25))
    config = SmoothnessConfig(sheets=[WeightSheetConfig("rnn", parameters="weight_hh*", factor=2.0)])
    own = dataclasses.replace(net_subject, weight_sheets=tuple(own_weight_sheets(net_subject.model, config)))
    rows = by_sheet(smooth_weights(own, CHOICES).tables[1])
    assert list(rows)[:3] == [f"rnn.weight_hh_l0.{gate}" for gate in ("reset", "update", "new")]
    gate = net_subject.model.rnn.weight_hh_l0.detach()[25:50]
    assert rows["rnn.weight_hh_l0.update"]["loss"] == pytest.approx(laplacian_pyramid_loss(gate, 2.0).item(), abs=1e-6)


def test_weights_count_where_their_units_lie(net_subject):
    elsewhere = dataclasses.replace(net_subject, layout=permuted_grid)
    rows = by_sheet(smooth_weights(elsewhere, CHOICES).tables[1])
    assert rows[LAYERS[1]]["p (unit)"] > 0.02
    assert rows[LAYERS[1]]["loss"] > 0.2


def test_sheets_without_room_for_the_blur_are_told(net_subject):
    lines = {site: grid(144, site, shape=(2, 72)) for site in net_subject.sites}
    found = smooth_weights(dataclasses.replace(net_subject, layout=lines), CHOICES)
    assert [note[:70] for note in found.notes] == [
        f"{layer}: not measured. factor 3 is too large for the 2 rows of a 2 x 72"[:70] for layer in LAYERS
    ]
    assert (found.tables[0].rows, found.tables[1].rows, found.pictures) == ([], [], [])


def test_what_breaks_inside_is_no_note(net_subject, monkeypatch):
    def broken(*_, **__):
        raise ValueError("a bug")

    monkeypatch.setattr("topographic.evaluation.parts.weights.weight_smoothness", broken)
    with pytest.raises(ValueError, match="a bug"):
        smooth_weights(net_subject, CHOICES)


def test_a_site_without_weights_is_named(tiny_subject):
    with pytest.raises(
        ValueError, match=r"site 'transformer.h.0.attn_sheet' is no layer with weights .* sites='transf"
    ):
        smooth_weights(tiny_subject, CHOICES)


def test_weights_are_one_row_per_unit(net_subject):
    layers = layer_weights(net_subject)
    assert [layer.name for layer in layers] == net_subject.sites
    assert {tuple(layer.weights.shape) for layer in layers} == {(144, 36)}
    assert not any(layer.is_own for layer in layers)


def test_a_vision_model_is_measured_the_same_way(image_subject):
    (weights,) = smooth_weights(image_subject, CHOICES).tables[1].rows
    assert weights["sheet"] == "fc1"
    assert weights["loss"] == pytest.approx(
        laplacian_pyramid_loss(image_subject.model.fc1.weight.detach()).item(), abs=1e-6
    )
    assert weights["p (unit)"] == 1 / 40
