"""Features without meaning, and what a model adds to them: no score stands alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from scipy.ndimage import gaussian_filter1d

from topographic.brain.downsample import downsample
from topographic.brain.encoding import Encoding, encode
from topographic.recording.alignment import align_words

__all__ = [
    "beside_controls",
    "exponential_features",
    "orthogonal_autocorrelated_features",
    "word_columns",
    "word_controls",
]


def orthogonal_autocorrelated_features(
    groups: Shaped[np.ndarray, " samples"], sigma_samples: float | int = 1.0
) -> Float[np.ndarray, "samples samples"]:
    """Features that say only which samples of a group are neighbours (OASM).

    An indicator per sample, smoothed by a Gaussian over the samples of its group: nothing is shared between groups, so
    a score above 0 from these says that folds leak.

    Parameters
    ----------
    groups : ndarray, shape (samples,)
        Passage, story, run or sentence of each sample; the samples of a group in order.
    sigma_samples : float
        Width in samples; 0 leaves the indicators as they are.

    Returns
    -------
    ndarray, shape (samples, samples)
        Block-diagonal.

    Raises
    ------
    ValueError
        If the width is negative.

    References
    ----------
    Hadidi, Feghhi, Song, Blank & Kao 2025; Brain-Score's ``oasm``.

    Examples
    --------
    >>> orthogonal_autocorrelated_features(np.array(["a", "a", "b"]), 1.0).round(2).tolist()
    [[0.65, 0.35, 0.0], [0.35, 0.65, 0.0], [0.0, 0.0, 1.0]]
    """
    if not 0 <= sigma_samples < np.inf:
        raise ValueError(f"sigma_samples={sigma_samples}; expected a number of samples, 0 or more")
    groups = np.asarray(groups)
    found = np.eye(len(groups))
    for group in dict.fromkeys(groups.tolist()):
        members = np.flatnonzero(groups == group)
        block = np.eye(len(members))
        found[np.ix_(members, members)] = (
            gaussian_filter1d(block, sigma_samples, axis=0, mode="reflect") if sigma_samples else block
        )
    return found


def exponential_features(
    n_samples: int, correlation_length: float | int = 100.0, n_columns: int = 128
) -> Float[np.ndarray, "samples columns"]:
    """LITcoder's control without content: the leading directions of ``R_ij = exp(-|i - j| / length)``.

    ``U sqrt(s)`` of ``R = U s U'``; at most as many columns as samples.

    Parameters
    ----------
    n_samples : int
        Samples of the recording.
    correlation_length : float
        In samples.
    n_columns : int
        Columns kept.

    Returns
    -------
    ndarray, shape (samples, columns)
        Their signs are arbitrary.

    Raises
    ------
    ValueError
        If the length is not positive.
    """
    if not 0 < correlation_length < np.inf:
        raise ValueError(f"correlation_length={correlation_length}; expected a positive number of samples")
    index = np.arange(n_samples)
    values, vectors = np.linalg.eigh(np.exp(-np.abs(index[:, None] - index) / correlation_length))
    order = np.argsort(values)[::-1][:n_columns]
    return vectors[:, order] * np.sqrt(np.maximum(values[order], 0))


def word_columns(
    words: Sequence[str],
    tokenizer: Any = None,
    log_frequencies: Sequence[float] | np.ndarray | None = None,
) -> dict[str, Float[np.ndarray, " words"]]:
    """What the words of one run hold besides meaning: that they are there, letters, tokens, frequency."""
    columns = {"word rate": np.ones(len(words)), "word length": np.array([len(word) for word in words], dtype=float)}
    if tokenizer is not None:
        columns["tokens"] = align_words(tokenizer, words).n_tokens.astype(np.float64)
    if log_frequencies is not None:
        columns["log frequency"] = np.asarray(log_frequencies, dtype=np.float64)
    return columns


def word_controls(
    words: Sequence[str],
    times_s: Shaped[np.ndarray, " times"],
    scan_times_s: Shaped[np.ndarray, " scans"],
    *,
    tokenizer: Any = None,
    log_frequencies: Sequence[float] | np.ndarray | None = None,
    method: str = "lanczos",
    **options: Any,
) -> dict[str, Float[np.ndarray, "scans 1"]]:
    """What a story holds besides meaning, at the times of scans: rate, length, tokens, position, frequency of words.

    Parameters
    ----------
    words : sequence of str
        The words of one run.
    times_s, scan_times_s : ndarray
        Their onsets and the scans.
    tokenizer : PreTrainedTokenizerFast, optional
        Of the model that stands beside the controls: the state after a word tells into how many tokens it falls.
    log_frequencies : sequence of float, optional
        Of each word.
    method, **options
        As in `downsample`, so that controls come to the scans as features do.

    Returns
    -------
    dict of str to ndarray, shape (scans, 1)
        "word rate", "word length" (letters), "position" (scan's share of the run, centred), and where given "tokens"
        (`AlignedWords`: a word within the token of another has none) and "log frequency".

    Raises
    ------
    ValueError
        If there is not one onset or frequency per word, or as `align_words`.
    """
    columns = word_columns(words, tokenizer, log_frequencies)
    for name, values in columns.items():
        if len(values) != len(times_s):
            raise ValueError(f"{len(values)} entries of {name!r} for {len(times_s)} onsets; expected one per word")
    found = {
        name: downsample(values[:, None], times_s, scan_times_s, method, **options) for name, values in columns.items()
    }
    found["position"] = np.linspace(-1, 1, len(scan_times_s))[:, None]
    return found


def beside_controls(
    features: Mapping[str, np.ndarray] | Shaped[np.ndarray, "samples features"],
    controls: Mapping[str, np.ndarray],
    targets: Shaped[np.ndarray, "rows targets"],
    **options: Any,
) -> tuple[pd.DataFrame, dict[str, Encoding]]:
    """A model's score beside that of controls, and what each adds to the other.

    Three fits on the same folds: model, controls (each a band), both. ``added = R2(both) - R2(controls)``, ``shared =
    R2(model) + R2(controls) - R2(both)``. Negative parts are left as they are: they are noise, or a model that hurts.

    Parameters
    ----------
    features : ndarray or mapping of band to ndarray
        The model's.
    controls : mapping of str to ndarray
        Of the same samples: word rate, length, position, an embedding layer, an untrained model, motion ...
    targets : ndarray, shape (samples, targets)
        The recording.
    **options
        Of `encode`.

    Returns
    -------
    table : DataFrame
        One row per target: "r model", "r controls", "r both", and R2 as "r2 model", "r2 controls", "r2 both", "added by
        model", "added by controls", "shared".
    fits : dict of str to Encoding
        "model", "controls", "both".

    Raises
    ------
    ValueError
        As `encode`, or if there are no controls or a band has the name of a control.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, length = rng.normal(size=(120, 3)), rng.normal(size=(120, 1))
    >>> y = x @ rng.normal(size=(3, 2)) + length + rng.normal(size=(120, 2))
    >>> table, _ = beside_controls(x, {"length": length}, y, n_band_draws=5, progress=False)
    >>> bool((table["added by model"] > 0).all())
    True
    """
    model = dict(features) if isinstance(features, Mapping) else {"model": features}
    if not controls:
        raise ValueError("no controls; give {name: array (samples, columns)}, such as word_controls makes them")
    if twice := sorted(set(model) & set(controls)):
        raise ValueError(f"{twice} name a band of the model and a control; rename one")
    fits = {
        name: encode(bands, targets, **options)
        for name, bands in (("model", model), ("controls", dict(controls)), ("both", model | dict(controls)))
    }
    table = pd.DataFrame({
        f"{score} {name}": getattr(fit, score) for score in ("r", "r2") for name, fit in fits.items()
    })
    table["added by model"] = table["r2 both"] - table["r2 controls"]
    table["added by controls"] = table["r2 both"] - table["r2 model"]
    table["shared"] = table["r2 model"] + table["r2 controls"] - table["r2 both"]
    return table.rename_axis("target"), fits
