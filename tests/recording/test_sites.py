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
    ViTConfig,
)

from topographic.losses import weight_sheets
from topographic.models import architecture, fresh_model, preset
from topographic.recording import FIRST_MLP_LAYERS, find_sites, first_mlp_layers, tap, vision_layers
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


@pytest.mark.parametrize("model_type", FIRST_MLP_LAYERS)
def test_first_mlp_layers_widen_the_stream_once_in_every_block(model_type):
    further = {"gptj": {"rotary_dim": 4}, "gpt_neox": {"intermediate_size": 128}, "opt": {"ffn_dim": 128}}
    words = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 8}
    model = fresh_model(architecture(model_type, words, further.get(model_type, {})), seed=0).eval()
    sites = find_sites(model, first_mlp_layers(model))
    assert len(sites) == 2
    for site in sites:
        (weights,) = weight_sheets(model.get_submodule(site)).values()
        assert weights.shape == (128, 32), "incoming weights of four times as many units as the stream has"
    assert hears_every_token(model, sites, 128)


def hears_every_token(model, sites, width):
    ids = torch.arange(2, 8).view(2, 3)
    with torch.no_grad(), tap(model, sites) as heard:
        model(ids)
    return {tuple(per_token(site, heard[site], ids).shape) for site in sites} == {(2, 3, width)}


SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 16, "intermediate_size": 20}


@pytest.mark.parametrize(
    ("model_type", "further", "name", "width"),
    [
        ("llama", {}, "model.layers.{}.mlp.up_proj", 20),
        ("qwen2", {"num_key_value_heads": 2}, "model.layers.{}.mlp.up_proj", 20),
        ("phi3", {"pad_token_id": 0}, "model.layers.{}.mlp.gate_up_proj", 40),
        ("phi", {}, "model.layers.{}.mlp.fc1", 20),
        ("starcoder2", {"num_key_value_heads": 2}, "model.layers.{}.mlp.c_fc", 20),
        ("falcon", {}, "transformer.h.{}.mlp.dense_h_to_4h", 32),
    ],
)
def test_first_mlp_layers_of_other_families_by_their_names(model_type, further, name, width):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **SIZES, **further)).eval()
    sites = find_sites(model, first_mlp_layers(model))
    assert sites == [name.format(layer) for layer in range(2)]
    assert hears_every_token(model, sites, width)


def test_first_mlp_layers_of_nanogpt_and_of_wrapped_and_unknown_models(gpt2):
    nanogpt = fresh_model(preset("nanogpt_demo", vocab_size=8, n_layer=1), seed=0)
    assert find_sites(nanogpt, first_mlp_layers(nanogpt)) == ["transformer.h.0.mlp.c_fc"]
    assert first_mlp_layers(Wrapper(gpt2)) == first_mlp_layers(gpt2) == "transformer.h.*.mlp.c_fc"
    with pytest.raises(ValueError, match=r"first MLP layers are known of gpt2, .*, not of Linear .*; name its sites"):
        first_mlp_layers(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"BertModel \(model_type 'bert'\), nor has it modules called \*\.mlp\."):
        first_mlp_layers(BertModel(BertConfig(**SIZES)))


def test_vision_layers_of_newer_and_older_transformers():
    """The second MLP layer of a ViT, whatever transformers calls it, and not the projection of its attention."""

    class Named(nn.Module):
        def __init__(self, *names):
            super().__init__()
            self.config = ViTConfig()
            for name in names:
                here = self
                for part in name.split("."):
                    if part not in here._modules:
                        here.add_module(part, nn.Module())
                    here = here._modules[part]

    older = [f"vit.encoder.layer.{layer}.output.dense" for layer in (0, 9, 11)]
    attention = [f"vit.encoder.layer.{layer}.attention.output.dense" for layer in (0, 9, 11)]
    model = Named(*older, *attention)
    assert find_sites(model, vision_layers(model)) == older
    newer = ["vit.layers.0.mlp.fc2", "vit.layers.11.mlp.fc2"]
    model = Wrapper(Named(*newer, "vit.layers.0.mlp.fc1"))
    assert find_sites(model, vision_layers(model)) == newer
    with pytest.raises(
        ValueError, match=r"layers with sheets are known of resnet, .*, not of Linear .*; name its sites"
    ):
        vision_layers(nn.Linear(2, 2))
