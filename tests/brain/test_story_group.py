import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr, ttest_1samp
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.brain import SpeechEncoder, StoryEncoding, encode_once, group_encodings, load_story_data
from topographic.brain import story_group as module
from topographic.brain.scores import group_sign_flip
from topographic.recording import WordVectors
from topographic.stimuli import load_localizer
from topographic.training.text.tokenizer import train_tokenizer

LAYERS = ("wte", "h.0", "h.1")


def made(r, *, untrained=0.0, controls=0.1, added=0.0, moved=None, speech=None, layers=LAYERS):
    """An encoding with these scores of its layers."""

    def table(values, names, **columns):
        rows = {"layer": names, "depth": np.linspace(0, 1, len(names)), "r": values, "r untrained": untrained}
        return pd.DataFrame({**rows, **columns, "r controls": controls, "r both": 0.3, "R2 added by the layer": added})

    heard = None if speech is None else table(speech, ["proj", "block"])
    about = {"runs": ["a", "b"], "scans": 60, "data": "x"}
    own = table(r, list(layers), **{"r random tokens": 0.01})
    alone = pd.DataFrame({"feature": ["word rate"], "columns": [4], "r": [0.1]})
    targets = pd.DataFrame({"target": ["0"], "r": [0.1]})
    return StoryEncoding(own, alone, targets, layers[0], None, {}, (), about, heard, moved)


def test_layers_over_subjects_are_tested_by_signs_of_whole_subjects():
    draw = np.random.default_rng(0)
    values = draw.normal([0.0, 0.1, 0.3], 0.05, size=(6, 3))
    group = group_encodings({f"s{row}": made(one, untrained=0.05) for row, one in enumerate(values)})
    of_r = group.layers[group.layers["score"] == "r"]
    assert of_r["layer"].tolist() == list(LAYERS)
    np.testing.assert_allclose(of_r["mean"], values.mean(0))
    expected = group_sign_flip(values)
    np.testing.assert_allclose(of_r["p"], expected["p"])
    np.testing.assert_allclose(of_r["p corrected"], expected["corrected"])
    assert of_r["p"].iloc[2] == 1 / 64
    by_scipy = [ttest_1samp(column, 0).confidence_interval() for column in values.T]
    np.testing.assert_allclose(of_r["low"], [one.low for one in by_scipy])
    np.testing.assert_allclose(of_r["high"], [one.high for one in by_scipy])
    above = group.layers[group.layers["score"] == "r above untrained"]
    np.testing.assert_allclose(above["mean"], values.mean(0) - 0.05)
    assert set(group.layers["score"]) == {"r", "r above untrained", "r above random tokens", "R2 added by the layer"}
    assert set(group.layers["model"]) == {"text"}
    assert repr(group) == f"GroupEncoding(6 subjects, h.1: mean r {values[:, 2].mean():.3f})"


def test_scores_beside_motion_are_means_over_layers_and_by_subject(tmp_path):
    draw = np.random.default_rng(0)
    moved = draw.gamma(2.0, 0.1, size=9)
    values = 0.3 - 0.5 * moved[:, None] + draw.normal(0, 0.01, size=(9, 3))
    heard = draw.normal(0.2, 0.1, size=(9, 2))
    encodings = {
        f"s{row}": made(values[row], moved=float(moved[row]), speech=heard[row], controls=draw.normal())
        for row in range(9)
    }
    group = group_encodings(encodings, n_draws=499)
    rows = group.motion.set_index("score")
    assert list(rows.index)[:2] == ["mean r", "r of controls"]
    assert rows.loc["mean r", "rho"] == pytest.approx(spearmanr(values.mean(1), moved).statistic)
    assert rows.loc["mean r", "p"] <= 0.01
    assert rows.loc["mean r of speech layers", "rho"] == pytest.approx(spearmanr(heard.mean(1), moved).statistic)
    assert rows.loc["r of controls", "p"] > 0.05
    assert (rows["n_subjects"] == 9).all()
    # what does not differ between subjects has no rank
    assert any("mean R2 added cannot be held against motion: scores are all alike" in note for note in group.notes)
    np.testing.assert_allclose(group.subjects["mean framewise displacement (mm)"], moved)
    assert set(group.layers[group.layers["model"] == "speech"]["score"]) == {
        "r",
        "r above untrained",
        "R2 added by the layer",
    }
    group.save(tmp_path)
    assert len(pd.read_csv(tmp_path / "group.csv")) == 3 * 4 + 2 * 3
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 9 * 5
    assert pd.read_csv(tmp_path / "subjects.csv")["subject"].tolist() == list(encodings)
    assert pd.read_csv(tmp_path / "motion.csv")["score"].iloc[0] == "mean r"
    assert group.best("speech")["layer"] in ("proj", "block")


