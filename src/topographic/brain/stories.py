"""Encoding of stories: a model's layers against one subject's scans, with every control beside them."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import nn

from topographic.brain.controls import beside_controls, orthogonal_autocorrelated_features, word_columns
from topographic.brain.downsample import trim
from topographic.brain.encoding import Encoding, encode
from topographic.brain.nuisance import framewise_displacement_mm, motion_regressors
from topographic.brain.significance import significance
from topographic.brain.story_data import StoryRecording
from topographic.brain.story_features import (
    SpeechEncoder,
    features_at_scans,
    kept_scans,
    loudness_at_scans,
    require_sound,
    speech_at_scans,
    zscored_scans,
)
from topographic.brain.synthetic import story_subject
from topographic.losses.wrappers import unwrapped
from topographic.maps.nulls import stream
from topographic.maps.references import NotMeasurable
from topographic.recording import RandomTokens, WordVectors, predict_words, record_words, sees_ahead, sites_at_depths
from topographic.stimuli import StimulusSet, load_localizer
from topographic.storage import load_json, save_json, write_atomically

__all__ = ["StoryEncoding", "encode_stories", "synthetic_recording", "untrained"]


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
        By layer; those of a speech encoder by "speech/" and their layer.
    notes : tuple of str
        What speaks against the scores, and what was left out.
    about : mapping
        Data and choices.
    speech : DataFrame, optional
        One row per layer of a speech encoder, as ``layers`` has them; without random tokens, which no sound has.
    displacement_mm : float, optional
        Mean framewise displacement of the subject, over the runs that have confounds.
    """

    layers: pd.DataFrame
    alone: pd.DataFrame
    targets: pd.DataFrame
    shown: str
    vertex_r: Float[np.ndarray, " vertices"] | None
    encodings: Mapping[str, Encoding]
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    speech: pd.DataFrame | None = None
    displacement_mm: float | None = None

    def __repr__(self) -> str:
        """One line."""
        best = self.layers.loc[self.layers["layer"] == self.shown].iloc[0]
        return f"StoryEncoding({len(self.layers)} layers, {self.shown}: mean r {best['r']:.3f}, {self.about['data']})"

    def to_frame(self) -> pd.DataFrame:
        """The table of layers."""
        return self.layers

    def save(self, folder: str | Path, **record: Any) -> None:
        """Write tables, a file per layer, and last ``encoding.json``, with anything more that JSON can hold."""
        folder = Path(folder)
        tables = {"layers": self.layers, "alone": self.alone, "targets": self.targets, "speech": self.speech}
        for name, table in tables.items():
            if table is not None:
                with write_atomically(folder / f"{name}.csv") as temporary:
                    table.to_csv(temporary, index=False)
        files: dict[str, str] = {}
        for layer, fitted in self.encodings.items():
            kind = "speech" if layer.startswith("speech/") else "layer"
            files[layer] = f"{kind}_{sum(one.startswith(kind) for one in files.values()):02}.safetensors"
            fitted.save(folder / files[layer])
        if self.vertex_r is not None:
            with write_atomically(folder / "vertex_r.npy") as temporary, open(temporary, "wb") as opened:
                np.save(opened, self.vertex_r)
        own = {
            "about": self.about,
            "notes": list(self.notes),
            "shown": self.shown,
            "displacement_mm": self.displacement_mm,
            "tables": [name for name, table in tables.items() if table is not None],
            "files": files,
            "vertices": self.vertex_r is not None,
        }
        save_json(folder / "encoding.json", {**record, **own})

    @classmethod
    def load(cls, folder: str | Path) -> "StoryEncoding":
        """Read what `save` wrote."""
        folder = Path(folder)
        if not (folder / "encoding.json").is_file():
            raise FileNotFoundError(f"no encoding at {folder} (it has no encoding.json); expected a folder of one")
        own = load_json(folder / "encoding.json")
        tables = {name: _read_table(folder / f"{name}.csv") for name in own["tables"]}
        return cls(
            **tables,
            shown=own["shown"],
            vertex_r=np.load(folder / "vertex_r.npy", allow_pickle=False) if own["vertices"] else None,
            encodings={layer: Encoding.load(folder / file) for layer, file in own["files"].items()},
            notes=tuple(own["notes"]),
            about=own["about"],
            displacement_mm=own["displacement_mm"],
        )


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
    speech: SpeechEncoder | None = None,
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
    speech : SpeechEncoder, optional
        A speech encoder whose layers, at the same depths, are measured by themselves; for recordings with sound.
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
        If the recording has one run only (`NotMeasurable`), scans should be censored without confounds, a run has no
        sound for a speech encoder, or as `record_words`, `record_speech` and `encode`.

    Notes
    -----
    Controls: word rate, length, number of tokens, position, log frequency where given, head motion where there are
    confounds, each a band; the embedding layer as a layer of its own; the same layers with random weights, and with
    random tokens, as many. By themselves stand also surprisal with entropy (causal models), static vectors, and
    features that know only which scans are neighbours (OASM), whose score is 0 unless folds leak. Where targets have
    parcels, tests and controls are those of parcels' means, and single vertices get the scores of one layer only.
    Layers of a speech encoder have the same controls and the loudness of the sound, the same tests and folds; their
    untrained weights hear the same sound.
    """
    if len(recording.scans) < 2:
        raise NotMeasurable(
            f"{recording.name} has one run only ({next(iter(recording.scans))!r}); folds are whole runs: give two or "
            "more"
        )
    if motion_parameters not in (0, 6, 24):
        raise ValueError(f"motion_parameters={motion_parameters}; expected 0, 6 or 24")
    if speech is not None:
        require_sound(recording)
    words, kept_runs = recording.words, set(recording.scans)
    rows = np.flatnonzero([run in kept_runs for run in words.runs])
    if len(rows) < len(words):
        words = words.take(rows)
        log_frequencies = None if log_frequencies is None else [log_frequencies[int(row)] for row in rows]
        recording = replace(recording, words=words)
    sites = sites_at_depths(model, sorted({0.0, *(float(depth) for depth in depths)}))
    reading = {"context": context, "n_tokens": n_tokens, "folder": folder, "progress": progress}
    found = record_words(model, tokenizer, words, list(sites), **reading)
    random = record_words(untrained(model, seed), tokenizer, words, list(sites), **reading)
    # drawn anew in every call, and therefore not kept
    unread = record_words(model, RandomTokens(tokenizer, seed), words, list(sites), **{**reading, "folder": None})
    at_scans = {"delays": delays, "method": method, "trim_scans": trim_scans, "censor_above_mm": censor_above_mm}

    def placed(values: np.ndarray) -> np.ndarray:
        return features_at_scans(values, recording, **at_scans)

    labels, kept = kept_scans(recording, trim_scans, censor_above_mm)
    runs = labels[kept]
    scans = zscored_scans(np.concatenate(list(recording.scans.values())), labels, kept).astype(np.float32)
    tested, names = _parcel_means(scans, recording.parcels)
    controls = _controls(recording, tokenizer, placed, log_frequencies, motion_parameters, labels, kept)
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
    measured = _Measured(tested, names, controls, fitting, n_draws)
    tables, encodings = {}, {}
    for site in sites:
        blank = {"r untrained": placed(random[site].values), "r random tokens": placed(unread[site].values)}
        tables[site], encodings[site] = measured.layer(placed(found[site].values), blank)
    layers = _rows_of(sites, tables)
    heard = None
    if speech is not None:
        others["loudness"] = loudness_at_scans(recording, **at_scans)
        beyond = replace(measured, controls={**controls, "loudness": others["loudness"]})
        heard, of_speech = _speech_layers(speech, recording, depths, beyond, at_scans, folder, progress)
        encodings |= of_speech
    notes += [one for one in dict.fromkeys(measured.notes) if one not in notes]
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
    if speech is not None:
        about["speech encoder"] = dict(speech.about)
    displacement_mm = None
    if recording.confounds:
        moved = [float(framewise_displacement_mm(one).mean()) for one in recording.confounds.values()]
        displacement_mm = float(np.mean(moved))
        about["mean framewise displacement (mm)"] = round(displacement_mm, 3)
    targets = tables[shown]
    return StoryEncoding(
        layers, alone, targets, shown, vertex_r, encodings, tuple(notes), about, heard, displacement_mm
    )


def _read_table(file: Path) -> pd.DataFrame:
    """A table as it was written, to the last bit of its numbers."""
    text = pd.read_csv(file, dtype=str, keep_default_na=False)
    kinds: dict[str, Any] = {"layer": str, "feature": str, "target": str, "columns": int}
    return pd.DataFrame({
        name: [kinds.get(str(name), float)(cell or "nan") for cell in column] for name, column in text.items()
    })


@dataclass(frozen=True)
class _Measured:
    """What every layer is held against; what speaks against scores is gathered in ``notes``."""

    tested: np.ndarray
    names: list[str]
    controls: Mapping[str, np.ndarray]
    fitting: Mapping[str, Any]
    n_draws: int
    notes: list[str] = field(default_factory=list)

    def layer(self, layer: np.ndarray, blanks: Mapping[str, np.ndarray]) -> tuple[pd.DataFrame, Encoding]:
        """Scores of every target, beside those of the same layer in other states, and the fit of the layer alone."""
        beside, fits = beside_controls({"layer": layer}, self.controls, self.tested, **self.fitting)
        drawn = {name: self.fitting[name] for name in ("runs", "seed", "progress")}
        chance = significance(layer, self.tested, n_draws=self.n_draws, **drawn)
        self.notes.extend([*fits["both"].warnings, *chance.warnings])
        table = pd.DataFrame({
            "target": self.names,
            "r": fits["model"].r,
            "p": chance.p,
            "q": chance.corrected,
            **{name: encode(values, self.tested, **self.fitting).r for name, values in blanks.items()},
            "r controls": fits["controls"].r,
            "r both": fits["both"].r,
            "R2 added by the layer": beside["added by model"].to_numpy(),
        })
        return table, fits["model"]


def _rows_of(sites: Mapping[str, float], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per layer: means over targets, and the share of them that pass."""
    lines = []
    for site, depth in sites.items():
        means = tables[site].drop(columns=["target", "p", "q"]).mean()
        q = tables[site]["q"]
        share = float((q <= 0.05).sum() / max(np.isfinite(q).sum(), 1))
        lines.append({"layer": site, "depth": depth, **means, "share with q <= .05": share})
    return pd.DataFrame(lines)


