"""Features of scans: of words and of sound, brought to the times of scans, delayed, trimmed and z-scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped
from torch import nn

from topographic.brain.downsample import delay, downsample, trim, zscore_runs
from topographic.brain.nuisance import censored_scans, framewise_displacement_mm
from topographic.brain.story_data import StoryRecording
from topographic.losses.wrappers import unwrapped
from topographic.recording import record_speech
from topographic.stimuli import load_sound

__all__ = [
    "SpeechEncoder",
    "features_at_scans",
    "kept_scans",
    "loudness_at_scans",
    "require_sound",
    "speech_at_scans",
    "zscored_scans",
]

_QUIETEST = 1e-5  # of full scale: -100 dB, as quiet as nothing
_AT_STARTS = ("average", "sum", "last")  # these count words from the beginning of a scan to its end


@dataclass(frozen=True, eq=False)
class SpeechEncoder:
    """A speech encoder, and how it hears the sound of stories.

    Parameters
    ----------
    model : nn.Module
        Of transformers: wav2vec 2.0, HuBERT, WavLM, the encoder of Whisper (`load_speech_encoder` of runs).
    extractor : feature extractor
        How it takes sound.
    window_s, stride_s, pooling, batch_size
        As in `record_speech`.
    """

    model: nn.Module
    extractor: Any
    window_s: float | int = 16.0
    stride_s: float | int = 0.1
    pooling: str = "last"
    batch_size: int = 8

    @property
    def about(self) -> Mapping[str, Any]:
        """What a page says of it."""
        bare = unwrapped(self.model)
        name = str(getattr(bare, "name_or_path", ""))
        heard = f"windows of {self.window_s:g} s every {self.stride_s:g} s, {self.pooling} frame"
        return {"model": type(bare).__name__, "name_or_path": name, "heard": heard}


def features_at_scans(
    values: Shaped[np.ndarray, "words features"],
    recording: StoryRecording,
    *,
    delays: Sequence[int] = (1, 2, 3, 4),
    method: str = "lanczos",
    trim_scans: tuple[int, int] = (5, 5),
    censor_above_mm: float | int | None = None,
    **options: Any,
) -> Float[np.ndarray, "scans columns"]:
    """Features of words as features of scans: downsampled, delayed, trimmed, censored and z-scored run by run.

    Parameters
    ----------
    values : ndarray, shape (words, features)
        One row per word of the recording.
    recording : StoryRecording
        Its scans.
    delays : sequence of int
        Delays in scans.
    method, **options
        As in `downsample`: at the middles of scans, but for "average", "sum" and "last", which take their starts.
    trim_scans : (int, int)
        Scans left out at both ends of every run.
    censor_above_mm : float, optional
        Framewise displacement above which a scan is left out as well, as `censored_scans` has it.

    Returns
    -------
    ndarray, shape (scans, delays * features)
        All runs one after another.
    """
    runs, onsets = np.array(recording.words.runs), np.array(recording.words.onset_s)
    parts = []
    for run in recording.scans:
        mine = np.flatnonzero(runs == run)
        parts.append(_delayed(values[mine], onsets[mine], recording, run, delays, method, options))
    return zscored_scans(np.concatenate(parts), *kept_scans(recording, trim_scans, censor_above_mm))


def speech_at_scans(
    speech: SpeechEncoder,
    recording: StoryRecording,
    sites: str | Sequence[str],
    *,
    delays: Sequence[int] = (1, 2, 3, 4),
    method: str = "lanczos",
    trim_scans: tuple[int, int] = (5, 5),
    censor_above_mm: float | int | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> dict[str, Float[np.ndarray, "scans columns"]]:
    """What a speech encoder hears in the stories as features of scans; a window counts at the time of its end.

    Parameters
    ----------
    speech : SpeechEncoder
        What hears, and how.
    recording : StoryRecording
        With the sound of every run, which begins at 0 s on the clock of its words.
    sites : str or sequence of str
        Where to listen.
    delays, method, trim_scans, censor_above_mm, **options
        As in `features_at_scans`.
    folder, progress
        As in `record_speech`.

    Returns
    -------
    dict of str to ndarray, shape (scans, delays * units)
        By site, all runs one after another. Windows that end after the last scan are left out.

    Raises
    ------
    ValueError
        If a run has no sound, or as `record_speech`.
    """
    require_sound(recording)
    hearing = {one: getattr(speech, one) for one in ("window_s", "stride_s", "pooling", "batch_size")}
    parts: dict[str, list[np.ndarray]] = {}
    for run in recording.scans:
        sound = load_sound(recording.audio[run])
        found = record_speech(
            speech.model, speech.extractor, *sound, sites, **hearing, run=run, folder=folder, progress=progress
        )
        for site, responses in found.items():
            times = np.array(responses.stimuli.onset_s)
            placed = _while_scanned(responses.values, times, recording, run, delays, method, options)
            parts.setdefault(site, []).append(placed)
    kept = kept_scans(recording, trim_scans, censor_above_mm)
    return {site: zscored_scans(np.concatenate(one), *kept) for site, one in parts.items()}


def loudness_at_scans(
    recording: StoryRecording,
    *,
    delays: Sequence[int] = (1, 2, 3, 4),
    method: str = "lanczos",
    trim_scans: tuple[int, int] = (5, 5),
    censor_above_mm: float | int | None = None,
    step_s: float | int = 0.1,
    **options: Any,
) -> Float[np.ndarray, "scans columns"]:
    """How loud the stories are, as a feature of scans: ``20 log10 RMS`` of every step, at the time of its end.

    Parameters
    ----------
    recording : StoryRecording
        With the sound of every run.
    delays, method, trim_scans, censor_above_mm, **options
        As in `features_at_scans`.
    step_s : float
        Length of a step in seconds.

    Returns
    -------
    ndarray, shape (scans, delays)
        What any speech encoder must be held against.
    """
    require_sound(recording)
    parts = []
    for run in recording.scans:
        samples, rate_hz = load_sound(recording.audio[run])
        ends = np.arange(1, int(len(samples) / (step_s * rate_hz)) + 1) * step_s
        steps = np.split(np.square(samples, dtype=np.float64), np.rint(ends * rate_hz).astype(int))[: len(ends)]
        level_db = 20 * np.log10(np.maximum([np.sqrt(step.mean()) for step in steps], _QUIETEST))
        parts.append(_while_scanned(level_db[:, None], ends, recording, run, delays, method, options))
    return zscored_scans(np.concatenate(parts), *kept_scans(recording, trim_scans, censor_above_mm))


def require_sound(recording: StoryRecording) -> None:
    """Refuse a recording of which a run has no sound."""
    if without := [run for run in recording.scans if run not in recording.audio]:
        raise ValueError(
            f"{recording.name}, run {without[0]!r} has no sound for a speech encoder; put its WAV file where the data "
            f"set has it ({without[0]}.wav beside words.csv), or leave the speech encoder out"
        )


def _while_scanned(values: np.ndarray, times_s: np.ndarray, recording: StoryRecording, run: str, *how: Any) -> Any:
    """`_delayed` for what goes on after the last scan, as sound may."""
    heard = times_s < recording.scan_starts_s(run)[-1] + recording.tr_s
    return _delayed(values[heard], times_s[heard], recording, run, *how)


def _delayed(
    values: np.ndarray,
    times_s: np.ndarray,
    recording: StoryRecording,
    run: str,
    delays: Sequence[int],
    method: str,
    options: Mapping[str, Any],
) -> np.ndarray:
    """Features of one run at its scans."""
    at = recording.scan_starts_s(run) + (0.0 if method in _AT_STARTS else recording.tr_s / 2)
    try:
        return delay(downsample(values, times_s, at, method, **options), delays)
    except ValueError as error:
        raise ValueError(f"{recording.name}, run {run!r}: {error}") from error


def kept_scans(
    recording: StoryRecording, ends: tuple[int, int], censor_above_mm: float | int | None
) -> tuple[Shaped[np.ndarray, " scans"], Int[np.ndarray, " kept"]]:
    """Run of every scan, and which scans are kept: neither at the ends of a run nor displaced."""
    labels = np.concatenate([np.full(len(scans), run) for run, scans in recording.scans.items()])
    kept = trim(np.arange(len(labels)), labels, *ends)
    if censor_above_mm is None:
        return labels, kept
    if without := [run for run in recording.scans if run not in recording.confounds]:
        raise ValueError(
            f"{recording.name}, run {without[0]!r} has no confounds, which say which scans moved by more than "
            f"{censor_above_mm:g} mm; leave censor_above_mm out, or give fMRIPrep's table of the run"
        )
    moved = [
        censored_scans(framewise_displacement_mm(recording.confounds[run]), censor_above_mm) for run in recording.scans
    ]
    return labels, kept[~np.concatenate(moved)[kept]]


def zscored_scans(
    values: Shaped[np.ndarray, "scans columns"], runs: Shaped[np.ndarray, " scans"], kept: Int[np.ndarray, " kept"]
) -> Float[np.ndarray, "kept columns"]:
    """The scans that are kept, z-scored run by run."""
    return zscore_runs(values[kept], runs[kept])
