import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    HubertConfig,
    HubertModel,
    ViTImageProcessor,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from topographic.recording import record_speech, sites_at_depths

RATE = 16000
SHAPE = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 2}
CONVOLUTIONS = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
NORMED = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}


def whisper():
    shape = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2}
    shape |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 20}
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
    return WhisperModel(WhisperConfig(max_source_positions=100, **shape, **special)), WhisperFeatureExtractor(
        chunk_length=2
    )


MADE = {
    "wav2vec2": lambda: (Wav2Vec2Model(Wav2Vec2Config(**SHAPE, **CONVOLUTIONS)), Wav2Vec2FeatureExtractor()),
    "wav2vec2, masked": lambda: (
        Wav2Vec2Model(Wav2Vec2Config(**SHAPE, **CONVOLUTIONS, **NORMED)),
        Wav2Vec2FeatureExtractor(return_attention_mask=True),
    ),
    "hubert": lambda: (HubertModel(HubertConfig(**SHAPE, **CONVOLUTIONS)), Wav2Vec2FeatureExtractor()),
    "wavlm": lambda: (WavLMModel(WavLMConfig(**SHAPE, **CONVOLUTIONS)), Wav2Vec2FeatureExtractor()),
    "whisper encoder": lambda: (whisper()[0].encoder, whisper()[1]),
    "whisper": whisper,
}


@pytest.fixture(scope="module")
def encoders():
    """By name, a speech encoder with weights of its own and how it takes sound."""
    found = {}
    for name, make in MADE.items():
        torch.manual_seed(0)
        model, extractor = make()
        found[name] = model.eval(), extractor
    return found


@pytest.fixture(scope="module")
def sound():
    return np.random.default_rng(0).normal(size=int(1.45 * RATE)).astype(np.float32)


def blocks(name):
    return [f"encoder.layers.{one}" if name != "whisper encoder" else f"layers.{one}" for one in (0, 1)]


@pytest.mark.parametrize("name", MADE)
def test_a_window_is_what_transformers_says_of_its_sound_alone(encoders, sound, name):
    model, extractor = encoders[name]
    heard = record_speech(model, extractor, sound, RATE, blocks(name), window_s=0.8, batch_size=3, progress=False)
    bare = model.encoder if name == "whisper" else model
    normed = bare.layer_norm if "whisper" in name else lambda states: states
    for window, (start, end) in {0: (0, 1600), 4: (0, 8000), 8: (1600, 14400), 13: (9600, 22400)}.items():
        own = sound[start:end]
        with torch.no_grad():
            given = extractor(own, sampling_rate=RATE, return_tensors="pt")
            states = bare(**given, output_hidden_states=True).hidden_states
        # Whisper's 100 frames are two seconds, of which the window is the first part
        last = -(-len(own) // 320) - 1 if "whisper" in name else -1
        first, second = (torch.tensor(heard[site].values[window]) for site in blocks(name))
        torch.testing.assert_close(first, states[1][0, last], atol=2e-5, rtol=1e-4)
        with torch.no_grad():
            torch.testing.assert_close(normed(second), states[2][0, last], atol=2e-5, rtol=1e-4)
    responses = heard[blocks(name)[0]]
    np.testing.assert_allclose(responses.stimuli.onset_s, 0.1 * np.arange(1, 15))
    assert responses.values.shape == (14, 16)


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["wav2vec2", "whisper encoder"])
@settings(max_examples=12, deadline=None)
@given(after=st.integers(1, 13), pooling=st.sampled_from(["last", "mean"]), louder=st.floats(-30, 30))
def test_nothing_is_heard_before_it_sounds(encoders, sound, name, after, pooling, louder):
    """Windows that end by a time do not change with the sound after it, and the next one does."""
    model, extractor = encoders[name]
    other = sound.copy()
    other[1600 * after :] = louder + np.random.default_rng(after).normal(size=len(sound) - 1600 * after)
    hearing = {"window_s": 0.4, "pooling": pooling, "progress": False}
    one, two = (
        record_speech(model, extractor, heard, RATE, list(sites_at_depths(model, [0, 1])), **hearing)
        for heard in (sound, other)
    )
    for site in one:
        np.testing.assert_allclose(one[site].values[:after], two[site].values[:after], atol=2e-5)
        assert np.abs(one[site].values[after] - two[site].values[after]).max() > 1e-4


def test_the_first_windows_hold_what_there_is(encoders, sound):
    """They are as long as the sound so far: a window of any length begins alike."""
    model, extractor = encoders["wav2vec2"]
    short, long = (
        record_speech(model, extractor, sound, RATE, "resid", window_s=window_s, progress=False)[blocks("")[0]].values
        for window_s in (0.5, 16.0)
    )
    np.testing.assert_allclose(short[:5], long[:5], atol=2e-5)
    assert not np.allclose(short[5], long[5], atol=1e-3)


def test_the_mean_is_of_frames_that_are_sound(encoders, sound):
    model, extractor = encoders["whisper encoder"]
    heard = record_speech(
        model, extractor, sound, RATE, "layers.0", window_s=0.4, pooling="mean", batch_size=5, progress=False
    )
    with torch.no_grad():
        given = extractor(sound[:3200], sampling_rate=RATE, return_tensors="pt")
        states = model(**given, output_hidden_states=True).hidden_states[1][0]
    np.testing.assert_allclose(heard["layers.0"].values[1], states[:10].mean(0).numpy(), atol=2e-5)


