import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, GPTNeoConfig
from transformers.pytorch_utils import Conv1D

from topographic.interventions.compress import SCOPES, DownsampledLinear, downsample, placed_layers, prune
from topographic.models import TopoLMConfig, TopoLMForCausalLM
from topographic.recording import tap
from topographic.sheets import Sheet, grid, permuted_grid

FC = "transformer.h.*.mlp.c_fc"


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=24, n_layer=2, n_head=4)).eval()


@pytest.fixture
def ids():
    return torch.arange(12).view(2, 6)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def unchanged(model, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def n_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


# pruning


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 0.901, 1.0])
def test_pruning_equals_that_of_torch(model, scope, fraction):
    sites = [f"transformer.h.{layer}.mlp.{name}" for layer in (0, 1) for name in ("c_fc", "c_proj")]
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight.mul_(3)  # layers of unequal size, or both scopes would agree
    before, expected = state(model), copy.deepcopy(model)
    layers = [expected.get_submodule(site) for site in sites]
    if scope == "layer":
        for layer in layers:
            torch_prune.l1_unstructured(layer, "weight", amount=fraction)
    else:
        torch_prune.global_unstructured(
            [(layer, "weight") for layer in layers], torch_prune.L1Unstructured, amount=fraction
        )
    for layer in layers:
        torch_prune.remove(layer, "weight")
    pruned = prune(model, sites, fraction, scope=scope)
    for name, tensor in pruned.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name]), name
    assert list(pruned.state_dict()) == list(before)
    assert unchanged(model, before)


def test_the_two_scopes_differ_where_layers_do(model):
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight.mul_(1000)
    zeros = {
        scope: [(block.mlp.c_fc.weight == 0).sum().item() for block in prune(model, FC, 0.5, scope=scope).transformer.h]
        for scope in SCOPES
    }
    n = model.transformer.h[0].mlp.c_fc.weight.numel()
    assert zeros["layer"] == [n // 2, n // 2]
    assert zeros["global"][0] > 0.99 * n
    assert sum(zeros["global"]) == n


def test_a_tied_weight_counts_once():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    pruned = prune(network, ["0", "1", "2"], 0.5, scope="global")
    assert pruned[0].weight is pruned[1].weight
    assert sum((network_layer.weight == 0).sum() for network_layer in (pruned[0], pruned[2])) == 16


def test_recurrent_and_convolution_weights_are_pruned():
    network = nn.ModuleDict({"conv": nn.Conv2d(2, 4, 3), "rnn": nn.GRU(3, 5)})
    pruned = prune(network, ["conv", "rnn"], 0.25)
    for name, parameter in pruned.named_parameters():
        zeros = (parameter == 0).sum().item()
        assert zeros == (0 if "bias" in name else round(0.25 * parameter.numel())), name


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((FC, 1.2), ValueError, "fraction=1.2; expected the share of weights to remove"),
        ((FC, float("nan")), ValueError, "fraction=nan"),
        (("transformer.h.*.ln_1", 0.5), TypeError, r"'transformer.h.0.ln_1' \(LayerNorm\) has no weight matrix"),
        (("transformer.h.*.mlp", 0.5), TypeError, "has no weight matrix of its own; name the layer that has one"),
        (("nowhere", 0.5), ValueError, "matches no module"),
    ],
)
def test_what_cannot_be_pruned(model, arguments, error, message):
    with pytest.raises(error, match=message):
        prune(model, *arguments)


def test_an_unknown_scope_and_a_parametrised_weight_are_refused(model):
    with pytest.raises(ValueError, match=r"scope='each'; expected one of \['global', 'layer'\]"):
        prune(model, FC, 0.5, scope="each")
    with pytest.raises(TypeError, match="remove a parametrisation before pruning"):
        prune(nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3))), "0", 0.5)


def old_weight_norm(layer):
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(layer)


