from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
)

from topographic.losses import weight_sheets
from topographic.losses.wrappers import unwrapped
from topographic.models import architecture, fresh_model, preset
from topographic.recording import (
    FIRST_MLP_LAYERS,
    find_sites,
    first_mlp_layers,
    list_sites,
    suggested_sites,
    tap,
    vision_layers,
)
from topographic.recording.reading import per_token
from topographic.recording.sites import modules_by_site, site_name


@pytest.fixture(scope="module")
def gpt2():
    return GPT2LMHeadModel(GPT2Config(n_layer=11, n_head=2, n_embd=8, vocab_size=16, n_positions=8))


class Holder(nn.Module):
    """A model of one's own, not a wrapper, whose only child happens to be called as in DataParallel."""

    def __init__(self, model):
        super().__init__()
        self.module = model

    def forward(self, inputs):
        return self.module(inputs) + 1


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


def test_what_is_a_name_means_that_module_brackets_and_all():
    """`model[0]` is a wildcard for `model0` only where no module is called so."""
    names = ("fc[0]", "fc0", "what?", "whats", "a*")
    model = nn.ModuleDict({name: nn.Linear(2, 2) for name in names})
    for name in names:
        assert find_sites(model, name) == [name]
        with tap(model, name) as heard:
            model[name](torch.ones(1, 2))
        assert list(heard) == [name]
    del model["fc[0]"]
    assert find_sites(model, "fc[0]") == ["fc0"]
    assert find_sites(nn.DataParallel(model), "module.what?") == ["what?"]
    assert find_sites(nn.DataParallel(model), "module.a*") == ["a*"]


def test_containers_are_not_sites(gpt2):
    assert "transformer.h" not in find_sites(gpt2, "*")


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.optim.swa_utils.AveragedModel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
        lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
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


def test_wrappers_of_processes_are_invisible(process_group):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    wrapped = nn.parallel.DistributedDataParallel(model)
    assert unwrapped(torch.compile(wrapped, backend="eager")) is unwrapped(wrapped) is model
    assert find_sites(wrapped, "*") == ["0", "1"]


