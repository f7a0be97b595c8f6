"""From the times of words to the times of scans, and what is done to features there: delays, HRF, trimming, z-scores.

Every function is one of arrays. `downsample` weights the rows of a feature table, one row a word, by where the words
lie around each scan; as many rows come back as there are scans, whatever the silence before, between and after words.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

__all__ = ["DOWNSAMPLERS", "convolve_hrf", "delay", "downsample", "trim", "zscore_runs"]

Weights = Float[np.ndarray, "scans words"]


def downsample(
    values: Shaped[np.ndarray, "words features"],
    times_s: Shaped[np.ndarray, " times"],
    scan_times_s: Shaped[np.ndarray, " scans"],
    method: str = "lanczos",
    *,
    window: float | int = 3,
    cutoff: float | int = 1.0,
    rectify: bool = False,
    causal: bool = False,
    renormalize: bool = False,
    frequencies_hz: Sequence[float] = (),
    sigma_s: float | int = 4.0,
) -> Float[np.ndarray, "scans columns"]:
    """Features at the times of scans, from features at the times of words.

    ``out = W values``; with ``d = scan time - word time``, ``TR`` the mean step of the scans and ``f = cutoff / TR``:

    - rect: mean of the words with ``-TR/2 <= word time - scan time < TR/2``;
    - average, sum, last: mean, sum, last of the words with ``scan time <= word time < next scan time`` (where scan
      times are the starts of scans);
    - lanczos: ``sinc(u) sinc(u / window)`` with ``u = d f`` and ``sinc(u) = sin(pi u) / (pi u)``, 0 from ``|u| >
      window`` on;
    - sinc: ``2 f sinc(2 f d)`` up to ``|d| <= window / (2 f)``;
    - gabor: modulus of the sum of words times ``exp(-d^2 / (4 sigma^2)) exp(2 pi i frequency d)``.

    Scans without words are 0.

    Parameters
    ----------
    values : ndarray, shape (words, features)
        One row per word (or sound frame, or picture).
    times_s : ndarray, shape (words,)
        When each occurred, in seconds, in order; ties are allowed.
    scan_times_s : ndarray, shape (scans,)
        Times of the scans, increasing.
    method : {"rect", "average", "sum", "last", "lanczos", "sinc", "gabor"}
        How words are gathered (`DOWNSAMPLERS`).
    window : float
        lanczos, sinc: half-width of the kernel in its zero crossings.
    cutoff : float
        lanczos, sinc: cut-off frequency in units of 1 / TR.
    rectify : bool
        The negative parts of all features first, then the positive parts, each downsampled: twice the columns.
    causal : bool
        sinc: only words at or before the scan.
    renormalize : bool
        lanczos, sinc: divide each row of weights by its sum, so that a constant stays a constant; rows of sum 0 are 0.
        Without it a constant feature becomes word rate (r = .92 at 2.5 words per second and TR 2 s).
    frequencies_hz : sequence of float
        gabor: frequencies, at least one; columns go feature by feature, frequencies fastest.
    sigma_s : float
        gabor: width of the Gaussian.

    Returns
    -------
    ndarray of float64, shape (scans, columns)
        Always one row per scan.

    Raises
    ------
    ValueError
        If onsets are out of order or not finite, lengths differ, words lie after the end of the scans, or an option is
        none of those possible.

    Notes
    -----
    Departures from LITcoder. Its average, sum and last return one row for each TR up to the last word's, which cuts
    trailing silence and shifts what follows; here every scan has a row. Its sinc gives a word exactly on a scan the
    weight 0 in place of 2 f, the limit of the formula; here it has 2 f. Its Lanczos rows are never normalised; here
    that is the default and ``renormalize=True`` the alternative.

    References
    ----------
    Huth et al. 2016 (Lanczos); LITcoder, arXiv 2509.09152.

    Examples
    --------
    >>> words = np.array([[1.0], [3.0], [5.0]])
    >>> downsample(words, np.array([0.5, 1.5, 2.5]), np.array([0.0, 2.0, 4.0]), "average").ravel().tolist()
    [2.0, 5.0, 0.0]
    """
    values = np.asarray(values, dtype=np.float64)
    times_s, scan_times_s = np.asarray(times_s, dtype=np.float64), np.asarray(scan_times_s, dtype=np.float64)
    if method not in DOWNSAMPLERS:
        raise ValueError(f"method={method!r}; expected one of {sorted(DOWNSAMPLERS)}")
    tr_s = _checked_tr(values, times_s, scan_times_s)
    for name, option in (("window", window), ("cutoff", cutoff), ("sigma_s", sigma_s)):
        if not 0 < option < np.inf:
            raise ValueError(f"{name}={option}; expected a positive number")
    if rectify:
        values = np.hstack([np.minimum(values, 0), np.maximum(values, 0)])
    if method == "gabor":
        if not len(frequencies_hz):
            raise ValueError("method='gabor' without frequencies; give frequencies_hz=, such as (0.05, 0.1)")
        return _gabor(values, times_s, scan_times_s, np.asarray(frequencies_hz, dtype=np.float64), sigma_s)
    options = {"window": window, "cutoff": cutoff, "causal": causal, "tr_s": tr_s}
    weights = DOWNSAMPLERS[method](times_s, scan_times_s, **options)
    if renormalize and method in ("lanczos", "sinc"):
        total = weights.sum(axis=1, keepdims=True)
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total != 0)
    return weights @ values


def _checked_tr(values: np.ndarray, times_s: np.ndarray, scan_times_s: np.ndarray) -> float:
    """Mean step of the scans; refuses times that cannot be used."""
    if values.ndim != 2 or len(values) != len(times_s):
        raise ValueError(
            f"values of shape {values.shape} for {len(times_s)} times; expected one row of features per word"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} feature values are not finite; replace or drop them")
    for name, times in (("times_s", times_s), ("scan_times_s", scan_times_s)):
        if times.ndim != 1 or not np.isfinite(times).all():
            raise ValueError(f"{name} holds no finite times in seconds; expected one per row")
    backward = np.flatnonzero(np.diff(times_s) < 0)
    if len(backward):
        at = backward[0]
        raise ValueError(
            f"onsets are out of order: {times_s[at + 1]:g} s (row {at + 1}) follows {times_s[at]:g} s; sort the words "
            "and their features by onset"
        )
    if len(scan_times_s) < 2 or (np.diff(scan_times_s) <= 0).any():
        raise ValueError(f"scan_times_s ({len(scan_times_s)} times) do not increase; expected two or more, in order")
    tr_s = float(np.diff(scan_times_s).mean())
    end = scan_times_s[-1] + tr_s
    if len(times_s) and times_s[-1] >= end:
        late = int((times_s >= end).sum())
        raise ValueError(
            f"the scans end at {end:g} s but {late} words begin later, the last at {times_s[-1]:g} s; check TR and "
            "alignment, or cut the story to the recording"
        )
    return tr_s


def _rect(times_s: np.ndarray, scan_times_s: np.ndarray, *, tr_s: float, **_: float | int) -> Weights:
    low, high = scan_times_s[:, None] - tr_s / 2, scan_times_s[:, None] + tr_s / 2
    return _mean_rows((times_s >= low) & (times_s < high))


def _in_scan(times_s: np.ndarray, scan_times_s: np.ndarray) -> np.ndarray:
    """Which words begin between a scan and the next; a word before the first scan belongs to none."""
    scan = np.searchsorted(scan_times_s, times_s, side="right") - 1
    return scan == np.arange(len(scan_times_s))[:, None]


def _mean_rows(member: np.ndarray) -> Weights:
    return member / np.maximum(member.sum(axis=1, keepdims=True), 1)


def _average(times_s: np.ndarray, scan_times_s: np.ndarray, **_: float | int) -> Weights:
    return _mean_rows(_in_scan(times_s, scan_times_s))


def _sum(times_s: np.ndarray, scan_times_s: np.ndarray, **_: float | int) -> Weights:
    return _in_scan(times_s, scan_times_s).astype(np.float64)


def _last(times_s: np.ndarray, scan_times_s: np.ndarray, **_: float | int) -> Weights:
    member = _in_scan(times_s, scan_times_s)
    later = np.cumsum(member[:, ::-1], axis=1)[:, ::-1]  # words of the scan from here on
    return (member & (later == 1)).astype(np.float64)


def _lanczos(
    times_s: np.ndarray,
    scan_times_s: np.ndarray,
    *,
    tr_s: float,
    window: float | int,
    cutoff: float | int,
    **_: float | int,
) -> Weights:
    u = (scan_times_s[:, None] - times_s) * cutoff / tr_s
    return np.where(np.abs(u) <= window, np.sinc(u) * np.sinc(u / window), 0.0)


def _sinc(
    times_s: np.ndarray,
    scan_times_s: np.ndarray,
    *,
    tr_s: float,
    window: float | int,
    cutoff: float | int,
    causal: bool,
) -> Weights:
    bandwidth = cutoff / tr_s
    d = scan_times_s[:, None] - times_s
    within = np.abs(d) <= window / (2 * bandwidth)
    if causal:
        within &= d >= 0
    return np.where(within, 2 * bandwidth * np.sinc(2 * bandwidth * d), 0.0)


def _gabor(
    values: np.ndarray, times_s: np.ndarray, scan_times_s: np.ndarray, frequencies_hz: np.ndarray, sigma_s: float | int
) -> Float[np.ndarray, "scans columns"]:
    d = scan_times_s[:, None] - times_s
    envelope = np.exp(-(d**2) / (4 * sigma_s**2))
    found = [np.abs((envelope * np.exp(2j * np.pi * frequency * d)) @ values) for frequency in frequencies_hz]
    return np.stack(found, axis=2).reshape(len(d), -1)


DOWNSAMPLERS: dict[str, Callable[..., np.ndarray]] = {
    "rect": _rect,
    "average": _average,
    "sum": _sum,
    "last": _last,
    "lanczos": _lanczos,
    "sinc": _sinc,
    "gabor": _gabor,
}


def delay(
    features: Shaped[np.ndarray, "samples features"], delays: Sequence[int | float], *, circular: bool = False
) -> Shaped[np.ndarray, "samples columns"]:
    """Copies of the features at several delays, side by side: a finite impulse response.

    ``out[t, block k] = features[t - delays[k]]``

    Parameters
    ----------
    features : ndarray, shape (samples, features)
        Features of one run; delay runs one by one, so that no run reaches into the next.
    delays : sequence of int
        In samples, each less than the run is long; a negative delay looks ahead.
    circular : bool
        Wrap around in place of zeros.

    Returns
    -------
    ndarray, shape (samples, delays * features)
        A block of all features for each delay, in the order given.

    Raises
    ------
    ValueError
        If there are no delays, or one is no whole number or longer than the run.

    Examples
    --------
    >>> delay(np.array([[1.0], [2.0], [3.0]]), [0, 1]).tolist()
    [[1.0, 0.0], [2.0, 1.0], [3.0, 2.0]]
    """
    features = np.asarray(features)
    if features.ndim != 2:
        raise ValueError(f"features of shape {features.shape}; expected (samples, features)")
    n = len(features)
    if not len(delays) or any(int(one) != one or abs(one) >= n for one in delays):
        raise ValueError(f"delays={list(delays)} for {n} samples; expected whole numbers below that, such as [1, 2, 3]")
    blocks = []
    for shift in map(int, delays):
        block = np.roll(features, shift, axis=0)
        if not circular and shift > 0:
            block[:shift] = 0
        elif not circular and shift < 0:
            block[shift:] = 0
        blocks.append(block)
    return np.hstack(blocks)


def convolve_hrf(
    values: Shaped[np.ndarray, "words features"],
    times_s: Shaped[np.ndarray, " times"],
    scan_times_s: Shaped[np.ndarray, " scans"],
    *,
    duration_s: float | Sequence[float] | np.ndarray = 0.0,
    hrf: str = "spm",
    oversampling: int = 20,
) -> Float[np.ndarray, "scans features"]:
    """Features convolved with a canonical haemodynamic response, at the times of scans.

    ``out_j(T) = sum over words w of values[w, j] (h * boxcar(time_w, duration_w))(T)``, by nilearn; an impulse where
    the duration is 0. The alternative to `downsample` and `delay`: one column per feature, its shape assumed.

    Parameters
    ----------
    values, times_s, scan_times_s : ndarray
        As in `downsample`; nilearn asks that the scans be evenly spaced.
    duration_s : float or sequence of float
        How long each word lasts.
    hrf : str
        As nilearn names it: "spm", "glover".
    oversampling : int
        Steps per scan of the convolution.

    Returns
    -------
    ndarray of float64, shape (scans, features)
        Regressors.

    Raises
    ------
    ValueError
        As `downsample`, or if the response has more than one column (derivatives).
    """
    from nilearn.glm.first_level import compute_regressor

    values = np.asarray(values, dtype=np.float64)
    times_s, scan_times_s = np.asarray(times_s, dtype=np.float64), np.asarray(scan_times_s, dtype=np.float64)
    _checked_tr(values, times_s, scan_times_s)
    if hrf not in ("spm", "glover"):
        raise ValueError(f"hrf={hrf!r}; expected 'spm' or 'glover', which have one column per feature")
    lasting = np.broadcast_to(np.asarray(duration_s, dtype=np.float64), times_s.shape)
    columns = [
        compute_regressor(
            np.vstack([times_s, lasting, column]), hrf, scan_times_s, oversampling=oversampling, min_onset=-24
        )[0][:, 0]
        for column in values.T
    ]
    return np.stack(columns, axis=1)


def trim(
    array: Shaped[np.ndarray, "samples ..."], runs: Shaped[np.ndarray, " entries"], start: int = 0, end: int = 0
) -> Shaped[np.ndarray, "kept ..."]:
    """Cut so many samples from the start and the end of every run (of runs given one after the other)."""
    return np.asarray(array)[_kept(np.asarray(runs), start, end)]


def _kept(runs: np.ndarray, start: int, end: int) -> Int[np.ndarray, " kept"]:
    if start < 0 or end < 0:
        raise ValueError(f"start={start}, end={end}; expected numbers of samples, 0 or more")
    kept = []
    for run in dict.fromkeys(runs.tolist()):
        members = np.flatnonzero(runs == run)
        if len(members) <= start + end:
            raise ValueError(f"run {run!r} has {len(members)} samples; trimming {start} + {end} leaves none: trim less")
        kept.append(members[start : len(members) - end])
    return np.concatenate(kept)


def zscore_runs(
    array: Shaped[np.ndarray, "samples columns"], runs: Shaped[np.ndarray, " entries"]
) -> Float[np.ndarray, "samples columns"]:
    """Each column of each run less its mean, over its standard deviation; a column constant in a run becomes 0 there.

    A run's statistics are its own, so nothing leaks from one run into another.
    """
    array, runs = np.asarray(array, dtype=np.float64), np.asarray(runs)
    if len(array) != len(runs):
        raise ValueError(f"{len(array)} samples for {len(runs)} entries of runs; expected one run per sample")
    out = np.empty_like(array)
    for run in dict.fromkeys(runs.tolist()):
        members = runs == run
        part = array[members] - array[members].mean(axis=0)
        sd = part.std(axis=0)
        # a constant has a standard deviation of rounding errors
        sd[sd <= 1e-12 * np.abs(array[members]).max(axis=0, initial=0.0)] = np.inf
        out[members] = part / np.where(sd == 0, np.inf, sd)
    return out
