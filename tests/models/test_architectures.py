"""Any causal architecture from words: sizes arrive, weights are born as published, and misfits are one line."""

import math

import pytest
import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.models import TopoLMConfig, TopoLMForCausalLM, architecture, fresh_model, preset

WORDS = {"n_layer": 3, "n_embd": 32, "n_head": 4, "n_positions": 24, "vocab_size": 61}
# what some architectures need besides the words
FURTHER = {
    "topolm": {},
    "gpt2": {},
    "gpt_neo": {},
    "gptj": {"rotary_dim": 4},
    "gpt_neox": {"intermediate_size": 48},
    "opt": {"ffn_dim": 48},
    "llama": {"intermediate_size": 48},
    "qwen3": {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8},
}


@pytest.mark.parametrize("model_type", FURTHER)
def test_words_reach_every_architecture_and_its_first_loss_is_that_of_chance(model_type):
    config = architecture(model_type, WORDS, FURTHER[model_type])
    sizes = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.vocab_size)
    assert (*sizes, config.max_position_embeddings) == (3, 32, 4, 61, 24)
    model = fresh_model(config, seed=0)
    assert model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    tokens = torch.randint(0, 61, (8, 24), generator=torch.Generator().manual_seed(0))
    loss = model.eval()(input_ids=tokens, labels=tokens).loss.item()
    assert loss == pytest.approx(math.log(61), abs=0.1)


def test_a_word_and_the_own_name_mean_the_same_and_later_settings_win():
    by_words = architecture("gpt_neo", WORDS, {"n_layer": 2}, {"attention_dropout": 0.3})
    by_names = architecture(
        "gpt_neo",
        {"num_layers": 2, "hidden_size": 32, "num_heads": 4, "max_position_embeddings": 24, "vocab_size": 61},
        {"attention_dropout": 0.3},
    )
    assert by_words.to_dict() == by_names.to_dict()
    assert (by_words.resid_dropout, by_words.attention_dropout) == (0.0, 0.3)


def test_dropout_is_all_of_them():
    config = architecture("gpt2", WORDS, {"dropout": 0.25})
    assert (config.embd_pdrop, config.resid_pdrop, config.attn_pdrop) == (0.25, 0.25, 0.25)
    assert architecture("topolm", WORDS, {"dropout": 0.25}).dropout == 0.25
    with pytest.raises(ValueError, match="'bloom' has no field n_positions"):
        architecture("bloom", WORDS)


@pytest.mark.parametrize("depth", [1, 2, 5, 12])
def test_layers_of_gpt_neo_alternate_at_every_depth(depth):
    config = architecture("gpt_neo", WORDS, {"n_layer": depth})
    assert config.attention_layers == (["global", "local"] * 6)[:depth]
    own = architecture("gpt_neo", WORDS, {"n_layer": 2, "attention_types": [[["local"], 2]]})
    assert own.attention_layers == ["local", "local"]


def test_special_tokens_are_set_and_a_shared_pad_is_left_out():
    tokens = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = architecture("opt", WORDS, FURTHER["opt"], special_tokens=tokens)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (0, 0, None)
    model = fresh_model(config, seed=0)
    embeddings = model.get_input_embeddings()
    embeddings(torch.tensor([0])).sum().backward()
    assert (embeddings.weight.grad[0] == 1).all(), "the embedding of the end of text is trained"
    config = architecture("opt", WORDS, FURTHER["opt"], special_tokens={**tokens, "pad_token_id": 5})
    assert fresh_model(config, seed=0).get_input_embeddings().padding_idx == 5
    without_pad = architecture("rwkv", {"n_layer": 2, "n_embd": 32}, special_tokens=tokens)
    assert (without_pad.eos_token_id, getattr(without_pad, "pad_token_id", None)) == (0, None)


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    config = architecture("gpt_neo", WORDS)
    weights = [fresh_model(config, seed=seed).transformer.h[1].mlp.c_fc.weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.get_rng_state())


def test_the_same_weights_as_the_classes_give():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = GPT2LMHeadModel(GPT2Config(n_layer=3, n_embd=32, n_head=4, n_positions=24, vocab_size=61))
        torch.manual_seed(3)
        ours = TopoLMForCausalLM(preset("tiny"))
    model = fresh_model(architecture("gpt2", WORDS), seed=3)
    assert type(model) is GPT2LMHeadModel
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    tiny = fresh_model(preset("tiny"), seed=3)
    assert all(torch.equal(a, b) for a, b in zip(tiny.parameters(), ours.parameters(), strict=True))
    assert tiny.sheets() == ours.sheets()


@pytest.mark.parametrize(
    ("name", "branches"),
    [("nanogpt_demo", True), ("gpt2_demo", True), ("gpt_neo_demo", False)],
)
def test_weights_are_born_as_published(name, branches):
    """Normal(0, 0.02); GPT-2 divides what is added to the stream by sqrt(2 x blocks), GPT-Neo does not."""
    for parameter_name, parameter in fresh_model(preset(name), seed=0).named_parameters():
        if parameter_name.endswith("bias"):
            assert (parameter == 0).all(), parameter_name
        elif ".ln_" in parameter_name:
            assert (parameter == 1).all(), parameter_name
        else:
            expected = 0.02 / math.sqrt(8) if branches and parameter_name.endswith("c_proj.weight") else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.03), parameter_name
            assert abs(parameter.mean().item()) < 5 * expected / math.sqrt(parameter.numel()), parameter_name