@pytest.mark.parametrize("attach", [old_weight_norm, partial(torch_prune.l1_unstructured, name="weight", amount=0.5)])
@pytest.mark.parametrize("compress", [prune, downsample])
def test_weights_kept_as_computed_tensors_are_refused(attach, compress):
    """PyTorch cannot copy such a module, wherever it is in the model, and says so in a page about deepcopy."""
    network = nn.Sequential(nn.Linear(3, 4), nn.Sequential(attach(nn.Linear(4, 3))))
    with pytest.raises(TypeError, match=r"^site '1\.0' \(Linear\) keeps 'weight' as a .*; undo it") as error:
        compress(network, "0", 0.5)
    assert "\n" not in str(error.value)


# downsampling


def by_hand(layer_weight, keep, shape):
    """The weights of every unit after shrinking and widening, with numpy's own interpolation."""
    (rows, columns), scale = shape, math.sqrt(keep)
    sheet = layer_weight.detach().double().numpy().reshape(rows, columns, -1)

    def along(axis, places, values):
        return np.apply_along_axis(lambda line: np.interp(places, np.arange(len(line)), line), axis, values)

    small = [int(length * scale) for length in shape]
    for axis in (0, 1):
        sheet = along(axis, (np.arange(small[axis]) + 0.5) / scale - 0.5, sheet)
    kept = sheet
    for axis in (0, 1):
        sheet = along(axis, (np.arange(shape[axis]) + 0.5) * small[axis] / shape[axis] - 0.5, sheet)
    return kept.reshape(-1, layer_weight.shape[1]), sheet.reshape(rows * columns, -1)


@pytest.mark.parametrize("keep", [0.8, 0.5, 0.2])
@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_it_equals_interpolation_by_hand(keep, kind):
    torch.manual_seed(0)
    layer = nn.Linear(5, 96) if kind == "linear" else Conv1D(96, 5)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    network = nn.Sequential(layer, nn.GELU(), nn.Linear(96, 3)).double()
    weight = layer.weight if kind == "linear" else layer.weight.T
    small = downsample(network, "0", keep)[0]
    kept, widened = by_hand(weight, keep, (8, 12))
    assert isinstance(small, DownsampledLinear)
    assert small.small_shape == (int(8 * math.sqrt(keep)), int(12 * math.sqrt(keep)))
    np.testing.assert_allclose(small.weight.detach(), kept, atol=1e-12)
    x = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    _, bias = by_hand(layer.bias[:, None], keep, (8, 12))
    np.testing.assert_allclose(small(x).detach(), x.numpy() @ widened.T + bias[:, 0], atol=1e-12)
    np.testing.assert_allclose(small(x[0, 0]).detach(), x[0, 0].numpy() @ widened.T + bias[:, 0], atol=1e-12)


def test_a_kept_bias_is_added_whole():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 12))
    free, kept = downsample(network, "0", 0.5), downsample(network, "0", 0.5, keep_bias=True)
    assert (len(free[0].bias), len(kept[0].bias)) == (2 * 2, 12)
    zero = torch.zeros(1, 5)
    torch.testing.assert_close(kept(zero)[0], network[0].bias)
    assert not torch.allclose(free(zero)[0], network[0].bias)


def test_a_whole_sheet_kept_is_the_same_model(model, ids):
    torch.testing.assert_close(downsample(model, FC, 1.0)(ids).logits, model(ids).logits)


def test_a_smooth_sheet_survives_and_the_same_units_in_disorder_do_not(model, ids):
    """Weights that vary slowly over the 8 x 12 sheet can be read between."""
    torch.manual_seed(0)
    row, column = torch.meshgrid(torch.arange(8.0) / 8, torch.arange(12.0) / 12, indexing="ij")
    waves = torch.stack([torch.cos(3 * row), torch.cos(3 * column), torch.sin(2 * row + 2 * column)]).flatten(1)
    weight = torch.randn(24, 3) @ waves / 5

    def change(order):
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.transformer.h[0].mlp.c_fc.weight.copy_(weight[:, order])
            site = "transformer.h.0.mlp.c_fc"
            activations = []
            for read in (other, downsample(other, site, 0.5)):
                with tap(read, site) as heard:
                    read(ids)
                activations.append(heard[site])
        return ((activations[0] - activations[1]).norm() / activations[0].norm()).item()

    assert change(torch.arange(96)) < 0.25  # sides rounded down stretch the sheet a little
    assert change(torch.randperm(96)) > 0.6
    assert change(torch.arange(96).view(8, 12).T.flatten()) > 0.6  # column by column is disorder too


