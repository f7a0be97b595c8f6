import numpy as np
import pytest
import torch
from torch import nn

from topographic.layers import LocalWeights, locally_connected, receptive_fields
from topographic.sheets import grid


def drawn_linear(n_units=36, seed=0):
    linear = nn.Linear(n_units, n_units)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return linear


def test_the_published_code_projects_alike(shared):
    with np.load(shared / "golden" / "topoformer_attention_10x10.npz") as stored:
        golden = {name: torch.from_numpy(stored[name]) for name in stored.files}
    linear = nn.Linear(100, 100)
    signs = torch.where(torch.rand(100, 100, generator=torch.Generator().manual_seed(0)) < 0.5, -1.0, 1.0)
    with torch.no_grad():
        # the projection takes weights of either sign to the same
        linear.weight.copy_(golden["reweighting_weight_after_projection"] * signs)
        linear.bias.copy_(golden["reweighting_bias"])
    fraction = float(golden["spatial_reweighting_fraction"])
    locally_connected(linear, receptive_fields(grid(100, wrap=True), fraction))
    projected = linear(golden["attention_output"])
    torch.testing.assert_close(projected, golden["projected_output"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-9)])
def test_outputs_and_gradients_are_those_of_overwritten_weights(dtype, tolerance):
    """The weights projected first, as the published code does, then an ordinary linear map."""
    fields, inputs = (
        receptive_fields(grid(36, wrap=True), 0.2),
        torch.randn(4, 36, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    )
    plain = drawn_linear().double()
    original = plain.weight.detach().clone()
    with torch.no_grad():
        plain.weight.copy_((plain.weight * fields).abs())
    local = locally_connected(drawn_linear().to(dtype), fields)
    entered = [inputs.clone().requires_grad_(), inputs.to(dtype).requires_grad_()]
    expected, found = plain(entered[0]), local(entered[1])
    expected.sin().mean().backward()
    found.sin().mean().backward()
    torch.testing.assert_close(found.double(), expected, rtol=10 * tolerance, atol=10 * tolerance)
    torch.testing.assert_close(entered[1].grad.double(), entered[0].grad, rtol=0, atol=tolerance)
    trained = local.parametrizations.weight.original.grad.double()
    torch.testing.assert_close(trained, plain.weight.grad * original.sign() * fields, rtol=0, atol=tolerance)


@pytest.mark.parametrize("non_negative", [True, False])
def test_training_never_leaves_the_fields(non_negative):
    fields = receptive_fields(grid(36, wrap=True), 0.2)
    linear = locally_connected(drawn_linear(), fields, non_negative=non_negative)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=0.1)
    target = torch.randn(8, 36, generator=torch.Generator().manual_seed(2))
    losses = []
    for _ in range(50):
        loss = (linear(target.roll(1, 0)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2
    assert (linear.weight[~fields] == 0).all()
    assert bool((linear.weight >= 0).all()) is non_negative


def test_weights_can_be_set_saved_and_loaded():
    fields = receptive_fields(grid(16), 0.3)
    first, second = (locally_connected(drawn_linear(16, seed), fields) for seed in (0, 1))
    assert set(first.state_dict()) == {"bias", "parametrizations.weight.original"}
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second.weight, first.weight)
    first.weight = torch.full((16, 16), -2.0)
    assert first.weight.unique().tolist() == [0, 2]


def test_only_the_weight_itself_and_what_is_used_are_kept_for_the_way_back():
    weights, fields, kept = torch.randn(36, 36, requires_grad=True), receptive_fields(grid(36), 0.2), []
    module = LocalWeights(fields)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.data_ptr()) or tensor, lambda t: t):
        module(weights)
    assert set(kept) <= {weights.data_ptr(), module.fields.data_ptr()}


def test_what_does_not_fit_is_refused():
    fields = receptive_fields(grid(16), 0.3)
    with pytest.raises(ValueError, match="16 to 8 units; expected as many out as in"):
        locally_connected(nn.Linear(16, 8), fields)
    with pytest.raises(ValueError, match=r"shape \(16, 16\) for 9 units"):
        locally_connected(nn.Linear(9, 9), fields)
    with pytest.raises(ValueError, match="receptive fields hold no unit"):
        locally_connected(nn.Linear(16, 16), torch.zeros_like(fields))
