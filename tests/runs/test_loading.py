import importlib.util
import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AutoConfig,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from topographic.brain import untrained
from topographic.cli import main
from topographic.layouts import Adaptor, Adaptors, ModelSource
from topographic.models import fresh_vision_model, vision_config
from topographic.recording import (
    Preparation,
    find_sites,
    record,
    record_images,
    record_speech,
    suggested_sites,
    tap,
    weights_checksum,
)
from topographic.runs import loading
from topographic.runs.loading import (
    kind_of,
    load,
    load_model,
    load_speech_encoder,
    load_tokenizer,
    load_vision_model,
    sites_and_layout,
)
from topographic.runs.sources import Source
from topographic.sheets import grid
from topographic.stimuli import ImageStimuli, StimulusSet


@pytest.fixture
def gpt2(tiny_model, tmp_path):
    """The folder of a GPT-2 with a tokenizer."""
    folder = tmp_path / "gpt2"
    tokenizer = load_tokenizer(str(tiny_model))
    GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_where_and_in_which_type(gpt2):
    model, tokenizer = load_model(gpt2, device="cpu")
    assert (model.dtype, model.training) == (torch.float32, False)
    assert len(tokenizer) == model.config.vocab_size
    assert load_model(gpt2, dtype="bfloat16")[0].dtype is torch.bfloat16
    model, _ = load_model(gpt2, device="meta", dtype=torch.float16)
    assert (model.dtype, model.device.type) == (torch.float16, "meta")
    for dtype in ("float31", "int8", "nn"):
        with pytest.raises(ValueError, match=rf"dtype='{dtype}'; expected a type of weights, such as 'float32'"):
            load_model(gpt2, dtype=dtype)


def turned(site, n_units):
    rotation = torch.linalg.qr(torch.randn(n_units, n_units, generator=torch.Generator().manual_seed(0)))[0]
    return Adaptor(site, torch.zeros(n_units), torch.ones(n_units), rotation, grid(n_units, site), "rotation")


def laid_out(model, folder, layout, sites=("transformer.h.0", "transformer.h.1"), n_units=16):
    source = ModelSource(str(folder), weights_checksum(model))
    Adaptors([turned(site, n_units) for site in sites], source).save(layout)
    return layout


def test_a_layout_gives_its_model_with_sheets_in_place(gpt2, tmp_path):
    plain, tokenizer = load_model(gpt2, device="cpu")
    layout = laid_out(plain, gpt2, tmp_path / "layout")
    assert kind_of(layout) == "language"
    assert len(load_tokenizer(str(layout))) == len(tokenizer)
    model, reader = load_model(layout, device="cpu")
    ids = torch.tensor([reader("the dog")["input_ids"]])
    assert torch.equal(model(ids).logits, plain(ids).logits)
    sites, sheets = sites_and_layout(model, layout)
    assert sites == ["transformer.h.0.sheet", "transformer.h.1.sheet"]
    assert sheets["transformer.h.0.sheet"] == grid(16, "transformer.h.0")
    with tap(model, sites) as heard:
        model(ids)
    assert sorted(heard) == sites
    half, _ = load_model(layout, device="cpu", dtype="bfloat16")
    assert half.dtype is torch.bfloat16
    with tap(half, sites) as heard:
        half(ids)
    assert {one.dtype for one in heard.values()} == {torch.float32}


def test_a_layout_on_other_weights_or_of_no_model(gpt2, tmp_path):
    plain, _ = load_model(gpt2, device="cpu")
    layout = laid_out(plain, gpt2, tmp_path / "layout")
    change(gpt2, {"transformer.ln_f.bias": torch.ones(16)})
    with pytest.raises(ValueError, match=r"was fitted on other weights \(\w{12}\) than .*gpt2 has now") as caught:
        load_model(layout)
    assert "\n" not in str(caught.value)
    Adaptors([turned("transformer.h.0", 16)]).save(layout)
    for read in (load_model, kind_of, lambda one: load_tokenizer(str(one))):
        with pytest.raises(ValueError, match=r"layout names no model; save Adaptors\(adaptors, ModelSource"):
            read(layout)


@pytest.fixture
def encoder(gpt2, tmp_path):
    """A sentence encoder: a BERT without a head, and a tokenizer."""
    _, tokenizer = load_model(gpt2, device="cpu")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_an_encoder_without_a_head_is_loaded_laid_out_and_heard(encoder, tmp_path):
    plain, tokenizer = load_model(encoder, device="cpu")
    assert type(plain) is BertModel
    shown = StimulusSet("words", ["the dog", "a bird", "the bird"], ["a", "b", "a"])
    sites = ("encoder.layer.0", "encoder.layer.1.output")
    before = record(plain, tokenizer, shown, list(sites), grid, progress=False)
    layout = laid_out(plain, encoder, tmp_path / "layout", sites)
    model, reader = load(layout, device="cpu")
    heard = record(model, reader, shown, progress=False)
    assert list(heard) == [f"{site}.sheet" for site in sites]
    for site in sites:
        z = turned(site, 16).to_sheet(torch.from_numpy(before[site].values))
        np.testing.assert_allclose(heard[f"{site}.sheet"].values, z, atol=1e-5)


