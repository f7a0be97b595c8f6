"""A subject who listens to stories, made up: every vertex's truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.signal import lfilter
from scipy.spatial import KDTree

from topographic.brain.downsample import convolve_hrf
from topographic.brain.nuisance import MOTION_PARAMETERS
from topographic.brain.surface import SurfaceMesh
from topographic.maps.nulls import stream

__all__ = ["StorySubject", "fsaverage5_mesh", "parcels_of", "story_subject"]


@dataclass(frozen=True, eq=False)
class StorySubject:
    """A recording of several stories and the truth behind it.

    Parameters
    ----------
    words : tuple of DataFrame
        Per run, one row per word: "word", "onset_s", "duration_s".
    features : tuple of ndarray, shape (words, features)
        Per run, what the words mean to this subject.
    recordings : tuple of ndarray, shape (scans, vertices)
        Per run.
    confounds : tuple of DataFrame
        Per run, motion as fMRIPrep writes it.
    parcels : ndarray, shape (vertices,)
        Parcel of each vertex.
    meaning_parcels, rate_parcels : tuple of int
        Parcels that follow the features, and those that follow nothing but word rate; the others hold noise.
    weights : ndarray, shape (features, vertices)
        The encoding, 0 outside the meaning parcels.
    tr_s : float
        Time from scan to scan.
    """

    words: tuple[pd.DataFrame, ...]
    features: tuple[np.ndarray, ...]
    recordings: tuple[np.ndarray, ...]
    confounds: tuple[pd.DataFrame, ...]
    parcels: Int[np.ndarray, " vertices"]
    meaning_parcels: tuple[int, ...]
    rate_parcels: tuple[int, ...]
    weights: Float[np.ndarray, "features vertices"]
    tr_s: float

    def __repr__(self) -> str:
        """One line."""
        scans = sum(len(one) for one in self.recordings)
        return (
            f"StorySubject({len(self.recordings)} runs, {scans} scans of {self.tr_s:g} s, "
            f"{len(self.parcels)} vertices, meaning in parcels {list(self.meaning_parcels)})"
        )

    def scan_times_s(self, run: int) -> Float[np.ndarray, " scans"]:
        """Times of a run's scans."""
        return np.arange(len(self.recordings[run])) * self.tr_s

    @property
    def runs(self) -> Int[np.ndarray, " scans"]:
        """Run of every scan, all runs one after the other."""
        return np.repeat(np.arange(len(self.recordings)), [len(one) for one in self.recordings])


def fsaverage5_mesh() -> SurfaceMesh:
    """Both hemispheres of fsaverage5 (20,484 vertices), which nilearn brings along: left first, pial surface."""
    from nilearn.datasets import load_fsaverage

    parts = load_fsaverage("fsaverage5")["pial"].parts
    positions, faces, start = [], [], 0
    for side in ("left", "right"):
        positions.append(np.asarray(parts[side].coordinates, dtype=np.float64))
        faces.append(np.asarray(parts[side].faces, dtype=np.int64) + start)
        start += len(positions[-1])
    return SurfaceMesh("fsaverage5", np.concatenate(positions), np.concatenate(faces))


