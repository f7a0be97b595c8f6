import copy
import inspect
from collections import namedtuple

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.modeling_outputs import BaseModelOutput

from topographic.recording import edit, tap
from topographic.recording.hooks import change_forward, first_tensor, with_tensor

Pair = namedtuple("Pair", "first second")


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.outer(torch.relu(self.inner(x)))


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return x


class Says(nn.Module):
    """A site that wraps its tensor in some container, inside a model that unwraps it."""

    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(2 * x)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Stack()


@pytest.fixture
def x():
    return torch.randn(2, 4, generator=torch.Generator().manual_seed(1))


def state(model):
    return [(name, sorted(vars(module)), len(module._forward_hooks)) for name, module in model.named_modules()]


def test_tap_hears_what_a_hook_would(model, x):
    with tap(model, "blocks.*") as heard:
        out = model(x)
    expected = x + model.blocks[0](x)
    torch.testing.assert_close(heard["blocks.0"], model.blocks[0](x), rtol=0, atol=0)
    torch.testing.assert_close(heard["blocks.1"], model.blocks[1](expected), rtol=0, atol=0)
    torch.testing.assert_close(heard["blocks.0.inner"], model.blocks[0].inner(x), rtol=0, atol=0)
    torch.testing.assert_close(out, model(x), rtol=0, atol=0)
    assert len(heard) == 9


def test_tap_keeps_the_gradient(model, x):
    with tap(model, "blocks.0") as heard:
        model(x)
    (gradient,) = torch.autograd.grad(heard["blocks.0"].sum(), model.blocks[0].outer.bias)
    torch.testing.assert_close(gradient, torch.full((4,), 2.0))


def test_tap_holds_the_latest_call_and_only_called_sites(model, x):
    with tap(model, ["blocks.0", "blocks.1"]) as heard:
        model(x)
        model.blocks[0](3 * x)
    torch.testing.assert_close(heard["blocks.0"], model.blocks[0](3 * x))
    with tap(model, "blocks.*") as heard:
        model.blocks[1](x)
    assert sorted(heard) == ["blocks.1", "blocks.1.inner", "blocks.1.outer"]


def test_model_is_restored(model, x):
    before, out = state(model), model(x)
    with tap(model, "*"), edit(model, {"blocks.1": torch.zeros_like}):
        assert state(model) != before
        assert not torch.equal(model(x), out)
    assert state(model) == before
    assert torch.equal(model(x), out)
    assert torch.backends.mha.get_fastpath_enabled()


def test_model_is_restored_after_an_exception(model, x):
    before, out = state(model), model(x)
    with pytest.raises(KeyError), tap(model, "*"), edit(model, {"*": torch.zeros_like}):
        raise KeyError("inside")
    with pytest.raises(ZeroDivisionError), edit(model, {"blocks.2": lambda _: 1 / 0}):
        model(x)
    with pytest.raises(ValueError, match="matches no module"), edit(model, {"blocks.0": torch.zeros_like, "no": abs}):
        pass
    assert state(model) == before
    assert torch.equal(model(x), out)
    assert torch.backends.mha.get_fastpath_enabled()


def test_edit_changes_what_follows(model, x):
    with edit(model, {"blocks.0": torch.zeros_like}), tap(model, "blocks.1") as heard:
        model(x)
    torch.testing.assert_close(heard["blocks.1"], model.blocks[1](x), rtol=0, atol=0)


def test_nesting_acts_in_order_of_entering(model, x):
    with (
        tap(model, "blocks.0") as before,
        edit(model, {"blocks.0": torch.zeros_like}),
        tap(model, "blocks.0") as after,
        edit(model, {"blocks.0": lambda t: t + 1}),
        tap(model, "blocks.0") as last,
    ):
        model(x)
    torch.testing.assert_close(before["blocks.0"], model.blocks[0](x))
    assert torch.equal(after["blocks.0"], torch.zeros(2, 4))
    assert torch.equal(last["blocks.0"], torch.ones(2, 4))


def test_keys_of_one_edit_act_in_turn(model, x):
    with edit(model, {"blocks.[01]": torch.zeros_like, "blocks.0": lambda t: t + 1}), tap(model, "blocks.*") as heard:
        model(x)
    assert torch.equal(heard["blocks.0"], torch.ones(2, 4))
    assert torch.equal(heard["blocks.1"], torch.zeros(2, 4))


CONTAINERS = {
    "tuple": lambda t: (None, t, t + 1),
    "list": lambda t: [t, "text"],
    "namedtuple": lambda t: Pair(t, t + 1),
    "dict": lambda t: {"note": 1, "tensor": t},
    "model_output": lambda t: BaseModelOutput(last_hidden_state=t, hidden_states=(t + 1,)),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_first_tensor_of_a_container(name, x):
    wrap = CONTAINERS[name]
    model = nn.ModuleDict({"site": Says(wrap)})
    with edit(model, {"site": lambda t: t * 10}), tap(model, "site") as heard:
        out = model["site"](x)
    expected = wrap(2 * x)
    assert type(out) is type(expected)
    assert torch.equal(heard["site"], 20 * x)
    entries, others = (list(o.values()) if isinstance(o, dict) else list(o) for o in (out, expected))
    assert len(entries) == len(others)
    position = 1 if name in ("tuple", "dict") else 0
    assert torch.equal(entries[position], 20 * x)
    if name in ("tuple", "namedtuple"):
        assert torch.equal(entries[-1], 2 * x + 1)
    if name == "model_output":
        assert torch.equal(out.last_hidden_state, 20 * x)
        assert torch.equal(out.hidden_states[0], 2 * x + 1)


def test_edit_leaves_the_original_container_alone(x):
    kept = []
    model = nn.ModuleDict({"site": Says(lambda t: kept.append([t]) or kept[-1])})
    with edit(model, {"site": torch.zeros_like}):
        model["site"](x)
    assert torch.equal(kept[0][0], 2 * x)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda t: t[:1], ValueError, r"edit at 'blocks\.0' turned \(2, 4\) float32 on cpu into \(1, 4\) float32"),
        (lambda t: t.double(), ValueError, r"into \(2, 4\) float64 on cpu; return a tensor of the same shape"),
        (lambda t: t.to("meta"), ValueError, "on meta"),
        (lambda t: None, TypeError, r"edit at 'blocks\.0' returned NoneType; expected a tensor"),
    ],
)
def test_edit_refuses(model, x, function, error, message):
    with pytest.raises(error, match=message), edit(model, {"blocks.0": function}):
        model(x)


