import numpy as np
import pandas as pd
import pytest
from scipy.io import wavfile

from topographic.brain import (
    SpeechEncoder,
    StoryRecording,
    features_at_scans,
    load_story_data,
    loudness_at_scans,
    speech_at_scans,
)
from topographic.brain.downsample import delay, downsample, zscore_runs
from topographic.brain.nuisance import MOTION_PARAMETERS
from topographic.recording import record_speech
from topographic.stimuli import StimulusSet, load_sound


def test_scan_times_are_starts_or_middles():
    words = StimulusSet("w", list("abcd"), ["word"] * 4, ["x"] * 4, onset_s=(0.5, 2.5, 2.6, 9.0))
    recording = StoryRecording("s", words, {"x": np.ones((8, 2), np.float32)}, 2.0)
    ones = np.array([[1.0], [2.0], [3.0], [4.0]])
    settings = {"delays": (0,), "trim_scans": (0, 0)}
    summed = features_at_scans(ones, recording, method="sum", **settings)[:, 0]
    expected = np.array([1.0, 5, 0, 0, 4, 0, 0, 0])
    np.testing.assert_allclose(summed, (expected - expected.mean()) / expected.std(), atol=1e-6)
    # rect is a mean around the middle, and so over the same words
    meant = features_at_scans(ones, recording, method="rect", **settings)[:, 0]
    expected = np.array([1.0, 2.5, 0, 0, 4, 0, 0, 0])
    np.testing.assert_allclose(meant, (expected - expected.mean()) / expected.std(), atol=1e-6)


def test_scans_that_moved_are_left_out_of_everything():
    runs = ["story 1"] * 80 + ["story 2"] * 80
    words = StimulusSet("w", ["a"] * 160, ["word"] * 160, runs, onset_s=tuple(range(0, 160, 2)) * 2)
    draw = np.random.default_rng(0)
    still = pd.DataFrame(draw.normal(scale=0.01, size=(80, 6)), columns=MOTION_PARAMETERS)
    scans = {run: np.ones((80, 2), np.float32) for run in ("story 1", "story 2")}
    recording = StoryRecording("s", words, scans, 2.0, confounds=dict.fromkeys(scans, still))
    moved = {run: table.copy() for run, table in recording.confounds.items()}
    moved["story 1"].loc[[20, 40], "trans_x"] += 9.0  # there and back: two steps each
    jumpy = StoryRecording(**{**vars(recording), "confounds": moved})
    column = np.arange(len(recording.words), dtype=float)[:, None]
    settings = {"delays": (0, 1), "trim_scans": (5, 5)}
    every = features_at_scans(column, jumpy, **settings)
    kept = features_at_scans(column, jumpy, censor_above_mm=8.0, **settings)
    assert len(every) - len(kept) == 4
    gone = np.isin(np.arange(len(every)), [15, 16, 35, 36])
    first = np.arange(len(every)) < 70
    raw = every[first & ~gone]
    np.testing.assert_allclose(kept[:66], (raw - raw.mean(0)) / raw.std(0), atol=1e-9)
    np.testing.assert_allclose(kept[66:], every[70:], atol=1e-9)
    still = StoryRecording(**{**vars(recording), "confounds": {}})
    with pytest.raises(ValueError, match=r"run 'story 1' has no confounds.*moved by more than 8 mm; leave"):
        features_at_scans(column, still, censor_above_mm=8.0)


def test_windows_of_sound_count_where_they_end(wav2vec, heard_stories):
    """As done by hand: heard run by run, downsampled at the middles of scans, delayed, trimmed, z-scored."""
    speech = SpeechEncoder(*wav2vec, window_s=2.0, stride_s=0.5)
    recording = load_story_data(heard_stories(speech, n_runs=2, n_scans=20), subject="s1")
    site = "encoder.layers.1"
    found = speech_at_scans(speech, recording, site, delays=(1, 2), trim_scans=(2, 3), progress=False)
    parts = []
    for run in recording.scans:
        sound = load_sound(recording.audio[run])
        heard = record_speech(*wav2vec, *sound, site, window_s=2.0, stride_s=0.5, progress=False)[site]
        # the last window ends with the last scan, after which none counts
        times, scans = np.array(heard.stimuli.onset_s), 2.0 * np.arange(20) + 1.0
        assert times[-1] == 40.0
        parts.append(delay(downsample(heard.values[:-1], times[:-1], scans), (1, 2))[2:-3])
    expected = zscore_runs(np.concatenate(parts), np.repeat(["run0", "run1"], 15))
    np.testing.assert_allclose(found[site], expected, atol=1e-4)


def test_loudness_in_decibels(tmp_path):
    """Twenty seconds, the second half ten times as loud; silence is as quiet as can be told."""
    sound = np.tile([0.05, -0.05], 80000) * np.repeat([1.0, 10.0], 80000)
    wavfile.write(tmp_path / "x.wav", 8000, sound.astype(np.float32))
    words = StimulusSet("w", ["a"], ["word"], ["x"], onset_s=(0.0,))
    recording = StoryRecording("s", words, {"x": np.ones((11, 1), np.float32)}, 2.0, audio={"x": tmp_path / "x.wav"})
    found = loudness_at_scans(recording, delays=(0,), method="rect", trim_scans=(0, 0))[:, 0]
    level = np.array([20 * np.log10(0.05)] * 5 + [20 * np.log10(0.5)] * 5 + [20 * np.log10(0.5)])
    # a step counts at its end: the scan at 10 s has one of the first half, the last scan the very last step alone
    level[5] = np.average(level[4:6], weights=[1, 19])
    np.testing.assert_allclose(found, (level - level.mean()) / level.std(), atol=1e-3)


def test_a_run_without_sound_is_named(wav2vec):
    words = StimulusSet("w", ["a", "b"], ["word"] * 2, ["x", "y"], onset_s=(0.0, 0.0))
    scans = {run: np.ones((8, 1), np.float32) for run in "xy"}
    recording = StoryRecording("s", words, scans, 2.0, audio={"x": "x.wav"})
    with pytest.raises(ValueError, match=r"s, run 'y' has no sound .*\(y\.wav beside words\.csv\), or leave"):
        speech_at_scans(SpeechEncoder(*wav2vec), recording, "resid")
    with pytest.raises(ValueError, match=r"s, run 'y' has no sound"):
        loudness_at_scans(recording)