def test_the_given_model_is_untouched_and_the_copy_is_its_own(model, ids):
    before = state(model)
    small = downsample(model.train(), FC, 0.5)
    assert small.training
    assert small.transformer.h[0].mlp.c_fc.training
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(1)
    assert unchanged(model, before)
    assert not isinstance(model.transformer.h[0].mlp.c_fc, DownsampledLinear)


def test_the_copy_trains_and_frozen_layers_stay_frozen(model, ids):
    model.transformer.h[1].mlp.c_fc.weight.requires_grad_(False)
    small = downsample(model, FC, 0.5)
    small(ids, labels=ids).loss.backward()
    first, second = (block.mlp.c_fc for block in small.transformer.h)
    assert first.weight.grad.abs().sum() > 0
    assert second.weight.grad is None
    assert second.bias.grad is not None


def test_a_shared_layer_is_replaced_everywhere():
    shared = nn.Linear(16, 16)
    network = nn.ModuleDict({"first": shared, "block": nn.Sequential(nn.ReLU(), shared)})
    small = downsample(network, "first", 0.25)
    assert small["first"] is small["block"][1]
    assert isinstance(small["first"], DownsampledLinear)


def test_weights_are_saved_and_read_into_a_model_made_the_same_way(model, ids, tmp_path):
    small = downsample(model, FC, 0.3)
    tensors = {name: tensor.contiguous() for name, tensor in small.state_dict().items() if name != "lm_head.weight"}
    assert tensors["transformer.h.0.mlp.c_fc.weight"].shape == (4 * 6, 24)
    save_file(tensors, tmp_path / "small.safetensors")
    torch.manual_seed(7)
    fresh = downsample(GPT2LMHeadModel(model.config).eval(), FC, 0.3)
    assert not torch.allclose(fresh(ids).logits, small(ids).logits)
    fresh.load_state_dict(load_file(tmp_path / "small.safetensors"), strict=False)
    torch.testing.assert_close(fresh(ids).logits, small(ids).logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_stays(dtype):
    network = nn.Sequential(nn.Linear(6, 24)).to(dtype)
    small = downsample(network, "0", 0.5)
    assert {parameter.dtype for parameter in small.parameters()} == {dtype}
    assert small(torch.ones(2, 6, dtype=dtype)).dtype == dtype


def one_missing(n_units, name):
    """A line with a hole."""
    places = torch.arange(n_units) + (torch.arange(n_units) > 5)
    return Sheet(name, torch.stack([torch.zeros(n_units), places], dim=1))


NANO = {"vocab_size": 50304, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12, "bias": False}


@pytest.mark.parametrize(
    ("keep", "units", "millions"),
    [(1.0, 48 * 64, 124.4), (0.8, 42 * 57, 118.1), (0.5, 33 * 45, 109.7), (0.2, 21 * 28, 101.5)],
)
def test_parameters_of_nano_gpt_as_published(keep, units, millions):
    with torch.device("meta"):
        nano = TopoLMForCausalLM(TopoLMConfig(**NANO))
    assert n_parameters(nano) == 124_373_760
    left = n_parameters(downsample(nano, FC, keep))
    assert left == 124_373_760 - 12 * 768 * (3072 - units)
    assert round(left / 1e6, 1) == millions


@pytest.mark.parametrize(("keep_bias", "millions"), [(True, 102.31), (False, 102.28)])
def test_parameters_of_gpt_neo_as_published(keep_bias, millions):
    attention = [[["global", "local"], 6]]
    config = GPTNeoConfig(num_layers=12, num_heads=12, hidden_size=768, attention_types=attention)
    with torch.device("meta"):
        neo = AutoModelForCausalLM.from_config(config)
    assert n_parameters(neo) == 125_198_592
    assert round(n_parameters(downsample(neo, FC, 0.2, keep_bias=keep_bias)) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((FC, 0.0), {}, ValueError, "keep=0.0; expected the share of units to keep, above 0"),
        ((FC, 1.5), {}, ValueError, "keep=1.5"),
        ((FC, 0.01), {}, ValueError, r"keep=0.01 leaves 0 x 1 of the 8 x 12 units at 'transformer.h.0.mlp.c_fc'"),
        ((FC, 0.5), {"layout": partial(grid, shape=(8, 11))}, ValueError, "96 units do not fill 8 x 11 = 88 places"),
        ((FC, 0.5), {"layout": {}}, ValueError, "layout has no sheet for site 'transformer.h.0.mlp.c_fc'"),
        ((FC, 0.5), {"layout": one_missing}, ValueError, "has 96 units on 1 x 97 places; expected units that fill"),
        (("transformer.h.*.mlp", 0.5), {}, TypeError, "is a GPT2MLP; only Linear layers and the Conv1D"),
        (("nowhere", 0.5), {}, ValueError, "matches no module"),
    ],
)
def test_what_cannot_be_downsampled(model, arguments, options, error, message):
    with pytest.raises(error, match=message):
        downsample(model, *arguments, **options)