def test_what_cannot_be_told_is_said_in_words_and_has_no_number():
    values = np.random.default_rng(0).normal(0.2, 0.05, size=(5, 3))
    four = {f"s{row}": made(values[row], moved=0.1 * row) for row in range(4)}
    found = group_encodings(four)
    assert found.motion.empty
    assert (
        "whether scores go with head motion cannot be told from 4: 5 subjects with confounds are needed" in found.notes
    )
    without = group_encodings({name: made(values[row]) for row, name in enumerate("abcde")})
    assert without.motion.empty
    assert any(
        note.startswith("no subject has confounds: how much anybody moved is not known") for note in without.notes
    )
    some = {**four, "s4": made(values[4], moved=0.5), "last": made(values[0])}
    found = group_encodings(some)
    assert found.motion["n_subjects"].iloc[0] == 5
    assert "last has no confounds and no part in motion" in found.notes
    two = group_encodings({"a": made(values[0]), "b": made(values[1])}, left_out={"c": "one run only"})
    assert two.layers["p"].isna().all()
    assert np.isfinite(two.layers["low"]).all()
    assert "whether a mean over 2 subjects differs from 0 cannot be told: 3 are needed" in two.notes
    assert two.notes[0] == "c is left out: one run only"
    one = group_encodings({"a": made(values[0])})
    assert one.layers[["p", "low", "high"]].isna().all(axis=None)


def test_groups_that_are_none():
    with pytest.raises(ValueError, match=r"no subject was encoded; expected at least one"):
        group_encodings({})
    with pytest.raises(ValueError, match=r"the text layers of b are not those of a; encode all with the same"):
        group_encodings({"a": made([0.1] * 3), "b": made([0.1] * 2, layers=LAYERS[:2])})
    with pytest.raises(ValueError, match=r"the speech layers of b are not those of a; encode"):
        group_encodings({"a": made([0.1] * 3, speech=[0.1, 0.2]), "b": made([0.1] * 3)})


def test_a_subject_is_measured_again_only_if_something_decided_otherwise(wav2vec, heard_stories, tmp_path, monkeypatch):
    tokenizer = train_tokenizer(load_localizer("language").items, 300)
    torch.manual_seed(0)
    shape = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape)).eval()
    speech = SpeechEncoder(*wav2vec, window_s=1.0, stride_s=0.5)
    recording = load_story_data(heard_stories(speech, n_runs=2, n_scans=20, motion_mm=[0.2]), subject="s1")
    vectors = WordVectors(dict.fromkeys(recording.words.items[:1], 0), np.ones((1, 2), np.float32))
    measured = []

    def stand_in(*_, **choices):
        measured.append(choices)
        return made([0.1] * 3)

    monkeypatch.setattr(module, "encode_stories", stand_in)

    def once(recording=recording, model=model, **choices):
        given = {"depths": [1.0], "n_draws": 19, "trim_scans": (1, 1), "speech": speech, "vectors": vectors, **choices}
        return encode_once(
            model, tokenizer, recording, tmp_path / "s1", states=tmp_path / "states", progress=False, **given
        )

    found, was_kept = once()
    assert not was_kept
    assert measured[0]["folder"] == tmp_path / "states"
    again, was_kept = once()
    assert was_kept
    pd.testing.assert_frame_equal(again.layers, found.layers)
    others = [
        {"n_draws": 20},
        {"speech": None},
        {"speech": SpeechEncoder(*wav2vec, window_s=2.0, stride_s=0.5)},
        {"vectors": None},
        {"log_frequencies": np.zeros(len(recording.words))},
        {"recording": load_story_data(recording.audio["run0"].parent, subject="s1", task="run0")},
        {"model": GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **{**shape, "n_head": 4})).eval()},
    ]
    for change in others:
        assert once(**change)[1] is False, change
        assert once(**change)[1] is True, change
    assert len(measured) == 1 + len(others)
