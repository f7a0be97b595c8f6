"""Several subjects: each encoded once and kept, their scores as a group, and what head motion has to do with them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t as student_t
from torch import nn

from topographic.brain.nuisance import LEAST_SUBJECTS, motion_score_correlation
from topographic.brain.scores import group_sign_flip
from topographic.brain.stories import StoryEncoding, encode_stories
from topographic.brain.story_data import StoryRecording
from topographic.recording.checksum import architecture_checksum, weights_checksum
from topographic.storage import code_version, digest, load_json, write_atomically
from topographic.training.text.tokenizer import tokenizer_checksum

__all__ = ["GroupEncoding", "encode_once", "group_encodings"]

_LEAST_TESTED = 3  # of group_sign_flip
# what is tested over subjects: its name, and the columns whose difference it is
_SCORES = {
    "r": ("r", None),
    "r above untrained": ("r", "r untrained"),
    "r above random tokens": ("r", "r random tokens"),
    "R2 added by the layer": ("R2 added by the layer", None),
}
# by model, what of a subject is averaged over layers, so that none is chosen, and held against motion
_OVER_LAYERS = {
    "text": {"r": "mean r", "r controls": "r of controls", "R2 added by the layer": "mean R2 added"},
    "speech": {
        "r": "mean r of speech layers",
        "r controls": "r of controls with loudness",
        "R2 added by the layer": "mean R2 added by speech layers",
    },
}
_DISPLACEMENT = "mean framewise displacement (mm)"


def encode_once(
    model: nn.Module,
    tokenizer: Any,
    recording: StoryRecording,
    folder: str | Path,
    *,
    states: str | Path | None = None,
    progress: bool = True,
    **choices: Any,
) -> tuple[StoryEncoding, bool]:
    """The encoding of a subject from its folder, if all that decided it is as it was; else made anew and kept there.

    Parameters
    ----------
    model, tokenizer, recording, progress, **choices
        As in `encode_stories`.
    folder : path
        The subject's, for what `StoryEncoding.save` writes.
    states : path, optional
        Where recordings of the model are kept, which all who heard a story share: the ``folder`` of `encode_stories`.

    Returns
    -------
    encoding : StoryEncoding
        What was found.
    was_kept : bool
        Whether it was there already.

    Notes
    -----
    Its key names weights, architecture and tokenizer, scans, words, confounds and sound, every choice, and the source
    of this library that measures.
    """
    key = digest(_decided_by(model, tokenizer, recording, choices))
    file = Path(folder) / "encoding.json"
    if file.is_file() and load_json(file).get("key") == key:
        return StoryEncoding.load(folder), True
    encoding = encode_stories(model, tokenizer, recording, folder=states, progress=progress, **choices)
    encoding.save(folder, key=key)
    return encoding, False


def _decided_by(
    model: nn.Module, tokenizer: Any, recording: StoryRecording, choices: Mapping[str, Any]
) -> dict[str, Any]:
    said = {name: value for name, value in choices.items() if name not in ("vectors", "speech")}
    if said.get("log_frequencies") is not None:
        said["log_frequencies"] = np.asarray(said["log_frequencies"], dtype=float).tolist()
    vectors, speech = choices.get("vectors"), choices.get("speech")
    heard = None
    if speech is not None:
        heard = {
            "weights": weights_checksum(speech.model),
            "architecture": architecture_checksum(speech.model),
            "extractor": speech.extractor.to_json_string(),
            "how": [speech.window_s, speech.stride_s, speech.pooling],
        }
    return {
        "weights": weights_checksum(model),
        "architecture": architecture_checksum(model),
        "tokenizer": tokenizer_checksum(tokenizer),
        "recording": recording.checksum,
        "vectors": None if vectors is None else digest(vectors.of(recording.words.items).tolist()),
        "speech": heard,
        "choices": said,
        "code": code_version("topographic.brain.stories"),
    }


@dataclass(frozen=True, eq=False)
class GroupEncoding:
    """Scores of several subjects.

    Parameters
    ----------
    scores : DataFrame
        One row per subject, model ("text", "speech") and layer: its scores, means over the subject's targets.
    layers : DataFrame
        One row per model, layer and score: number of subjects, mean over them with its interval, p and p corrected
        over the layers.
    subjects : DataFrame
        One row per subject: means over layers, and its mean framewise displacement.
    motion : DataFrame
        One row per score: Spearman's rho with displacement over subjects, its p and the number of subjects; none where
        it cannot be told.
    notes : tuple of str
        What could not be told, and of whom.
    """

    scores: pd.DataFrame
    layers: pd.DataFrame
    subjects: pd.DataFrame
    motion: pd.DataFrame
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """One line."""
        best = self.best()
        return f"GroupEncoding({len(self.subjects)} subjects, {best['layer']}: mean r {best['mean']:.3f})"

    def to_frame(self) -> pd.DataFrame:
        """The table of layers."""
        return self.layers

    def best(self, model: str = "text", score: str = "r") -> Mapping[str, Any]:
        """The row of the layer with the largest mean."""
        rows: Any = self.layers[(self.layers["model"] == model) & (self.layers["score"] == score)]
        return rows.loc[rows["mean"].idxmax()].to_dict()

    def save(self, folder: str | Path) -> None:
        """Write ``group.csv`` (layers), ``scores.csv``, ``subjects.csv`` and ``motion.csv``."""
        tables = {"group": self.layers, "scores": self.scores, "subjects": self.subjects, "motion": self.motion}
        for name, table in tables.items():
            with write_atomically(Path(folder) / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=False)


def group_encodings(
    encodings: Mapping[str, StoryEncoding],
    *,
    n_draws: int = 9999,
    seed: int = 0,
    left_out: Mapping[str, str] | None = None,
) -> GroupEncoding:
    """Layers over subjects, and scores beside head motion.

    Of every layer and score the mean over subjects with its 95 % interval of Student's t, ``mean ± t s / sqrt(n)``, and
    p by flipping the signs of whole subjects, one-sided, corrected over the layers of a model by the largest t
    (`group_sign_flip`). Of every score, averaged over layers so that none is chosen, Spearman's rho with the subjects'
    mean framewise displacement (`motion_score_correlation`).

    Parameters
    ----------
    encodings : mapping of str to StoryEncoding
        By subject, of one model with the same choices.
    n_draws : int
        Flips and permutations; all there are where there are no more.
    seed : int
        Of both.
    left_out : mapping of str to str, optional
        Subjects that could not be encoded, and why: they stand in the notes.

    Returns
    -------
    GroupEncoding
        Tables and notes.

    Raises
    ------
    ValueError
        If there is no subject, or the layers of two differ.

    Notes
    -----
    Three subjects are needed for a test over them, and their p cannot be below 1 / 2^n; five for a relation with
    motion. With fewer there is no number, and a note says so.
    """
    if not encodings:
        raise ValueError("no subject was encoded; expected at least one")
    scores = pd.concat([_scores_of(name, one) for name, one in encodings.items()], ignore_index=True)
    rows: list[dict[str, Any]] = []
    for kind in dict.fromkeys(scores["model"]):
        of_kind: Any = scores[scores["model"] == kind]
        rows += _layer_rows(kind, of_kind, list(encodings), n_draws, seed)
    subjects = _subjects(scores, encodings)
    notes = [f"{name} is left out: {reason}" for name, reason in (left_out or {}).items()]
    if len(encodings) < _LEAST_TESTED:
        notes.append(
            f"whether a mean over {len(encodings)} {'subjects' if len(encodings) > 1 else 'subject'} differs from 0 "
            f"cannot be told: {_LEAST_TESTED} are needed"
        )
    motion, said = _motion(subjects, n_draws, seed)
    about = {"subjects": list(encodings), "flips and orders of subjects": f"{n_draws} at most, seed {seed}"}
    return GroupEncoding(scores, pd.DataFrame(rows), subjects, motion, (*notes, *said), about)


def _scores_of(subject: str, encoding: StoryEncoding) -> pd.DataFrame:
    tables = {"text": encoding.layers} | ({} if encoding.speech is None else {"speech": encoding.speech})
    found = pd.concat([table.assign(model=kind) for kind, table in tables.items()], ignore_index=True)
    first = ["subject", "model", "layer", "depth"]
    ordered: Any = found.assign(subject=subject)[[*first, *(column for column in found if column not in first)]]
    return ordered


def _layer_rows(kind: str, scores: pd.DataFrame, subjects: list[str], n_draws: int, seed: int) -> list[dict[str, Any]]:
    """Means over subjects of one model's layers, with their tests."""
    of_subject = {one: scores.loc[scores["subject"] == one, ["layer", "depth"]] for one in subjects}
    layers = of_subject[subjects[0]]
    unlike = [one for one, own in of_subject.items() if own["layer"].tolist() != layers["layer"].tolist()]
    if unlike:
        raise ValueError(
            f"the {kind} layers of {unlike[0]} are not those of {subjects[0]}; encode all with the same model, speech "
            "encoder and depths"
        )
    rows = []
    for name, (column, less) in _SCORES.items():
        if less is not None and (less not in scores or scores[less].isna().all()):
            continue  # sound has no random tokens
        values = _by_layer(scores, column, layers) - (0.0 if less is None else _by_layer(scores, less, layers))
        low, high = _interval(values)
        tested = len(values) >= _LEAST_TESTED
        found: Any = group_sign_flip(values, n_draws=n_draws, seed=seed) if tested else {}
        nothing = np.full(len(layers), np.nan)
        for place, (layer, depth) in enumerate(layers.itertuples(index=False)):
            rows.append({
                "model": kind,
                "layer": layer,
                "depth": depth,
                "score": name,
                "n_subjects": len(values),
                "mean": float(values[:, place].mean()),
                "low": float(low[place]),
                "high": float(high[place]),
                "p": float(found.get("p", nothing)[place]),
                "p corrected": float(found.get("corrected", nothing)[place]),
            })
    return rows


