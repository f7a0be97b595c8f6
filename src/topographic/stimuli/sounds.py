"""Sound that was heard: WAV files read as one channel, and brought to another sampling rate."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

__all__ = ["check_sound", "load_sound", "resampled"]

_UNSIGNED_MIDDLE = 128  # of 8 bits, which alone are unsigned in WAV files


def load_sound(path: str | Path) -> tuple[Float[np.ndarray, " samples"], int]:
    """Samples of a WAV file and how many there are in a second.

    Parameters
    ----------
    path : str or Path
        A ``.wav`` file of whole numbers (8, 16, 24 or 32 bits) or floating point numbers; the channels of stereo and
        others are averaged.

    Returns
    -------
    samples : ndarray of float32, shape (samples,)
        Whole numbers as shares of the largest that there could be, so that they lie between -1 and 1.
    sampling_rate_hz : int
        Samples per second.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is of another format, truncated, without samples, or holds what is no number.

    Examples
    --------
    >>> load_sound("story.mp3")
    Traceback (most recent call last):
    ValueError: story.mp3 is no WAV file; convert it, for example with `ffmpeg -i story.mp3 story.wav`
    """
    from scipy.io import wavfile  # loaded where sound is: it and what follows take a second

    path = Path(path)
    if path.suffix.lower() != ".wav":
        advice = f"convert it, for example with `ffmpeg -i {path.name} {path.stem}.wav`"
        raise ValueError(f"{path} is no WAV file; {advice}")
    if not path.is_file():
        raise FileNotFoundError(f"no sound at {path}; correct the name")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", wavfile.WavFileWarning)
            sampling_rate_hz, found = wavfile.read(path)
    except Exception as error:  # scipy raises errors of many kinds for files that are damaged
        raise ValueError(
            f"{path} is truncated or no WAV file that can be read ({error}); convert it to PCM WAV"
        ) from error
    # other warnings are of chunks that hold no sound
    if cut := [str(one.message) for one in told if "prematurely" in str(one.message)]:
        raise ValueError(f"{path} is truncated ({cut[0]}); copy it again")
    samples = _shares(np.asarray(found))
    samples = samples if samples.ndim == 1 else samples.mean(axis=1)
    check_sound(samples, sampling_rate_hz, str(path))
    return samples.astype(np.float32), int(sampling_rate_hz)


def _shares(found: np.ndarray) -> np.ndarray:
    if found.dtype == np.uint8:
        return (found.astype(np.float64) - _UNSIGNED_MIDDLE) / _UNSIGNED_MIDDLE
    if np.issubdtype(found.dtype, np.signedinteger):  # 24 bits come as the upper ones of 32
        return found / -float(np.iinfo(found.dtype).min)
    return found.astype(np.float64)


def check_sound(samples: Shaped[np.ndarray, "..."], sampling_rate_hz: Any, name: str = "samples") -> None:
    """Refuse what is no sound of one channel: no samples, several axes, NaN or infinity, a rate of nothing."""
    if not 0 < sampling_rate_hz < math.inf or int(sampling_rate_hz) != sampling_rate_hz:
        raise ValueError(f"{name}: a sampling rate of {sampling_rate_hz} Hz; expected whole samples per second")
    if np.ndim(samples) != 1:
        raise ValueError(f"{name} of shape {np.shape(samples)}; expected one channel: average the others")
    if not len(samples):
        raise ValueError(f"{name}: no samples; expected a sound")
    if bad := int((~np.isfinite(samples)).sum()):
        raise ValueError(f"{name}: {bad} of {len(samples)} samples are NaN or infinite; mend the sound")


def resampled(
    samples: Float[np.ndarray, " samples"], sampling_rate_hz: int, wanted_hz: int
) -> Float[np.ndarray, " resampled"]:
    """A sound at another sampling rate, by a polyphase filter.

    Parameters
    ----------
    samples : ndarray, shape (samples,)
        One channel.
    sampling_rate_hz, wanted_hz : int
        Samples per second before and after.

    Returns
    -------
    ndarray of float32, shape (ceil(samples * wanted / rate),)
        Sample k is of time ``k / wanted_hz``. The filter reaches ten samples of the lower rate to both sides: .6 ms at
        16 kHz. A sound at the wanted rate is left as it is.

    Examples
    --------
    >>> resampled(np.zeros(441, np.float32), 44100, 16000).shape
    (160,)
    """
    if sampling_rate_hz == wanted_hz:
        return np.asarray(samples, dtype=np.float32)
    from scipy.signal import resample_poly

    common = math.gcd(int(sampling_rate_hz), int(wanted_hz))
    found = resample_poly(
        np.asarray(samples, dtype=np.float64), int(wanted_hz) // common, int(sampling_rate_hz) // common
    )
    return found.astype(np.float32)