def test_a_vision_model_is_laid_out_on_its_feature_maps(tmp_path):
    torch.manual_seed(0)
    config = MobileNetV2Config(depth_multiplier=0.25, image_size=32, num_labels=3, tf_padding=False)
    MobileNetV2ForImageClassification(config).eval().save_pretrained(tmp_path / "net")
    Preparation(mean=(0.5,), sd=(0.5,), channels=3, size=(32, 32)).save_pretrained(tmp_path / "net")
    plain, prepare = load_vision_model(tmp_path / "net", device="cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    images = ImageStimuli(StimulusSet("noise", [str(one) for one in range(4)], ["a", "b"] * 2), pixels)
    site = "mobilenet_v2.layer.9.reduce_1x1"
    options = {"prepare": prepare, "progress": False}
    before = record_images(plain, images, site, grid, **options)[site]
    layout = laid_out(plain, tmp_path / "net", tmp_path / "layout", (site,), before.sheet.n_units)
    assert kind_of(layout) == "vision"
    model, again = load(layout, device="cpu")
    heard = record_images(model, images, prepare=again, progress=False)[f"{site}.sheet"]
    z = turned(site, before.sheet.n_units).to_sheet(torch.from_numpy(before.values))
    np.testing.assert_allclose(heard.values, z, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(model(prepare(pixels)).logits, plain(prepare(pixels)).logits)


def change(folder, tensors):
    save_file({**load_file(folder / "model.safetensors"), **tensors}, folder / "model.safetensors", {"format": "pt"})


def damage_shape(folder):
    change(
        folder, {"transformer.h.0.mlp.c_fc.weight": torch.zeros(16, 32), "transformer.h.1.ln_1.bias": torch.zeros(3)}
    )


def damage_by_leaving_out(folder):
    kept = {key: one for key, one in load_file(folder / "model.safetensors").items() if "c_fc" not in key}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def damage_length(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def damage_format(folder):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


def damage_to_pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def damage_configuration(folder):
    (folder / "config.json").write_text("{")


def damage_field(folder):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "n_embd": "wide"}))


def damage_code(folder):
    content = json.loads((folder / "config.json").read_text())
    code = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps({**content, **code}))
    (folder / "mine.py").write_text("raise SystemExit('executed')")


def damage_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{")


def damage_by_leaving_the_tokenizer_out(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            damage_shape,
            "transformer.h.0.mlp.c_fc.weight has shape [16, 32] in its file and [16, 64] by config.json, as do 1 more; "
            "they are of different models: copy both from one",
        ),
        (damage_by_leaving_out, "4 weights of a GPT2LMHeadModel are not in its file and would be random, the first tr"),
        (damage_length, "are truncated or no safetensors file"),
        (damage_format, "are truncated or no safetensors file"),
        (damage_to_pickle, "holds pytorch_model.bin and no model.safetensors"),
        (damage_configuration, "cannot be read as a causal language model of transformers (It looks like the config"),
        (damage_field, "expected int, got str (value: 'wide')); correct its files or give another model"),
        (damage_code, "contains custom code"),
        (damage_tokenizer, "no tokenizer can be read from"),
        (
            damage_by_leaving_the_tokenizer_out,
            "(there are no files of one); name the one that the model was trained with",
        ),
    ],
)
def test_a_damaged_folder_is_one_line(damage, message, gpt2, tmp_path, capfd):
    damage(gpt2)
    assert main(["map", str(gpt2), "sites=transformer.h.*.mlp", "n_draws=0", f"out={tmp_path / 'maps'}"]) == 1
    (line,) = [one for one in capfd.readouterr().err.splitlines() if one.strip()]
    assert line.startswith("topo map: ")
    assert message in line


def test_a_damaged_configuration_beside_a_model_is_one_line(gpt2, capfd):
    run = gpt2.parent
    gpt2.rename(run / "model")
    for content, message in (("spatial: [", "is not valid YAML"), ("- a\n", "holds a list"), ("", "is empty")):
        (run / "config.yaml").write_text(content)
        assert main(["map", str(run), "n_draws=0"]) == 1
        line = capfd.readouterr().err.strip().splitlines()[-1]
        assert line.startswith(f"topo map: {run / 'config.yaml'} {message}")


