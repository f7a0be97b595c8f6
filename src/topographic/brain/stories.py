"""Encoding of stories: a model's layers against one subject's scans, with every control beside them."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from torch import nn

from topographic.brain.controls import beside_controls, orthogonal_autocorrelated_features
from topographic.brain.downsample import delay, downsample, trim, zscore_runs
from topographic.brain.encoding import Encoding, encode
from topographic.brain.nuisance import censored_scans, framewise_displacement_mm, motion_regressors
from topographic.brain.significance import significance
from topographic.brain.story_data import StoryRecording
from topographic.brain.synthetic import story_subject
from topographic.losses.wrappers import unwrapped
from topographic.maps.nulls import stream
from topographic.recording import RandomTokens, WordVectors, predict_words, record_words, sees_ahead, sites_at_depths
from topographic.stimuli import StimulusSet, load_localizer

__all__ = ["StoryEncoding", "encode_stories", "features_at_scans", "synthetic_recording", "untrained"]

_AT_STARTS = ("average", "sum", "last")  # these count words from the beginning of a scan to its end


@dataclass(frozen=True, eq=False)
class StoryEncoding:
    """What a model's layers predict of a recording, beside what nothing of meaning predicts.

    Parameters
    ----------
    layers : DataFrame
        One row per layer: mean scores over tested targets of the layer, of the same layer with untrained weights and
        with random tokens in the place of the words, of the controls, and of controls and layer together.
    alone : DataFrame
        One row per control, and per other feature that is no layer, by itself: its mean r.
    targets : DataFrame
        One row per tested target (parcel, or vertex) for the layer ``shown``.
    shown : str
        The layer with the largest mean r among the tested targets: chosen on these data.
    vertex_r : ndarray, shape (targets,), optional
        r of that layer at every single target.
    encodings : mapping of str to Encoding
        By layer.
    notes : tuple of str
        What speaks against the scores, and what was left out.
    about : mapping
        Data and choices.
    """

    layers: pd.DataFrame
    alone: pd.DataFrame
    targets: pd.DataFrame
    shown: str
    vertex_r: Float[np.ndarray, " vertices"] | None
    encodings: Mapping[str, Encoding]
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """One line."""
        best = self.layers.loc[self.layers["layer"] == self.shown].iloc[0]
        return f"StoryEncoding({len(self.layers)} layers, {self.shown}: mean r {best['r']:.3f}, {self.about['data']})"

    def to_frame(self) -> pd.DataFrame:
        """The table of layers."""
        return self.layers


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
    shift = 0.0 if method in _AT_STARTS else recording.tr_s / 2
    parts = []
    for run in recording.scans:
        mine = np.flatnonzero(runs == run)
        times = recording.scan_starts_s(run) + shift
        try:
            parts.append(delay(downsample(values[mine], onsets[mine], times, method, **options), delays))
        except ValueError as error:
            raise ValueError(f"{recording.name}, run {run!r}: {error}") from error
    return _by_run(np.concatenate(parts), *_kept(recording, trim_scans, censor_above_mm))


def encode_stories(
    model: nn.Module,
    tokenizer: Any,
    recording: StoryRecording,
    *,
    depths: Sequence[float | int] = (0.0, 0.25, 0.5, 0.75, 1.0),
    context: str = "half",
    n_tokens: int = 256,
    delays: Sequence[int] = (1, 2, 3, 4),
    method: str = "lanczos",
    trim_scans: tuple[int, int] = (5, 5),
    log_frequencies: Sequence[float] | np.ndarray | None = None,
    vectors: WordVectors | None = None,
    motion_parameters: int = 6,
    censor_above_mm: float | int | None = None,
    n_draws: int = 199,
    folder: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> StoryEncoding:
    """Hold layers of a model against a subject's scans, with their controls and their null.

    Parameters
    ----------
    model, tokenizer
        Any causal or masked model with a fast tokenizer.
    recording : StoryRecording
        `load_story_data`, `synthetic_recording`, or arrays of one's own.
    depths : sequence of float
        Layers as fractions of depth (`sites_at_depths`); 0, the embedding layer, is always among them.
    context, n_tokens
        As in `record_words`.
    delays, method, trim_scans
        As in `features_at_scans`.
    log_frequencies : sequence of float, optional
        Of every word, as one more control.
    vectors : WordVectors, optional
        Static vectors (`load_vectors`), measured by themselves.
    motion_parameters : {0, 6, 24}
        Columns of head motion among the controls, where there are confounds (`motion_regressors`).
    censor_above_mm : float, optional
        Scans displaced by more are left out of everything; for recordings with confounds.
    n_draws : int
        Draws of the null of every layer; scores are refitted in each (`significance`).
    folder : path, optional
        Where recordings of the model are kept.
    seed : int
        Of the untrained weights and the null.
    progress : bool
        Show bars.
    **options
        Of `encode`.

    Returns
    -------
    StoryEncoding
        Tables and scores.

    Raises
    ------
    ValueError
        If the recording has one run only, scans should be censored without confounds, or as `record_words` and
        `encode`.

    Notes
    -----
    Controls: word rate, length, position, log frequency where given, head motion where there are confounds, each a
    band; the embedding layer as a layer of its own; the same layers with random weights, and with random tokens, as
    many. By themselves stand also surprisal with entropy (causal models), static vectors, and features that know only
    which scans are neighbours (OASM), whose score is 0 unless folds leak. Where targets have parcels, tests and
    controls are those of parcels' means, and single vertices get the scores of one layer only.
    """
    if len(recording.scans) < 2:
        raise ValueError(
            f"{recording.name} has one run only ({next(iter(recording.scans))!r}); folds are whole runs: give two or "
            "more"
        )
    if motion_parameters not in (0, 6, 24):
        raise ValueError(f"motion_parameters={motion_parameters}; expected 0, 6 or 24")
    words, kept_runs = recording.words, set(recording.scans)
    rows = np.flatnonzero([run in kept_runs for run in words.runs])
    if len(rows) < len(words):
        words = words.take(rows)
        log_frequencies = None if log_frequencies is None else [log_frequencies[int(row)] for row in rows]
        recording = StoryRecording(**{**vars(recording), "words": words})
    sites = sites_at_depths(model, sorted({0.0, *(float(depth) for depth in depths)}))
    reading = {"context": context, "n_tokens": n_tokens, "folder": folder, "progress": progress}
    found = record_words(model, tokenizer, words, list(sites), **reading)
    random = record_words(untrained(model, seed), tokenizer, words, list(sites), **reading)
    # drawn anew in every call, and therefore not kept
    unread = record_words(model, RandomTokens(tokenizer, seed), words, list(sites), **{**reading, "folder": None})
    at_scans = {"delays": delays, "method": method, "trim_scans": trim_scans, "censor_above_mm": censor_above_mm}

    def placed(values: np.ndarray) -> np.ndarray:
        return features_at_scans(values, recording, **at_scans)

    labels, kept = _kept(recording, trim_scans, censor_above_mm)
    runs = labels[kept]
    scans = _by_run(np.concatenate(list(recording.scans.values())), labels, kept).astype(np.float32)
    tested, names = _parcel_means(scans, recording.parcels)
    controls = _controls(recording, placed, log_frequencies, motion_parameters, labels, kept)
    others = dict(controls)
    notes: list[str] = []
    if getattr(unwrapped(model), "get_output_embeddings", lambda: None)() is None or sees_ahead(model, tokenizer):
        notes.append(f"{type(unwrapped(model)).__name__} predicts no next word: no surprisal beside its layers")
    elif tokenizer.bos_token_id is None:
        notes.append(f"{type(tokenizer).__name__} has no token that begins a text: no surprisal beside the layers")
    else:
        expected = predict_words(model, tokenizer, words, **reading)
        others["surprisal and entropy"] = placed(np.stack(list(expected.values()), axis=1))
    if vectors is not None:
        others["static vectors"] = placed(vectors.of(words.items))
    others["neighbours in time (OASM)"] = orthogonal_autocorrelated_features(runs, 2.0)
    fitting = {"runs": runs, "seed": seed, "progress": progress, **options}
    lines, tables, encodings = [], {}, {}
    for site, depth in sites.items():
        layer = placed(found[site].values)
        beside, fits = beside_controls({"layer": layer}, controls, tested, **fitting)
        chance = significance(layer, tested, runs=runs, n_draws=n_draws, seed=seed, progress=progress)
        blank = encode(placed(random[site].values), tested, **fitting)
        wordless = encode(placed(unread[site].values), tested, **fitting)
        encodings[site] = fits["model"]
        tables[site] = pd.DataFrame({
            "target": names,
            "r": fits["model"].r,
            "p": chance.p,
            "q": chance.corrected,
            "r untrained": blank.r,
            "r random tokens": wordless.r,
            "r controls": fits["controls"].r,
            "r both": fits["both"].r,
            "R2 added by the layer": beside["added by model"],
        })
        means = tables[site].drop(columns=["target", "p", "q"]).mean()
        share = float((chance.corrected <= 0.05).sum() / max(np.isfinite(chance.corrected).sum(), 1))
        lines.append({"layer": site, "depth": depth, **means, "share with q <= .05": share})
        notes += [one for one in (*fits["both"].warnings, *chance.warnings) if one not in notes]
    layers = pd.DataFrame(lines)
    alone = pd.DataFrame([
        {"feature": name, "columns": band.shape[1], "r": _mean_r(encode(band, tested, **fitting), tested)}
        for name, band in others.items()
    ])
    shown = str(layers.loc[layers["r"].idxmax(), "layer"])
    vertex_r = None
    if recording.parcels is not None:
        vertex_r = encode(placed(found[shown].values), scans, **fitting).r
    about = {
        "data": recording.name,
        **recording.about,
        "runs": list(recording.scans),
        "scans": len(scans),
        "targets": recording.n_targets,
        "tested": f"{tested.shape[1]} " + ("targets" if recording.parcels is None else "parcels"),
        "words": len(words),
        "context": f"{context}, {n_tokens} tokens",
        "downsampling": method,
        "delays": list(delays),
        "trimmed scans": list(trim_scans),
        "censored scans": int(len(trim(labels, labels, *trim_scans)) - len(kept)),
        "controls": list(controls),
        "draws": n_draws,
        "seed": seed,
        "folds": encodings[shown].folds,
        "model": found[shown].provenance,
    }
    if recording.confounds:
        moved = [float(framewise_displacement_mm(one).mean()) for one in recording.confounds.values()]
        about["mean framewise displacement (mm)"] = round(float(np.mean(moved)), 3)
    return StoryEncoding(layers, alone, tables[shown], shown, vertex_r, encodings, tuple(notes), about)


def untrained(model: nn.Module, seed: int = 0) -> nn.Module:
    """The same architecture with weights as they are before training, by its own rule where it has one.

    Parameters
    ----------
    model : nn.Module
        A model of transformers, or any whose modules have ``reset_parameters``.
    seed : int
        Of the weights; the global generator is left as it was.

    Returns
    -------
    nn.Module
        Another model, in evaluation mode, on the device and of the type of the first weights that are no whole numbers.
    """
    bare: Any = unwrapped(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if hasattr(bare, "config") and hasattr(type(bare), "_from_config"):
            config = copy.deepcopy(bare.config)
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            made = type(bare)(config)
        else:
            made = copy.deepcopy(bare)
            for module in made.modules():
                if callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
    parameter = next((one for one in bare.parameters() if one.is_floating_point()), None)
    return made.eval() if parameter is None else made.to(parameter.device, parameter.dtype).eval()


def synthetic_recording(
    model: nn.Module,
    tokenizer: Any,
    *,
    depth: float | int = 0.5,
    n_features: int = 16,
    n_runs: int = 4,
    n_scans: int = 150,
    tr_s: float | int = 2.0,
    positions_mm: Float[np.ndarray, "vertices 3"] | None = None,
    context: str = "half",
    n_tokens: int = 256,
    folder: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> StoryRecording:
    """A made-up subject who understands stories as one layer of a model does: planted truth for the whole way.

    Vertices of parcels 0 to 2 follow random combinations of the leading principal components of that layer's states,
    parcels 3 and 4 word rate, the others noise and head motion (`story_subject`).

    Parameters
    ----------
    model, tokenizer
        The model whose layer is planted.
    depth : float
        Of that layer.
    n_features : int
        Principal components.
    n_runs, n_scans, tr_s
        Stories, and their scans. The words are the sentences of the language localizer.
    positions_mm : ndarray, optional
        Places of vertices; fsaverage5 unless given.
    context, n_tokens, folder, progress
        As in `record_words`.
    seed : int
        Of everything.

    Returns
    -------
    StoryRecording
        With parcels; ``about["planted"]`` names the layer.
    """
    localizer = load_localizer("language")
    sentences = [item for item, kind in zip(localizer.items, localizer.conditions, strict=True) if kind == "sentences"]
    spoken = " ".join(sentences).split()
    source, runs, tables, at = stream(seed, "synthetic story"), [], [], 0
    for run in range(n_runs):
        steps = source.gamma(4.0, 0.1, size=int(n_scans * tr_s * 4))
        onsets = np.cumsum(steps + (source.random(len(steps)) < 0.04) * source.uniform(1, 4, len(steps)))
        onsets = onsets[onsets < (n_scans - 1) * tr_s - 10]
        chosen = [spoken[(at + place) % len(spoken)] for place in range(len(onsets))]
        at += len(onsets)
        lasting = np.minimum(0.3, np.diff(onsets, append=onsets[-1] + 0.3))
        tables.append(pd.DataFrame({"word": chosen, "onset_s": onsets, "duration_s": lasting}))
        runs.append(f"story {run + 1}")
    words = StimulusSet(
        "synthetic stories",
        tuple(word for table in tables for word in table["word"]),
        ("word",) * sum(map(len, tables)),
        tuple(run for run, table in zip(runs, tables, strict=True) for _ in range(len(table))),
        onset_s=tuple(float(onset) for table in tables for onset in table["onset_s"]),
    )
    (site,) = sites_at_depths(model, [depth])
    reading = {"context": context, "n_tokens": n_tokens, "folder": folder, "progress": progress}
    states = record_words(model, tokenizer, words, site, **reading)[site].values.astype(np.float64)
    centred = (states - states.mean(axis=0)) / np.maximum(states.std(axis=0), 1e-12)
    left, _, _ = np.linalg.svd(centred, full_matrices=False)
    meaning = left[:, :n_features] * np.sqrt(len(left))
    parts = np.split(meaning, np.cumsum([len(table) for table in tables])[:-1])
    subject = story_subject(positions_mm, n_scans=n_scans, tr_s=tr_s, words=tables, features=parts, seed=seed)
    return StoryRecording(
        "synthetic subject",
        words,
        dict(zip(runs, subject.recordings, strict=True)),
        float(tr_s),
        dict.fromkeys(runs, -tr_s / 2),  # made at these times, which are taken for the middles of scans
        dict(zip(runs, subject.confounds, strict=True)),
        subject.parcels,
        "fsaverage5" if positions_mm is None else "",
        {
            "layout": "synthetic",
            "planted": site,
            "meaning parcels": list(subject.meaning_parcels),
            "rate parcels": list(subject.rate_parcels),
        },
    )


def _kept(
    recording: StoryRecording, ends: tuple[int, int], censor_above_mm: float | None
) -> tuple[np.ndarray, np.ndarray]:
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


def _by_run(values: np.ndarray, runs: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return zscore_runs(values[kept], runs[kept])


def _parcel_means(scans: np.ndarray, parcels: np.ndarray | None) -> tuple[np.ndarray, list[str]]:
    if parcels is None:
        return scans, [str(target) for target in range(scans.shape[1])]
    numbers = [int(one) for one in np.unique(parcels) if one >= 0]
    means = []
    for number in numbers:
        inside = scans[:, parcels == number]
        inside = inside[:, np.isfinite(inside).all(axis=0)]  # the medial wall has no values
        means.append(inside.mean(axis=1) if inside.shape[1] else np.full(len(scans), np.nan))
    return np.stack(means, axis=1), [f"parcel {number}" for number in numbers]


def _mean_r(fitted: Encoding, tested: np.ndarray) -> float:
    """Mean over targets that vary; a prediction that does not, of scans unknown to the features, counts as 0."""
    varies = np.isfinite(tested).all(axis=0) & (np.ptp(np.nan_to_num(tested), axis=0) > 0)
    return float(np.nan_to_num(fitted.r[varies]).mean()) if varies.any() else float("nan")


def _controls(
    recording: StoryRecording,
    placed: Any,
    log_frequencies: Sequence[float] | np.ndarray | None,
    motion_parameters: int,
    labels: np.ndarray,
    kept: np.ndarray,
) -> dict[str, np.ndarray]:
    words = recording.words
    columns = {"word rate": np.ones(len(words)), "word length": np.array([len(item) for item in words.items], float)}
    if log_frequencies is not None:
        columns["log frequency"] = np.asarray(log_frequencies, dtype=float)
    found = {name: placed(column[:, None]) for name, column in columns.items()}
    position = np.concatenate([np.linspace(-1, 1, len(scans)) for scans in recording.scans.values()])[:, None]
    found["position"] = _by_run(position, labels, kept)
    if motion_parameters and set(recording.confounds) == set(recording.scans):
        tables = [recording.confounds[run] for run in recording.scans]
        motion = np.concatenate([motion_regressors(table, motion_parameters) for table in tables])
        found["head motion"] = _by_run(motion, labels, kept)
    return found
