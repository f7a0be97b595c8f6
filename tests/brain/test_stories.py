import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.brain import (
    SpeechEncoder,
    StoryEncoding,
    StoryRecording,
    convolve_hrf,
    encode,
    encode_stories,
    features_at_scans,
    load_story_data,
    stories,
    synthetic_recording,
    untrained,
)
from topographic.brain.controls import word_columns
from topographic.brain.downsample import trim, zscore_runs
from topographic.maps import NotMeasurable
from topographic.recording import WordVectors, align_words
from topographic.stimuli import StimulusSet, load_localizer
from topographic.training.text.tokenizer import train_tokenizer

pytest.importorskip("himalaya", reason="needs the extra topographic[brain]")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(load_localizer("language").items, 400)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    shape = {"n_embd": 24, "n_layer": 2, "n_head": 2, "n_positions": 300, "bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), initializer_range=0.3, **shape)).eval()


@pytest.fixture(scope="module")
def recording(model, tokenizer):
    places = np.random.default_rng(0).normal(size=(100, 3))
    return synthetic_recording(
        model, tokenizer, n_scans=80, n_runs=3, n_features=4, positions_mm=places, n_tokens=64, progress=False
    )


def test_the_planted_layer_is_found_where_it_was_put_and_nowhere_else(model, tokenizer, recording, tmp_path):
    found = encode_stories(
        model,
        tokenizer,
        recording,
        depths=(0.5,),
        n_tokens=64,
        delays=(1, 2, 3),
        n_draws=39,
        n_band_draws=3,
        alphas=(1.0, 100.0, 10000.0),
        folder=tmp_path,
        seed=1,
        progress=False,
    )
    assert found.layers["layer"].tolist() == ["transformer.wte", "transformer.h.0"]
    assert found.about["planted"] == "transformer.h.0"
    table = found.targets if found.shown == "transformer.h.0" else None
    assert table is not None, f"the best layer is {found.shown}"
    scores = table["r"].to_numpy()
    planted, rate = scores[:3], scores[3:5]
    assert planted.min() > 0.3
    assert np.abs(scores[5:].mean()) < 0.15
    assert (table["q"][:3] <= 0.1).all()
    assert (table["q"][5:] <= 0.05).sum() <= 1
    # word rate is a control's, meaning the layer's
    assert table["r controls"][3:5].min() > 0.3
    assert table["R2 added by the layer"][:3].min() > table["R2 added by the layer"][5:].mean()
    assert planted.mean() > table["r untrained"][:3].mean()
    assert rate.shape == (2,)
    assert found.vertex_r.shape == (100,)
    assert found.about["controls"] == ["word rate", "word length", "tokens", "position", "head motion"]
    assert planted.mean() > table["r random tokens"][:3].mean() + 0.1
    alone = found.alone.set_index("feature")["r"]
    assert list(alone.index) == [*found.about["controls"], "surprisal and entropy", "neighbours in time (OASM)"]
    labels = np.repeat(list(recording.scans), 80)
    scans = zscore_runs(trim(np.concatenate(list(recording.scans.values())), labels, 5, 5), trim(labels, labels, 5, 5))
    tested = np.stack([scans[:, recording.parcels == one].mean(1) for one in range(recording.parcels.max() + 1)], 1)
    rate_alone = features_at_scans(np.ones((len(recording.words), 1)), recording, delays=(1, 2, 3))
    settings = {"alphas": (1.0, 100.0, 10000.0), "n_band_draws": 3, "seed": 1, "progress": False}
    by_hand = encode(rate_alone, tested, runs=trim(labels, labels, 5, 5), **settings).r
    assert by_hand[3:5].min() > 0.3
    assert alone["word rate"] == pytest.approx(by_hand.mean(), abs=1e-3)
    assert abs(alone["neighbours in time (OASM)"]) < 0.01, "folds of whole runs do not leak"
    assert repr(found).startswith("StoryEncoding(2 layers, transformer.h.0: mean r")


@pytest.mark.unchecked
def test_scans_that_follow_the_number_of_tokens_are_told_by_no_layer(model, tokenizer, monkeypatch):
    """Words of three letters with the same last token: how many there are the layer tells, beyond rate and length."""
    draw, runs, n_words = np.random.default_rng(0), ["one", "two", "three"], 350
    spoken = [f"{a}{b}e" for a, b in draw.choice(list("etaoin"), (len(runs) * n_words, 2))]
    onsets = 0.5 * np.arange(n_words)
    of = np.repeat(runs, n_words)
    words = StimulusSet("w", spoken, ["word"] * len(spoken), of.tolist(), onset_s=np.tile(onsets, len(runs)).tolist())
    scans = {}
    for run in runs:
        tokens = align_words(tokenizer, np.array(spoken)[of == run].tolist()).n_tokens
        heard = convolve_hrf(tokens[:, None] - tokens.mean(), onsets, 2.0 * np.arange(88))
        scans[run] = (heard / heard.std() + 0.5 * draw.normal(size=(88, 4))).astype(np.float32)
    recording = StoryRecording("told by tokens", words, scans, 2.0, dict.fromkeys(runs, -1.0))
    settings = {"depths": (0.5,), "n_tokens": 32, "n_draws": 2, "n_band_draws": 3, "alphas": (1.0, 100.0, 10000.0)}
    found = encode_stories(model, tokenizer, recording, progress=False, **settings)
    assert found.about["controls"] == ["word rate", "word length", "tokens", "position"]
    layer = found.layers.set_index("layer").loc["transformer.h.0"]
    assert layer["r controls"] > 0.8
    assert layer["R2 added by the layer"] < 0.01
    monkeypatch.setattr(stories, "word_columns", lambda words, _, frequencies: word_columns(words, None, frequencies))
    without = encode_stories(model, tokenizer, recording, progress=False, **settings)
    layer = without.layers.set_index("layer").loc["transformer.h.0"]
    assert abs(layer["r controls"]) < 0.1
    assert layer["R2 added by the layer"] > 0.05, "it would be the layer's if tokens were not counted"


def test_a_model_that_predicts_no_word_says_so_and_static_vectors_stand_beside(model, tokenizer, recording):
    vectors = WordVectors({word: row for row, word in enumerate(sorted(set(recording.words.items)))}, np.eye(600, 5))
    settings = {"depths": (), "n_tokens": 64, "delays": (1,), "n_draws": 19, "n_band_draws": 2, "alphas": (1.0,)}
    found = encode_stories(model.transformer, tokenizer, recording, vectors=vectors, progress=False, **settings)
    assert "GPT2Model predicts no next word: no surprisal beside its layers" in found.notes
    assert "surprisal and entropy" not in set(found.alone["feature"])
    assert found.alone.set_index("feature").loc["static vectors", "columns"] == 5


def test_what_cannot_be_encoded(model, tokenizer):
    words = StimulusSet("w", ["a", "b", "c"], ["word"] * 3, ["x", "x", "y"], onset_s=(0.0, 99.0, 0.0))
    recording = StoryRecording("s", words, {"x": np.ones((8, 2), np.float32)}, 2.0)
    with pytest.raises(NotMeasurable, match=r"s has one run only \('x'\); folds are whole runs: give two or more"):
        encode_stories(model, tokenizer, recording)
    twice = StoryRecording("s", words, {"x": np.ones((8, 2), np.float32), "y": np.ones((8, 2), np.float32)}, 2.0)
    with pytest.raises(ValueError, match="motion_parameters=12; expected 0, 6 or 24"):
        encode_stories(model, tokenizer, twice, motion_parameters=12)
    with pytest.raises(ValueError, match=r"s, run 'x': the scans end at 1. s but 1 words begin later"):
        features_at_scans(np.ones((3, 1)), recording)
    speech = SpeechEncoder(torch.nn.Linear(1, 1), None)
    with pytest.raises(ValueError, match=r"s, run 'x' has no sound for a speech encoder; put its WAV file where"):
        encode_stories(model, tokenizer, twice, speech=speech)


@pytest.mark.unchecked
def test_scans_that_follow_the_sound_are_told_by_a_speech_encoder(model, tokenizer, wav2vec, heard_stories, tmp_path):
    """The planted layer of the speech encoder is the best, and no layer of words comes near it."""
    speech = SpeechEncoder(*wav2vec, window_s=4.0, stride_s=0.5)
    recording = load_story_data(heard_stories(speech, noise=0.5), subject="s1")
    found = encode_stories(
        model,
        tokenizer,
        recording,
        depths=(0.5, 1.0),
        n_tokens=32,
        delays=(1, 2, 3),
        speech=speech,
        n_draws=39,
        n_band_draws=3,
        alphas=(1.0, 100.0, 10000.0),
        folder=tmp_path / "states",
        progress=False,
    )
    heard = found.speech.set_index("layer")
    assert heard["depth"].to_dict() == {"feature_projection": 0.0, "encoder.layers.0": 0.5, "encoder.layers.1": 1.0}
    assert heard.loc["encoder.layers.0", "r"] > 0.4
    assert heard.loc["encoder.layers.0", "r"] > found.layers["r"].max() + 0.3
    assert heard.loc["encoder.layers.0", "share with q <= .05"] == 1.0
    assert found.layers["share with q <= .05"].max() <= 0.25
    assert "r random tokens" not in heard
    # loudness is among the controls of the speech encoder, and not among those of words
    alone = found.alone.set_index("feature")
    assert alone.loc["loudness", "columns"] == 3
    assert heard["r controls"].iloc[0] > found.layers["r controls"].iloc[0] + 0.1
    assert found.about["speech encoder"]["heard"] == "windows of 4 s every 0.5 s, last frame"
    assert [one for one in found.encodings if one.startswith("speech/")] == [f"speech/{one}" for one in heard.index]
    found.save(tmp_path / "out", key="a key")
    again = StoryEncoding.load(tmp_path / "out")
    for name in ("layers", "alone", "targets", "speech"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(found, name))
    assert (again.shown, again.notes, again.vertex_r, again.displacement_mm) == (found.shown, found.notes, None, None)
    assert {*again.about} == {*found.about}
    for layer, fitted in found.encodings.items():
        np.testing.assert_array_equal(again.encodings[layer].r, fitted.r)
    with pytest.raises(FileNotFoundError, match=r"no encoding at .*expected a folder of one"):
        StoryEncoding.load(tmp_path)


def test_untrained_weights_are_others_and_repeat(model):
    before = torch.get_rng_state().sum()
    first, second = untrained(model.train(), 1), untrained(torch.nn.DataParallel(model), 1)
    model.eval()
    assert not first.training
    assert torch.get_rng_state().sum() == before
    one, other = first.transformer.h[0].mlp.c_fc.weight, second.transformer.h[0].mlp.c_fc.weight
    assert torch.equal(one, other)
    assert not torch.equal(one, model.transformer.h[0].mlp.c_fc.weight)
    assert torch.nn.Linear(2, 2).weight.shape == untrained(torch.nn.Sequential(torch.nn.Linear(2, 2)))[0].weight.shape
