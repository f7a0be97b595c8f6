"""Event-related responses on a surface: a model of each run's time course, and a test over subjects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import stdtr

from topographic.maps import UnitMap, control_fdr
from topographic.maps.nulls import check_draws, stream
from topographic.sheets import Sheet
from topographic.stimuli import StimulusSet
from topographic.stimuli.tables import read_table

__all__ = ["RUN_STATISTICS", "RunModel", "design_matrix", "group_map", "load_events", "run_statistic", "subject_map"]


@dataclass(frozen=True)
class RunModel:
    """How a run's time course is modelled; the defaults are those of the TopoLM paper.

    Parameters
    ----------
    tr_s : float
        Time from one scan to the next.
    hrf : str
        Haemodynamic response, as nilearn names it: "spm", "glover", "spm + derivative", ...
    drift : {"cosine", "polynomial", None}
        Model of slow drifts.
    high_pass_hz : float
        Cosines slower than this are taken for drift.
    noise : {"ols", "ar1"}
        Independent noise, or noise that remembers the scan before (nilearn's AR(1), in 100 bins).

    Raises
    ------
    ValueError
        If a time or frequency is not positive.
    """

    tr_s: float = 2.0
    hrf: str = "spm"
    drift: Literal["cosine", "polynomial"] | None = "cosine"
    high_pass_hz: float = 0.01
    noise: Literal["ols", "ar1"] = "ols"

    def __post_init__(self) -> None:
        """Refuse times that are no times."""
        for name in ("tr_s", "high_pass_hz"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name}={getattr(self, name)}; expected a positive number")


def load_events(paths: Mapping[str, str | Path], name: str = "events") -> StimulusSet:
    """Read what was shown when, one file per run.

    Parameters
    ----------
    paths : mapping of run to path
        Comma- or tab-separated files with the columns ``onset`` and ``duration`` in seconds and ``trial_type``
        (the BIDS names).
    name : str
        Name of the set.

    Returns
    -------
    StimulusSet
        One item per event with its condition, run, ``onset_s`` and the label "duration_s". Events of no type (blank
        or "n/a") are of the condition "baseline".

    Raises
    ------
    FileNotFoundError, ValueError
        If a file does not exist, lacks a column, or holds something that is no time.
    """
    rows: list[tuple[str, str, float, float]] = []
    for run, path in paths.items():
        if not Path(path).is_file():
            raise FileNotFoundError(f"no events of run {run!r} at {path}")
        table = read_table(path, ("onset", "duration", "trial_type"), "rename its columns")
        times = table[["onset", "duration"]].apply(pd.to_numeric, errors="coerce").astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(times).all(axis=1))
        if len(bad):
            row = table.iloc[bad[0]]
            raise ValueError(f"{path} line {row.name}: {dict(row)} holds no onset and duration in seconds")
        kinds = ["baseline" if kind is None or kind.strip() == "n/a" else kind.strip() for kind in table["trial_type"]]
        rows += zip([run] * len(table), kinds, times["onset"], times["duration"], strict=True)
    if not rows:
        raise ValueError(f"no events in {[str(path) for path in paths.values()]}; expected one line per event")
    runs, conditions, onsets, durations = zip(*rows, strict=True)
    items = tuple(f"{condition} at {onset:g} s of run {run}" for run, condition, onset, _ in rows)
    return StimulusSet(name, items, conditions, runs, onset_s=onsets, labels={"duration_s": durations})


def design_matrix(
    events: StimulusSet, run: str, n_scans: int, model: RunModel | None = None
) -> tuple[Float[np.ndarray, "scans regressors"], list[str]]:
    """Regressors of one run: a haemodynamic response to each condition, drifts and a constant.

    ``x_c(t) = sum over events k of c, h * boxcar(onset_k, duration_k)``, sampled at every scan.

    Parameters
    ----------
    events : StimulusSet
        With ``onset_s`` and, as `load_events` makes it, the label "duration_s".
    run : str
        Which run.
    n_scans : int
        Number of scans; the first is at time 0.
    model : RunModel, optional
        Haemodynamic response and drifts.

    Returns
    -------
    matrix : ndarray, shape (scans, regressors)
        The regressors.
    names : list of str
        Conditions first, then drifts and "constant".

    Raises
    ------
    ValueError
        If the run has no events, these have no times, or one begins after the last scan.
    """
    from nilearn.glm.first_level import make_first_level_design_matrix

    model = model or RunModel()
    if events.onset_s is None or "duration_s" not in events.labels:
        raise ValueError(f"{events!r} has no times; expected onset_s and the label 'duration_s', as load_events gives")
    table = [
        (onset, float(duration), condition)
        for onset, duration, condition, of_run in zip(
            events.onset_s, events.labels["duration_s"], events.conditions, events.runs, strict=True
        )
        if of_run == run
    ]
    if not table:
        raise ValueError(f"{events!r} has no events in run {run!r}; its runs are {list(dict.fromkeys(events.runs))}")
    last, end = max(onset for onset, _, _ in table), n_scans * model.tr_s
    if last >= end:
        raise ValueError(
            f"run {run!r}: an event begins at {last:g} s, but {n_scans} scans of {model.tr_s:g} s end at {end:g} s; "
            "check tr_s and the unit of the onsets"
        )
    frame = make_first_level_design_matrix(
        np.arange(n_scans) * model.tr_s,
        pd.DataFrame(table, columns=["onset", "duration", "trial_type"]),
        hrf_model=model.hrf,
        drift_model=model.drift,
        high_pass=model.high_pass_hz,
    )
    return frame.to_numpy(), [str(column) for column in frame.columns]


def run_statistic(
    series: Float[np.ndarray, "scans vertices"],
    events: StimulusSet,
    run: str,
    weights: Mapping[str, float | int],
    *,
    model: RunModel | None = None,
    statistic: str = "t",
) -> Float[np.ndarray, " vertices"]:
    """Contrast of conditions in one run, vertex by vertex.

    ``y = X b + e``; the effect is ``c' b`` and ``t = c' b / sqrt(s^2 c' (X' X)^-1 c)``, ``s^2`` with
    scans - rank(X) degrees of freedom.

    Parameters
    ----------
    series : ndarray, shape (scans, vertices)
        The recording.
    events : StimulusSet
        With onsets and durations.
    run : str
        Which run of the events.
    weights : mapping of str to float
        Weight of each condition in the contrast, such as ``{"verb": 1, "noun": -1}``.
    model : RunModel, optional
        Haemodynamic response, drifts and noise.
    statistic : {"t", "effect"}
        What to return.

    Returns
    -------
    ndarray of float64, shape (vertices,)
        NaN where the recording does not vary or is not finite.

    Raises
    ------
    ValueError
        If a condition of the contrast is not in the run, or scans are fewer than regressors.
    """
    from nilearn.glm.contrasts import compute_contrast
    from nilearn.glm.first_level import run_glm

    model = model or RunModel()
    if statistic not in RUN_STATISTICS:
        raise ValueError(f"statistic={statistic!r}; expected one of {sorted(RUN_STATISTICS)}")
    matrix, names = design_matrix(events, run, len(series), model)
    absent = sorted(set(weights) - set(names))
    if absent:
        raise ValueError(
            f"run {run!r} has no condition {absent[0]!r}; it has {[n for n in names if n in set(events.conditions)]}"
        )
    if len(matrix) <= matrix.shape[1]:
        raise ValueError(f"run {run!r}: {len(matrix)} scans for {matrix.shape[1]} regressors; expected more scans")
    contrast = np.array([weights.get(name, 0.0) for name in names])
    result = np.full(series.shape[1], np.nan)
    usable = np.atleast_1d(np.isfinite(series).all(axis=0))
    usable[usable] = np.ptp(series[:, usable], axis=0) > 0
    if usable.any():
        labels, fits = run_glm(series[:, usable].astype(np.float64), matrix, noise_model=model.noise)
        result[usable] = RUN_STATISTICS[statistic](compute_contrast(labels, fits, contrast, stat_type="t"))
    return result


RUN_STATISTICS: dict[str, Callable[[Any], np.ndarray]] = {
    "t": lambda contrast: np.ravel(contrast.stat()),
    "effect": lambda contrast: np.ravel(contrast.effect_size()),
}


def subject_map(
    series: Mapping[str, Float[np.ndarray, "scans vertices"]],
    events: StimulusSet,
    sheet: Sheet,
    weights: Mapping[str, float | int],
    *,
    model: RunModel | None = None,
    statistic: str = "t",
    site: str = "subject",
) -> UnitMap:
    """Contrast of one subject: `run_statistic`, averaged over runs.

    Parameters
    ----------
    series : mapping of run to ndarray, shape (scans, vertices)
        The recordings; only these runs of the events are used (all, or the odd ones).
    events : StimulusSet
        With onsets and durations (`load_events`).
    sheet : Sheet
        The mesh (`load_mesh(...).sheet`).
    weights : mapping of str to float
        Weight of each condition, such as ``{"verb": 1, "noun": -1}``.
    model : RunModel, optional
        Haemodynamic response, drifts and noise.
    statistic : {"t", "effect"}
        What is averaged over runs. The paper averages t; "effect" is the usual input to a test over subjects, as it
        does not weight subjects by the noise of their runs.
    site : str
        Name of the map, best that of the subject.

    Returns
    -------
    UnitMap
        NaN where any run has no value.

    Raises
    ------
    ValueError
        If there are no runs, a recording does not fit the mesh, or the contrast is not one of the conditions.

    References
    ----------
    Hauptman et al. 2024; TopoLM, appendix on fMRI.
    """
    if not series:
        raise ValueError(f"map {site!r}: no runs; expected {{run: array (scans, vertices)}}")
    if not any(weights.values()) or not np.isfinite(list(weights.values())).all():
        raise ValueError(f"map {site!r}: weights={dict(weights)} contrast nothing; give conditions with finite weights")
    for run, scans in series.items():
        if scans.ndim != 2 or scans.shape[1] != sheet.n_units:
            raise ValueError(
                f"map {site!r}, run {run!r}: recording of shape {scans.shape} on a mesh of {sheet.n_units} vertices; "
                "expected (scans, vertices)"
            )
    maps = [
        run_statistic(scans, events, run, weights, model=model, statistic=statistic) for run, scans in series.items()
    ]
    provenance = {"contrast": dict(weights), "runs": list(series), "model": vars(model or RunModel())}
    return UnitMap(site, np.mean(maps, axis=0), sheet, f"mean {statistic} over runs", provenance=provenance)


def group_map(subject_maps: Sequence[UnitMap], *, site: str = "group", n_draws: int = 0, seed: int = 0) -> UnitMap:
    """One-sample t over subjects with q, and its null under exchanged conditions.

    ``t = m / sqrt(s^2 / n)`` with n - 1 degrees of freedom, two-sided p, Benjamini-Hochberg q over all vertices with
    a value.

    The null hypothesis: contrasts of subjects lie around 0, normally (p), or symmetrically (the null "label").

    Parameters
    ----------
    subject_maps : sequence of UnitMap
        One map of the same contrast per subject, on one mesh.
    site : str
        Name of the group map.
    n_draws : int
        Draws of the label null; 0 for none.
    seed : int
        Seed of the draws.

    Returns
    -------
    UnitMap
        Statistic "group t", with p and q; NaN where any subject has no value or all agree exactly. With ``n_draws``
        also ``nulls["label"]``: the same t with the sign of whole subjects' maps flipped at random, which is what
        exchanging the two conditions does. It keeps the smoothness of the recordings, so Moran's I and cluster
        masses can be tested against it.

    Raises
    ------
    ValueError
        If there are fewer than three subjects, or their maps differ in mesh or statistic.

    References
    ----------
    Nichols & Holmes 2002 (sign flips); Benjamini & Hochberg 1995.
    """
    check_draws(n_draws, seed)
    if len(subject_maps) < 3:
        raise ValueError(f"{len(subject_maps)} subject maps; expected at least 3 for a test over subjects")
    first = subject_maps[0]
    for other in subject_maps[1:]:
        if other.sheet.checksum != first.sheet.checksum or other.statistic != first.statistic:
            raise ValueError(
                f"maps {first.site!r} ({first.statistic}) and {other.site!r} ({other.statistic}) differ in mesh or "
                "statistic; a group needs one of each"
            )
    values = np.stack([one.values for one in subject_maps]).astype(np.float64)
    varied = np.atleast_1d(~np.isnan(values).any(axis=0))
    varied[varied] = np.ptp(values[:, varied], axis=0) > 0
    n_subjects = len(values)
    t = np.full(values.shape[1], np.nan)
    t[varied] = _one_sample_t(np.ones((1, n_subjects)), values[:, varied])[0]
    nulls = {}
    if n_draws:
        signs = 1.0 - 2.0 * stream(seed, "label").integers(0, 2, (n_draws, n_subjects))
        nulls["label"] = np.full((n_draws, len(t)), np.nan, dtype=np.float32)
        nulls["label"][:, varied] = _one_sample_t(signs, values[:, varied])
    provenance = {
        "subjects": [one.site for one in subject_maps],
        "subject_statistic": first.statistic,
        "n_without_value": int((~varied).sum()),
        **{key: first.provenance[key] for key in ("contrast", "model") if key in first.provenance},
    }
    p = 2 * stdtr(n_subjects - 1, -np.abs(t))
    bare = UnitMap(site, t, first.sheet, "group t", p=p, nulls=nulls, provenance=provenance)
    return control_fdr({site: bare})[site]


def _one_sample_t(
    signs: Float[np.ndarray, "draws subjects"], values: Float[np.ndarray, "subjects vertices"]
) -> Float[np.ndarray, "draws vertices"]:
    """Student's t of the values under each choice of signs; flips leave the squares alone."""
    n_subjects = len(values)
    mean = signs @ values / n_subjects
    variance = (np.square(values).mean(axis=0) - np.square(mean)) * n_subjects / (n_subjects - 1)
    return mean / np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny) / n_subjects)