def _by_layer(scores: pd.DataFrame, column: str, layers: pd.DataFrame) -> Float[np.ndarray, "subjects layers"]:
    table = scores.pivot(index="subject", columns="layer", values=column)
    return table.loc[scores["subject"].drop_duplicates(), layers["layer"]].to_numpy(dtype=np.float64)


def _interval(
    values: Float[np.ndarray, "subjects layers"],
) -> tuple[Float[np.ndarray, " layers"], Float[np.ndarray, " layers"]]:
    n, mean = len(values), values.mean(axis=0)
    if n < 2:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = float(student_t.ppf(0.975, n - 1)) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def _subjects(scores: pd.DataFrame, encodings: Mapping[str, StoryEncoding]) -> pd.DataFrame:
    lines = []
    for name, encoding in encodings.items():
        moved = np.nan if encoding.displacement_mm is None else encoding.displacement_mm
        line: dict[str, Any] = {"subject": name, "runs": len(encoding.about["runs"]), "scans": encoding.about["scans"]}
        line[_DISPLACEMENT] = moved
        for kind in dict.fromkeys(scores["model"]):
            own = scores[(scores["subject"] == name) & (scores["model"] == kind)]
            line |= {name: float(own[column].mean()) for column, name in _OVER_LAYERS[kind].items()}
        lines.append(line)
    return pd.DataFrame(lines)


