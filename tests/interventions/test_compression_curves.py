import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.interventions import downsample, downsampling_curve, matched_fractions, prune, pruning_curve
from topographic.sheets import grid, permuted_grid

FC = "transformer.h.*.mlp.c_fc"


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def unchanged(model, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def n_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def measure(model):
    x = torch.ones(1, 4)
    return {"sum": model(x).sum().item(), "zeros": sum((p == 0).sum().item() for p in model.parameters())}


def test_curves_count_what_is_left_and_measure_every_model():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    before, total = state(network), n_parameters(network)
    pruned = pruning_curve(network, "0", [0.0, 0.25, 1.0], measure, progress=False)
    assert [(row.measure, row.method, row.fraction) for row in pruned] == [
        (name, "pruning", fraction) for fraction in (0.0, 0.25, 1.0) for name in ("sum", "zeros")
    ]
    assert [row.n_parameters for row in pruned[::2]] == [total, total - 16, total - 64]
    assert [row.value for row in pruned[1::2]] == [0, 16, 64]
    assert pruned[0].value == network(torch.ones(1, 4)).sum().item()
    small = downsampling_curve(network, "0", [0.0, 0.51, 0.75], measure)
    assert [row.method for row in small] == ["downsampling"] * 6
    assert [row.n_parameters for row in small[::2]] == [total, total - 12 * 5, total - 12 * 5]
    assert small[0].value == pytest.approx(pruned[0].value)
    assert small[4].value == pytest.approx(
        network[2](functional.relu(downsample(network, "0", 0.25)[0](torch.ones(1, 4)))).sum().item()
    )
    assert {row.unit_null for row in [*pruned, *small]} == {None}
    assert unchanged(network, before)


def test_curves_of_an_even_sheet_reach_the_side_that_was_meant():
    network = nn.Sequential(nn.Linear(1, 100, bias=False))
    rows = downsampling_curve(network, "0", [1 - 0.49], lambda model: {"n": n_parameters(model)})
    assert [row.value for row in rows] == [7 * 7]


def smooth_network(*, is_smooth):
    """144 units whose weights vary slowly over the sheet, or the same function with its units in disorder."""
    torch.manual_seed(0)
    places = grid((12, 12)).positions_mm.float() / 12
    network = nn.Sequential(nn.Linear(8, 144), nn.Tanh(), nn.Linear(144, 5))
    order = torch.arange(144) if is_smooth else torch.randperm(144, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        network[0].weight.copy_(torch.cos(places @ torch.randn(2, 8) + torch.rand(8) * 6)[order])
        network[0].bias.zero_()
        network[2].weight.copy_(network[2].weight[:, order])
    return network


def distance_from(network):
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = network(x)
        return lambda model: {"error": (model(x) - whole).square().mean().item(), "constant": 3.0}


def test_topography_is_what_makes_a_smooth_sheet_survive():
    """The null is as good as the sheet itself where the sheet is in disorder already."""
    found = {}
    for is_smooth in (True, False):
        network = smooth_network(is_smooth=is_smooth)
        rows = downsampling_curve(network, "0", [0.0, 0.5], distance_from(network), n_draws=39, seed=3)
        assert [row.unit_null for row in rows[:2]] == [None, None], "a whole sheet has no null"
        found[is_smooth] = rows[2]
    smooth, rough = found[True], found[False]
    assert smooth.unit_null.p == 1 / 40
    assert smooth.value < 0.1 * smooth.unit_null.mean
    assert rough.unit_null.p > 0.05
    assert rough.value == pytest.approx(rough.unit_null.mean, abs=4 * rough.unit_null.sd)
    assert smooth.unit_null.mean == pytest.approx(rough.unit_null.mean, rel=0.1), "of both only the units are left"


def test_the_null_is_the_measure_on_permuted_sheets():
    network = smooth_network(is_smooth=True)
    of = distance_from(network)
    first, again, other = (
        downsampling_curve(network, "0", [0.5], of, n_draws=5, seed=seed)[0].unit_null for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.draws, again.draws)
    assert not np.array_equal(first.draws, other.draws)
    on_another = [
        of(downsample(network, "0", 0.5, layout={"0": permuted_grid(144, "0", seed=seed)}))["error"]
        for seed in range(20)
    ]
    assert first.mean == pytest.approx(np.mean(on_another), abs=4 * np.std(on_another) / np.sqrt(5))
    assert first.sd > 0
    (constant,) = (row for row in downsampling_curve(network, "0", [0.5], of, n_draws=5) if row.measure == "constant")
    assert constant.unit_null.p == 1, "what does not change is never nearer"


def test_given_sheets_are_the_ones_that_are_shrunk():
    network, sheet = smooth_network(is_smooth=True), permuted_grid(144, "0")
    of = distance_from(network)
    (row, _) = downsampling_curve(network, "0", [0.5], of, layout={"0": sheet})
    assert row.value == of(downsample(network, "0", 0.5, layout={"0": sheet}))["error"]
    with pytest.raises(ValueError, match="layout has no sheet for site '0'"):
        downsampling_curve(network, "0", [0.5], of, layout={})


def test_pruning_to_as_few_parameters_as_downsampling_leaves():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=24, n_layer=2, n_head=4)).eval()
    curve = downsampling_curve(model, FC, [0.0, 0.2, 0.5, 0.8], lambda _: {"a": 1.0, "b": 2.0}, keep_bias=True)
    fractions = matched_fractions(model, FC, curve)
    assert fractions[0] == 0
    np.testing.assert_allclose(fractions[1:], [1 - 7 * 10 / 96, 1 - 5 * 8 / 96, 1 - 3 * 5 / 96])
    pruned = pruning_curve(model, FC, fractions, lambda _: {"a": 1.0}, progress=False)
    assert [row.n_parameters for row in pruned] == [row.n_parameters for row in curve[::2]]
    assert (prune(model, FC, fractions[1]).transformer.h[0].mlp.c_fc.weight == 0).sum() == (96 - 70) * 24
    with pytest.raises(ValueError, match=r"its sites have 2304 weights; expected a curve of the same model and sites"):
        matched_fractions(model, "transformer.h.0.mlp.c_fc", curve)


