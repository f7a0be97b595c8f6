import inspect

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.utils import parametrizations
from transformers.pytorch_utils import Conv1D

from topographic.losses.pyramid import laplacian_pyramid_loss
from topographic.losses.weight_sheets import weight_sheets

# layer, shape of its input, axis of the units in input and output
LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), (3, 6), -1),
    "conv1d of transformers": (lambda: Conv1D(4, 6), (3, 6), -1),
    "conv1d": (lambda: nn.Conv1d(6, 4, 3), (2, 6, 5), 1),
    "conv1d in groups": (lambda: nn.Conv1d(6, 4, 3, groups=2), (2, 6, 5), 1),
    "conv2d": (lambda: nn.Conv2d(6, 4, (1, 2)), (2, 6, 3, 3), 1),
    "conv2d in groups": (lambda: nn.Conv2d(6, 9, (1, 2), groups=3), (2, 6, 3, 3), 1),
    "conv2d depthwise": (lambda: nn.Conv2d(6, 12, 2, groups=6), (2, 6, 3, 3), 1),
    "conv3d in groups": (lambda: nn.Conv3d(4, 6, (2, 1, 2), groups=2), (1, 4, 3, 3, 3), 1),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(6, 4, 3), (2, 6, 5), 1),
    "transposed conv2d in groups": (lambda: nn.ConvTranspose2d(6, 9, (1, 2), groups=3), (2, 6, 3, 3), 1),
    "transposed conv3d": (lambda: nn.ConvTranspose3d(4, 6, 2), (1, 4, 3, 3, 3), 1),
}


@pytest.fixture(params=LAYERS)
def layer_and_input(request, generator):
    make, shape, axis = LAYERS[request.param]
    layer = make()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer, torch.randn(shape, generator=generator), axis


def without_row(layer, kind, unit):
    """A copy of the layer in which the weights of one row of its sheet are zero."""
    (sheet,) = weight_sheets(layer, kind).values()
    (touched,) = torch.autograd.grad(sheet[unit].sum(), layer.weight)
    return {"weight": layer.weight * (touched == 0), "bias": layer.bias}


