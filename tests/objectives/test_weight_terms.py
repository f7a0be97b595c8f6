import dataclasses
import inspect
import math

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.losses.pyramid import laplacian_pyramid_loss
from topographic.objectives.objective import Objective, Term
from topographic.objectives.weight_terms import (
    SCHEDULES,
    WeightSheet,
    WeightSmoothness,
    cosine_schedule,
    linear_schedule,
)
from topographic.sheets import Sheet, grid, grid_cells, permuted_grid


@pytest.fixture
def model(generator):
    model = nn.ModuleDict({
        "fc1": nn.Linear(12, 36),
        "fc2": nn.Linear(36, 48),
        "act": nn.ReLU(),
        "rnn": nn.LSTM(5, 20),
        "head": nn.Linear(48, 10, bias=False),
    })
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


def test_is_a_term():
    assert isinstance(WeightSmoothness("fc1"), Term)


def test_two_lines_make_a_loop_topographic(model):
    """Neither a number of the pass nor activations are asked for."""
    objective = Objective(model, [WeightSmoothness("fc1", weight=1.0)])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    before = laplacian_pyramid_loss(model["fc1"].weight)
    for _ in range(30):
        loss, _ = objective(model["head"].weight.square().mean())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert laplacian_pyramid_loss(model["fc1"].weight) < 0.5 * before


def test_joins_the_task_loss_as_the_weighted_mean(model):
    task_loss = model["fc1"].weight.square().mean()
    loss, parts = Objective(model, [WeightSmoothness("fc*", weight=2.5)])(task_loss, draw=0)
    each = [laplacian_pyramid_loss(model[name].weight) for name in ("fc1", "fc2")]
    assert parts["weights/fc1"] == each[0]
    assert parts["weights/fc2"] == each[1]
    torch.testing.assert_close(parts["weights_loss"], 2.5 * (each[0] + each[1]) / 2)
    torch.testing.assert_close(loss, task_loss + parts["weights_loss"])
    expected = torch.autograd.grad(
        task_loss + 1.25 * sum(each), [model["fc1"].weight, model["fc2"].weight], retain_graph=True
    )
    loss.backward()
    found = gradients(model)
    assert list(found) == ["fc1.weight", "fc2.weight"]
    torch.testing.assert_close(list(found.values()), list(expected))


def test_sum_reduction_scales_and_sheets_that_are_only_watched(model):
    sheets = [WeightSheet("fc1", scale=3.0), WeightSheet("fc2", scale=0.5), WeightSheet("head", scale=None, factor=2.0)]
    _, parts = Objective(model, [WeightSmoothness(sheets)])(torch.tensor(1.0), draw=0)
    one, two = parts["weights/fc1"], parts["weights/fc2"]
    assert parts["weights/head"] == laplacian_pyramid_loss(model["head"].weight, 2.0)  # watched, and logged unscaled
    torch.testing.assert_close(parts["weights_loss"], (3 * one + 0.5 * two) / 2)  # the watched one is not in the mean
    loss, parts = Objective(model, [WeightSmoothness(sheets, reduction="sum")])(torch.tensor(1.0), draw=0)
    torch.testing.assert_close(parts["weights_loss"], 3 * one + 0.5 * two)
    loss.backward()
    assert list(gradients(model)) == ["fc1.weight", "fc2.weight"]


def test_watching_alone_trains_nothing(model):
    loss, parts = Objective(model, [WeightSmoothness(WeightSheet("fc1", scale=None))])(torch.tensor(1.0), draw=0)
    assert loss == 1
    assert not loss.requires_grad
    assert parts["weights/fc1"] == laplacian_pyramid_loss(model["fc1"].weight)


@pytest.mark.parametrize("sheets", [[WeightSheet("fc1", scale=None)], ["fc2", WeightSheet("fc1", scale=None)]])
def test_watched_sheets_are_logged_though_the_weight_is_zero(model, sheets):
    loss, parts = Objective(model, [WeightSmoothness(sheets, weight=0.0)])(torch.tensor(1.0))
    assert loss == 1
    assert parts["weights/fc1"] == laplacian_pyramid_loss(model["fc1"].weight)
    assert parts["weights_loss"] == 0
    assert Objective(model, [WeightSmoothness("fc1", weight=0.0)]).terms == []  # nothing to watch, nothing to do