def parcels_of(
    positions_mm: Float[np.ndarray, "vertices axes"], n_parcels: int, *, seed: int = 0
) -> Int[np.ndarray, " vertices"]:
    """Parcels of vertices nearest to seeds far from one another (farthest-point sampling)."""
    if not 1 <= n_parcels <= len(positions_mm):
        raise ValueError(f"n_parcels={n_parcels} of {len(positions_mm)} vertices; expected from 1 to all of them")
    chosen = [int(stream(seed, "parcels").integers(len(positions_mm)))]
    distance = np.full(len(positions_mm), np.inf)
    while len(chosen) < n_parcels:
        distance = np.minimum(distance, np.linalg.norm(positions_mm - positions_mm[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    nearest: Any = KDTree(positions_mm[chosen]).query(positions_mm)[1]
    return nearest.astype(np.int64)


def story_subject(
    positions_mm: Float[np.ndarray, "vertices axes"] | None = None,
    *,
    n_runs: int = 4,
    n_scans: int = 150,
    tr_s: float | int = 2.0,
    n_features: int = 16,
    n_parcels: int = 20,
    meaning_parcels: tuple[int, ...] = (0, 1, 2),
    rate_parcels: tuple[int, ...] = (3, 4),
    signal: float | int = 1.0,
    autocorrelation: float = 0.5,
    motion: float | int = 0.5,
    words: Sequence[pd.DataFrame] | None = None,
    features: Sequence[np.ndarray] | None = None,
    seed: int = 0,
) -> StorySubject:
    """Make up a subject who listens to stories.

    ``y = s (h * words)(w) + n + m``: vertices of the meaning parcels follow weighted features of words through a
    canonical haemodynamic response h, one weighting per parcel with a little of each vertex's own; those of the rate
    parcels follow the number of words; n is AR(1) noise of unit variance and m what head motion adds.

    Parameters
    ----------
    positions_mm : ndarray, shape (vertices, axes), optional
        Places of the vertices; fsaverage5 unless given.
    n_runs, n_scans, tr_s : int, int, float
        Stories, scans of each, seconds from scan to scan.
    n_features : int
        Columns of the words' features, which have unit variance and change slowly from word to word.
    n_parcels : int
        Parcels in which the vertices lie.
    meaning_parcels, rate_parcels : tuple of int
        Which of them follow what.
    signal : float
        Standard deviation of the signal, that of the noise being 1.
    autocorrelation : float
        Of the noise, from one scan to the next.
    motion : float
        Standard deviation of what motion adds.
    words, features : sequence of DataFrame and of ndarray (words, features), optional
        Per run, real words ("word", "onset_s", "duration_s") and what they mean to this subject, such as the states of
        a model; made up unless given. They settle the numbers of runs and features.
    seed : int
        Seed of everything.

    Returns
    -------
    StorySubject
        Recording and truth.

    Raises
    ------
    ValueError
        If a parcel does not exist, or has two roles, or a number is impossible.

    Examples
    --------
    >>> story_subject(np.random.default_rng(0).normal(size=(60, 3)), n_runs=2, n_scans=40, n_parcels=6)
    StorySubject(2 runs, 80 scans of 2 s, 60 vertices, meaning in parcels [0, 1, 2])
    """
    roles = [*meaning_parcels, *rate_parcels]
    if len(set(roles)) < len(roles) or not all(0 <= one < n_parcels for one in roles):
        raise ValueError(
            f"meaning_parcels={meaning_parcels}, rate_parcels={rate_parcels}; expected different ones of {n_parcels}"
        )
    if not 0 <= autocorrelation < 1 or n_runs < 1 or n_scans < 20:
        raise ValueError(
            f"autocorrelation={autocorrelation}, n_runs={n_runs}, n_scans={n_scans}; expected from 0 to below 1, 1 run "
            "and 20 scans or more"
        )
    if (words is None) != (features is None) or (words is not None and not _fit(words, features)):
        raise ValueError("words and features are of different lengths; give one row of features per word of each run")
    told, meant = words, features
    if told is not None and meant is not None:
        n_runs, n_features = len(told), meant[0].shape[1]
    places = fsaverage5_mesh().positions_mm if positions_mm is None else positions_mm
    parcels = parcels_of(places, n_parcels, seed=seed)
    source = stream(seed, "story subject")
    of_parcel = source.normal(size=(n_features, n_parcels)) / np.sqrt(n_features)
    weights = of_parcel[:, parcels] + 0.3 * source.normal(size=(n_features, len(parcels))) / np.sqrt(n_features)
    weights[:, ~np.isin(parcels, meaning_parcels)] = 0.0
    of_rate, of_motion = np.isin(parcels, rate_parcels), source.normal(size=(6, len(parcels))) / np.sqrt(6)
    spoken, meanings, recordings, confounds = [], [], [], []
    scan_times = np.arange(n_scans) * float(tr_s)
    for run in range(n_runs):
        steps = source.gamma(4.0, 0.1, size=int(n_scans * tr_s * 4))  # 2.5 words a second
        onsets = np.cumsum(steps + (source.random(len(steps)) < 0.04) * source.uniform(1, 4, len(steps)))  # pauses
        onsets = onsets[onsets < scan_times[-1] - 10]  # and silence at the end
        lasting = np.minimum(0.3, np.diff(onsets, append=onsets[-1] + 0.3))
        meaning = _autoregressive(source, len(onsets), n_features, 0.8)
        if told is not None and meant is not None:
            onsets, meaning = told[run]["onset_s"].to_numpy(dtype=np.float64), np.asarray(meant[run], dtype=np.float64)
        heard = _scaled(convolve_hrf(np.column_stack([meaning, np.ones(len(onsets))]), onsets, scan_times))
        moved = source.normal(size=(n_scans, 6)) * (source.random((n_scans, 1)) < 0.1)
        moved = np.cumsum(moved * [0.2, 0.2, 0.2, 0.003, 0.003, 0.003], axis=0)
        recording = signal * heard[:, :-1] @ weights + signal * heard[:, -1:] * of_rate
        recording += (
            _autoregressive(source, n_scans, len(parcels), autocorrelation) + motion * _scaled(moved) @ of_motion
        )
        names = ["".join(source.choice(list("abcdefghij"), size=source.integers(1, 9))) for _ in lasting]
        table = pd.DataFrame({"word": names, "onset_s": onsets, "duration_s": lasting}) if told is None else told[run]
        spoken.append(table)
        meanings.append(meaning)
        recordings.append(recording.astype(np.float32))
        confounds.append(pd.DataFrame(moved, columns=list(MOTION_PARAMETERS)))
    return StorySubject(
        tuple(spoken),
        tuple(meanings),
        tuple(recordings),
        tuple(confounds),
        parcels,
        tuple(meaning_parcels),
        tuple(rate_parcels),
        weights,
        float(tr_s),
    )


def _fit(words: Sequence[pd.DataFrame], features: Sequence[np.ndarray] | None) -> bool:
    lengths = [] if features is None else [len(one) for one in features]
    return bool(lengths) and [len(one) for one in words] == lengths


def _autoregressive(source: np.random.Generator, n: int, columns: int, phi: float) -> np.ndarray:
    """AR(1) noise of unit variance, from its stationary distribution."""
    steps = source.normal(size=(n, columns)) * np.sqrt(1 - phi**2)
    steps[0] /= np.sqrt(1 - phi**2)
    return np.asarray(lfilter([1.0], [1.0, -phi], steps, axis=0))


def _scaled(columns: np.ndarray) -> np.ndarray:
    centred = columns - columns.mean(axis=0)
    sd = centred.std(axis=0)
    return centred / np.where(sd > 0, sd, np.inf)
