"""`record_speech`: what the units of a speech encoder do while a sound goes on, window by window."""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, Shaped
from torch import Tensor, nn
from tqdm.auto import tqdm

from topographic.losses.wrappers import unwrapped
from topographic.recording.checksum import architecture_checksum, weights_checksum
from topographic.recording.gathering import gather
from topographic.recording.keeping import kept_arrays
from topographic.recording.placement import AnyLayout, chosen_sites, settled_layout
from topographic.recording.reading import batches, check_finite, model_provenance
from topographic.recording.responses import Responses
from topographic.recording.unit_axis import units_are_last
from topographic.sheets.expectations import expect_whole
from topographic.stimuli.sounds import check_sound, resampled
from topographic.stimuli.stimulus_set import StimulusSet
from topographic.storage import code_version

__all__ = ["SPEECH_POOLINGS", "record_speech"]


def record_speech(
    model: nn.Module,
    extractor: Any,
    samples: Shaped[np.ndarray, "..."] | Sequence[float],
    sampling_rate_hz: float | int,
    sites: str | Sequence[str] | None = None,
    layout: AnyLayout = None,
    *,
    relayout: bool = False,
    window_s: float | int = 16.0,
    stride_s: float | int = 0.1,
    pooling: str = "last",
    batch_size: int = 8,
    run: str = "sound",
    folder: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Responses]:
    """Responses of every site's units to the windows of a sound, each of which ends at its time.

    Window k holds the sound from ``k stride - window`` to ``k stride``, and before that nothing: those at the
    beginning are shorter, as long as there is sound. All sites are heard in one pass, windows in batches.

    Parameters
    ----------
    model : nn.Module
        A speech encoder of transformers (wav2vec 2.0, HuBERT, WavLM, Whisper), or a model that has one and decodes.
    extractor : feature extractor
        How it takes sound: ``Wav2Vec2FeatureExtractor``, ``WhisperFeatureExtractor``.
    samples : ndarray, shape (samples,)
        One channel (`load_sound`).
    sampling_rate_hz : number
        Of the samples, which are brought to the model's own rate (`resampled`).
    sites, layout, relayout
        As in `record`; `sites_at_depths` finds sites by depth.
    window_s : float
        Length of a window in seconds.
    stride_s : float
        From the end of one window to that of the next, and of the first, in seconds.
    pooling : {"last", "mean"}
        The last frame of the window that is sound, or the mean over all these.
    batch_size : int
        Windows per forward pass. The responses depend on it by rounding alone.
    run : str
        What the sound is called.
    folder : path, optional
        Where values are kept, one memory-mapped file per site, named by a checksum of all that decided it.
    progress : bool
        Show a bar.

    Returns
    -------
    dict of str to Responses
        Values of shape (windows, units) by site; ``stimuli.onset_s`` are the times at which windows end.

    Raises
    ------
    ValueError
        If there is no sound, it is shorter than a stride, a window is longer than the model takes or its first too
        short for a frame, a site gives no frames, or as `record`.

    Notes
    -----
    Nothing of a window's values comes from sound after its end, if it is given at the model's rate; resampling looks
    ten samples ahead (.6 ms). Windows of one length share a pass, so that none is padded; but Whisper's are filled up
    with silence on their right, as it was trained, to the length that it takes, and the frames of that silence are not
    pooled. The block l of a model gives what transformers calls ``hidden_states[l + 1]``, before a norm that may follow
    the last one.

    References
    ----------
    LITcoder, arXiv 2509.09152: windows of 16 s every .1 s.

    Examples
    --------
    >>> from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model
    >>> shape = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 1}
    >>> convolutions = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    >>> model = Wav2Vec2Model(Wav2Vec2Config(**shape, **convolutions))
    >>> heard = record_speech(model, Wav2Vec2FeatureExtractor(), np.ones(4000), 16000, "resid", progress=False)
    >>> heard["encoder.layers.0"].values.shape, heard["encoder.layers.0"].stimuli.onset_s
    ((2, 8), (0.1, 0.2))
    """
    if pooling not in SPEECH_POOLINGS:
        raise ValueError(f"pooling={pooling!r}; expected one of {sorted(SPEECH_POOLINGS)}")
    expect_whole("batch_size", batch_size, 1)
    for name, seconds in (("window_s", window_s), ("stride_s", stride_s)):
        if not 0 < seconds < float("inf"):
            raise ValueError(f"{name}={seconds}; expected seconds, more than 0")
    names = chosen_sites(model, sites)
    settled = settled_layout(model, names, layout, relayout=relayout)
    own_hz = _own_rate(extractor)
    samples = np.asarray(samples)
    check_sound(samples, sampling_rate_hz)
    sound = resampled(samples.astype(np.float32), int(sampling_rate_hz), own_hz)
    starts, ends = _windows(len(sound), own_hz, window_s, stride_s)
    _check_lengths(model, extractor, ends - starts, own_hz)
    times = ends / own_hz
    shown = StimulusSet(
        run, tuple(f"{time:g} s" for time in times), ("window",) * len(ends), (run,) * len(ends), onset_s=tuple(times)
    )
    about = {"pooling": pooling, "window_s": float(window_s), "stride_s": float(stride_s), "sampling_rate_hz": own_hz}

    def measure(missing: list[str]) -> dict[str, np.ndarray]:
        heard = _heard_batches(model, extractor, sound, starts, ends, batch_size)
        bar = tqdm(total=len(ends), desc=f"hear {run}", disable=not progress)
        respond = _Respond(model, SPEECH_POOLINGS[pooling])

        def check(batch: _SoundBatch, site: str, response: Tensor) -> None:
            check_finite(site, response, shown, batch.indices)

        return gather(model, missing, settled, heard, respond, n_rows=len(ends), bar=bar, check=check)[0]

    if folder is None:
        values = measure(names)
    else:
        key = {
            **about,
            "weights": weights_checksum(model),
            "architecture": architecture_checksum(model),
            "extractor": extractor.to_json_string(),
            "sound": hashlib.sha256(sound.tobytes()).hexdigest(),
            "code": code_version(__name__),
        }
        values = kept_arrays(folder, "speech", key, names, measure)
    provenance = model_provenance(model) | {"extractor": type(extractor).__name__, **about}
    return {
        site: Responses(site, values[site], settled(values[site].shape[1], site), shown, provenance=provenance)
        for site in names
    }