def test_language_and_vision_are_told_apart_in_one_place(gpt2, tmp_path, monkeypatch):
    assert kind_of(gpt2) == "language"
    vision = ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], num_labels=2))
    vision.save_pretrained(tmp_path / "vision")
    assert kind_of(tmp_path / "vision") == "vision", "by its configuration"
    Preparation().save_pretrained(gpt2)
    assert kind_of(gpt2) == "vision", "by how it takes images"
    with pytest.raises(FileNotFoundError, match="no folder or file at"):
        kind_of(tmp_path / "absent")
    on_hub = {
        "hub/resnet": ResNetConfig(architectures=["ResNetForImageClassification"]),
        "hub/gpt2": GPT2Config(architectures=["GPT2LMHeadModel"]),
        "hub/bare": GPT2Config(),
    }
    monkeypatch.setattr(loading, "found_source", Source)
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda name, **options: on_hub[name])
    assert [kind_of(name) for name in (*on_hub, "hub/odd")] == ["vision", "language", "language", "language"]


def test_a_classifier_that_does_not_say_how_it_takes_images(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], num_labels=2)
    ResNetForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"does not say how it takes images .*; expected a readable preprocessor_config"
    ):
        load_vision_model(tmp_path)
    Preparation().save_pretrained(tmp_path)
    model, prepare = load_vision_model(tmp_path, device="cpu", dtype="bfloat16")
    assert (model.dtype, prepare) == (torch.bfloat16, Preparation())


def test_the_sites_that_are_suggested_are_the_models_own():
    bert = BertLMHeadModel(
        BertConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=2, intermediate_size=8, is_decoder=True)
    )
    pattern = suggested_sites(bert)
    assert find_sites(bert, pattern)
    with pytest.raises(ValueError, match=f"carries no sheets; .*, for example sites='{re.escape(pattern)}' l"):
        sites_and_layout(bert, "no run")