def test_weights_that_cannot_be_trained_may_be_watched_and_nothing_else(model):
    model["fc1"].requires_grad_(False)
    model["rnn"].weight_hh_l0.requires_grad_(False)
    with pytest.raises(
        ValueError, match=r"weights of 'fc1' carry no gradient, so that .* train nothing; unfreeze"
    ) as one:
        Objective(model, [WeightSmoothness("fc*")])
    assert "'fc2'" not in str(one.value)
    gates = ", ".join(f"'rnn.weight_hh_l0.{gate}'" for gate in ("input", "forget", "cell", "output"))
    with pytest.raises(ValueError, match=rf"weights of {gates} and 1 more carry no gradient") as several:
        Objective(model, [WeightSmoothness(["rnn", "fc1"])])
    assert "\n" not in str(several.value)
    watched = [WeightSheet("fc1", scale=None), "fc2"]
    objective = Objective(model, [WeightSmoothness(watched)])
    _, parts = objective(torch.tensor(1.0))
    assert set(parts) == {"task_loss", "weights/fc1", "weights/fc2", "weights_loss"}
    model["fc2"].requires_grad_(False)
    with pytest.raises(ValueError, match="weights of 'fc2' carry no gradient"):
        objective(torch.tensor(1.0))
    with torch.no_grad():
        objective(torch.tensor(1.0))


def test_half_of_a_parametrisation_may_be_frozen():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(12, 36))
    layer.parametrizations.weight.original0.requires_grad_(False)
    with torch.no_grad():  # whether a weight can be trained is not a matter of where the objective is made
        objective = Objective(nn.Sequential(layer), [WeightSmoothness("0")])
    loss, _ = objective(torch.tensor(0.0))
    loss.backward()
    assert layer.parametrizations.weight.original1.grad.any()


def test_a_sheet_says_where_the_units_lie(model):
    sheet = permuted_grid(36, "fc1", shape=(4, 9), spacing_mm=0.5)
    shape, cells = grid_cells(sheet)
    assert shape == (4, 9)
    expected = laplacian_pyramid_loss(model["fc1"].weight, shape=shape, order=cells)
    assert expected != laplacian_pyramid_loss(model["fc1"].weight, shape=shape)
    choice = WeightSheet("fc1", sheet=sheet)
    assert WeightSmoothness(choice).losses(model) == {"fc1": expected}
    assert dataclasses.replace(choice, scale=None).loss(model["fc1"].weight) == expected
    room = Sheet("room", grid((6, 8)).positions_mm[[*range(30), *range(42, 48)]])
    expected = laplacian_pyramid_loss(model["fc1"].weight, shape=(6, 8), order=(*range(30), *range(42, 48)))
    assert WeightSheet("fc1", sheet=room).loss(model["fc1"].weight) == expected
    # the edges of a torus are not joined, as the Notes say
    flat, torus = (WeightSheet("fc1", sheet=grid(36, wrap=wrap)) for wrap in (False, True))
    assert torus.loss(model["fc1"].weight) == flat.loss(model["fc1"].weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sheet": grid(36), "shape": (6, 6)}, "sheet 'fc1' has sheet= beside shape= or order=; it says both"),
        ({"sheet": grid(36), "order": tuple(range(36))}, "has sheet= beside shape= or order="),
        ({"sheet": Sheet("s", torch.rand(9, 2, generator=torch.Generator().manual_seed(0)))}, "'s' is not a lattice"),
        ({"sheet": dataclasses.replace(grid(36), is_readout=True)}, "sheet 'fc1' got the sheet of a readout; give"),
    ],
)
def test_refuses_sheets_that_say_too_little_or_too_much(options, message):
    with pytest.raises(ValueError, match=message):
        WeightSheet("fc1", **options)


def test_several_sheets_of_one_layer_live_side_by_side(model):
    kinds = [WeightSheet("fc1"), WeightSheet("fc1", kind="input"), WeightSheet("fc1", kind="bias", factor=2.0)]
    term = WeightSmoothness(kinds)
    losses = term.losses(model)
    assert losses == {
        "fc1": laplacian_pyramid_loss(model["fc1"].weight),
        "fc1.inputs": laplacian_pyramid_loss(model["fc1"].weight, kind="input"),
        "fc1.bias": laplacian_pyramid_loss(model["fc1"].bias, 2.0, "bias"),
    }
    term.total(losses).backward()
    assert list(gradients(model)) == ["fc1.weight", "fc1.bias"]