@pytest.mark.filterwarnings("ignore")
def test_what_is_sharded_keeps_its_names(process_group):
    """The wrapper stays, since it gathers the weights; its names do not show."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    model[1] = FullyShardedDataParallel(model[1], device_id=torch.device("cpu"))
    wrapped = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    assert unwrapped(wrapped) is wrapped
    assert find_sites(wrapped, "*") == ["0", "1", "1.0"]


def test_an_only_child_called_module_is_a_site():
    model = Holder(nn.Sequential(nn.Linear(2, 2)))
    assert unwrapped(model) is model
    assert find_sites(model, "*") == ["module", "module.0"]
    assert find_sites(nn.DataParallel(model), "module.*") == ["module.0"]
    inputs = torch.ones(1, 2)
    with tap(model, "module") as heard:
        outputs = model(inputs)
    torch.testing.assert_close(heard["module"], outputs - 1)


def test_a_name_of_the_model_goes_before_one_without_its_prefix():
    model = nn.ModuleDict({"module": nn.ModuleDict({"fc": nn.Linear(2, 2)}), "fc": nn.Linear(2, 2)})
    assert find_sites(model, "module.fc") == ["module.fc"]


def test_a_shared_layer_answers_to_each_of_its_names():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(OrderedDict(first=layer, act=nn.Tanh(), second=layer))
    assert find_sites(model, "second") == ["second"]
    assert find_sites(model, "*") == ["act", "first"]
    assert find_sites(model, ["second", "first"]) == ["second"]
    assert modules_by_site(model)["second"] is modules_by_site(model)["first"] is layer
    with tap(model, "second") as heard:
        outputs = model(torch.ones(1, 2))
    torch.testing.assert_close(heard["second"], outputs)


def test_a_module_that_holds_its_parent_is_no_endless_loop():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh()))
    model[1].parent, model[1].itself = model, model[1]
    assert find_sites(model, "*") == ["0", "1", "1.0"]


def test_a_child_called_module_beside_others_is_no_wrapper():
    model = nn.ModuleDict({"module": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    assert find_sites(model, "*") == ["head", "module"]


def test_no_match_shows_the_nearest(gpt2):
    with pytest.raises(ValueError, match=r"'transformer\.h\.\*\.atn' matches no module of GPT2LMHeadModel.*\.attn'"):
        find_sites(gpt2, "transformer.h.*.atn")
    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"it has no submodules: give nn\.Sequential\(model\), whose site is '0'"):
        find_sites(layer, "*")
    with tap(nn.Sequential(layer), "0") as heard:
        layer(torch.ones(1, 2))
    assert heard["0"].shape == (1, 2)


SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 16, "intermediate_size": 20}
SUGGESTED = {
    "gpt2": ("transformer.h.*.mlp", {}),
    "llama": ("model.layers.*.mlp", {}),
    "opt": ("model.decoder.layers.*.self_attn", {"ffn_dim": 20, "word_embed_proj_dim": 8}),
    "mamba": ("backbone.layers.*.mixer", {}),
    "xlnet": ("transformer.layer.*.rel_attn", {"d_model": 8, "n_head": 2, "d_inner": 8, "n_layer": 2}),
}


@pytest.mark.parametrize("model_type", SUGGESTED)
def test_suggested_sites_are_the_models_own_and_give_a_vector_per_token(model_type):
    pattern, further = SUGGESTED[model_type]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **SIZES, **further)).eval()
    assert suggested_sites(model) == suggested_sites(nn.DataParallel(model)) == pattern
    if model_type != "xlnet":  # which has its tokens first
        assert hears_every_token(model, find_sites(model, pattern), 8)
    with pytest.raises(ValueError, match=r"no site pattern given; expected at least one, for example '" + pattern[:8]):
        find_sites(model, [])


def test_suggested_sites_of_other_models():
    shape = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [2, 2], "layer_type": "basic"}
    resnet = ResNetModel(ResNetConfig(**shape))
    assert suggested_sites(resnet) == "encoder.stages.*.layers.*.layer.*.convolution"
    assert suggested_sites(nn.Sequential(nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 2))) == "1"
    assert suggested_sites(nn.Sequential(nn.ReLU())) == "0"
    assert suggested_sites(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))) == "1"
    with pytest.raises(ValueError, match=r"Linear names no sites; it has no submodules: give nn\.Sequential\(model\)"):
        suggested_sites(nn.Linear(2, 2))


def test_suggested_layers_have_weights_of_their_own(gpt2):
    bert = BertModel(BertConfig(**SIZES))
    for model in (gpt2, bert, nn.Sequential(nn.ReLU(), nn.Embedding(3, 4), nn.Linear(2, 4))):
        (*_, layer) = find_sites(model, suggested_sites(model, weighted=True))
        assert weight_sheets(model.get_submodule(layer))


def test_names_without_what_wrappers_put_there():
    assert site_name("a._orig_mod.0._checkpoint_wrapped_module.b") == "a.0.b"


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
    assert first_mlp_layers(nn.DataParallel(gpt2)) == first_mlp_layers(gpt2) == "transformer.h.*.mlp.c_fc"
    with pytest.raises(ValueError, match=r"first MLP layers are known of gpt2, .*, not of Linear .*; name its sites"):
        first_mlp_layers(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"BertModel \(model_type 'bert'\), nor has it modules called \*\.mlp\."):
        first_mlp_layers(BertModel(BertConfig(**SIZES)))
    with pytest.raises(ValueError, match=r"; name its sites, for example sites='encoder.layer.\*.intermediate.dense'$"):
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
    model = nn.DataParallel(Named(*newer, "vit.layers.0.mlp.fc1"))
    assert find_sites(model, vision_layers(model)) == newer
    with pytest.raises(
        ValueError, match=r"layers with sheets are known of resnet, .*, not of Linear .*; name its sites"
    ):
        vision_layers(nn.Linear(2, 2))


SMALL = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
NEO = {
    "vocab_size": 20,
    "hidden_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "attention_types": [[["global", "local"], 1]],
}
ALIASES_OF = {
    "gpt2": (
        {"vocab_size": 20, "n_embd": 8, "n_layer": 2, "n_head": 2},
        ("h.*.attn", "h.*.mlp", "h.*", "wte"),
    ),
    "llama": (
        {**SMALL, "num_key_value_heads": 2},
        ("layers.*.self_attn", "layers.*.mlp", "layers.*", "embed_tokens"),
    ),
    "gpt_neox": (SMALL, ("layers.*.attention", "layers.*.mlp", "layers.*", "embed_in")),
    "gpt_neo": (NEO, ("h.*.attn", "h.*.mlp", "h.*", "wte")),
    "bert": (
        SMALL,
        ("encoder.layer.*.attention", "encoder.layer.*.output.dense", "encoder.layer.*", "embeddings.word_embeddings"),
    ),
    "vit": (
        {**SMALL, "image_size": 32, "patch_size": 16},
        ("layers.*.attention", "layers.*.mlp", "layers.*", "embeddings.patch_embeddings"),
    ),
}


@pytest.mark.parametrize("model_type", ALIASES_OF)
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_aliases_mean_the_same_parts_in_every_family(model_type, is_wrapped):
    given, patterns = ALIASES_OF[model_type]
    given = {key: one for key, one in given.items() if (model_type, key) != ("vit", "vocab_size")}
    model = AutoModel.from_config(AutoConfig.for_model(model_type, **given))
    model = nn.DataParallel(model) if is_wrapped else model
    for alias, pattern in zip(("attn", "mlp", "resid", "embed"), patterns, strict=True):
        expected = [site for n in "01" for site in [pattern.replace("*", n, 1)]] if "*" in pattern else [pattern]
        assert find_sites(model, alias) == expected
        assert list(list_sites(model, alias)["site"]) == expected


def test_what_an_alias_means_in_a_residual_network():
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[2, 1], layer_type="basic")
    model = ResNetModel(config)
    stages = ["encoder.stages.0.layers.0", "encoder.stages.0.layers.1", "encoder.stages.1.layers.0"]
    assert find_sites(model, "resid") == stages
    assert find_sites(model, "embed") == ["embedder"]
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    assert set(find_sites(model, "conv")) == set(convolutions)
    with pytest.raises(ValueError, match=r"ResNetModel has nothing that 'attn' means; it has resid \(encoder\.st"):
        find_sites(model, "attn")


def test_of_a_model_that_carries_sheets_they_are_meant():
    model = fresh_model(preset("tiny", n_layer=2), seed=0)
    assert find_sites(model, ["attn", "mlp"]) == find_sites(model, "*_sheet")
    frame = list_sites(model).set_index("site")
    assert list(frame.index) == find_sites(model, "*")
    assert frame.loc["transformer.h.1.mlp_sheet", "alias"] == "mlp"
    assert frame.loc["transformer.h.1.mlp", "alias"] == ""


def test_a_module_that_is_called_like_an_alias_is_meant_itself():
    model = nn.ModuleDict({"attn": nn.Linear(2, 2), "h": nn.ModuleList([nn.ModuleDict({"attn": nn.Linear(2, 2)})])})
    assert find_sites(model, "attn") == ["attn"]


def test_no_alias_is_refused():
    with pytest.raises(ValueError, match="alias='heads'; expected one of attn, mlp, resid, embed, conv"):
        list_sites(nn.Sequential(nn.Linear(2, 2)), "heads")


def test_convolutions_before_the_blocks_of_a_speech_encoder_are_no_blocks(wav2vec):
    model = wav2vec[0]
    assert find_sites(model, "resid") == ["encoder.layers.0", "encoder.layers.1"]
    assert find_sites(model, "attn") == ["encoder.layers.0.attention", "encoder.layers.1.attention"]
    assert find_sites(model, "embed") == ["feature_projection"]
    # where all that is numbered convolves, these are the blocks
    convolving = nn.Sequential(*(nn.Sequential(nn.Conv1d(2, 2, 1), nn.ReLU()) for _ in "ab"))
    assert find_sites(convolving, "resid") == ["0", "1"]