def test_batches_and_other_rates_change_little(encoders, sound):
    model, extractor = encoders["whisper encoder"]
    one, many = (
        record_speech(model, extractor, sound, RATE, "layers.1", batch_size=size, progress=False)["layers.1"].values
        for size in (1, 14)
    )
    np.testing.assert_allclose(one, many, atol=2e-5)
    slow = np.sin(2 * np.pi * 200 * np.arange(16000) / RATE)
    fast = np.sin(2 * np.pi * 200 * np.arange(44100) / 44100)
    hearing = {"sites": "layers.1", "window_s": 0.5, "stride_s": 0.25, "progress": False}
    own, brought = (
        record_speech(model, extractor, heard, rate, **hearing)["layers.1"]
        for heard, rate in ((slow, RATE), (fast, 44100))
    )
    assert own.stimuli.onset_s == brought.stimuli.onset_s == (0.25, 0.5, 0.75, 1.0)
    assert np.corrcoef(own.values.ravel(), brought.values.ravel())[0, 1] > 0.99


def test_depths_begin_before_the_blocks(encoders, sound):
    model, extractor = encoders["wav2vec2"]
    assert sites_at_depths(model, [0, 0.5, 1]) == {
        "feature_projection": 0,
        **dict(zip(blocks(""), (0.5, 1), strict=True)),
    }
    assert sites_at_depths(encoders["whisper encoder"][0], [0, 1]) == {"conv2": 0, "layers.1": 1}
    heard = record_speech(model, extractor, sound[:8000], RATE, "feature_projection", progress=False)
    with torch.no_grad():
        frames = model.feature_extractor(extractor(sound[:8000], sampling_rate=RATE, return_tensors="pt").input_values)
        last = model.feature_projection(frames.transpose(1, 2))[0][0, -1]
    np.testing.assert_allclose(heard["feature_projection"].values[-1], last.numpy(), atol=2e-5)
    # convolutions have their units on the axis before the last
    frames_first = record_speech(
        model, extractor, sound[:8000], RATE, "feature_extractor.conv_layers.6", progress=False
    )
    np.testing.assert_allclose(frames_first["feature_extractor.conv_layers.6"].values[-1], frames[0, :, -1], atol=2e-5)


def test_what_was_heard_is_kept(encoders, sound, tmp_path):
    model, extractor = encoders["wav2vec2"]
    hearing = {"window_s": 0.5, "folder": tmp_path, "progress": False}
    first = record_speech(model, extractor, sound, RATE, blocks("")[0], **hearing)
    made = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npy")}
    again = record_speech(model, extractor, sound, RATE, blocks(""), **hearing)
    assert len(list(tmp_path.glob("*.npy"))) == 2
    assert all(file.stat().st_mtime_ns == at for file, at in made.items())
    np.testing.assert_array_equal(again[blocks("")[0]].values, first[blocks("")[0]].values)
    record_speech(model, extractor, sound, RATE, blocks("")[0], **{**hearing, "window_s": 0.6})
    record_speech(model, extractor, sound * 2, RATE, blocks("")[0], **hearing)
    assert len(list(tmp_path.glob("*.npy"))) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": np.zeros(0)}, r"samples: no samples; expected a sound"),
        ({"samples": np.array([0.0, np.nan])}, r"samples: 1 of 2 samples are NaN or infinite; mend the sound"),
        ({"samples": np.zeros((4, 2))}, r"samples of shape \(4, 2\); expected one channel: average the others"),
        ({"samples": np.zeros(99)}, r"0\.0061875 s of sound end before the first window does, after stride_s=0\.1 s"),
        ({"sampling_rate_hz": 0}, r"samples: a sampling rate of 0 Hz; expected whole samples per second"),
        ({"sampling_rate_hz": 22050.5}, r"samples: a sampling rate of 22050\.5 Hz; expected whole samples per second"),
        ({"window_s": 0}, r"window_s=0; expected seconds, more than 0"),
        ({"stride_s": -0.1}, r"stride_s=-0\.1; expected seconds, more than 0"),
        ({"pooling": "first"}, r"pooling='first'; expected one of \['last', 'mean'\]"),
        ({"batch_size": 0}, r"batch_size=0; expected at least 1"),
        ({"stride_s": 0.01}, r"a window of 0\.01 s; Wav2Vec2Model makes a frame of 0\.025 s or more: give a larger"),
        ({"sites": "layers.9"}, r"site pattern 'layers\.9' matches no module of Wav2Vec2Model"),
        (
            {"sites": "encoder.pos_conv_embed.conv.parametrizations.weight.0"},
            r"gives shape \(16, 8, 8\); expected \(batch",
        ),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_what_cannot_be_heard(encoders, sound, change, message):
    model, extractor = encoders["wav2vec2"]
    asked = {"samples": sound, "sampling_rate_hz": RATE, "sites": "resid", "progress": False}
    with pytest.raises(ValueError, match=message):
        record_speech(model, extractor, **{**asked, **change})


def test_extractors_of_other_things(encoders, sound):
    model, _ = encoders["whisper encoder"]
    with pytest.raises(ValueError, match=r"windows of 1\.4 s; .* takes at most 1 s: give a smaller window_s"):
        record_speech(model, WhisperFeatureExtractor(chunk_length=1), sound, RATE, "layers.0", progress=False)
    with pytest.raises(ValueError, match=r"extractor is a ViTImageProcessor\w*, which takes no sound"):
        record_speech(model, ViTImageProcessor(), sound, RATE, "layers.0")

    class Unmasked(WhisperFeatureExtractor):
        def __call__(self, *args, **options):
            return super().__call__(*args, **{**options, "return_attention_mask": False})

    with pytest.raises(ValueError, match=r"Unmasked does not say which part of what it gives is sound; expected the"):
        record_speech(model, Unmasked(chunk_length=2), sound, RATE, "layers.0", progress=False)
