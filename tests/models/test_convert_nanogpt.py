"""Checkpoints of nanoGPT against its architecture, written out from the equations."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from topographic.models import TopoLMForCausalLM, register
from topographic.models.convert import convert_checkpoint
from topographic.models.convert_nanogpt import convert_nanogpt
from topographic.storage import sha256_of_file

SETTINGS = {
    "n_layer": 2,
    "n_head": 3,
    "n_embd": 24,
    "block_size": 16,
    "bias": False,
    "vocab_size": 40,
    "dropout": 0.0,
}
TOKENS = torch.randint(0, 40, (2, 16), generator=torch.Generator().manual_seed(5))


def nanogpt_weights(settings):
    """Random weights under the names and shapes of nanoGPT, (out, in) in linear maps."""
    width, generator = settings["n_embd"], torch.Generator().manual_seed(0)
    shapes = {"wte": (settings["vocab_size"], width), "wpe": (settings["block_size"], width), "ln_f": (width,)}
    for layer in range(settings["n_layer"]):
        shapes |= {f"h.{layer}.ln_1": (width,), f"h.{layer}.ln_2": (width,)}
        shapes |= {f"h.{layer}.attn.c_attn": (3 * width, width), f"h.{layer}.attn.c_proj": (width, width)}
        shapes |= {f"h.{layer}.mlp.c_fc": (4 * width, width), f"h.{layer}.mlp.c_proj": (width, 4 * width)}
    weights = {}
    for name, shape in shapes.items():
        weights[f"transformer.{name}.weight"] = torch.randn(shape, generator=generator) * 0.3
        if settings["bias"] and name not in ("wte", "wpe"):
            weights[f"transformer.{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.3
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    return weights


def nanogpt_logits(weights, settings, tokens):
    """The equations, token by token and head by head, in double precision.

    x = E[token] + P[place]; per block x += W_o softmax(q K' / sqrt(d)) V, then x += W_2 gelu(W_1 norm(x)); E norm(x).
    """
    weights = {name: tensor.double() for name, tensor in weights.items()}

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", torch.zeros(()).double())

    def norm(x, name):
        deviation = x - x.mean(-1, keepdim=True)
        scaled = deviation / (deviation.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights.get(f"{name}.bias", torch.zeros(()).double())

    width, heads = settings["n_embd"], settings["n_head"]
    size = width // heads
    logits = []
    for text in tokens:
        x = weights["transformer.wte.weight"][text] + weights["transformer.wpe.weight"][: len(text)]
        for layer in range(settings["n_layer"]):
            block = f"transformer.h.{layer}"
            projected = linear(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn")
            attended = torch.zeros_like(x)
            for head in range(heads):
                q, k, v = (projected[:, part * width + head * size :][:, :size] for part in range(3))
                for t in range(len(text)):
                    score = (k[: t + 1] @ q[t] / math.sqrt(size)).exp()
                    attended[t, head * size : (head + 1) * size] = score / score.sum() @ v[: t + 1]
            x = x + linear(attended, f"{block}.attn.c_proj")
            inner = linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
            x = x + linear(inner * (1 + torch.erf(inner / math.sqrt(2))) / 2, f"{block}.mlp.c_proj")
        logits.append(norm(x, "transformer.ln_f") @ weights["transformer.wte.weight"].T)
    return torch.stack(logits)


@pytest.fixture
def released(tmp_path):
    """Write a checkpoint as nanoGPT's training script does; returns its path, weights and settings."""

    def write(prefix="", extra=None, settings=True, **changes):
        known = {**SETTINGS, **changes}
        weights = nanogpt_weights(known)
        stored = {prefix + name: tensor for name, tensor in {**weights, **(extra or {})}.items() if tensor is not None}
        content = {
            "model": stored,
            "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}},
            "model_args": {name: value for name, value in known.items() if value is not None},
            "iter_num": 500,
            "best_val_loss": torch.tensor(3.25),
            "config": {"dataset": "fineweb", "learning_rate": 6e-4},
        }
        if not settings:
            del content["model_args"]
        torch.save(content, tmp_path / "ckpt.pt")
        return tmp_path / "ckpt.pt", weights, known

    return write


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, {}),
        ({"bias": True}, {}),
        ({"prefix": "_orig_mod."}, {}),
        ({"prefix": "module._orig_mod."}, {}),
        ({"extra": {"lm_head.weight": None}}, {}),
        ({"settings": False}, {"n_head": 3}),
        ({"settings": False, "bias": True}, {"n_head": 3}),
        ({"n_head": 1, "n_layer": 1}, {}),
        (
            {"bias": True}
            | {"extra": {f"transformer.h.{i}.attn.bias": torch.ones(16, 16).tril()[None, None] for i in (0, 1)}},
            {},
        ),
    ],
    ids=lambda value: ",".join(value) or "as it is",
)
def test_logits_are_those_of_the_equations_after_a_trip_through_a_folder(released, tmp_path, changes, words):
    path, weights, settings = released(**changes)
    convert_checkpoint(path, **words).save(tmp_path / "model")
    register()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert type(model) is TopoLMForCausalLM
    with torch.no_grad():
        logits = model(TOKENS).logits
    expected = nanogpt_logits(weights, settings, TOKENS)
    assert expected.std() > 0.5
    torch.testing.assert_close(logits.double(), expected, rtol=0, atol=1e-5)
    assert set(model.state_dict()) == set(weights), "nothing but what nanoGPT has"