def write_gguf(file, model, words):
    """A Llama in llama.cpp's names, its rotary halves interleaved as llama.cpp has them."""
    gguf = pytest.importorskip("gguf", reason="needs the extra topographic[gguf]")
    shape, weights = model.config, {name: one.numpy() for name, one in model.state_dict().items()}

    def interleaved(name, n_heads):
        rows, columns = weights[name].shape
        return weights[name].reshape(n_heads, 2, rows // n_heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)

    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(shape.max_position_embeddings)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.num_hidden_layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_attention_heads)
    writer.add_head_count_kv(shape.num_key_value_heads)
    writer.add_layer_norm_rms_eps(shape.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3] + [1] * (len(words) - 1))
    writer.add_token_merges(["d o"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    writer.add_tensor("output.weight", weights["lm_head.weight"])
    for layer in range(shape.num_hidden_layers):
        theirs, ours = f"blk.{layer}.", f"model.layers.{layer}."
        writer.add_tensor(f"{theirs}attn_q.weight", interleaved(f"{ours}self_attn.q_proj.weight", 4))
        writer.add_tensor(f"{theirs}attn_k.weight", interleaved(f"{ours}self_attn.k_proj.weight", 2))
        for name, module in GGUF_NAMES.items():
            writer.add_tensor(f"{theirs}{name}.weight", weights[f"{ours}{module}.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


GGUF_NAMES = {
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_norm": "post_attention_layernorm",
}


def test_a_gguf_file_is_a_model(tmp_path):
    words = ["<|endoftext|>", *sorted(ByteLevel.alphabet()), "do"]
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(**shape, num_key_value_heads=2, vocab_size=len(words), max_position_embeddings=64)
    ).eval()
    write_gguf(tmp_path / "tiny.gguf", model, words)
    loaded, tokenizer = load_model(tmp_path / "tiny.gguf")
    loaded = loaded.cpu()
    ids = tokenizer("a dog", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "a dog"
    with torch.no_grad():
        expected, found = (one(torch.tensor([ids])).logits for one in (model, loaded))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"tokenizer .* knows 258 tokens and the model 100; give the one it was"):
        load_tokenizer(str(tmp_path), 100, gguf_file="tiny.gguf")


def test_a_gguf_file_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no file at .*absent\.gguf; expected a model in GGUF format"):
        load_model(tmp_path / "absent.gguf")
    (tmp_path / "there.gguf").write_bytes(b"GGUF")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name))
    with pytest.raises(ImportError, match=r"there\.gguf needs gguf; run `pip install 'topographic\[gguf\]'`"):
        load_model(tmp_path / "there.gguf")


def test_one_door_opens_models_of_either_kind(tiny_model, tmp_path):
    model, tokenizer = load(tiny_model)
    assert type(model).__name__ == "TopoLMForCausalLM"
    assert tokenizer("the dog")["input_ids"]
    vision = fresh_vision_model(
        vision_config("mnist_mlp", classes=list("0123456789"), image_size=28, num_channels=1), seed=0
    )
    vision.save_pretrained(tmp_path / "vision")
    Preparation().save_pretrained(tmp_path / "vision")
    model, prepare = load(tmp_path / "vision")
    assert type(model).__name__ == "PixelMLPForImageClassification"
    assert isinstance(prepare, Preparation)
    with pytest.raises(ValueError, match=r"is a vision model, which reads no text; leave out tokenizer='gpt2'"):
        load(tmp_path / "vision", "gpt2")


def test_a_speech_encoder_comes_with_how_it_takes_sound(wav2vec, tmp_path):
    model, extractor = wav2vec
    for part in wav2vec:
        part.save_pretrained(tmp_path / "ears")
    found, takes = load_speech_encoder(tmp_path / "ears", device="cpu")
    assert (type(found), takes.to_dict()) == (Wav2Vec2Model, extractor.to_dict())
    assert not found.training
    assert weights_checksum(found) == weights_checksum(model)
    half, _ = load_speech_encoder(tmp_path / "ears", device="cpu", dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    # a head is left away
    Wav2Vec2ForCTC(Wav2Vec2Config(**{**model.config.to_dict(), "vocab_size": 5})).save_pretrained(tmp_path / "ears")
    assert isinstance(load_speech_encoder(tmp_path / "ears", device="cpu")[0], Wav2Vec2Model)


def test_what_sees_takes_no_sound(tmp_path):
    shape = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    ViTModel(ViTConfig(**shape)).save_pretrained(tmp_path / "eyes")
    ViTImageProcessor().save_pretrained(tmp_path / "eyes")
    with pytest.raises(
        ValueError, match=r"eyes does not say how it takes sound .*copy it there, or give another model"
    ):
        load_speech_encoder(tmp_path / "eyes")


def test_of_whisper_the_decoder_is_left_away(tmp_path):
    shape = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
    shape |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "vocab_size": 9}
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    config = WhisperConfig(max_source_positions=50, **shape, **special)
    WhisperForConditionalGeneration(config).save_pretrained(tmp_path / "ears")
    with pytest.raises(ValueError, match=r"ears does not say how it takes sound .*preprocessor_config\.json beside a"):
        load_speech_encoder(tmp_path / "ears")
    WhisperFeatureExtractor(chunk_length=1).save_pretrained(tmp_path / "ears")
    model, extractor = load_speech_encoder(tmp_path / "ears", device="cpu")
    assert (type(model), extractor.n_samples) == (WhisperEncoder, 16000)
    heard = record_speech(model, extractor, np.ones(8000), 16000, "resid", window_s=0.5, progress=False)
    assert heard["layers.0"].values.shape == (5, 16)
    (tmp_path / "ears" / "model.safetensors").write_bytes(b"no weights")
    WhisperFeatureExtractor(chunk_length=1).save_pretrained(tmp_path / "ears")
    with pytest.raises(ValueError, match=r"the weights in .*ears are truncated or no safetensors file"):
        load_speech_encoder(tmp_path / "ears")
    (tmp_path / "ears" / "config.json").write_text('{"model_type": "whisper", "d_model": "many"}')
    with pytest.raises(ValueError, match=r"cannot be read as a speech encoder of transformers"):
        load_speech_encoder(tmp_path / "ears")


def test_a_whisper_of_ctranslate2_is_a_speech_encoder(
    small_whisper, ctranslate2_variables, write_ctranslate2, tmp_path
):
    file = write_ctranslate2(tmp_path / "package" / "model" / "model.bin", ctranslate2_variables(small_whisper))
    model, extractor = load_speech_encoder(tmp_path / "package", device="cpu")
    assert (type(model), model.name_or_path, extractor.feature_size) == (WhisperEncoder, str(file.parent), 12)
    assert not model.training
    assert load_speech_encoder(file.parent, device="cpu", dtype="bfloat16")[0].dtype == torch.bfloat16
    # and hears what transformers' own does, untrained weights something else
    sound = np.sin(np.arange(16000) / 9.0) * np.linspace(0, 1, 16000)
    hear = {"sites": "resid", "window_s": 0.5, "progress": False}
    heard = record_speech(model, extractor, sound, 16000, **hear)
    assert list(heard) == ["layers.0", "layers.1"]
    wanted = record_speech(
        small_whisper, extractor, sound, 16000, "model.encoder.layers.*", window_s=0.5, progress=False
    )
    before = record_speech(untrained(model), extractor, sound, 16000, **hear)
    for site, one in heard.items():
        assert one.values.shape == (10, 24)
        np.testing.assert_array_equal(one.values, wanted[f"model.encoder.{site}"].values)
        assert np.abs(one.values - before[site].values).max() > 0.1
    with pytest.raises(
        ValueError, match=r"model holds model\.bin, as CTranslate2 writes it, which is read as a speech en"
    ):
        load(tmp_path / "package")
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"model\.bin is truncated: 3 bytes are missing; copy it again"):
        load_speech_encoder(file.parent)