def test_row_of_an_output_sheet_is_what_its_unit_receives(layer_and_input):
    layer, inputs, axis = layer_and_input
    outputs = layer(inputs)
    (sheet,) = weight_sheets(layer).values()
    assert sheet.shape == (outputs.shape[axis], layer.weight.numel() // outputs.shape[axis])
    for unit in range(len(sheet)):
        lesioned = torch.func.functional_call(layer, without_row(layer, "output", unit), (inputs,))
        expected = outputs.movedim(axis, 0).clone()
        expected[unit] = layer.bias[unit]
        torch.testing.assert_close(lesioned.movedim(axis, 0), expected)


def test_row_of_an_input_sheet_is_what_its_unit_sends(layer_and_input):
    layer, inputs, axis = layer_and_input
    (sheet,) = weight_sheets(layer, "input").values()
    assert sheet.shape == (inputs.shape[axis], layer.weight.numel() // inputs.shape[axis])
    for unit in range(len(sheet)):
        silenced = inputs.clone()
        silenced.movedim(axis, 0)[unit] = 0
        lesioned = torch.func.functional_call(layer, without_row(layer, "input", unit), (inputs,))
        torch.testing.assert_close(lesioned, layer(silenced))


def test_units_of_a_sheet_are_compared_weight_by_weight(layer_and_input):
    # the first column of a sheet holds each unit's weight from the first input (of its group), first kernel place
    layer, _, _ = layer_and_input
    (sheet,) = weight_sheets(layer).values()
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        per_group = layer.weight.shape[0] // layer.groups
        expected = layer.weight.flatten(2)[::per_group, :, 0].flatten()
    else:
        expected = layer.weight[0] if isinstance(layer, Conv1D) else layer.weight.flatten(1)[:, 0]
    assert torch.equal(sheet[:, 0], expected)


def test_bias_has_one_value_per_output_unit(layer_and_input):
    layer, _, _ = layer_and_input
    (bias,) = weight_sheets(layer, "bias").values()
    assert bias is layer.bias


def test_conv1d_of_transformers_has_the_loss_of_the_linear_layer_it_equals(generator):
    linear, conv1d = nn.Linear(20, 48), Conv1D(48, 20)
    conv1d.weight.data, conv1d.bias.data = linear.weight.data.T.clone(), linear.bias.data
    inputs = torch.randn(3, 20, generator=generator)
    torch.testing.assert_close(conv1d(inputs), linear(inputs))
    for kind, factor in (("output", 3.0), ("input", 2.0)):
        losses = []
        for layer in (linear, conv1d):
            (sheet,) = weight_sheets(layer, kind).values()
            losses.append(laplacian_pyramid_loss(sheet, factor))
            losses[-1].backward()
        assert losses[0] == losses[1] == laplacian_pyramid_loss(linear.weight, factor, kind)
    torch.testing.assert_close(conv1d.weight.grad, linear.weight.grad.T)


def test_gates_of_an_lstm_are_told_apart(generator):
    layer = nn.LSTM(3, 4)
    inputs, hidden, cell = (torch.randn(1, size, generator=generator) for size in (3, 4, 4))
    sheets, biases = weight_sheets(layer), weight_sheets(layer, "bias")
    assert list(sheets) == [
        f"weight_{source}_l0.{gate}" for source in ("hh", "ih") for gate in ("input", "forget", "cell", "output")
    ]

    def drive(gate):
        own = inputs @ sheets[f"weight_ih_l0.{gate}"].T + biases[f"bias_ih_l0.{gate}"]
        return own + hidden @ sheets[f"weight_hh_l0.{gate}"].T + biases[f"bias_hh_l0.{gate}"]

    new_cell = drive("forget").sigmoid() * cell + drive("input").sigmoid() * drive("cell").tanh()
    _, (expected_hidden, expected_cell) = layer(inputs[None], (hidden[None], cell[None]))
    torch.testing.assert_close(new_cell, expected_cell[0])
    torch.testing.assert_close(drive("output").sigmoid() * new_cell.tanh(), expected_hidden[0])


def test_gates_of_a_gru_cell_are_told_apart(generator):
    layer = nn.GRUCell(3, 4)
    inputs, hidden = torch.randn(1, 3, generator=generator), torch.randn(1, 4, generator=generator)
    sheets, biases = weight_sheets(layer), weight_sheets(layer, "bias")

    def own(gate):
        return inputs @ sheets[f"weight_ih.{gate}"].T + biases[f"bias_ih.{gate}"]

    def recurrent(gate):
        return hidden @ sheets[f"weight_hh.{gate}"].T + biases[f"bias_hh.{gate}"]

    reset, update = ((own(gate) + recurrent(gate)).sigmoid() for gate in ("reset", "update"))
    new = (own("new") + reset * recurrent("new")).tanh()
    torch.testing.assert_close((1 - update) * new + update * hidden, layer(inputs, hidden))


def test_recurrent_layers_of_all_kinds():
    plain = weight_sheets(nn.RNN(3, 4, num_layers=2, bidirectional=True), parameters="weight_hh_*")
    assert list(plain) == ["weight_hh_l0", "weight_hh_l0_reverse", "weight_hh_l1", "weight_hh_l1_reverse"]
    projecting = nn.LSTM(3, 6, proj_size=2)
    assert weight_sheets(projecting)["weight_hr_l0"] is projecting.weight_hr_l0
    # input units serve every gate: their depth is all of them
    assert {key: tuple(sheet.shape) for key, sheet in weight_sheets(nn.LSTM(3, 5), "input").items()} == {
        "weight_hh_l0": (5, 20),
        "weight_ih_l0": (3, 20),
    }


@pytest.mark.parametrize("make", [lambda: nn.Linear(6, 16), lambda: Conv1D(16, 6), lambda: nn.Conv1d(6, 16, 1)])
def test_parametrised_layers_give_the_weight_they_use(make):
    layer = parametrizations.weight_norm(make())
    (sheet,) = weight_sheets(layer).values()
    torch.testing.assert_close(sheet, layer.weight.T if layer.weight.shape[0] == 6 else layer.weight.flatten(1))
    laplacian_pyramid_loss(sheet, 2.0).backward()
    assert layer.parametrizations.weight.original1.grad.abs().sum() > 0


def test_parametrised_recurrent_layer_keeps_all_its_sheets():
    layer = nn.LSTM(3, 4)
    names = list(weight_sheets(layer))
    parametrizations.weight_norm(layer, "weight_hh_l0")
    assert list(weight_sheets(layer)) == names


def test_wrappers_are_looked_through():
    layer = nn.Linear(6, 4)
    for wrapped in (torch.compile(layer), nn.DataParallel(layer), torch.compile(nn.DataParallel(layer))):
        assert weight_sheets(wrapped)["weight"].data_ptr() == layer.weight.data_ptr()


def test_sharded_weights_are_gathered(process_group):
    layer, whole = nn.Linear(6, 16), nn.Linear(6, 16)
    whole.load_state_dict(layer.state_dict())
    fully_shard(layer, mesh=init_device_mesh("cpu", (1,)))
    for kind in ("output", "bias"):
        ((sheet,), (expected,)) = (weight_sheets(module, kind).values() for module in (layer, whole))
        assert type(sheet) is torch.Tensor
        for tensor in (sheet, expected):
            laplacian_pyramid_loss(tensor, 2.0, kind).backward()
    gradients = [parameter.grad.to_local() for parameter in layer.parameters()]
    torch.testing.assert_close(gradients, [parameter.grad for parameter in whole.parameters()])


class Linear(nn.Module):
    """Not the framework's: keeps (in, out)."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6, 4))


@pytest.mark.parametrize("module", [nn.ReLU(), nn.Embedding(4, 6), nn.LayerNorm(4), nn.Sequential(), Linear()])
def test_refuses_modules_without_a_known_convention(module):
    with pytest.raises(
        TypeError, match=rf"{type(module).__name__} is no layer whose weights can be laid out \(Linear, "
    ):
        weight_sheets(module)


def test_refuses_what_a_layer_does_not_have():
    with pytest.raises(ValueError, match=r"Linear has no bias that matches '\*'; it has none"):
        weight_sheets(nn.Linear(3, 4, bias=False), "bias")
    with pytest.raises(
        ValueError, match="RNN has no weight that matches 'weight_xy'; it has weight_hh_l0, weight_ih_l0"
    ):
        weight_sheets(nn.RNN(3, 4), parameters="weight_xy")


def test_refuses_an_unknown_kind():
    with pytest.raises(ValueError, match="kind='rows'; expected 'output', 'input' or 'bias'"):
        inspect.unwrap(weight_sheets)(nn.Linear(3, 4), "rows")