def test_linear_layers_are_found_by_name_with_their_sheets_and_others_refused():
    network = nn.ModuleDict({"fc1": nn.Linear(3, 4), "fc2": Conv1D(6, 4), "rnn": nn.LSTM(3, 4)})
    found = placed_layers(network, "fc*")
    assert found == {"fc1": (network["fc1"], grid(4, "fc1")), "fc2": (network["fc2"], grid(6, "fc2"))}
    with pytest.raises(TypeError, match="site 'rnn' is a LSTM; only Linear layers"):
        placed_layers(network, "*")


def test_a_prime_number_of_units_needs_a_shape():
    network = nn.Sequential(nn.Linear(3, 7))
    with pytest.raises(ValueError, match="7 units fill no rectangle"):
        downsample(network, "0", 0.5)
    network = nn.Sequential(nn.Linear(3, 14))
    assert downsample(network, "0", 0.25, layout=partial(grid, shape=(2, 7)))[0].small_shape == (1, 3)
    assert downsample(network, "0", 0.25, layout=partial(grid, shape=(7, 2)))[0].small_shape == (3, 1)


@pytest.mark.parametrize("keep_bias", [True, False])
def test_units_in_other_places_are_read_between_their_neighbours_there(keep_bias):
    """A layer whose units are permuted on the sheet is the layer with permuted units, put back in order."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 96)).double()
    sheet = permuted_grid(96, "0")
    order = (sheet.positions_mm[:, 0] * 12 + sheet.positions_mm[:, 1]).long().argsort()  # unit in each cell
    moved = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.copy_(parameter[order])
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.empty(3, 96, dtype=torch.float64)
    expected[:, order] = downsample(moved, "0", 0.5, keep_bias=keep_bias)(x)
    found = downsample(network, "0", 0.5, layout={"0": sheet}, keep_bias=keep_bias)
    torch.testing.assert_close(found(x), expected, rtol=0, atol=1e-12)
    assert not torch.allclose(found(x), downsample(network, "0", 0.5, keep_bias=keep_bias)(x))
    torch.testing.assert_close(downsample(network, "0", 1.0, layout={"0": sheet})(x), network(x))
    assert list(found.state_dict()) == ["0.weight", "0.bias"], "places follow from the sheet and are not saved"


class Carrier(nn.Sequential):
    """A network that says where the units of its first layer lie."""

    def sheets(self):
        return {"0": permuted_grid(16, "0")}


def test_the_sheets_that_a_model_carries_are_the_ones_that_are_shrunk():
    torch.manual_seed(0)
    network, x = Carrier(nn.Linear(3, 16), nn.Linear(16, 2)), torch.ones(1, 3)
    own, on_grid = downsample(network, "0", 0.25), downsample(network, "0", 0.25, layout=grid, relayout=True)
    assert torch.equal(own(x), downsample(nn.DataParallel(network), "0", 0.25, layout=network.sheets())(x))
    assert not torch.equal(own(x), on_grid(x))
    with pytest.raises(ValueError, match=r"the layout puts the units of site '0' elsewhere .*relayout=True"):
        downsample(network, "0", 0.25, layout=grid)
