import struct

import numpy as np
import pytest
from scipy.io import wavfile

from topographic.stimuli import load_sound, resampled

WAVE = np.sin(2 * np.pi * 50 * np.arange(800) / 8000)


@pytest.mark.parametrize(
    ("made", "tolerance"),
    [
        ((WAVE * 32767).astype(np.int16), 1e-4),
        ((WAVE * (2**31 - 1)).astype(np.int32), 1e-6),
        ((WAVE * 127 + 128).astype(np.uint8), 2e-2),
        (WAVE.astype(np.float32), 1e-6),
        (WAVE, 1e-6),
    ],
    ids=["16", "32", "8", "float", "double"],
)
def test_numbers_of_any_kind_lie_between_minus_one_and_one(tmp_path, made, tolerance):
    wavfile.write(tmp_path / "a.WAV", 8000, made)
    samples, rate = load_sound(tmp_path / "a.WAV")
    assert (samples.dtype, rate) == (np.float32, 8000)
    np.testing.assert_allclose(samples, WAVE, atol=tolerance)


def test_24_bits_are_read(tmp_path):
    frames = b"".join(int(one * (2**23 - 1)).to_bytes(3, "little", signed=True) for one in WAVE)
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 24000, 3, 24)
    body = b"WAVE" + fmt + b"LIST" + struct.pack("<I", 4) + b"INFO" + b"data" + struct.pack("<I", len(frames)) + frames
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    np.testing.assert_allclose(load_sound(tmp_path / "a.wav")[0], WAVE, atol=1e-6)


def test_channels_are_averaged(tmp_path):
    wavfile.write(tmp_path / "a.wav", 8000, np.stack([WAVE, 3 * WAVE, -WAVE], axis=1).astype(np.float32))
    np.testing.assert_allclose(load_sound(tmp_path / "a.wav")[0], WAVE, atol=1e-6)


def test_what_is_no_sound(tmp_path):
    with pytest.raises(ValueError, match=r"a\.mp3 is no WAV file; convert it, .*`ffmpeg -i a\.mp3 a\.wav`"):
        load_sound(tmp_path / "a.mp3")
    with pytest.raises(FileNotFoundError, match=r"no sound at .*a\.wav; correct the name"):
        load_sound(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(
        ValueError, match=r"a\.wav is truncated or no WAV file that can be read .*convert it to PCM WAV"
    ):
        load_sound(tmp_path / "a.wav")
    wavfile.write(tmp_path / "b.wav", 8000, np.zeros(0, np.int16))
    with pytest.raises(ValueError, match=r"b\.wav: no samples; expected a sound|b\.wav is truncated or no WAV"):
        load_sound(tmp_path / "b.wav")
    wavfile.write(tmp_path / "c.wav", 8000, (WAVE * 32767).astype(np.int16))
    (tmp_path / "c.wav").write_bytes((tmp_path / "c.wav").read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"c\.wav is truncated .*prematurely.*; copy it again"):
        load_sound(tmp_path / "c.wav")
    wavfile.write(tmp_path / "d.wav", 8000, np.array([0.0, np.nan, np.inf], np.float32))
    with pytest.raises(ValueError, match=r"d\.wav: 2 of 3 samples are NaN or infinite; mend the sound"):
        load_sound(tmp_path / "d.wav")
    wavfile.write(tmp_path / "e.wav", 0, np.zeros(5, np.int16))
    with pytest.raises(ValueError, match=r"e\.wav: a sampling rate of 0 Hz; expected whole samples per second"):
        load_sound(tmp_path / "e.wav")


def test_another_rate_keeps_what_both_can_hold():
    slow, fast = np.arange(800) / 8000, np.arange(2205) / 22050
    found = resampled(np.sin(2 * np.pi * 50 * fast).astype(np.float32), 22050, 8000)
    assert len(found) == 800
    np.testing.assert_allclose(found[20:-20], np.sin(2 * np.pi * 50 * slow)[20:-20], atol=5e-3)
    same = WAVE.astype(np.float32)
    np.testing.assert_array_equal(resampled(same, 8000, 8000), same)


def test_resampling_looks_ten_samples_ahead_and_no_more():
    sound = np.random.default_rng(0).normal(size=44100).astype(np.float32)
    other = sound.copy()
    other[22050:] += 1.0
    before, after = (resampled(one, 44100, 16000) for one in (sound, other))
    changed = np.flatnonzero(np.abs(before - after) > 1e-9)
    assert 8000 - 10 <= changed[0] < 8000