def _speech_layers(
    speech: SpeechEncoder,
    recording: StoryRecording,
    depths: Sequence[float | int],
    measured: _Measured,
    at_scans: Mapping[str, Any],
    folder: str | Path | None,
    progress: bool,
) -> tuple[pd.DataFrame, dict[str, Encoding]]:
    """The layers of a speech encoder, each beside the same with untrained weights."""
    sites = sites_at_depths(speech.model, sorted({0.0, *(float(depth) for depth in depths)}))
    hearing = {**at_scans, "folder": folder, "progress": progress}
    found = speech_at_scans(speech, recording, list(sites), **hearing)
    deaf = replace(speech, model=untrained(speech.model, measured.fitting["seed"]))
    blank = speech_at_scans(deaf, recording, list(sites), **hearing)
    tables, encodings = {}, {}
    for site in sites:
        tables[site], encodings[f"speech/{site}"] = measured.layer(found[site], {"r untrained": blank[site]})
    return _rows_of(sites, tables), encodings


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
    tokenizer: Any,
    placed: Callable[[np.ndarray], np.ndarray],
    log_frequencies: Sequence[float] | np.ndarray | None,
    motion_parameters: int,
    labels: np.ndarray,
    kept: np.ndarray,
) -> dict[str, np.ndarray]:
    """Words with their tokens, place in the run and head motion; a run is cut into tokens as the model reads it."""
    words, runs = np.array(recording.words.items), np.array(recording.words.runs)
    columns: dict[str, np.ndarray] = {}
    for run in recording.scans:
        rows = runs == run
        frequencies = None if log_frequencies is None else np.asarray(log_frequencies, dtype=float)[rows]
        for name, values in word_columns(words[rows].tolist(), tokenizer, frequencies).items():
            columns.setdefault(name, np.empty(len(words)))[rows] = values
    found = {name: placed(column[:, None]) for name, column in columns.items()}
    position = np.concatenate([np.linspace(-1, 1, len(scans)) for scans in recording.scans.values()])[:, None]
    found["position"] = zscored_scans(position, labels, kept)
    if motion_parameters and set(recording.confounds) == set(recording.scans):
        tables = [recording.confounds[run] for run in recording.scans]
        motion = np.concatenate([motion_regressors(table, motion_parameters) for table in tables])
        found["head motion"] = zscored_scans(motion, labels, kept)
    return found
