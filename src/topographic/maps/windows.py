"""Over how many words a unit integrates, and whether its window is yoked to positions or to sentences."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from topographic.maps.nulls import check_draws, noise_floor, permuted_null
from topographic.maps.unit_map import UnitMap
from topographic.maps.window_fit import fit_windows
from topographic.recording.swaps import SwapDifferences

__all__ = ["integration_maps", "integration_windows", "yoking_map"]

_N_SETTLING = 2  # no window uses a swap of one of the first words, which have hardly a context


def integration_windows(differences: SwapDifferences) -> Float[np.ndarray, "units lags"]:
    """How much of a word's effect on a unit is left some words later.

    ``w_u(d) = median over j of D[j - d, d, u] / D[j, 0, u]``, over all words ``j`` that have every lag.

    Parameters
    ----------
    differences : SwapDifferences
        Differences of one site, lag 0 among the lags.

    Returns
    -------
    ndarray of float64, shape (units, lags)
        Windows, 1 at lag 0; NaN for units that do not answer to a swap of the word itself at half of the
        words or more (dead units).

    Raises
    ------
    ValueError
        If lag 0 is missing or no word has every lag.

    Notes
    -----
    Every lag is a median over the same measured words. The paper first divides by the median over swaps of
    ``D[i, 0]``, which cancels out, and writes a mean over ``j`` where its code takes the median.

    References
    ----------
    Skrill & Norman-Haignere 2023, NeurIPS 36; their code dskrill/TemporalIntegration.
    """
    lags, n_words = np.array(differences.lags), len(differences.values)
    measured = np.arange(lags.max() + _N_SETTLING, n_words + min(lags.min(), 0))
    if 0 not in lags or not len(measured):
        raise ValueError(
            f"differences at {differences.site!r} have lags {differences.lags} in sequences of {n_words} words; a "
            f"window needs lag 0 and more than {np.ptp([*lags, 0]) + _N_SETTLING} words: record longer sequences or "
            "fewer lags"
        )
    changes = differences.values[measured[:, None] - lags, np.arange(len(lags))]  # (words, lags, units)
    own = changes[:, differences.lags.index(0)]
    answers = _typical_change(differences) > 0
    windows = np.full((differences.sheet.n_units, len(lags)), np.nan)
    own, changes = own[:, None, answers].astype(np.float64), changes[:, :, answers]
    ratio = np.divide(changes, own, out=np.full(changes.shape, np.nan), where=own > 0)
    silent = np.isnan(ratio).all(axis=(0, 1))
    windows[np.flatnonzero(answers)[~silent]] = np.nanmedian(ratio[:, :, ~silent], axis=0).T
    return windows


def integration_maps(
    differences: SwapDifferences, *, identifiable: float = 0.05, n_draws: int = 0, seed: int = 0
) -> dict[str, UnitMap]:
    """Maps of the parameters of the integration windows, fitted by a power law mixed with an exponential.

    ``w_u(d) ~ c_u (d + 1)^(-a_u) + (1 - c_u) exp(-b_u d)``, with a and b in [0, 10] and c in [0, 1].

    Parameters
    ----------
    differences : SwapDifferences
        Differences of one site at lags from 0 up.
    identifiable : float
        What hardly enters the curve has no value: a where ``c < identifiable``, b where
        ``c > 1 - identifiable``, and all three for windows that any mixture fits, which never fall below
        ``1 - identifiable`` or stay below ``identifiable`` from the first word on.
    n_draws : int
        Draws of the unit null and of the floor; 0 for none, otherwise at least 2.
    seed : int
        Seed of the nulls.

    Returns
    -------
    dict of str to UnitMap
        "a" (exponent of the power law), "b" (rate of the exponential per word), "c" (share of the power
        law) and "rmse" (what the curve leaves over); their statistics are "integration_a" and so on.
        NaN for units that do not answer to words.

    Raises
    ------
    ValueError
        If there are negative lags or fewer than four, no word has every lag, or ``identifiable`` is not in [0, 0.5).

    Notes
    -----
    By the formula a larger a is a faster decline, although the paper's words say the opposite. Which
    parameter TopoNets paints on its sheets is not stated.

    An untrained GPT-2 of the small size has windows that drop at once to a plateau (medians a = 0, b = 10,
    c = 0.1 in its first MLP layers): compare a trained model with that.

    References
    ----------
    Skrill & Norman-Haignere 2023, NeurIPS 36; Deb et al. 2025, TopoNets, ICLR.
    """
    check_draws(n_draws, seed)
    if not 0 <= identifiable < 0.5:
        raise ValueError(f"identifiable={identifiable}; expected a share from 0 to below 0.5")
    windows = integration_windows(differences)
    fit = fit_windows(windows, differences.lags)
    later = windows[:, [column for column, lag in enumerate(differences.lags) if lag > 0]]
    is_flat, is_instant = later.min(axis=1) > 1 - identifiable, later.max(axis=1) < identifiable
    is_free = {"a": fit.c < identifiable, "b": fit.c > 1 - identifiable, "c": np.zeros_like(is_flat)}
    values = {
        **{name: np.where(free | is_flat | is_instant, np.nan, getattr(fit, name)) for name, free in is_free.items()},
        "rmse": fit.rmse,
    }
    details = {"identifiable": identifiable}
    return {
        name: _mapped(differences, f"integration_{name}", map_values, details, (n_draws, seed))
        for name, map_values in values.items()
    }


def yoking_map(differences: SwapDifferences, *, sentence_words: int = 12, n_draws: int = 0, seed: int = 0) -> UnitMap:
    """How much of a unit's integration stops at the end of a sentence.

    ``f(j + 1) = mean over k = 0 .. n - 2 of (D[j + 1, k] - D[j, k]) / median_i D[i, 0]``, the index is the mean
    of ``f`` over the first words of all sentences but the first; ``n`` is the number of words in a sentence.

    Parameters
    ----------
    differences : SwapDifferences
        Differences of one site to sequences of sentences of equal length (`sentence_blocks`), best with swaps
        of equal size (`embedding_matched_word`); at least the lags 0 to n - 2.
    sentence_words : int
        Words per sentence, ``n``.
    n_draws : int
        Draws of the unit null and of the floor; 0 for none, otherwise at least 2.
    seed : int
        Seed of the nulls.

    Returns
    -------
    UnitMap
        Index of each unit, statistic "structure_yoking": positive where the effect of a sentence's last word
        is cut off in comparison with that of the next sentence's first word, about 0 for windows that
        know positions only. NaN for units that do not answer to words.

    Raises
    ------
    ValueError
        If a lag is missing or no sentence but the first is followed by enough words.

    References
    ----------
    Skrill & Norman-Haignere 2023, NeurIPS 36; their code dskrill/TemporalIntegration.
    """
    check_draws(n_draws, seed)
    n_words, needed = len(differences.values), range(sentence_words - 1)
    missing = [lag for lag in needed if lag not in differences.lags]
    if sentence_words < 2 or missing or n_words < 2 * sentence_words - 1:
        raise ValueError(
            f"differences at {differences.site!r} have lags {differences.lags} in sequences of {n_words} words; "
            f"sentences of {sentence_words} words (2 or more) need the lags 0 to {sentence_words - 2} and at least two "
            "sentences: record these, or give the true sentence_words"
        )
    columns = [differences.lags.index(lag) for lag in needed]
    reach = differences.values[:, columns].mean(axis=1, dtype=np.float64)  # NaN near the end, where lags are missing
    firsts = np.arange(sentence_words, n_words - sentence_words + 2, sentence_words)
    drop = (reach[firsts] - reach[firsts - 1]).mean(axis=0)
    typical = _typical_change(differences)
    index = np.divide(drop, typical, out=np.full(len(drop), np.nan), where=typical > 0)
    return _mapped(differences, "structure_yoking", index, {"sentence_words": sentence_words}, (n_draws, seed))


def _typical_change(differences: SwapDifferences) -> Float[np.ndarray, " units"]:
    """Median change at the swapped word itself."""
    return np.median(differences.values[:, differences.lags.index(0)], axis=0).astype(np.float64)


def _mapped(
    differences: SwapDifferences,
    statistic: str,
    values: Float[np.ndarray, " units"],
    details: Mapping[str, int | float],
    draws_and_seed: tuple[int, int],
) -> UnitMap:
    n_draws, seed = draws_and_seed
    provenance = {**differences.provenance, "lags": list(differences.lags), **details, "n_draws": n_draws, "seed": seed}
    unit_map = UnitMap(differences.site, values, differences.sheet, statistic, provenance=provenance)
    if not n_draws:
        return unit_map
    return noise_floor(permuted_null(unit_map, n_draws=n_draws, seed=seed), n_draws=n_draws, seed=seed)