def _motion(subjects: pd.DataFrame, n_draws: int, seed: int) -> tuple[pd.DataFrame, list[str]]:
    """Relations of scores with displacement, or why there is none."""
    columns = ["score", "rho", "p", "n_subjects", "exact"]
    moved = subjects[_DISPLACEMENT].to_numpy(dtype=np.float64)
    there = np.isfinite(moved)
    if not there.any():
        return pd.DataFrame(columns=columns), [
            "no subject has confounds: how much anybody moved is not known, and nothing can be said of what it does to "
            "scores"
        ]
    notes = []
    if not there.all():
        without = subjects["subject"][~there]
        notes.append(f"{', '.join(without)} {'have' if len(without) > 1 else 'has'} no confounds and no part in motion")
    n = int(there.sum())
    if n < LEAST_SUBJECTS:
        said = f"whether scores go with head motion cannot be told from {n}"
        return pd.DataFrame(columns=columns), [*notes, f"{said}: {LEAST_SUBJECTS} subjects with confounds are needed"]
    rows = []
    for name in (one for own in _OVER_LAYERS.values() for one in own.values() if one in subjects):
        values = subjects[name].to_numpy(dtype=np.float64)[there]
        try:
            rows.append({"score": name, **motion_score_correlation(values, moved[there], n_draws=n_draws, seed=seed)})
        except ValueError as error:
            notes.append(f"{name} cannot be held against motion: {error}")
    return pd.DataFrame(rows, columns=columns), notes