def test_nanogpt_is_gpt2_without_biases():
    """Against the GPT-2 of transformers with its biases at their initial zero, and the exact activation."""
    model = fresh_model(preset("nanogpt_demo", vocab_size=97, n_layer=2), seed=0).eval()
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]
    assert model.sheets() == {}
    assert not list(model.buffers())
    gpt2 = fresh_model(
        preset("gpt2_demo", vocab_size=97, n_layer=2, activation_function="gelu", dropout=0.0), seed=1
    ).eval()
    weights = gpt2.state_dict()
    for name, tensor in model.state_dict().items():
        transposed = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))  # GPT-2 keeps (in, out)
        weights[name] = tensor.T if transposed else tensor
    gpt2.load_state_dict(weights)
    tokens = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(tokens).logits, gpt2(tokens).logits, rtol=0, atol=1e-5)


def test_a_model_that_looks_ahead_is_refused_and_its_decoder_is_not():
    words = {**WORDS, "intermediate_size": 48}
    with pytest.raises(ValueError, match=r"'bert' looks at later tokens.*set is_decoder=true"):
        fresh_model(architecture("bert", words), seed=0)
    model = fresh_model(architecture("bert", words, {"is_decoder": True}), seed=0).eval()
    tokens = torch.randint(0, 61, (1, 6), generator=torch.Generator().manual_seed(0))
    longer = torch.cat([tokens, tokens[:, :1]], 1)
    torch.testing.assert_close(model(longer).logits[:, :6], model(tokens).logits)


@pytest.mark.parametrize(
    ("model_type", "fields", "message"),
    [
        (
            "gpt3",
            {},
            r"no causal architecture 'gpt3'; expected a model_type of .* or 'topoformer'; .*gpt2",
        ),
        ("vit", {}, r"no causal architecture 'vit'"),
        ("gpt2", {"n_layers": 3}, r"'gpt2' has no field n_layers; expected some of \['activation_function'"),
        ("gpt2", {"model_type": "llama"}, r"'gpt2' has no field model_type"),
        ("gpt2", {"head_tiles": True}, r"'gpt2' has no field head_tiles"),
        ("gpt2", {"n_layer": 2, "num_hidden_layers": 3}, r"num_hidden_layers=3 sets n_layer .* a second time; give it"),
        ("gpt2", {"dropout": 0.1, "attn_pdrop": 0.2}, r"attn_pdrop=0.2 sets attn_pdrop .* a second time"),
        ("gpt2", {"n_embd": 37}, r"'gpt2': n_embd=37 is not a multiple of n_head=12; choose a number of heads"),
        ("gpt_neo", {"n_embd": 32, "n_head": 5}, r"'gpt_neo': n_embd=32 is not a multiple of n_head=5"),
        ("gpt2", {"n_layer": 0}, r"'gpt2' with n_layer=0; expected at least 1"),
        ("gpt_neo", {"vocab_size": -1}, r"'gpt_neo' with vocab_size=-1; expected at least 1"),
        ("gpt2", {"n_layer": "many"}, r"'gpt2': .*'n_layer' expected int, got str"),
        ("gpt_neo", {"n_layer": "many"}, r"'gpt_neo': .*'num_layers' expected int, got str"),
        ("gpt_neo", {"n_layer": 3, "attention_types": [[["global"], 2]]}, r"'gpt_neo': .*num_layers = 3"),
        ("qwen2", {"n_embd": 32, "n_head": 4}, r"n_head=4 is not a multiple of num_key_value_heads=32; give both"),
        ("topolm", {"n_embd": 37, "n_head": 4}, r"n_embd=37 is not a multiple of n_head=4"),
    ],
)
def test_misfits_are_one_line(model_type, fields, message):
    with pytest.raises(ValueError, match=message) as told:
        architecture(model_type, fields)
    assert "\n" not in str(told.value)


def test_what_transformers_cannot_run_is_told_in_one_line():
    # heads of 8 units, of which GPT-J would rotate 64
    with pytest.raises(
        ValueError, match=r"'gptj' cannot be built like this or does not run on tokens alone \("
    ) as told:
        fresh_model(architecture("gptj", WORDS), seed=0)
    assert "\n" not in str(told.value)


def test_without_sheets_the_width_need_not_fill_a_rectangle():
    tokens = torch.arange(6)[None]
    with pytest.raises(ValueError, match="29 units fill no rectangle"):
        TopoLMConfig(n_embd=29, n_head=1)
    model = fresh_model(architecture("topolm", {**WORDS, "n_embd": 29, "n_head": 1, "sheet_point": "none"}), seed=0)
    logits = model.eval()(tokens).logits
    assert functional.cross_entropy(logits[0, :-1], tokens[0, 1:]).item() == pytest.approx(math.log(61), abs=0.1)


@pytest.mark.parametrize("objective", ["masked_tokens", "labels"])
def test_other_heads_may_look_at_all_tokens(objective):
    bert = architecture("bert", {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 8, "vocab_size": 20})
    model = fresh_model(bert, seed=0, objective=objective)
    assert (
        type(model).__name__
        == {"masked_tokens": "BertForMaskedLM", "labels": "BertForSequenceClassification"}[objective]
    )
    with pytest.raises(ValueError, match="objective='words'; expected one of"):
        fresh_model(bert, seed=0, objective="words")
