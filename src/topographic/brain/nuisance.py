"""Head motion: regressors from fMRIPrep's tables, scans to leave out, and what motion has to do with scores."""

from collections.abc import Sequence
from itertools import permutations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.stats import rankdata, zscore

from topographic.maps.nulls import check_draws, stream
from topographic.maps.references import compare

__all__ = [
    "LEAST_SUBJECTS",
    "MOTION_PARAMETERS",
    "censored_scans",
    "framewise_displacement_mm",
    "motion_regressors",
    "motion_score_correlation",
]

MOTION_PARAMETERS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
LEAST_SUBJECTS = 5  # of four, the strongest of all orders has p = 2 / 4! = .083


def motion_regressors(
    confounds: pd.DataFrame | str | Path, n_parameters: int = 6
) -> Float[np.ndarray, "scans regressors"]:
    """Motion of one run, as a band for `encode`.

    Six: translations in mm, rotations in radians. Twenty-four: these, their differences from the scan before (0 for
    the first), and the squares of both (Friston et al. 1996).

    Parameters
    ----------
    confounds : DataFrame or path
        fMRIPrep's ``*_desc-confounds_timeseries.tsv`` of one run.
    n_parameters : {6, 24}
        How many.

    Returns
    -------
    ndarray, shape (scans, regressors)
        In the order trans_x, trans_y, trans_z, rot_x, rot_y, rot_z.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, a column is missing, or a value is not a number.

    Notes
    -----
    The differences are computed here rather than read, so that tables of other programmes with the six parameters
    under these names do as well.

    Examples
    --------
    >>> table = pd.DataFrame({name: [0.0, 0.1, 0.3] for name in MOTION_PARAMETERS})
    >>> motion_regressors(table, 24).shape
    (3, 24)
    """
    if n_parameters not in (6, 24):
        raise ValueError(f"n_parameters={n_parameters}; expected 6 or 24")
    six = _six(confounds)
    if n_parameters == 6:
        return six
    differences = np.diff(six, axis=0, prepend=six[:1])
    return np.hstack([six, differences, six**2, differences**2])


def _six(confounds: pd.DataFrame | str | Path) -> np.ndarray:
    table = confounds
    if not isinstance(table, pd.DataFrame):
        if not Path(table).is_file():
            raise FileNotFoundError(f"no confounds at {table}; give fMRIPrep's *_desc-confounds_timeseries.tsv")
        table = pd.read_csv(table, sep="\t", na_values="n/a")
    missing = [name for name in MOTION_PARAMETERS if name not in table]
    if missing:
        raise ValueError(f"confounds without {missing}; expected fMRIPrep's columns {list(MOTION_PARAMETERS)}")
    six = table[list(MOTION_PARAMETERS)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(six).all(axis=1))
    if len(bad):
        raise ValueError(f"confounds of scan {bad[0]} hold no numbers; correct or drop the row")
    return six


def framewise_displacement_mm(
    confounds: pd.DataFrame | str | Path, *, head_radius_mm: float | int = 50.0
) -> Float[np.ndarray, " scans"]:
    """Displacement from the scan before: ``sum |translations| + radius * sum |rotations|``, 0 for the first scan.

    Parameters
    ----------
    confounds : DataFrame or path
        As for `motion_regressors`.
    head_radius_mm : float
        Radius of the sphere on which rotations are turned into millimetres.

    Returns
    -------
    ndarray, shape (scans,)
        fMRIPrep's ``framewise_displacement``, which has no value for the first scan.

    References
    ----------
    Power et al. 2012.
    """
    steps = np.abs(np.diff(_six(confounds), axis=0, prepend=np.nan))
    steps[0] = 0
    return steps[:, :3].sum(axis=1) + head_radius_mm * steps[:, 3:].sum(axis=1)


def censored_scans(
    displacement_mm: Float[np.ndarray, " scans"], threshold_mm: float | int = 0.5, *, before: int = 0, after: int = 0
) -> Bool[np.ndarray, " scans"]:
    """Scans to leave out: displaced by more than the threshold, and so many before and after each of them.

    Parameters
    ----------
    displacement_mm : ndarray, shape (scans,)
        Of one run (`framewise_displacement_mm`).
    threshold_mm : float
        Largest displacement that is kept.
    before, after : int
        Neighbours that are left out as well.

    Returns
    -------
    ndarray of bool, shape (scans,)
        True for what to leave out of features, targets and runs alike, after features were delayed.

    Raises
    ------
    ValueError
        If no scan would be left.
    """
    moved = np.flatnonzero(displacement_mm > threshold_mm)
    censored = np.zeros(len(displacement_mm), dtype=bool)
    for shift in range(-before, after + 1):
        inside = moved + shift
        censored[inside[(inside >= 0) & (inside < len(censored))]] = True
    if censored.all():
        raise ValueError(f"every scan moved by more than {threshold_mm:g} mm; raise threshold_mm or leave the run out")
    return censored


def motion_score_correlation(
    scores: Sequence[float] | np.ndarray,
    mean_displacement_mm: Sequence[float] | np.ndarray,
    *,
    n_draws: int = 9999,
    seed: int = 0,
) -> dict[str, Any]:
    """Do subjects who move less score better? Spearman's rho over subjects, with subjects permuted.

    The null hypothesis: any subject might have had any other's displacement.

    Parameters
    ----------
    scores : sequence of float
        One score per subject, such as the mean r of its targets.
    mean_displacement_mm : sequence of float
        Mean framewise displacement of each.
    n_draws : int
        Permutations drawn; all of them are used, exactly, where there are no more than this (up to 7 subjects).
    seed : int
        Seed.

    Returns
    -------
    dict
        "rho", "p" (two-sided), "n_subjects" and "exact"; a strong negative rho says that scores differ by motion.

    Raises
    ------
    ValueError
        If there are fewer than five subjects, of whom no order could have a p of .05, not one displacement each, a
        number is not finite, or all are alike.

    Examples
    --------
    >>> found = motion_score_correlation([0.3, 0.25, 0.2, 0.1, 0.05], [0.1, 0.12, 0.2, 0.25, 0.4])
    >>> round(found["rho"], 3), round(found["p"], 4), found["exact"]
    (-1.0, 0.0167, True)
    """
    check_draws(n_draws, seed, least=2)
    first, second = np.asarray(scores, dtype=np.float64), np.asarray(mean_displacement_mm, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < LEAST_SUBJECTS:
        raise ValueError(
            f"{len(scores)} scores, {len(mean_displacement_mm)} displacements; expected one of each for "
            f"{LEAST_SUBJECTS} subjects or more"
        )
    for name, values in (("scores", first), ("displacements", second)):
        if not np.isfinite(values).all() or np.ptp(values) == 0:
            said = "not all finite" if not np.isfinite(values).all() else "all alike"
            raise ValueError(f"{name} are {said}; expected numbers that differ between subjects")
    n = len(first)
    one: Any = zscore(rankdata(first))
    other: Any = zscore(rankdata(second))
    rho = float((one * other).mean())
    exact = factorial(n) - 1 <= n_draws
    if exact:
        shuffled = other[np.array(list(permutations(range(n)))[1:])]  # the first is the order as it is
    else:
        shuffled = stream(seed, "subjects").permuted(np.tile(other, (n_draws, 1)), axis=1)
    found = compare(rho, shuffled @ one / n, two_sided=True)
    return {"rho": rho, "p": found.p, "n_subjects": n, "exact": exact}
