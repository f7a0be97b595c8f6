import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, TrainerControl, TrainerState
from transformers.pytorch_utils import Conv1D

from topographic.losses import weight_sheets, wiring_cost
from topographic.objectives import WiringConfig, WiringCost
from topographic.training.run import EXAMPLE_TOKENS
from topographic.training.unit_swaps import UnitSwaps, exchange


class Net(nn.Module):
    """Two layers whose units can change places, and a third that reads two heads of the second."""

    def __init__(self, bias=True):
        super().__init__()
        self.first, self.second = nn.Linear(9, 16, bias=bias), nn.Linear(16, 16, bias=bias)
        self.third = nn.Linear(8, 4)

    def forward(self, inputs):
        hidden = self.second(torch.relu(self.first(inputs)))
        heads = hidden.unflatten(-1, (2, 8))
        return (self.third(heads[..., 0, :] * heads[..., 1, :]),)


def chosen(*swap, weight=1.0, **others):
    return WiringConfig(weight, "*first", swap=list(swap), **others)


EXAMPLE = {"inputs": torch.randn(3, 9, generator=torch.Generator().manual_seed(0))}


def test_units_change_places_and_nothing_is_computed_otherwise():
    torch.manual_seed(0)
    net = Net()
    swaps, lengths = UnitSwaps(net, chosen("first", "second", swap_steps=2), EXAMPLE), WiringCost([]).lengths_mm
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    net(**EXAMPLE)[0].square().sum().backward()
    optimizer.step()
    before, twin = net(**EXAMPLE)[0], Net()
    twin.load_state_dict(net.state_dict())
    moments = optimizer.state[net.first.weight]["exp_avg"].clone()

    def costs():
        layers = [weight_sheets(layer)["weight"].detach() for layer in (net.first, net.second)]
        return float(sum(wiring_cost(rows, lengths(*rows.shape)) * rows.numel() for rows in layers))

    cost, rows = costs(), net.first.weight.detach().clone()
    control = TrainerControl()
    swaps.on_step_end(None, TrainerState(global_step=1), control, model=net, optimizer=optimizer)
    assert torch.equal(net.first.weight, rows), "every second step only"
    swaps.on_step_end(None, TrainerState(global_step=2), control, model=net, optimizer=optimizer)
    assert costs() < cost
    torch.testing.assert_close(net(**EXAMPLE)[0], before)
    order = [int((rows == row).all(1).nonzero()) for row in net.first.weight]
    assert sorted(order) == list(range(16)) != order
    assert torch.equal(net.first.bias, twin.first.bias[order])
    assert torch.equal(net.second.weight, twin.second.weight[:, order])
    assert torch.equal(optimizer.state[net.first.weight]["exp_avg"], moments[order])
    for _ in range(50):
        swaps.swap(net, optimizer)
    assert swaps.swap(net, optimizer) == 0, "until no wire becomes shorter"


def test_layers_of_gpt2_have_their_units_on_the_other_side():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=32, n_positions=8)).eval()
    swaps = UnitSwaps(model, chosen("*.mlp.c_fc", "*.mlp.c_proj"), EXAMPLE_TOKENS)
    assert isinstance(model.transformer.h[0].mlp.c_fc, Conv1D)
    before = model(**EXAMPLE_TOKENS).logits
    assert swaps.swap(model) > 0
    torch.testing.assert_close(model(**EXAMPLE_TOKENS).logits, before)


@pytest.mark.parametrize(
    ("swap", "kind", "said"),
    [
        (("second", "third"), ValueError, "'second' makes 16 units and 'third' reads 8"),
        (("first", "act"), ValueError, "site pattern 'act' matches no module of Net"),
        (("*", "second"), ValueError, "names 3 layers before the units and 1 after them; expected as many"),
        (
            ("first", "norm"),
            TypeError,
            "wiring.swap: site 'norm' .LayerNorm. is no linear layer with weights of its own",
        ),
        (("second", "fourth"), ValueError, "computes something else when units between 'second' and 'fourth' change"),
    ],
)
def test_what_cannot_change_places_is_refused_in_one_line(swap, kind, said):
    torch.manual_seed(0)
    net = Net()
    if swap[1] == "norm":
        net.norm = nn.LayerNorm(16)
    if swap[1] == "fourth":
        net.fourth = nn.Linear(16, 2)
    state = {name: entry.clone() for name, entry in net.state_dict().items()}
    with pytest.raises(kind, match=said) as caught:
        UnitSwaps(net, chosen(*swap), EXAMPLE)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(state[name], entry) for name, entry in net.state_dict().items())


def test_orders_are_those_of_the_places():
    net = Net(bias=False)
    rows = net.first.weight.detach().clone()
    exchange(net.first, net.second, torch.arange(16).roll(1))
    assert torch.equal(net.first.weight[1], rows[0])