def test_options_reach_the_loss(model):
    order = tuple(range(39, 3, -1))
    sheet = WeightSheet("fc1", factor=(2.0, 3.0), blur="gaussian", shape=(4, 10), order=order)
    expected = laplacian_pyramid_loss(model["fc1"].weight, (2.0, 3.0), blur="gaussian", shape=(4, 10), order=order)
    assert WeightSmoothness(sheet).losses(model) == {"fc1": expected}


def test_recurrent_layers_have_a_sheet_per_gate(model):
    sheets = [
        WeightSheet("rnn", parameters="weight_hh_*"),
        WeightSheet("rnn", kind="input", parameters="weight_hh_*"),
        WeightSheet("rnn", kind="bias", parameters="bias_ih_*"),
    ]
    losses = WeightSmoothness([*sheets, WeightSheet("rnn", parameters="weight_ih_*")]).losses(model)
    gates = ("input", "forget", "cell", "output")
    assert list(losses) == [
        *(f"rnn.weight_hh_l0.{gate}" for gate in gates),
        "rnn.weight_hh_l0.inputs",
        *(f"rnn.bias_ih_l0.{gate}" for gate in gates),
        *(f"rnn.weight_ih_l0.{gate}" for gate in gates),
    ]
    assert losses["rnn.weight_hh_l0.cell"] == laplacian_pyramid_loss(model["rnn"].weight_hh_l0[40:60])


def test_is_computed_once_per_optimiser_step(model, monkeypatch):
    term = WeightSmoothness("fc*", weight=linear_schedule(1.0, 3.0, 2))
    objective = Objective(model, [term], accumulation=4)
    calls = []
    monkeypatch.setattr(term, "losses", lambda *arguments: calls.append(1) or WeightSmoothness.losses(term, *arguments))
    total = 0.0
    for step, weight in enumerate((1.0, 2.0, 3.0, 3.0)):
        passes = [objective(torch.tensor(0.0), draw=4 * step + number) for number in range(4)]
        total = sum(loss for loss, _ in passes) / 4
        torch.testing.assert_close(total, weight * term.total(WeightSmoothness.losses(term, model)))
        assert all(parts.keys() == passes[0][1].keys() for _, parts in passes)
    assert len(calls) == 4


def test_makes_a_gpt2_topographic():
    config = GPT2Config(n_layer=2, n_head=2, n_embd=12, vocab_size=20, n_positions=8)
    model = GPT2LMHeadModel(config)
    objective = Objective(torch.compile(model, backend="eager"), [WeightSmoothness("transformer.h.*.mlp.c_fc")])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    tokens = torch.arange(8)[None]
    history = []
    for step in range(30):
        optimizer.zero_grad()
        loss, parts = objective(model(input_ids=tokens, labels=tokens).loss, draw=step)
        loss.backward()
        optimizer.step()
        history.append(parts)
    assert list(parts) == ["task_loss", *(f"weights/transformer.h.{at}.mlp.c_fc" for at in range(2)), "weights_loss"]
    # the output units of a Conv1D are its columns
    weight = model.transformer.h[1].mlp.c_fc.weight
    losses = WeightSmoothness("transformer.h.1.mlp.c_fc").losses(model)
    assert losses["transformer.h.1.mlp.c_fc"] == laplacian_pyramid_loss(weight.T)
    assert history[-1]["weights_loss"] < 0.5 * history[0]["weights_loss"]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("start", "end"), [(0.0, 4.0), (4.0, 1.0)])
def test_schedules_rise_or_fall_and_then_stay(name, start, end):
    weight = SCHEDULES[name](start, end, 8)
    assert weight(0) == start
    assert weight(4) == pytest.approx((start + end) / 2)
    assert weight(8) == weight(9) == weight(1000) == end
    steps = [weight(step) for step in range(9)]
    assert steps == sorted(steps, reverse=end < start)


def test_schedules_follow_their_equations():
    assert linear_schedule(1.0, 5.0, 8)(2) == 2.0
    assert cosine_schedule(5.0, 1.0, 8)(2) == pytest.approx(1 + 4 * (1 + math.cos(math.pi / 4)) / 2)


@pytest.mark.parametrize("schedule", SCHEDULES.values())
def test_refuses_schedules_without_steps_or_with_negative_weights(schedule):
    with pytest.raises(ValueError, match="n_steps=0; expected at least 1 step"):
        schedule(1.0, 2.0, 0)
    with pytest.raises(ValueError, match=r"the schedule goes from 1.0 to -2.0; expected finite weights"):
        schedule(1.0, -2.0, 5)


