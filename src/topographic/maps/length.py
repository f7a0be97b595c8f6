"""Contrasts between conditions that differ in the number of tokens."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import stdtr

from topographic.maps.contrasts import Conditions, sampled_groups, t_map, without_infinite
from topographic.maps.nulls import check_seed
from topographic.maps.references import NotMeasurable
from topographic.maps.two_sample import side_means
from topographic.maps.unit_map import UnitMap
from topographic.recording.readout import readout
from topographic.recording.responses import Responses

__all__ = ["length_adjusted_map", "match_length"]

# below this share of the total variation a residual is rounding error
_ROUNDING = 1e-12


def match_length(
    responses: Mapping[str, Responses], condition: Conditions, baseline: Conditions, *, seed: int = 0
) -> dict[str, Responses]:
    """As many items of each length in the condition as in the baseline.

    For every number of tokens ``n`` the smaller of the two groups stays whole and as many items are drawn from the
    larger one, so that both sides have the same distribution of lengths.

    Parameters
    ----------
    responses : mapping of site to Responses
        What `record` returns, with ``n_tokens``.
    condition, baseline : str or sequence of str
        Names of the conditions to compare; items of other conditions are left out.
    seed : int
        Seed of the draws; the same items are kept at every site.

    Returns
    -------
    dict of site to Responses
        The items that are kept, in their order.

    Raises
    ------
    ValueError
        If the responses carry no token counts, or fewer than 2 items a side can be kept.
    """
    check_seed(seed)
    generator = np.random.default_rng(seed)
    first = next(iter(responses.values()))
    n_tokens = _token_counts(first)
    sides = [np.isin(first.stimuli.conditions, _names(names)) for names in (condition, baseline)]
    kept: list[int] = []
    for length in np.unique(n_tokens):
        groups = [np.flatnonzero(side & (n_tokens == length)) for side in sides]
        n = min(map(len, groups))
        kept += [index for group in groups for index in generator.permutation(group)[:n].tolist()]
    if len(kept) < 4:
        spans = [f"{n_tokens[side].min()} to {n_tokens[side].max()}" if side.any() else "no" for side in sides]
        raise NotMeasurable(
            f"only {len(kept) // 2} items of {'+'.join(_names(condition))} ({spans[0]} tokens) have as many tokens as "
            f"one of {'+'.join(_names(baseline))} ({spans[1]} tokens); a test needs at least 2 on each side: "
            "use length='regressed', or other items"
        )
    indices = np.sort(kept)
    return {site: one.take(indices) for site, one in responses.items()}


def length_adjusted_map(
    responses: Responses,
    condition: Conditions,
    baseline: Conditions,
    *,
    statistic: str = "welch_t",
    fwhm_mm: float = 0.0,
) -> UnitMap:
    """Condition against baseline for items of equal length, as an analysis of covariance says.

    ``r = a + d * condition + b * n_tokens + noise`` for every unit, by least squares: the slope ``b`` is that within
    the conditions, ``d = (m_1 - m_2) - b (n_1 - n_2)`` with ``m`` the mean responses and ``n`` the mean numbers of
    tokens, and ``t = d / (s sqrt(1 / N_1 + 1 / N_2 + (n_1 - n_2)^2 / S_nn))`` with ``N_1 + N_2 - 3`` degrees of
    freedom, ``S_nn`` the sum of squares of ``n_tokens`` within the conditions.

    Parameters
    ----------
    responses : Responses
        Responses of one site, with ``n_tokens``.
    condition, baseline : str or sequence of str
        Names of the conditions to compare.
    statistic : {"welch_t", "cohens_d"}
        Which map this one takes the place of: "welch_t" gives t, "cohens_d" gives ``d / s``.
    fwhm_mm : float
        Gaussian readout before the contrast; 0 for none.

    Returns
    -------
    UnitMap
        Called "adjusted_t" (with two-sided p) or "adjusted_d"; 0 where a unit never varies, and NaN, with a warning,
        where there is a difference and no rest to measure it by.

    Raises
    ------
    ValueError
        As `t_map`; also if there are no token counts, they do not vary within the conditions, or there are fewer
        than 4 items.

    Notes
    -----
    The error of the slope is part of the error of the difference. To subtract the fitted effect of length from the
    responses and to test what is left with Welch's t would leave it out: where the conditions differ much in length,
    as sentences and nonword strings do, that calls far too many units selective. The adjustment is linear; where
    the lengths do not overlap it extrapolates, and only matched items can say more. Where the stimuli say what was
    sampled (``sampled_by``), p is that of the same analysis of the groups' mean responses and mean lengths.
    """
    unit_map = t_map(responses, condition, baseline, fwhm_mm=fwhm_mm)
    seen = readout(responses, fwhm_mm)
    sides = [np.isin(seen.stimuli.conditions, _names(names)) for names in (condition, baseline)]
    items = np.flatnonzero(sides[0] | sides[1])
    lengths = _token_counts(seen)[items].astype(np.float64)
    difference, residual_sd, error = _covariance_fit(seen.values[items].astype(np.float64), lengths, sides[0][items])
    without_rest = np.where(difference == 0, 0.0, np.copysign(np.inf, difference))
    if statistic == "cohens_d":
        error = 1.0
    values = np.divide(difference, residual_sd * error, out=without_rest, where=residual_sd > 0)
    name = "adjusted_d" if statistic == "cohens_d" else "adjusted_t"
    values = without_infinite(values, unit_map.site, name)
    if statistic == "cohens_d":
        return replace(unit_map, values=values, statistic=name, p=None)
    t, n_tested = values, len(items)
    _, groups = sampled_groups(seen, items, sides[0][items])
    if groups is not None:
        table = np.column_stack([lengths, seen.values[items].astype(np.float64)])
        means, on_condition, _ = side_means(table, sides[0][items], groups)
        difference, residual_sd, error = _covariance_fit(means[:, 1:], means[:, 0], on_condition)
        n_tested, exact = len(means), np.where(difference == 0, 0.0, np.inf)
        t = np.divide(difference, residual_sd * error, out=exact, where=residual_sd > 0)
    p = np.where(np.isnan(values), np.nan, np.where(t != 0, 2.0 * stdtr(n_tested - 3, -np.abs(t)), 1.0))
    return replace(unit_map, values=values, statistic=name, p=p)


def _covariance_fit(
    values: Float[np.ndarray, "items units"],
    lengths: Float[np.ndarray, " items"],
    in_condition: Bool[np.ndarray, " items"],
) -> tuple[Float[np.ndarray, " units"], Float[np.ndarray, " units"], float]:
    """Adjusted difference, residual standard deviation, and the factor from that to the standard error."""
    groups = (in_condition, ~in_condition)
    if len(values) < 4 or not any(np.ptp(lengths[group]) for group in groups):
        raise NotMeasurable(
            f"{len(values)} items whose number of tokens does not vary within a condition, or fewer than 4; a "
            "regression on length needs items of several lengths in a condition: use other items, or length='none'"
        )
    total = values - values.mean(0)
    inner_values, inner_lengths = values.copy(), lengths.copy()
    for group in groups:
        inner_values[group] -= values[group].mean(0)
        inner_lengths[group] -= lengths[group].mean()
    spread = float(np.square(inner_lengths).sum())
    slope = inner_lengths @ inner_values / spread
    rest = np.square(inner_values - np.outer(inner_lengths, slope)).sum(0)
    rest = np.where(rest > _ROUNDING * np.square(total).sum(0), rest, 0.0)
    gap = float(lengths[groups[0]].mean() - lengths[groups[1]].mean())
    difference = values[groups[0]].mean(0) - values[groups[1]].mean(0) - slope * gap
    is_real = (rest > 0) | (np.square(difference) > _ROUNDING * np.square(total).mean(0))
    difference = np.where(is_real, difference, 0.0)
    error = float(np.sqrt(sum(1 / group.sum() for group in groups) + gap**2 / spread))
    return difference, np.sqrt(rest / (len(values) - 3)), error


def _token_counts(responses: Responses) -> Int[np.ndarray, " stimuli"]:
    if responses.n_tokens is None:
        raise ValueError(
            f"responses at {responses.site!r} carry no n_tokens, so length cannot be handled; record them with "
            "`record`, or use length='none'"
        )
    return responses.n_tokens


def _names(conditions: Conditions) -> list[str]:
    return [conditions] if isinstance(conditions, str) else list(conditions)