def test_the_sheets_are_the_weights_in_their_order(released):
    path, weights, _ = released()
    model = convert_checkpoint(path).model
    assert model.sheets() == {}
    for layer in (0, 1):
        stored = weights[f"transformer.h.{layer}.mlp.c_fc.weight"]
        assert torch.equal(model.transformer.h[layer].mlp.c_fc.weight, stored)
    assert not model.training


def test_the_note_says_where_it_comes_from(released, tmp_path):
    path, *_ = released(extra={"transformer.h.0.attn.bias": torch.ones(16, 16).tril()[None, None]})
    convert_checkpoint(path).save(tmp_path / "model")
    note = json.loads((tmp_path / "model/conversion.json").read_text())
    assert note["format"] == "nanoGPT checkpoint"
    assert note["sha256"] == {"ckpt.pt": sha256_of_file(path)}
    assert note["model_args"] == SETTINGS
    assert (note["iter_num"], note["best_val_loss"], note["config"]["learning_rate"]) == (500, 3.25, 6e-4)
    assert note["dropped"] == ["optimizer", "causal masks", "lm_head.weight (tied to transformer.wte.weight)"]


def test_the_random_state_of_the_session_is_left_alone(released):
    before = torch.get_rng_state()
    convert_checkpoint(released()[0])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({"settings": False}, {}, r"ckpt\.pt does not say how many heads it has; give n_head, 12 in the published"),
        ({}, {"n_head": 4}, r"says n_head=3; n_head=4 was given: leave it out"),
        ({"settings": False}, {"n_head": 5}, r"n_embd=24 is not a multiple of n_head=5"),
        ({}, {"positions_folder": "p"}, r"is of nanoGPT, whose sheets are its weights; leave positions and sheet_poi"),
        ({}, {"sheet_point": "pre_residual"}, r"is of nanoGPT, whose sheets are its weights"),
        ({"extra": {"transformer.h.1.mlp.c_fc.weight": None}}, {}, r"h\.1\.mlp\.c_fc\.weight is missing"),
        ({"extra": {"transformer.h.0.swirl.weight": torch.ones(2)}}, {}, r"swirl\.weight has no place in this model"),
        ({"extra": {"transformer.h.0.attn.bias": torch.ones(24)}}, {}, r"attn\.bias has no place in this model"),
        ({"extra": {"transformer.wpe.weight": torch.ones(9, 24)}}, {}, r"wpe\.weight has shape \(9, 24\) in place of"),
        ({"extra": {"lm_head.weight": torch.ones(40, 24)}}, {}, r"lm_head\.weight differs from"),
        ({"extra": {"transformer.ln_f.bias": torch.ones(24)}}, {}, r"ln_f\.bias has no place in this model"),
        ({"extra": {"transformer.wte.weight": None, "lm_head.weight": None}}, {}, r"holds no weights of nanoGPT \(tra"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(released, changes, words, message):
    path, *_ = released(**changes)
    with pytest.raises(ValueError, match=message) as told:
        convert_checkpoint(path, **words)
    assert "\n" not in str(told.value)


def test_unknown_settings_are_told(released):
    with pytest.warns(UserWarning, match=r"ckpt\.pt: unknown settings \['swirl'\] are ignored"):
        convert_checkpoint(released(swirl=1)[0])


def test_weights_alone_will_do(released):
    """Called with what `read_checkpoint` returns."""
    path, weights, settings = released()
    model = convert_nanogpt({"model": weights}, path, n_head=3).model
    torch.testing.assert_close(
        model(TOKENS).logits.double(), nanogpt_logits(weights, settings, TOKENS), rtol=0, atol=1e-5
    )