@pytest.mark.parametrize(
    ("sheets", "error", "message"),
    [
        ("act", TypeError, "site 'act': ReLU is no layer whose weights can be laid out"),
        ("fc9", ValueError, "site pattern 'fc9' matches no module"),
        (["fc1", "fc*"], ValueError, r"sheet 'fc1' is named twice, by 'fc1' and 'fc\*'"),
        (
            ["rnn", WeightSheet("rnn", parameters="weight_ih*")],
            ValueError,
            "sheet 'rnn.weight_ih_l0.input' is named twice",
        ),
        ("head", ValueError, "site 'head': factor 3 is too large for the 2 rows of a 2 x 5 sheet"),
        (WeightSheet("head", kind="bias"), ValueError, "site 'head': Linear has no bias"),
        (
            WeightSheet("fc*", sheet=grid(36, "f")),
            ValueError,
            "site 'fc2': the layer has 48 units and its sheet 'f' places 36",
        ),
        (WeightSheet("fc1", shape=(5, 5)), ValueError, r"site 'fc1': shape=\(5, 5\) has 25 cells for 36 units"),
    ],
)
def test_refuses_sheets_before_training_starts(model, sheets, error, message):
    with pytest.raises(error, match=message):
        Objective(model, [WeightSmoothness(sheets)])


def test_weights_kept_in_half_precision_are_measured_in_float32(model):
    model["fc1"].to(torch.bfloat16)
    losses = WeightSmoothness([WeightSheet("fc1", scale=None), "fc2"]).losses(model)
    assert losses["fc1"].dtype == torch.float32
    assert losses["fc1"] == laplacian_pyramid_loss(model["fc1"].weight.float())


def unchecked(cls, *arguments, **options):
    """Past the type checks of the test run."""
    made = object.__new__(cls)
    inspect.unwrap(cls.__init__)(made, *arguments, **options)
    return made


def smooth(layer, **options):
    return unchecked(Objective, nn.Sequential(layer), [unchecked(WeightSmoothness, "0", **options)])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: unchecked(Objective, nn.Linear(5, 36), ["0"]),
            TypeError,
            r"'0'; give a Term .*WeightSmoothness\('0'\)",
        ),
        (lambda: unchecked(Objective, nn.Linear(5, 36), "fc*"), TypeError, r"holds 'fc\*'; give a Term such as Wei"),
        (lambda: unchecked(Objective, nn.Linear(5, 36), None), TypeError, "terms holds NoneType; give a Term such as"),
        (lambda: unchecked(WeightSheet, nn.Linear(5, 36)), TypeError, "sites is a Linear; give the name of a layer"),
        (
            lambda: unchecked(WeightSheet, "0", sheet=permuted_grid),
            TypeError,
            r"sheet '0' got a function as sheet=; pass permuted_grid\(144, '0'\)",
        ),
        (lambda: smooth(nn.Linear(5, 36), weight="1"), ValueError, "term 'weights' has weight '1'; expected a finite"),
        (lambda: smooth(nn.Linear(5, 36), weight=None), ValueError, "term 'weights' has weight None; expected a fin"),
        (
            lambda: smooth(nn.utils.spectral_norm(nn.Linear(5, 36))),
            ValueError,
            "site '0': its weight is computed from weight_orig .*; use torch.nn.utils.parametrizations.spectral_norm",
        ),
        (lambda: smooth(nn.LazyLinear(36)), ValueError, "site '0': LazyLinear has no .*; run the model once first"),
        (lambda: smooth(nn.Linear(5, 36, device="meta")), ValueError, "site '0': Linear is on the meta device and has"),
    ],
)
def test_slips_are_told_in_one_line(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_one_term_alone_is_a_list_of_one(model):
    (term,) = Objective(model, WeightSmoothness("fc1")).terms
    assert term == WeightSmoothness("fc1")


def test_refuses_empty_lists_unknown_reductions_and_negative_scales():
    with pytest.raises(ValueError, match="no sheets given; expected at least one"):
        WeightSmoothness([])
    with pytest.raises(ValueError, match=r"reduction='max'; expected one of \('mean', 'sum'\)"):
        build = inspect.unwrap(WeightSmoothness.__init__)  # past the type checks of the test run
        build(object.__new__(WeightSmoothness), "fc1", reduction="max")
    with pytest.raises(ValueError, match=r"sheet 'fc1' has scale -1\.0; expected a number from 0 on, or None"):
        WeightSheet("fc1", scale=-1.0)
