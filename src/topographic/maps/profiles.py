"""Response profiles: what chosen units do in every condition, measured on items that did not choose them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from topographic.maps.independence import check_independent, chosen_by
from topographic.maps.nulls import check_seed
from topographic.maps.selection import Selection
from topographic.maps.stability import split_half
from topographic.recording.responses import Responses

__all__ = ["Profile", "cross_fitted_profile", "held_out", "ordering_counts", "response_profile"]

_SHARE_WITHOUT_SPREAD = 0.01  # of the samples, above which they say too little: four items or fewer, or many equal ones


@dataclass(frozen=True, eq=False)
class Profile:
    """Mean response of some units in each condition, with intervals over the items.

    Parameters
    ----------
    name : str
        What the units are.
    n_units : int
        How many.
    conditions : tuple of str
        Names of the conditions.
    means, low, high : ndarray, shape (conditions,)
        Mean over units and items, and the limits of its interval at 95 %.
    n_items : ndarray of int, shape (conditions,)
        Items of each condition.
    absolute : bool
        Whether the responses were made absolute before they were averaged.
    """

    name: str
    n_units: int
    conditions: tuple[str, ...]
    means: Float[np.ndarray, " conditions"]
    low: Float[np.ndarray, " conditions"]
    high: Float[np.ndarray, " conditions"]
    n_items: Int[np.ndarray, " conditions"]
    absolute: bool = False

    @property
    def ordering(self) -> str:
        """Conditions from the largest mean to the smallest: "S>W>N>J"; whole names where initials coincide."""
        initials = [name[:1].upper() for name in self.conditions]
        names = initials if len(set(initials)) == len(initials) else list(self.conditions)
        return ">".join(names[index] for index in np.argsort(-self.means, kind="stable"))

    def to_rows(self) -> list[dict[str, Any]]:
        """One row per condition."""
        numbers = zip(self.n_items.tolist(), self.means.tolist(), self.low.tolist(), self.high.tolist(), strict=True)
        fixed = {"units": self.name, "n_units": self.n_units, "absolute": self.absolute}
        return [
            {**fixed, "condition": condition, "n_items": n_items, "mean": mean, "low": low, "high": high}
            for condition, (n_items, mean, low, high) in zip(self.conditions, numbers, strict=True)
        ]


def response_profile(
    responses: Mapping[str, Responses],
    selection: Selection | Sequence[Selection],
    conditions: Sequence[str] | None = None,
    *,
    absolute: bool = False,
    circular: bool = False,
    name: str | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Profile:
    """Mean response of chosen units in each condition, with bootstrap intervals over the items.

    ``m_c = mean over items i of c of r_i`` with ``r_i = mean over chosen units u of a_iu`` (or of ``|a_iu|``). The
    interval is studentised, ``m_c - q s_c`` with ``s_c`` the standard error and ``q`` the quantiles at .975 and .025 of
    ``(m* - m_c) / s*`` over samples, with replacement, of the items of the condition. Where more than 1 % of the
    samples are one value over and over (four items or fewer, many equal ones) ``q`` are those of Student's t.

    Where the set says what was sampled (``sampled_by``: word, passage, person) whole groups of items are drawn again,
    with ``s_c`` the error of a mean over groups, ``s_c^2 = G / (G - 1) sum over groups g of e_g^2 / n^2`` and ``e_g``
    the sum over its items of ``r_i - m_c`` (as items are, where each is a group).

    Parameters
    ----------
    responses : mapping of site to Responses
        Responses to items that did not choose the units, at least of the sites that hold chosen units.
    selection : Selection or sequence of Selection
        A cluster, or the parts of a network, one or several sites; units count alike, wherever they lie.
    conditions : sequence of str, optional
        Which conditions, in which order; all by default.
    absolute : bool
        Average absolute responses, as published for TopoLM. A unit that goes from +1 to -1 counts as unchanged then.
    circular : bool
        Allow items by which the units were chosen. Such a profile shows the contrast of the localizer even where
        there is nothing but noise.
    name : str, optional
        What to call the units; their rule by default.
    n_bootstrap : int
        Samples.
    seed : int
        Seed of the samples.

    Returns
    -------
    Profile
        Means and intervals at 95 %.

    Raises
    ------
    ValueError
        If no unit is chosen, a site has no responses or lies on another sheet than its selection (units are not
        readout sites), a condition does not exist or has fewer than 2 items or groups, or items are not independent.

    Notes
    -----
    Coverage of the mean, measured at 5, 10, 20 and 60 items: .93 to .95 where items are normal, and .88, .89, .93 and
    .92 where they are lognormal (skewness 6), of which Student's t covers .81, .83, .88 and .90 and percentiles of a
    bootstrap fewer still. Of 8 groups of 5 items that share half of their variance .94, where
    intervals over single items cover less than .85.

    Released code for TopoLM averages over all sites of a sheet with zeros outside the cluster, so that its values
    grow with the size of the cluster; here they do not depend on it.

    References
    ----------
    Fedorenko, Behr & Kanwisher 2011, PNAS 108; TopoLM (arXiv:2410.11516), figure 2; for independent data
    Kriegeskorte et al. 2009, Nat. Neurosci. 12; Efron & Tibshirani 1993, ch. 12.5.
    """
    if n_bootstrap < 2:
        raise ValueError(f"n_bootstrap={n_bootstrap}; expected at least 2 samples, 1000 for an interval at 95 %")
    check_seed(seed)
    parts = [selection] if isinstance(selection, Selection) else list(selection)
    parts = [part for part in parts if part.n_selected]
    if not parts:
        raise ValueError("no unit is selected; loosen the rule that made the selection")
    for part in parts:
        _check_fit(responses, part, circular)
    stimuli = responses[parts[0].site].stimuli
    per_item = _mean_over_units(responses, parts, absolute)
    names = tuple(stimuli.condition_names if conditions is None else conditions)
    sampled = None if stimuli.sampled_by is None else np.asarray(stimuli.labels[stimuli.sampled_by])
    generator = np.random.default_rng(seed)
    means, limits, n_items = [], [], []
    for condition in names:
        inside = np.array(stimuli.conditions) == condition
        values = per_item[inside]
        if len(values) < 2:
            raise ValueError(f"condition {condition!r} has {len(values)} items in {stimuli!r}; an interval needs 2")
        groups = np.arange(len(values)) if sampled is None else np.unique(sampled[inside], return_inverse=True)[1]
        if groups.max() == 0:
            raise ValueError(
                f"condition {condition!r} has 1 {stimuli.sampled_by} in {stimuli!r}, which was sampled by it; an "
                "interval needs 2, or replace(stimuli, sampled_by=None) to speak of these items only"
            )
        means.append(values.mean())
        limits.append(_limits(values, groups, n_bootstrap, generator))
        n_items.append(len(values))
    low, high = np.array(limits).T
    n_units = sum(part.n_selected for part in parts)
    return Profile(name or parts[0].rule, n_units, names, np.array(means), low, high, np.array(n_items), absolute)


def cross_fitted_profile(
    responses: Mapping[str, Responses],
    choose: Callable[[dict[str, Responses]], Selection | Iterable[Selection]],
    conditions: Sequence[str] | None = None,
    *,
    absolute: bool = False,
    name: str | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Profile:
    """Choose units on each half of the runs, profile them on the other, and average both profiles.

    ``m_c = (m_c1 + m_c2) / 2``, and likewise the limits: as wide as the interval of one half. Both halves say much the
    same (each chooses for the other), so that an interval over all items at once would be too narrow.

    Parameters
    ----------
    responses : mapping of site to Responses
        Several sites, one stimulus set; its halves are those of `split_half`.
    choose : callable
        ``responses -> Selection`` or several of them, called with each half.
    conditions, absolute, name, n_bootstrap, seed
        As in `response_profile`.

    Returns
    -------
    Profile
        Over the items of both halves; ``n_units`` counts a unit once that both halves chose.

    Raises
    ------
    ValueError
        As `response_profile`, for either half: also if ``choose`` looked at other items than it was given.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.maps import localize
    >>> from topographic.recording import Responses
    >>> from topographic.sheets import grid
    >>> from topographic.stimuli import StimulusSet
    >>> shown = StimulusSet("s", tuple("abcdefghijkl"), ("words", "strings") * 6, ("1",) * 6 + ("2",) * 6)
    >>> noise = {"x": Responses("x", np.random.default_rng(0).standard_normal((12, 100)), grid(100), shown)}
    >>> choose = lambda half: localize(half, "words", "strings", rule="top", level=0.1).values()
    >>> words, strings = cross_fitted_profile(noise, choose).to_rows()
    >>> words["low"] < strings["high"]
    True
    """
    halves = split_half(responses)
    names = next(iter(responses.values())).stimuli.condition_names if conditions is None else conditions
    options = {"absolute": absolute, "name": name, "n_bootstrap": n_bootstrap, "seed": seed}
    profiles: list[Profile] = []
    either: dict[str, np.ndarray] = {}
    for choosing, shown in (halves, halves[::-1]):
        chosen = choose(choosing)
        parts = [chosen] if isinstance(chosen, Selection) else list(chosen)
        profiles.append(response_profile(shown, parts, names, **options))
        either |= {part.site: part.mask | either.get(part.site, False) for part in parts}
    averaged = {of: np.mean([getattr(one, of) for one in profiles], axis=0) for of in ("means", "low", "high")}
    n_units = int(sum(mask.sum() for mask in either.values()))
    return replace(profiles[0], n_units=n_units, n_items=profiles[0].n_items + profiles[1].n_items, **averaged)


def held_out(responses: Mapping[str, Responses], selection: Selection | Sequence[Selection]) -> dict[str, Responses]:
    """The runs in which no item chose the units.

    Parameters
    ----------
    responses : mapping of site to Responses
        Several sites, one stimulus set.
    selection : Selection or sequence of Selection
        Made by `localize`, or from maps of `t_map`, `effect_size_map` or `localizer_maps`.

    Returns
    -------
    dict of site to Responses
        The items of those runs.

    Raises
    ------
    ValueError
        If no run is left, or a selection does not say by which items it was made.
    """
    parts = [selection] if isinstance(selection, Selection) else list(selection)
    stimuli = next(iter(responses.values())).stimuli
    seen = np.zeros(len(stimuli), bool)
    for part in parts:
        seen |= chosen_by(part, stimuli.items)
    runs = np.array(stimuli.runs)
    kept = np.flatnonzero(~np.isin(runs, runs[seen]))
    if not len(kept):
        raise ValueError(
            f"every run of {stimuli!r} holds items that chose the units; localize on one half of the runs (split_half)"
        )
    return {site: one.take(kept) for site, one in responses.items()}


def ordering_counts(profiles: Sequence[Profile]) -> dict[str, int]:
    """How many profiles have their conditions in which order.

    Parameters
    ----------
    profiles : sequence of Profile
        One per cluster.

    Returns
    -------
    dict of str to int
        Such as ``{"S>W>N>J": 37, "S>W>J>N": 9}``, the most frequent first.
    """
    return dict(Counter(profile.ordering for profile in profiles).most_common())


def _mean_over_units(
    responses: Mapping[str, Responses], parts: Sequence[Selection], absolute: bool
) -> Float[np.ndarray, " items"]:
    chosen = [responses[part.site].values[:, part.mask].astype(np.float64) for part in parts]
    together = np.concatenate(chosen, axis=1)
    return (np.abs(together) if absolute else together).mean(1)


def _limits(
    values: Float[np.ndarray, " items"],
    groups: Int[np.ndarray, " items"],
    n_bootstrap: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Limits at 95 % of the mean that the groups are a sample of, by a studentised bootstrap."""
    sizes, sums = np.bincount(groups).astype(float), np.bincount(groups, weights=values)
    n_groups, mean = len(sizes), float(values.mean())
    spread = float(_spread(sizes[None], sums[None])[1][0])
    _, equal = np.unique(np.stack([sizes, sums]), axis=1, return_counts=True)
    if ((equal / n_groups) ** n_groups).sum() > _SHARE_WITHOUT_SPREAD:
        tails = stats.t.ppf([0.025, 0.975], n_groups - 1)
    else:
        drawn = generator.integers(n_groups, size=(n_bootstrap, n_groups))
        means, spreads = _spread(sizes[drawn], sums[drawn])
        varies = spreads > 1e-9 * spread  # one value drawn n times says nothing of its error
        tails = np.percentile((means - mean)[varies] / spreads[varies], [2.5, 97.5])
    return mean - float(tails[1]) * spread, mean - float(tails[0]) * spread


def _spread(
    sizes: Float[np.ndarray, "draws groups"], sums: Float[np.ndarray, "draws groups"]
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """Mean over the items of some groups, and its standard error over groups."""
    n_groups, n_items = sizes.shape[-1], sizes.sum(-1)
    mean = sums.sum(-1) / n_items
    off = sums - sizes * mean[:, None]
    return mean, np.sqrt(n_groups / (n_groups - 1) * np.square(off).sum(-1)) / n_items


def _check_fit(responses: Mapping[str, Responses], part: Selection, circular: bool) -> None:
    if part.site not in responses:
        raise ValueError(f"no responses at {part.site!r}, where {part.n_selected} units are selected; record that site")
    sheet = responses[part.site].sheet
    if sheet.checksum != part.sheet.checksum:
        kinds = ["readout sites" if one.is_readout else "units" for one in (part.sheet, sheet)]
        raise ValueError(
            f"the selection at {part.site!r} is of {part.sheet.n_units} {kinds[0]} and the responses are those of "
            f"{sheet.n_units} {kinds[1]} on another sheet; make both with the same layout and fwhm_mm"
        )
    if not circular:
        check_independent(responses[part.site], part)