class _SoundBatch(NamedTuple):
    """Windows that are heard in one forward pass."""

    indices: list[int]
    run: Callable[[], Any]
    n_sound: Int64[Tensor, " batch"]  # entries of each window's mask that are sound and no padding
    n_given: int  # entries of the mask


class _Respond:
    """From what a site gives to one vector per window: frames of sound pooled, units on the last axis."""

    def __init__(self, model: nn.Module, pool: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._model, self._pool = model, pool
        self._units_last: dict[str, bool] = {}
        self._n_units: dict[str, int] = {}

    def __call__(self, batch: _SoundBatch, site: str, heard: Tensor | None) -> Float[Tensor, "batch units"]:
        if heard is None:
            raise ValueError(f"site {site!r} was not called while the model heard the sound; choose another module")
        if heard.ndim != 3 or len(heard) != len(batch.indices):
            raise ValueError(
                f"site {site!r} gives shape {tuple(heard.shape)}; expected (batch, frames, units) with a batch of "
                f"{len(batch.indices)}: choose a module that gives one vector per frame"
            )
        if site not in self._units_last:
            self._units_last[site] = units_are_last(self._model, site, heard)
        frames = (heard if self._units_last[site] else heard.transpose(1, 2)).float()
        n_units = self._n_units.setdefault(site, frames.shape[2])
        if frames.shape[2] != n_units:
            raise ValueError(
                f"site {site!r} gives {n_units} units for one length of sound and {frames.shape[2]} for another; "
                "choose a module whose last axis is that of its units"
            )
        # whole numbers, rounded up: a frame that holds any sound is one of sound
        n_frames = -(-batch.n_sound.to(frames.device) * frames.shape[1] // batch.n_given)
        return self._pool(frames, n_frames.clamp(1, frames.shape[1]))


def _own_rate(extractor: Any) -> int:
    rate = getattr(extractor, "sampling_rate", None)
    if not callable(extractor) or not isinstance(rate, int):
        raise ValueError(
            f"extractor is a {type(extractor).__name__}, which takes no sound; expected the feature extractor of a "
            "speech encoder, such as AutoFeatureExtractor.from_pretrained(...)"
        )
    return rate


def _windows(
    n_samples: int, rate_hz: int, window_s: float | int, stride_s: float | int
) -> tuple[Int[np.ndarray, " windows"], Int[np.ndarray, " windows"]]:
    """First and one after the last sample of every window."""
    n_windows = int(n_samples / (stride_s * rate_hz) * (1 + 1e-12))
    if not n_windows:
        raise ValueError(
            f"{n_samples / rate_hz:g} s of sound end before the first window does, after stride_s={stride_s:g} s; give "
            "a smaller stride_s, or a longer sound"
        )
    ends = np.minimum(np.rint(np.arange(1, n_windows + 1) * stride_s * rate_hz).astype(np.int64), n_samples)
    return np.maximum(ends - max(1, round(window_s * rate_hz)), 0), ends


def _check_lengths(model: nn.Module, extractor: Any, lengths: Int[np.ndarray, " windows"], rate_hz: int) -> None:
    """Refuse windows of which a model would lose a part, or make no frame."""
    name, most = type(unwrapped(model)).__name__, getattr(extractor, "n_samples", None)
    if most is not None and lengths.max() > most:
        raise ValueError(
            f"windows of {lengths.max() / rate_hz:g} s; {name} takes at most {most / rate_hz:g} s: give a smaller "
            "window_s"
        )
    config, least = getattr(unwrapped(model), "config", None), 1
    kernels, steps = getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ())
    for kernel, step in zip(reversed(kernels), reversed(steps), strict=True):
        least = (least - 1) * step + kernel
    if lengths.min() < least:
        raise ValueError(
            f"a window of {lengths.min() / rate_hz:g} s; {name} makes a frame of {least / rate_hz:g} s or more: give a "
            "larger stride_s and window_s"
        )


def _heard_batches(
    model: nn.Module,
    extractor: Any,
    sound: Float[np.ndarray, " samples"],
    starts: Int[np.ndarray, " windows"],
    ends: Int[np.ndarray, " windows"],
    batch_size: int,
) -> Iterator[_SoundBatch]:
    encoder = _encoder(model)
    takes = inspect.signature(unwrapped(encoder).forward).parameters
    like = next(model.parameters(), torch.zeros(0))
    # what is brought to one length anyway may be of any; else windows of one length share a pass and nothing is padded
    alike = 0.0 if hasattr(extractor, "n_samples") else 1.0
    for indices in batches((ends - starts).tolist(), batch_size, shortest=alike):
        shown = [sound[starts[index] : ends[index]] for index in indices]
        given = extractor(shown, sampling_rate=extractor.sampling_rate, return_tensors="pt", return_attention_mask=True)
        mask = given.get("attention_mask")
        if mask is None:
            raise ValueError(
                f"{type(extractor).__name__} does not say which part of what it gives is sound; expected the feature "
                "extractor of wav2vec 2.0, HuBERT, Whisper or the like"
            )
        # some were trained without: these are told nothing of a mask
        masked = {"attention_mask"} if getattr(extractor, "return_attention_mask", True) else set()
        inputs = {
            name: tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)
            for name, tensor in given.items()
            if name in takes and (name != "attention_mask" or name in masked)
        }
        yield _SoundBatch(indices, partial(encoder, **inputs), mask.sum(dim=1).long(), mask.shape[1])


def _encoder(model: nn.Module) -> nn.Module:
    """What hears: the model itself, or the encoder of one that decodes as well."""
    bare: Any = unwrapped(model)
    return bare.get_encoder() if getattr(getattr(bare, "config", None), "is_encoder_decoder", False) else model


def _last(
    frames: Float[Tensor, "batch frames units"], n_frames: Int64[Tensor, " batch"]
) -> Float[Tensor, "batch units"]:
    return frames[torch.arange(len(frames), device=frames.device), n_frames - 1]


def _mean(
    frames: Float[Tensor, "batch frames units"], n_frames: Int64[Tensor, " batch"]
) -> Float[Tensor, "batch units"]:
    sound = torch.arange(frames.shape[1], device=frames.device) < n_frames[:, None]
    return frames.masked_fill(~sound[..., None], 0.0).sum(1) / n_frames[:, None]


# frames and how many of each window are sound, the first ones
SPEECH_POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"last": _last, "mean": _mean}
