import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from topographic.layers import SharedFields, SpatialQuerying, locally_connected, receptive_fields
from topographic.layers.fields import local_map, pooled_over
from topographic.sheets import grid

FIELDS = receptive_fields(grid(16, wrap=True), 0.3)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("non_negative", [True, False])
def test_gradients_are_those_of_the_equations(non_negative):
    scale = torch.full((16,), 0.25, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda query: pooled_over(query, FIELDS, scale), (drawn(2, 3, 16),))
    assert torch.autograd.gradcheck(
        lambda x, w, b: local_map(x, w, b, FIELDS, non_negative=non_negative),
        (drawn(2, 3, 16), drawn(16, 16, seed=1), drawn(16, seed=2)),
    )


def test_a_vector_and_a_map_without_bias():
    inputs, weight = drawn(16), drawn(16, 16, seed=1)
    found = local_map(inputs, weight, None, FIELDS, non_negative=True)
    torch.testing.assert_close(found, (weight.abs() * FIELDS) @ inputs)
    found.sum().backward()
    torch.testing.assert_close(inputs.grad, (weight.abs() * FIELDS).sum(0).detach())


def test_neither_made_weights_nor_pooling_are_kept_for_the_way_back():
    kept = []
    shared, inputs = SharedFields(FIELDS), torch.randn(5, 16, requires_grad=True)
    linear, pool = locally_connected(nn.Linear(16, 16), shared), SpatialQuerying(shared)
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        linear(pool(inputs[None])).sum().backward()
    held = {one.data_ptr() for one in (*linear.parameters(), shared.inside)}
    square = [one for one in kept if one.numel() == 256]
    assert square
    assert {one.data_ptr() for one in square} <= held


def test_layers_go_on_sharing_when_they_move():
    shared = SharedFields(FIELDS)
    layers = nn.ModuleList([SpatialQuerying(shared), locally_connected(nn.Linear(16, 16), shared)]).to("meta")
    assert layers[0].fields is layers[1].parametrizations.weight[0].fields
    assert not layers.state_dict().keys() - {"1.bias", "1.parametrizations.weight.original"}


def test_autocast_computes_in_half_precision_and_trains_in_full():
    linear, pool = locally_connected(nn.Linear(16, 16), FIELDS), SpatialQuerying(FIELDS)
    inputs = torch.randn(1, 5, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = linear(pool(inputs))
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()
    assert linear.parametrizations.weight.original.grad.dtype == linear.bias.grad.dtype == torch.float32
    torch.testing.assert_close(found.float(), linear(pool(inputs)), rtol=0.05, atol=0.05)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def test_what_is_put_upon_a_local_map_is_used_and_what_is_taken_away_is_not():
    linear = locally_connected(nn.Linear(16, 16), FIELDS)
    once = linear(torch.eye(16)) - linear.bias
    parametrize.register_parametrization(linear, "weight", Doubled())
    torch.testing.assert_close(linear(torch.eye(16)) - linear.bias, 2 * once)
    parametrize.remove_parametrizations(linear, "weight")
    torch.testing.assert_close(linear(torch.eye(16)) - linear.bias, 2 * once)