@pytest.mark.parametrize("layer", [nn.LSTM(3, 4), nn.Conv2d(3, 4, 1), nn.ReLU()])
def test_layers_that_cannot_be_downsampled_are_refused_as_by_downsample(layer):
    network = nn.ModuleDict({"site": layer})
    with pytest.raises(TypeError, match=rf"^site 'site' is a {type(layer).__name__}; only Linear layers and"):
        downsampling_curve(network, "site", [0.5], measure)


def test_a_measure_may_return_one_number():
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    (pruned,) = pruning_curve(network, "0", [0.5], n_parameters, progress=False)
    (small,) = downsampling_curve(network, "0", [0.5], lambda model: torch.tensor(2.0), n_draws=2)
    assert (pruned.measure, pruned.value) == ("n_parameters", n_parameters(network))
    assert (small.measure, small.value, small.unit_null.mean) == ("value", 2.0, 2.0)


@pytest.mark.parametrize(
    ("curve", "fractions", "options", "message"),
    [
        (pruning_curve, [0.5, 1.2], {}, "fraction=1.2; expected the share of weights to remove, from 0 to 1"),
        (pruning_curve, [0.5, float("nan")], {}, "fraction=nan; expected the share of weights"),
        (pruning_curve, [0.5], {"scope": "all"}, "scope='all'; expected one of"),
        (downsampling_curve, [0.5, 1.0], {}, "fraction=1.0; expected the share of units to remove, from 0 to below 1"),
        (downsampling_curve, [0.5, -0.1], {}, "fraction=-0.1; expected the share of units"),
        (downsampling_curve, [0.5], {"n_draws": 1}, "n_draws=1; expected at least 2"),
        (downsampling_curve, [0.5], {"n_draws": -1}, "n_draws=-1; expected at least 2"),
        (downsampling_curve, [0.5], {"n_draws": 5, "seed": -1}, "seed=-1; expected at least 0"),
    ],
)
def test_bad_numbers_are_refused_before_anything_is_measured(curve, fractions, options, message):
    def never(model):
        raise AssertionError

    with pytest.raises(ValueError, match=message):
        curve(nn.Sequential(nn.Linear(4, 16)), "0", fractions, never, **options)


class Carrier(nn.Sequential):
    def sheets(self):
        return {"0": permuted_grid(144, "0")}


def test_curves_shrink_the_sheets_that_a_model_carries_and_permute_their_units():
    network = Carrier(*smooth_network(is_smooth=True))
    of = distance_from(network)
    (row, _) = downsampling_curve(network, "0", [0.5], of, n_draws=2)
    (same, _) = downsampling_curve(nn.Sequential(*network), "0", [0.5], of, layout=network.sheets(), n_draws=2)
    assert row.value == same.value
    np.testing.assert_array_equal(row.unit_null.draws, same.unit_null.draws)
    with pytest.raises(ValueError, match="the layout puts the units of site '0' elsewhere"):
        downsampling_curve(network, "0", [0.5], of, layout=grid)
    anew = downsampling_curve(network, "0", [0.5], of, layout=grid, relayout=True)
    assert anew[0].value == downsampling_curve(nn.Sequential(*network), "0", [0.5], of)[0].value