def test_output_without_a_tensor(x):
    model = nn.ModuleDict({"site": Says(lambda t: {"text": "none"})})
    with pytest.raises(TypeError, match="site 'site' returned dict without a tensor"), tap(model, "site"):
        model["site"](x)


def test_leaving_out_of_order(model):
    first, second = tap(model, "blocks.0"), tap(model, "blocks.0")
    first.__enter__()
    second.__enter__()
    with pytest.raises(RuntimeError, match="leave such contexts in the reverse order"):
        first.__exit__(None, None, None)


@pytest.mark.parametrize("compiled_first", [True, False])
@pytest.mark.parametrize("where", ["whole", "in_place", "block"])
def test_compiled_models_hear_edit_and_forget(model, x, compiled_first, where):
    torch._dynamo.reset()
    plain = copy.deepcopy(model)
    compiled = model
    if where == "whole":
        compiled = torch.compile(model, backend="eager", fullgraph=True)
    elif where == "in_place":
        model.compile(backend="eager", fullgraph=True)
    else:
        model.blocks[1] = torch.compile(model.blocks[1], backend="eager", fullgraph=True)
    if compiled_first:
        compiled(x)
    for _ in range(3):  # a context that comes back gets its own dictionary filled
        with tap(compiled, ["blocks.?", "blocks.1.inner"]) as heard:
            compiled(x)
        assert sorted(heard) == ["blocks.0", "blocks.1", "blocks.1.inner", "blocks.2"]
        torch.testing.assert_close(heard["blocks.0"], plain.blocks[0](x))
        with edit(compiled, {"blocks.1": torch.zeros_like}):
            edited = compiled(x)
        with edit(plain, {"blocks.1": torch.zeros_like}):
            torch.testing.assert_close(edited, plain(x))
        torch.testing.assert_close(compiled(x), plain(x))


def test_compiled_tap_keeps_the_gradient(model, x):
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    with tap(compiled, "blocks.1") as heard:
        compiled(x)
    heard["blocks.1"].square().sum().backward()
    compiled_gradient = model.blocks[0].inner.weight.grad.clone()
    model.zero_grad()
    with tap(model, "blocks.1") as heard:
        model(x)
    heard["blocks.1"].square().sum().backward()
    torch.testing.assert_close(compiled_gradient, model.blocks[0].inner.weight.grad)


def test_a_deep_copy_made_inside_calls_its_own_weights(model, x):
    with tap(model, "blocks.0.inner"):
        twin = copy.deepcopy(model)
        with torch.no_grad():
            model.blocks[0].inner.weight.zero_()
        assert not torch.equal(twin(x), model(x))


def test_an_instance_forward_of_somebody_else_comes_back(model, x):
    block, own = model.blocks[0], model.blocks[0].forward
    block.forward = lambda x: own(x) + 1
    theirs = block.forward
    with tap(model, "blocks.0") as heard:
        model(x)
    assert block.forward is theirs
    torch.testing.assert_close(heard["blocks.0"], own(x) + 1)


def test_the_signature_stays_readable(model):
    before = inspect.signature(model.blocks[0].forward)
    with tap(model, "blocks.0"):
        assert inspect.signature(model.blocks[0].forward) == before


def test_transformer_encoder_is_heard_inside():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    x, pads = torch.randn(2, 3, 8), torch.tensor([[False, False, True], [False, False, False]])
    with torch.no_grad(), tap(model, "layers.*") as heard:
        model(x, src_key_padding_mask=pads)
    assert heard["layers.0"].shape == (2, 3, 8)
    assert "layers.1.linear2" in heard


def test_gpt2_attention_is_what_hidden_states_say():
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=16, n_positions=8)
    model = GPT2LMHeadModel(config).eval()
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad(), tap(model, ["transformer.h.0", "transformer.h.0.attn", "transformer.h.0.mlp"]) as heard:
        states = model(ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(heard["transformer.h.0"], states[1])
    total = states[0] + heard["transformer.h.0.attn"] + heard["transformer.h.0.mlp"]
    torch.testing.assert_close(total, states[1])


def test_a_forward_is_changed_until_it_is_undone_and_knows_its_module():
    model, x = Block(), torch.ones(2, 4)
    plain = model(x)
    undo = change_forward(model.inner, lambda module, output: output * float(module is not model.inner))
    assert torch.equal(model.inner(x), torch.zeros(2, 4))
    copied = copy.deepcopy(model)
    assert torch.equal(copied(x), plain), "a copy calls itself, not its original"
    undo()
    assert torch.equal(model(x), plain)
    assert "forward" not in vars(model.inner)


def test_the_first_tensor_and_what_takes_its_place():
    x, y = torch.zeros(1), torch.ones(1)
    for output in (x, (None, x, y), [x], {"a": None, "b": x}, Pair(x, y)):
        key, tensor = first_tensor("a", output)
        assert tensor is x
        assert first_tensor("a", with_tensor(output, key, y))[1] is y
