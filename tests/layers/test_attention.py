import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from topographic.layers import (
    NORMALIZATIONS,
    SpatialQuerying,
    receptive_fields,
    spatial_querying_attention,
    written_out,
)
from topographic.sheets import grid, head_tiles


def transcribed(query, key, value, fields):
    """The published equation, unit by unit of a single head."""
    n_units, strength = query.shape[-1], fields.double() / math.sqrt(int(fields.sum()))
    scores = torch.einsum("bti,ij,bsj->bts", query, strength.to(query), key) / math.sqrt(n_units)
    probabilities = torch.exp(scores) / torch.exp(scores).sum(-1, keepdim=True)
    return torch.einsum("bts,bsj->btj", probabilities, value), probabilities


def drawn(n_units=36, n_tokens=5, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, n_tokens, n_units)
    return [torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True) for _ in range(3)]


@pytest.fixture
def golden(shared):
    with np.load(shared / "golden" / "topoformer_attention_10x10.npz") as stored:
        return SimpleNamespace(**{name: torch.from_numpy(stored[name]) for name in stored.files})


@pytest.mark.parametrize("with_probabilities", [True, False])
def test_the_published_code_has_the_same_outputs(golden, with_probabilities):
    query, key, value = (
        nn.functional.linear(golden.x, getattr(golden, f"{name}_weight"), getattr(golden, f"{name}_bias"))
        for name in ("query", "key", "value")
    )
    fields = receptive_fields(grid(100, wrap=True), float(golden.spatial_querying_fraction))
    attended, probabilities = spatial_querying_attention(
        query, key, value, fields, with_probabilities=with_probabilities
    )
    torch.testing.assert_close(attended, golden.attention_output, rtol=0, atol=1e-6)
    if with_probabilities:
        torch.testing.assert_close(probabilities, golden.attention_probs, rtol=0, atol=1e-6)
    else:
        assert probabilities is None


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-9)])
@pytest.mark.parametrize("with_probabilities", [True, False])
def test_outputs_and_gradients_are_those_of_the_equation(dtype, tolerance, with_probabilities):
    fields = receptive_fields(grid(36, wrap=True), 0.2)
    exact, own = drawn(), drawn()
    own = [one.detach().to(dtype).requires_grad_() for one in own]
    expected, expected_probabilities = transcribed(*exact, fields)
    attended, probabilities = spatial_querying_attention(*own, fields, with_probabilities=with_probabilities)
    torch.testing.assert_close(attended.double(), expected, rtol=0, atol=tolerance)
    if with_probabilities:
        torch.testing.assert_close(probabilities.double(), expected_probabilities, rtol=0, atol=tolerance)
    expected.sin().sum().backward()
    attended.sin().sum().backward()
    for one, other in zip(own, exact, strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=0, atol=3 * tolerance)


