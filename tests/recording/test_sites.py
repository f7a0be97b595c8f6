import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
)

from topographic.models import TopoLMConfig, TopoLMForCausalLM
from topographic.recording import find_sites, first_mlp_layers, tap
from topographic.recording.reading import per_token


@pytest.fixture(scope="module")
def gpt2():
    return GPT2LMHeadModel(GPT2Config(n_layer=11, n_head=2, n_embd=8, vocab_size=16, n_positions=8))


class Wrapper(nn.Module):
    """What DataParallel and DDP do to names."""

    def __init__(self, model):
        super().__init__()
        self.module = model


def test_wildcards_in_natural_order(gpt2):
    assert find_sites(gpt2, "transformer.h.*.attn") == [f"transformer.h.{block}.attn" for block in range(11)]


def test_several_patterns_give_each_site_once(gpt2):
    patterns = ["transformer.h.[12].mlp", "transformer.h.1.*", "transformer.h.10.attn"]
    sites = find_sites(gpt2, patterns)
    assert len(sites) == len(set(sites))
    assert sites[-2:] == ["transformer.h.2.mlp", "transformer.h.10.attn"]
    assert "transformer.h.1.mlp.c_proj" in sites


def test_case_matters(gpt2):
    with pytest.raises(ValueError, match="matches no module"):
        find_sites(gpt2, "Transformer.h.0.attn")


def test_containers_are_not_sites(gpt2):
    assert "transformer.h" not in find_sites(gpt2, "*")


@pytest.mark.parametrize(
    "wrap",
    [
        Wrapper,
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: torch.compile(Wrapper(model), backend="eager"),
        lambda model: Wrapper(torch.compile(model, backend="eager")),
    ],
)
def test_wrappers_are_invisible(gpt2, wrap):
    wrapped = wrap(gpt2)
    assert find_sites(wrapped, "transformer.h.*.attn") == find_sites(gpt2, "transformer.h.*.attn")
    assert find_sites(wrapped, "*") == find_sites(gpt2, "*")
    assert find_sites(wrapped, "module.transformer.h.0.attn") == ["transformer.h.0.attn"]


def test_a_compiled_block_keeps_its_name(gpt2):
    model = nn.Sequential(nn.Linear(2, 2), torch.compile(nn.Sequential(nn.Linear(2, 2)), backend="eager"))
    assert find_sites(model, "*") == ["0", "1", "1.0"]


def test_a_child_called_module_beside_others_is_no_wrapper():
    model = nn.ModuleDict({"module": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    assert find_sites(model, "*") == ["head", "module"]


def test_no_match_shows_the_nearest(gpt2):
    with pytest.raises(ValueError, match=r"'transformer\.h\.\*\.atn' matches no module of GPT2LMHeadModel.*\.attn'"):
        find_sites(gpt2, "transformer.h.*.atn")
    with pytest.raises(ValueError, match="it has no submodules"):
        find_sites(nn.Linear(2, 2), "*")


def test_one_line_message(gpt2):
    with pytest.raises(ValueError, match="matches no module") as error:
        find_sites(gpt2, "nonsense")
    assert "\n" not in str(error.value)


def test_no_pattern(gpt2):
    with pytest.raises(ValueError, match="no site pattern given"):
        find_sites(gpt2, [])


SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 16, "intermediate_size": 20}
FAMILIES = {
    "gpt2": ({"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 16}, "transformer.h.{}.mlp.c_fc", 32),
    "gpt_neo": (
        {**SIZES, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
        "transformer.h.{}.mlp.c_fc",
        20,
    ),
    "llama": (SIZES, "model.layers.{}.mlp.up_proj", 20),
    "qwen2": ({**SIZES, "num_key_value_heads": 2}, "model.layers.{}.mlp.up_proj", 20),
    "gpt_neox": (SIZES, "gpt_neox.layers.{}.mlp.dense_h_to_4h", 20),
    "bloom": (
        {"hidden_size": 8, "n_layer": 2, "n_head": 2, "vocab_size": 16},
        "transformer.h.{}.mlp.dense_h_to_4h",
        32,
    ),
    "gptj": (
        {"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 16, "rotary_dim": 4},
        "transformer.h.{}.mlp.fc_in",
        32,
    ),
    "phi": (SIZES, "model.layers.{}.mlp.fc1", 20),
    "phi3": ({**SIZES, "pad_token_id": 0}, "model.layers.{}.mlp.gate_up_proj", 40),
    "opt": ({**SIZES, "ffn_dim": 20, "word_embed_proj_dim": 8}, "model.decoder.layers.{}.fc1", 20),  # in one row
}


@pytest.mark.parametrize("family", FAMILIES)
def test_first_mlp_layers_of_the_common_families(family):
    """Each is found, and gives one vector per token as wide as the family says."""
    options, name, width = FAMILIES[family]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **options)).eval()
    sites = first_mlp_layers(model)
    assert sites == [name.format(layer) for layer in range(2)]
    ids = torch.arange(2, 8).view(2, 3)
    with torch.no_grad(), tap(model, sites) as heard:
        model(ids)
    assert {tuple(per_token(site, heard[site], ids).shape) for site in sites} == {(2, 3, width)}


def test_first_mlp_layers_of_our_own_decoder_in_the_order_of_depth():
    model = TopoLMForCausalLM(TopoLMConfig(n_layer=11, n_head=2, n_embd=8, vocab_size=16, n_positions=8))
    expected = [f"transformer.h.{layer}.mlp.c_fc" for layer in range(11)]
    assert first_mlp_layers(model) == first_mlp_layers(torch.compile(model, backend="eager")) == expected


def test_other_names_are_asked_for():
    model = BertModel(BertConfig(**SIZES))
    with pytest.raises(ValueError, match=r"BertModel has no layer called .*name the first .*encoder\.layer\.\*\.inter"):
        first_mlp_layers(model)
