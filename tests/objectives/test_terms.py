import json
import shlex
from dataclasses import fields, replace

import pytest
import torch
from torch import nn

from topographic.cli.arguments import parse_command
from topographic.losses.pyramid import laplacian_pyramid_loss
from topographic.objectives.config import (
    NeighborActivationsConfig,
    NeighborWeightsConfig,
    SmoothnessConfig,
    SpatialConfig,
    WeightSheetConfig,
    WiringConfig,
)
from topographic.objectives.neighbor_terms import NeighborActivations, NeighborWeights, WiringCost
from topographic.objectives.objective import SpatialCorrelation
from topographic.objectives.terms import (
    configured_objective,
    configured_weight_sheets,
    smoothness_term,
    spatial_term,
)
from topographic.objectives.weight_terms import WeightSheet, WeightSmoothness
from topographic.runs.recipe import Recipe
from topographic.sheets import grid, grid_cells, permuted_grid
from topographic.training.config import RunConfig, TrainingConfig


class WithSheets(nn.Module):
    """A model that says where its units lie."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)

    def sheets(self):
        return {"a": grid(16, "a")}


def asked(seed=0, **sections):
    return RunConfig(**sections, training=TrainingConfig(seed=seed, gradient_accumulation_steps=2))


def test_sheets_come_from_the_model_and_the_rest_from_the_layout():
    objective = configured_objective(WithSheets(), asked(3, spatial=SpatialConfig(radius=2)))
    assert objective.sites == {"spatial": ["a"]}
    (term,) = objective.terms
    assert term._place("a", 16)[0] == grid(16, "a")
    config = SpatialConfig(sites=["a", "b"], radius=2, weight=0.25, n_neighborhoods=2, norm="linf")
    objective = configured_objective(WithSheets(), asked(3, spatial=config))
    assert objective.sites == {"spatial": ["a", "b"]}
    (term,) = objective.terms
    assert term._place("a", 16)[0] == grid(16, "a")
    assert term._place("b", 16)[0] == permuted_grid(16, "b")
    assert (term.weight, term.n_neighborhoods, term.norm, term.seed) == (0.25, 2, "linf", 3)


def test_every_section_becomes_its_term_and_none_without_a_weight():
    config = asked(
        spatial=SpatialConfig(weight=0.0),
        neighbor_weights=NeighborWeightsConfig(2.0, "a", metric="cosine", contiguity="rook"),
        neighbor_activations=NeighborActivationsConfig(3.0, ["a", "b"], metric="correlation"),
        wiring=WiringConfig(4.0, "b", between_mm=0.5),
    )
    weights, activations, wiring = configured_objective(WithSheets(), config).terms
    assert weights == NeighborWeights(["a"], weight=2.0, metric="cosine", contiguity="rook")
    assert activations == NeighborActivations(["a", "b"], weight=3.0, metric="correlation")
    assert wiring == WiringCost(["b"], weight=4.0, between_mm=0.5)
    named = NeighborWeightsConfig(0.0, "a"), WiringConfig(0.0, "b")
    config = asked(spatial=SpatialConfig(weight=0.0), neighbor_weights=named[0], wiring=named[1])
    assert configured_objective(WithSheets(), config).terms == []
    absent = asked(spatial=SpatialConfig(weight=0.0), wiring=WiringConfig(1.0, "c"))
    with pytest.raises(ValueError, match="site pattern 'c' matches no module of WithSheets"):
        configured_objective(WithSheets(), absent)


def test_the_sheets_of_a_wrapped_model_are_its_own():
    model = WithSheets()
    for one in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        (term,) = configured_objective(one, asked(spatial=SpatialConfig(sites=["a"], radius=2))).terms
        assert term._place("a", 16)[0] == grid(16, "a")


def test_the_term_has_the_defaults_of_the_section():
    term, section = SpatialCorrelation(sites="a"), SpatialConfig()
    same = {one.name for one in fields(SpatialConfig)} - {"layout"}
    assert {name: getattr(term, name) for name in same - {"sites"}} == {
        name: getattr(section, name) for name in same - {"sites"}
    }
    sheet, smoothness, entry = WeightSheet("a"), SmoothnessConfig(), WeightSheetConfig("a")
    assert (sheet.kind, sheet.blur) == (smoothness.kind, smoothness.blur)
    assert (sheet.scale, sheet.parameters) == (entry.scale, entry.parameters)
    assert WeightSmoothness("a").reduction == smoothness.reduction


def test_no_sheets_and_no_sites():
    message = r"Sequential carries no sheets and spatial.sites names none; set spatial.sites .*example \['0'\], or"
    with pytest.raises(ValueError, match=message):
        spatial_term(nn.Sequential(nn.Linear(3, 3)), SpatialConfig(), seed=0)
    with pytest.raises(ValueError, match=r"no submodules: give nn.Sequential\(model\), whose site is '0'$"):
        spatial_term(nn.Linear(3, 3), SpatialConfig(), seed=0)
    assert configured_objective(nn.Linear(3, 3), asked(spatial=SpatialConfig(weight=0.0))).terms == []


def test_smoothness_is_the_weighted_mean_over_its_layers():
    model, config = WithSheets(), SmoothnessConfig(weight=2.0, sites=["a"], watched=["b"], factor=2.0)
    objective = configured_objective(model, asked(spatial=SpatialConfig(weight=0.0), smoothness=config))
    assert objective.accumulation == 2
    loss, parts = objective(torch.tensor(1.0), draw=0)
    alone = {name: laplacian_pyramid_loss(getattr(model, name).weight, 2.0) for name in "ab"}
    assert parts["smoothness/a"] == alone["a"]
    assert parts["smoothness/b"] == alone["b"]
    torch.testing.assert_close(parts["smoothness_loss"], 2 * alone["a"])
    torch.testing.assert_close(loss, 1 + 2 * 2 * alone["a"])  # times the passes that the loss is divided by


def test_both_losses_side_by_side():
    config = asked(spatial=SpatialConfig(radius=2), smoothness=SmoothnessConfig(weight=1.0, sites=["b"]))
    assert [term.name for term in configured_objective(WithSheets(), config).terms] == ["spatial", "smoothness"]


def test_layers_that_are_only_watched():
    config = SmoothnessConfig(watched=["a"], sites=["b"])
    objective = configured_objective(WithSheets(), asked(spatial=SpatialConfig(weight=0.0), smoothness=config))
    loss, parts = objective(torch.tensor(1.0), draw=0)
    assert set(parts) == {"task_loss", "smoothness/a", "smoothness_loss"}
    assert (loss, parts["smoothness_loss"]) == (1.0, 0.0)


@pytest.mark.parametrize(("schedule", "halfway"), [("linear", 1.5), ("cosine", 1.5)])
def test_schedules_go_by_the_step(schedule, halfway):
    config = SmoothnessConfig(weight=2.0, start_weight=1.0, sites=["a"], schedule=schedule, schedule_steps=4)
    weight = smoothness_term(config).weight
    assert [weight(step) for step in (0, 2, 4, 9)] == pytest.approx([1.0, halfway, 2.0, 2.0])
    assert smoothness_term(replace(config, schedule="constant", start_weight=0.0, schedule_steps=1000)).weight == 2.0


def test_a_layer_without_weights_is_refused():
    model = nn.Sequential(nn.Linear(9, 9), nn.ReLU())
    config = asked(spatial=SpatialConfig(weight=0.0), smoothness=SmoothnessConfig(weight=1.0, sites=["1"]))
    with pytest.raises(TypeError, match="site '1'"):
        configured_objective(model, config)


def net():
    torch.manual_seed(0)
    layers = {"fc1": nn.Linear(9, 36), "fc2": nn.Linear(36, 24), "rnn": nn.GRU(5, 12), "head": nn.Linear(24, 10)}
    return nn.ModuleDict(layers)


def parts_of(model, smoothness):
    objective = configured_objective(model, asked(spatial=SpatialConfig(weight=0.0), smoothness=smoothness))
    return objective(torch.tensor(0.0), draw=0)[1]


def test_sheets_of_their_own_beside_those_of_the_section():
    model = net()
    sheets = [
        WeightSheetConfig("head", factor=(3.0, 2.0), blur="antialias", shape=(3, 4), scale=0.5),
        WeightSheetConfig("fc1", kind="bias", scale=None),
        WeightSheetConfig(["fc2"], "input", factor=2.0, scale=2.0),
        WeightSheetConfig("rnn", "input", factor=2.0, scale=2.0, parameters="weight_hh*"),
    ]
    config = SmoothnessConfig(weight=3.0, sites=["fc*"], factor=(2.0, 3.0), blur="gaussian", sheets=sheets)
    parts = parts_of(model, config)
    trained = {
        "fc1": laplacian_pyramid_loss(model["fc1"].weight, (2.0, 3.0), blur="gaussian"),
        "fc2": laplacian_pyramid_loss(model["fc2"].weight, (2.0, 3.0), blur="gaussian"),
        "head": laplacian_pyramid_loss(model["head"].weight, (3.0, 2.0), blur="antialias", shape=(3, 4)),
        "fc2.inputs": laplacian_pyramid_loss(model["fc2"].weight, 2.0, "input", blur="gaussian"),
        "rnn.weight_hh_l0.inputs": laplacian_pyramid_loss(model["rnn"].weight_hh_l0, 2.0, "input", blur="gaussian"),
    }
    watched = {"fc1.bias": laplacian_pyramid_loss(model["fc1"].bias, (2.0, 3.0), "bias", blur="gaussian")}
    assert {name: parts[f"smoothness/{name}"] for name in {**trained, **watched}} == {**trained, **watched}
    assert len(parts) == 8
    scales = dict.fromkeys(trained, 1.0) | {"head": 0.5, "fc2.inputs": 2.0, "rnn.weight_hh_l0.inputs": 2.0}
    expected = 3 * sum(scales[name] * loss for name, loss in trained.items()) / 5
    torch.testing.assert_close(parts["smoothness_loss"], expected)


def test_a_control_watches_what_has_no_scale_and_leaves_the_rest_out():
    sheets = [WeightSheetConfig("fc1"), WeightSheetConfig("fc2", scale=None, factor=2.0)]
    parts = parts_of(net(), SmoothnessConfig(sites=["fc1"], sheets=sheets))
    assert set(parts) == {"task_loss", "smoothness/fc2", "smoothness_loss"}
    assert parts["smoothness_loss"] == 0
    assert parts_of(net(), SmoothnessConfig(sites=["fc1"], sheets=sheets[:1])).keys() == {"task_loss"}


def test_permuted_layouts_are_drawn_for_every_layer():
    """The loss is that of the weights put where `permuted_grid` has the units; gates share the places of units."""
    model = net()
    sheets = [WeightSheetConfig(["fc*", "head"], layout="permuted_grid", layout_seed=3, factor=2.0)]
    sheets += [WeightSheetConfig("rnn", layout="permuted_grid", layout_seed=3, parameters="weight_hh*", factor=2.0)]
    parts = parts_of(model, SmoothnessConfig(weight=1.0, sheets=sheets))
    for name in ("fc1", "fc2", "head"):
        weight = model[name].weight
        cells = grid_cells(permuted_grid(len(weight), name, seed=3))[1]
        there = torch.empty_like(weight)
        there[cells] = weight
        torch.testing.assert_close(parts[f"smoothness/{name}"], laplacian_pyramid_loss(there, 2.0))
    orders = {one.order for one in configured_weight_sheets(SmoothnessConfig(sheets=sheets[1:]), model)}
    gates = sorted(name for name in parts if "rnn" in name)
    assert gates == [f"smoothness/rnn.weight_hh_l0.{gate}" for gate in ("new", "reset", "update")]
    assert orders == {tuple(grid_cells(permuted_grid(12, "rnn", seed=3))[1].tolist())}
    other = replace(sheets[0], layout_seed=4)
    assert parts_of(model, SmoothnessConfig(weight=1.0, sheets=[other]))["smoothness/fc1"] != parts["smoothness/fc1"]
    with pytest.raises(ValueError, match=r"the layout of 'fc\*' is permuted, layer by layer; pass the model"):
        smoothness_term(SmoothnessConfig(weight=1.0, sheets=sheets))
    with pytest.raises(TypeError, match="site 'act': ReLU is no layer"):
        parts_of(nn.ModuleDict({"act": nn.ReLU()}), SmoothnessConfig(sheets=[replace(other, sites="act", scale=None)]))


def test_the_short_form_written_out():
    config = SmoothnessConfig(sites=["a*"], watched=["b"], kind="input", factor=2.0, sheets=[WeightSheetConfig("c")])
    assert configured_weight_sheets(config) == [
        WeightSheet("a*", "input", 1.0, 2.0),
        WeightSheet("c", "input", 1.0, 2.0),
        WeightSheet("b", "input", None, 2.0),
    ]


@pytest.mark.parametrize(
    ("n_units", "words", "advice"),
    [
        (7, {"sites": ["head"]}, r"7 units fill no sheet .* factor 3 fits on.*\[\{sites: head, shape: \[3, 3\]\}\]"),
        (10, {"sites": ["h*"]}, r"sites=null 'smoothness\.sheets=\[\{sites: h\*, shape: \[3, 4\]\}\]'$"),
        (10, {"sites": ["*ea*"]}, r"\[\{sites: \"\*ea\*\", shape: \[3, 4\]\}\]'$"),
        (10, {"sites": ["body", "head"]}, r"'smoothness.sites=\[body\]' 'smoothness\.sheets=\[\{sites: head, "),
        (10, {"sites": ["head"], "factor": (2.0, 6.0)}, r"factor 2 x 6 fits on.*shape: \[3, 6\]"),
        (101, {"sites": ["head"], "kind": "bias"}, r"shape: \[10, 11\]\}"),
        (10, {"watched": ["head"], "weight": 0.0}, r"shape: \[3, 4\], scale: null\}"),
    ],
)
def test_units_without_a_sheet_are_told_which_words_give_them_one(n_units, words, advice):
    """And the words do."""
    model = nn.ModuleDict({"body": nn.Linear(5, 36), "head": nn.Linear(5, n_units)})
    config = SmoothnessConfig(**{"weight": 1.0, **words})
    with pytest.raises(ValueError, match=advice) as caught:
        parts_of(model, config)
    assert "\n" not in str(caught.value)
    given = [f"smoothness.{key}={value if key == 'kind' else json.dumps(value)}" for key, value in words.items()]
    advised = shlex.split(str(caught.value).partition(" empty: ")[2])
    smoothness = parse_command("train", Recipe, "", ["smoothness.weight=1", *given, *advised]).smoothness
    assert 0 < parts_of(model, smoothness)["smoothness/head" + (".bias" if config.kind == "bias" else "")] < 2


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (
            {"sites": ["*"], "sheets": [WeightSheetConfig("body", "bias")]},
            r"smoothness.sites=null 'smoothness.sheets=\[{sites: head, shape: \[3, 4\]}\]', with further entries "
            r"for the other layers of \*, beside the entries that are there$",
        ),
        ({"sheets": [WeightSheetConfig(["body", "h*"])]}, r"empty: in smoothness.sheets, give h\* shape: \[3, 4\]$"),
        (
            {"sheets": [WeightSheetConfig("*")]},
            r"give head shape: \[3, 4\] in an entry of its own, and the other layers of \* in further ones$",
        ),
    ],
)
def test_entries_to_write_by_hand_are_told(words, advice):
    model = nn.ModuleDict({"body": nn.Linear(5, 36), "head": nn.Linear(5, 10)})
    with pytest.raises(ValueError, match=advice):
        parts_of(model, SmoothnessConfig(weight=1.0, **words))


def test_where_no_shape_would_do_the_reason_is_told():
    """Three units in a corner of 3 x 3 cells, of which the blur reads the middle one."""
    config = SmoothnessConfig(weight=1.0, sites=["head"])
    with pytest.raises(ValueError, match="site 'head': 3 units fill no sheet but 1 x 3"):
        parts_of(nn.ModuleDict({"head": nn.Linear(5, 3)}), config)