def test_gradients_are_the_differences_of_the_output():
    fields = receptive_fields(grid(9), 0.3)
    gains = torch.rand(9, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    inputs = drawn(9, 3)
    assert torch.autograd.gradcheck(
        lambda q, k, v, g: spatial_querying_attention(q, k, v, fields, column_gains=g)[0], (*inputs, gains)
    )


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("n_heads", [1, 4])
@pytest.mark.parametrize("mask", [None, "pads", "pairs"])
def test_both_ways_of_attending_agree(is_causal, n_heads, mask):
    inputs, fields = drawn(), receptive_fields(grid(36, wrap=True), 0.2)
    masks = {
        None: None,
        "pads": torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
        "pairs": torch.ones(2, 5, 5, dtype=torch.bool).tril(1),
    }
    options = {"n_heads": n_heads, "mask": masks[mask], "is_causal": is_causal}
    attended, probabilities = spatial_querying_attention(*inputs, fields, **options)
    fused, none = spatial_querying_attention(*inputs, fields, **options, with_probabilities=False)
    torch.testing.assert_close(attended, fused)
    assert none is None
    assert probabilities.shape == ((2, 5, 5) if n_heads == 1 else (2, 4, 5, 5))
    torch.testing.assert_close(probabilities.sum(-1), torch.ones_like(probabilities[..., 0]))
    if mask == "pads":
        assert (probabilities[1][..., 3:] == 0).all()
    if is_causal:
        assert (probabilities.triu(1) == 0).all()


@pytest.mark.parametrize("mask", [None, [[True] * 5, [True] * 3 + [False] * 2]])
@pytest.mark.parametrize("is_causal", [False, True])
def test_wide_heads_are_written_out_on_a_cpu_and_say_the_same(is_causal, mask, monkeypatch):
    inputs, fields = drawn(256), receptive_fields(grid(256, wrap=True), 0.2)
    options = {
        "is_causal": is_causal,
        "mask": None if mask is None else torch.tensor(mask),
        "with_probabilities": False,
    }
    heads = inputs[0][:, None]
    assert written_out(heads, heads)
    assert not written_out(heads[..., :255], heads)
    assert not written_out(heads.to("meta"), heads), "a GPU is not meant"
    long = torch.empty(1, 1, 1000, 256)
    assert not written_out(long, long), "scores would be more than queries, keys and values together"
    wide, none = spatial_querying_attention(*inputs, fields, **options)
    assert none is None
    monkeypatch.setattr("topographic.layers.attention._WIDE", 257)
    fused, _ = spatial_querying_attention(*inputs, fields, **options)
    torch.testing.assert_close(wide, fused)


def test_heads_are_tiles_of_one_sheet_or_have_a_sheet_each():
    query, key, value = drawn(36)
    tiles = receptive_fields(head_tiles(36, n_heads=4, wrap=True), 0.3)
    one_sheet, _ = spatial_querying_attention(query, key, value, tiles, n_heads=4)
    pooled = query @ (tiles.double() / tiles.sum().sqrt())
    plain = torch.eye(9, dtype=torch.bool)
    unpooled, _ = spatial_querying_attention(pooled * 3, key, value, plain, n_heads=4)  # the norm of eye(9) is 3
    torch.testing.assert_close(one_sheet, unpooled)
    assert tiles[:9, 9:].any(), "fields reach across heads"

    own = receptive_fields(grid(9, wrap=True), 0.3)
    every, _ = spatial_querying_attention(query, key, value, own, n_heads=4)
    for head in range(4):
        units = slice(9 * head, 9 * head + 9)
        alone, _ = spatial_querying_attention(query[..., units], key[..., units], value[..., units], own)
        torch.testing.assert_close(every[..., units], alone)


def test_normalisations_have_length_or_sums_of_one():
    fields = receptive_fields(grid(25), 0.2).double()
    assert set(NORMALIZATIONS) == {"frobenius", "row"}
    assert float(NORMALIZATIONS["frobenius"](fields).norm()) == pytest.approx(1)
    assert NORMALIZATIONS["row"](fields).sum(-1).numpy() == pytest.approx(1)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("per_head", [False, True])
def test_the_module_pools_what_the_function_does(normalization, per_head):
    query, key, value = drawn()
    fields = receptive_fields(grid(9 if per_head else 36, wrap=True), 0.3)
    gains = torch.linspace(0.5, 2, len(fields))
    module = SpatialQuerying(fields, normalization=normalization, column_gains=True).double()
    with torch.no_grad():
        module.column_gains.copy_(gains)
    heads = 4
    expected, _ = spatial_querying_attention(
        query, key, value, fields, n_heads=heads, normalization=normalization, column_gains=gains
    )
    queries, keys, values = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in (module(query), key, value))
    attended = nn.functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(attended, expected, rtol=0, atol=1e-7)  # the buffer holds float32
    assert list(module.state_dict()) == ["column_gains"], "fields are not kept in checkpoints"
    assert not list(SpatialQuerying(fields).parameters()), "spatial querying adds no parameters"


def test_nothing_of_tokens_times_units_times_units_is_made():
    """Peak of what a forward and backward pass keeps: activations and the matrix of fields, no intermediate beyond."""
    n_units, n_tokens = 64, 50
    inputs = [one.detach().requires_grad_() for one in drawn(n_units, n_tokens, torch.float32)]
    fields, kept = receptive_fields(grid(n_units, wrap=True), 0.3), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        spatial_querying_attention(*inputs, fields, with_probabilities=False)[0].sum().backward()
    assert max(kept) <= max(2 * n_tokens * n_units, n_units * n_units)


def test_what_does_not_fit_is_refused():
    inputs, fields = drawn(), receptive_fields(grid(36), 0.2)
    with pytest.raises(ValueError, match="n_heads=5 does not divide 36 units"):
        spatial_querying_attention(*inputs, fields, n_heads=5)
    with pytest.raises(ValueError, match=r"shape \(9, 9\) for 36 units"):
        spatial_querying_attention(*inputs, receptive_fields(grid(9), 0.2))
    with pytest.raises(ValueError, match="36 of 36 receptive fields hold no unit"):
        spatial_querying_attention(*inputs, torch.zeros_like(fields))
    with pytest.raises(ValueError, match="normalization='max'; expected one of"):
        spatial_querying_attention(*inputs, fields, normalization="max")
    with pytest.raises(ValueError, match="1 of 2 receptive fields hold no unit"):
        SpatialQuerying(torch.tensor([[True, False], [False, False]]))
