"""Contrast maps: what every unit prefers, and how strongly."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from topographic.maps.collection import Maps
from topographic.maps.independence import item_digests
from topographic.maps.nulls import (
    Exchange,
    check_draws,
    exchange,
    exchangeable_blocks,
    floor_maps,
    label_maps,
    log10_relabellings,
    relabel,
    strata_of,
    stream,
    unit_maps,
    wild_maps,
)
from topographic.maps.two_sample import STATISTICS, Statistic, group_moments, grouped_p, welch_p
from topographic.maps.unit_map import UnitMap
from topographic.recording.by_site import by_site
from topographic.recording.readout import lattice_kernel, readout, readout_kernel, readout_sheet
from topographic.recording.responses import Responses

__all__ = [
    "Conditions",
    "condition_map",
    "contrast_name",
    "effect_size_map",
    "sampled_groups",
    "t_map",
    "without_infinite",
]

Conditions = str | Sequence[str]

_N_LENGTH_BINS = 10
_SAME = 0.01  # of the spread of the responses: nearer ones are to one item, which batches and padding may tell apart


@by_site(Maps)
def t_map(
    responses: Responses,
    condition: Conditions,
    baseline: Conditions,
    *,
    fwhm_mm: float = 0.0,
    n_draws: int = 0,
    exchangeable: Sequence[str] = ("run",),
    null: str | None = None,
    seed: int = 0,
) -> UnitMap:
    """Welch's t of condition against baseline for every unit, with its three null maps.

    ``t = (m_1 - m_2) / sqrt(s_1^2 / n_1 + s_2^2 / n_2)``

    Parameters
    ----------
    responses : Responses or mapping of site to Responses
        Responses of one site; of several, each is mapped alike and `Maps` come back.
    condition, baseline : str or sequence of str
        Names of the conditions to compare; several names are pooled.
    fwhm_mm : float
        Full width at half maximum of a Gaussian readout before the contrast; 0 for none. Whether
        the kernel is normalised scales each site and cannot change its t.
    n_draws : int
        Draws of each null; 0 for no null maps, otherwise at least 2.
    exchangeable : sequence of str
        The label null permutes labels only among items that agree in all of these: "run", the name
        of any label column of the stimuli, or "length", which bins the number of tokens (every count
        its own bin up to ten counts, else ten bins of about as many items). Items whose bin holds
        one side only keep their labels. Where the set says what was sampled (``sampled_by``: word, category,
        passage, pair), whole groups exchange their labels, and items of a group that has both sides do so within
        it; a column each of whose entries lies in one condition counts as said. All labellings are used once
        where they are no more than ``n_draws``.
    null : {"labels", "wild"}, optional
        Whether a null "wild" is drawn beside "label", for `cluster_mass_test`, which then uses it. The null
        hypothesis of permuted labels is that both sides have the same distribution of responses: with different
        numbers of items a larger spread on the smaller side makes large clusters. "wild" draws signs of the residuals
        about each side's mean, the same for all units (a wild bootstrap); its null hypothesis is that both sides have
        the same mean responses. By default it is drawn where single items were sampled, the sides differ in size and
        are mixed alike in every entry of ``exchangeable``; never with "labels".
    seed : int
        Seed of the nulls. The label null draws the same relabellings at every site, because all
        sites saw the same items; the other two draw differently at every site.

    Returns
    -------
    UnitMap
        t and two-sided p of each unit, with nulls "floor", "unit" and "label", each (n_draws, units), "label" of
        fewer where there are fewer labellings. Where groups were sampled p is that of the groups' means: items are
        averaged within each group first, then Welch's test compares the means of the groups, or the paired t test
        where all groups have both sides; None (and the provenance says so) where a side has one group. A unit that
        never varies has t = 0 and p = 1. One that has one value in the condition and another in the baseline would
        have an infinite t: like a unit without a value it is NaN in the map, in p and in the nulls, so that it is
        neither tested, selected nor drawn, and a warning counts these.

    Raises
    ------
    ValueError
        If a condition does not exist, has fewer than 2 items, is on both sides, if both sides hold the same items
        or nothing but one item each, if no label can be exchanged, if ``null="wild"`` cannot keep what
        ``exchangeable`` names apart, or if the responses are a readout already.

    Warns
    -----
    UserWarning
        If some items are on both sides, units have no value as said above, a label column varies between conditions
        only and the set does not say whether its entries were sampled, or one side spreads more than twice as widely
        as the other and no ``null`` is asked for.

    Notes
    -----
    Variances are unbiased (ddof 1); those of the code released with TDANN are not (ddof 0), see `welch_t`.

    References
    ----------
    Welch 1947, Biometrika 34; for the nulls Nichols & Holmes 2002, Hum. Brain Mapp. 15.
    """
    options = {"fwhm_mm": fwhm_mm, "n_draws": n_draws, "exchangeable": exchangeable, "null": null, "seed": seed}
    return _contrast_map("welch_t", responses, condition, baseline, **options)


@by_site(Maps)
def effect_size_map(
    responses: Responses,
    condition: Conditions,
    baseline: Conditions,
    *,
    fwhm_mm: float = 0.0,
    n_draws: int = 0,
    exchangeable: Sequence[str] = ("run",),
    null: str | None = None,
    seed: int = 0,
) -> UnitMap:
    """Cohen's d of condition against baseline for every unit: how strong, whatever the number of items.

    ``d = (m_1 - m_2) / sqrt(((n_1 - 1) s_1^2 + (n_2 - 1) s_2^2) / (n_1 + n_2 - 2))``

    Parameters
    ----------
    responses, condition, baseline, fwhm_mm, n_draws, exchangeable, null, seed
        As in `t_map`.

    Returns
    -------
    UnitMap
        d of each unit, without p; 0 and NaN where t is.

    Raises
    ------
    ValueError
        As `t_map`.
    """
    options = {"fwhm_mm": fwhm_mm, "n_draws": n_draws, "exchangeable": exchangeable, "null": null, "seed": seed}
    return _contrast_map("cohens_d", responses, condition, baseline, **options)


def _contrast_map(
    statistic: str,
    responses: Responses,
    condition: Conditions,
    baseline: Conditions,
    *,
    fwhm_mm: float,
    n_draws: int,
    exchangeable: Sequence[str],
    null: str | None,
    seed: int,
) -> UnitMap:
    check_draws(n_draws, seed)
    if null not in (None, "labels", "wild"):
        raise ValueError(f"null={null!r}; expected 'labels', 'wild', or None for the one that fits the sizes")
    if responses.sheet.is_readout and (fwhm_mm or n_draws):
        raise ValueError(
            f"responses at {responses.site!r} are a readout already, and its nulls begin before it; "
            "give those of the units with fwhm_mm"
        )
    items, in_condition = _items(responses, condition, baseline)
    _check_distinct(responses, items, in_condition)
    # float32 responses add up exactly in float64, so a constant unit is exactly zero from here on
    values = responses.values[items].astype(np.float64)
    values -= values.mean(0)
    sheet, kernel, seen = responses.sheet, None, values
    if fwhm_mm:
        sheet, kernel = readout_sheet(responses.sheet, fwhm_mm), readout_kernel(responses.sheet, fwhm_mm)
        seen = values @ kernel
    moments = group_moments(seen, in_condition[None])
    formula, nulls = STATISTICS[statistic], {}
    by, groups = sampled_groups(responses, items, in_condition, exchangeable)
    drawing: dict[str, Any] = {} if groups is None else {"sampled_by": by, "n_groups": len(np.unique(groups))}
    if not by:
        _warn_of_groups(responses, items, in_condition, exchangeable)
    if n_draws:
        label_nulls, drawn = _label_nulls(
            formula,
            seen,
            responses,
            items,
            in_condition,
            exchangeable,
            groups,
            by,
            null=null,
            n_draws=n_draws,
            seed=seed,
        )
        drawing |= drawn
        if groups is None and null is None and "wild" not in label_nulls:
            _warn_of_spreads(responses.site, seen, in_condition, _names(condition), _names(baseline))
        factors = lattice_kernel(responses.sheet, fwhm_mm) if fwhm_mm else None
        through = {"kernel": kernel if factors is None else factors, "n_draws": n_draws}
        floor, unit = stream(seed, "floor", responses.site), stream(seed, "unit", responses.site)
        nulls = {
            "floor": floor_maps(formula, in_condition, n_units=values.shape[1], generator=floor, **through),
            "unit": unit_maps(formula, values, in_condition, generator=unit, **through),
            **label_nulls,
        }
    found = without_infinite(formula(moments)[0], responses.site, statistic)
    p = None
    if statistic == "welch_t":
        p = welch_p(moments)[0] if groups is None else grouped_p(seen, in_condition, groups)
        if groups is not None:
            drawing["p"] = f"of the means of each {by}" if p is not None else f"none: a side has one {by}"
        p = None if p is None else np.where(np.isnan(found), np.nan, p)
    return UnitMap(
        site=responses.site,
        values=found,
        sheet=sheet,
        statistic=statistic,
        p=p,
        nulls={name: _like(found, maps) for name, maps in nulls.items()},
        provenance={
            "condition": _names(condition),
            "baseline": _names(baseline),
            "n_condition": moments.n_condition,
            "n_baseline": moments.n_baseline,
            "fwhm_mm": float(fwhm_mm),
            "n_draws": n_draws,
            "seed": seed,
            **drawing,
            **_length(responses, items, in_condition),
            "stimuli": {"name": responses.stimuli.name, "checksum": responses.stimuli.checksum},
            "items": item_digests(responses.stimuli.items[index] for index in items),
            "recording": dict(responses.provenance),
        },
    )


_WIDE = 2.0  # ratio of standard deviations that is said; at 3 clusters of equally many items reject at .11


def _warn_of_spreads(
    site: str, values: np.ndarray, in_condition: np.ndarray, condition: list[str], baseline: list[str]
) -> None:
    """Permuted labels test whether distributions are equal, spreads included: say so where they are far from it."""
    sides = {"+".join(condition): values[in_condition], "+".join(baseline): values[~in_condition]}
    spread = {name: float(np.sqrt(one.var(axis=0, ddof=1).mean())) for name, one in sides.items()}
    narrow, wide = sorted(spread, key=lambda name: spread[name])
    if spread[narrow] > 0 and spread[wide] > _WIDE * spread[narrow]:
        warnings.warn(
            f"responses at {site!r} to {wide} spread {spread[wide] / spread[narrow]:.1f} times as widely as to "
            f"{narrow}: permuted labels test equal distributions, spreads included; null='wild' tests equal means",
            stacklevel=5,
        )


def without_infinite(values: Float[np.ndarray, " units"], site: str, statistic: str) -> Float[np.ndarray, " units"]:
    """A map without the values that are infinite, and a warning that counts them."""
    exact = np.isinf(values)
    if not exact.any():
        return values
    warnings.warn(
        f"{exact.sum()} of {len(values)} units at {site!r} have one value in the condition and another in the "
        f"baseline: their {statistic} is infinite, so that the map has no value there (NaN) and they are neither "
        "tested nor selected; show items that differ within a condition",
        stacklevel=4,
    )
    return np.where(exact, np.nan, values)


def _like(
    found: Float[np.ndarray, " units"], maps: Float[np.ndarray, "draws units"]
) -> Float[np.ndarray, "draws units"]:
    """Null maps without a value where the map has none.

    A draw that by chance tells another unit apart without error gives it the largest value of that draw.
    """
    reached = np.where(np.isfinite(maps), np.abs(maps), 0).max(axis=1, keepdims=True)
    return np.where(np.isnan(found), np.nan, np.clip(maps, -reached, reached)).astype(np.float32)


@by_site(Maps)
def condition_map(
    responses: Responses, condition: Conditions, *, fwhm_mm: float = 0.0, normalized: bool = True
) -> UnitMap:
    """Mean response of every unit to one condition.

    Parameters
    ----------
    responses : Responses or mapping of site to Responses
        Responses of one site, or of several, as in `t_map`.
    condition : str or sequence of str
        Names of the conditions to average over.
    fwhm_mm : float
        Full width at half maximum of a Gaussian readout; 0 for none.
    normalized : bool
        Whether the readout's kernel is normalised at the edge of the sheet; see `readout`.

    Returns
    -------
    UnitMap
        Mean response of each unit.

    Raises
    ------
    ValueError
        If a condition does not exist.
    """
    if fwhm_mm:
        responses = readout(responses, fwhm_mm, normalized=normalized)
    items = _in_conditions(responses, condition)
    return UnitMap(
        site=responses.site,
        values=responses.values[items].mean(0, dtype=np.float64),
        sheet=responses.sheet,
        statistic="mean_response",
        provenance={
            "condition": _names(condition),
            "n_condition": int(items.sum()),
            "fwhm_mm": float(fwhm_mm),
            "stimuli": {"name": responses.stimuli.name, "checksum": responses.stimuli.checksum},
            "items": item_digests(responses.stimuli.items[index] for index in np.flatnonzero(items)),
            "recording": dict(responses.provenance),
        },
    )


def contrast_name(condition: Conditions, baseline: Conditions) -> str:
    """Name of a contrast, also of its folder: "sentences-nonwords", "nouns+verbs-rest".

    Parameters
    ----------
    condition, baseline : str or sequence of str
        Names of the conditions.

    Returns
    -------
    str
        The name.
    """
    return "+".join(_names(condition)) + "-" + "+".join(_names(baseline))


def _names(conditions: Conditions) -> list[str]:
    return [conditions] if isinstance(conditions, str) else list(conditions)


def _in_conditions(responses: Responses, conditions: Conditions) -> Bool[np.ndarray, " stimuli"]:
    stimuli = responses.stimuli
    for name in _names(conditions):
        if name not in stimuli.conditions:
            raise ValueError(
                f"stimulus set {stimuli.name!r} has no condition {name!r}; it has {list(stimuli.condition_names)}"
            )
    if not _names(conditions):
        raise ValueError(f"no condition given; stimulus set {stimuli.name!r} has {list(stimuli.condition_names)}")
    return np.isin(stimuli.conditions, _names(conditions))


def _items(
    responses: Responses, condition: Conditions, baseline: Conditions
) -> tuple[Int[np.ndarray, " items"], Bool[np.ndarray, " items"]]:
    """Items of the contrast, and which of them belong to the condition."""
    first, second = _in_conditions(responses, condition), _in_conditions(responses, baseline)
    both = set(_names(condition)) & set(_names(baseline))
    if both:
        raise ValueError(f"{sorted(both)} on both sides of the contrast; give each condition one side")
    for names, members in ((condition, first), (baseline, second)):
        if members.sum() < 2:
            raise ValueError(
                f"condition {'+'.join(_names(names))!r} has {members.sum()} item in {responses.stimuli!r}; "
                "a variance needs at least 2: add items or pool conditions"
            )
    items = np.flatnonzero(first | second)
    return items, first[items]


def _check_distinct(responses: Responses, items: np.ndarray, in_condition: np.ndarray) -> None:
    """Refuse a contrast of items with themselves, and warn where some are on both sides.

    Items are the same where their names are and the responses agree: a word in two contexts is not one item twice.
    """
    stimuli = responses.stimuli
    _, name = np.unique(np.asarray(stimuli.labels.get("pixels", stimuli.items))[items], return_inverse=True)
    counts = np.bincount(name)
    if len(counts) == len(items):
        return
    values = responses.values[items].astype(np.float64)
    means = np.zeros((len(counts), values.shape[1]))
    np.add.at(means, name, values)
    off = np.sqrt(np.square(values - means[name] / counts[name, None]).mean(axis=1))
    same = off <= _SAME * values.std(axis=0).mean()
    sides = [set(name[side & same]) for side in (in_condition, ~in_condition)]
    n_shared = int((np.isin(name, list(sides[0] & sides[1])) & same).sum())
    if n_shared == len(items) or (same.all() and len(counts) == 2 and not n_shared):
        what = "the same items" if n_shared else "one item each, again and again"
        raise ValueError(
            f"the two sides of the contrast hold {what} ({stimuli.items[items[0]]!r}, ...): nothing can be told from "
            "that; give conditions of different items"
        )
    if n_shared:
        warnings.warn(
            f"{n_shared} of {len(items)} items of the contrast are on both of its sides: they hide a difference; "
            "leave them out",
            stacklevel=4,
        )


def _exchangeable(
    responses: Responses, items: np.ndarray, in_condition: np.ndarray, exchangeable: Sequence[str]
) -> tuple[Int[np.ndarray, " items"], dict[str, Any]]:
    """Blocks of exchangeable items, and what to remember of them."""
    names = _names(exchangeable)
    blocks = exchangeable_blocks([_column(responses, items, name) for name in names], in_condition)
    movable = int((blocks >= 0).sum())
    if not movable:
        raise ValueError(
            f"no label can be exchanged within {' x '.join(names)}: every block of {responses.stimuli!r} holds one "
            "side of the contrast only; use fewer columns in exchangeable, or other items"
        )
    return blocks, {
        "exchangeable": names,
        "n_exchangeable": movable,
        "log10_relabellings": log10_relabellings(blocks, in_condition),
    }


def sampled_groups(
    responses: Responses, items: np.ndarray, in_condition: np.ndarray, exchangeable: Sequence[str] = ("run",)
) -> tuple[str, Int[np.ndarray, " items"] | None]:
    """The column whose entries were sampled, and the group of each item; None where single items were.

    Declared by the set, or else a column to exchange within, where nothing can be exchanged within it because each
    of its entries lies in one condition.
    """
    stimuli, names = responses.stimuli, _names(exchangeable)
    if stimuli.sampled_by is not None:
        entry = np.asarray(stimuli.labels[stimuli.sampled_by])[items]
        _, groups = np.unique(entry, return_inverse=True)
        return stimuli.sampled_by, None if len(np.unique(groups)) == len(groups) else groups
    for name in names:
        if name != "length":
            _, groups = np.unique(_column(responses, items, name), return_inverse=True)
            n_sides = _groups_on_sides(groups, in_condition)
            if sum(n_sides) == groups.max() + 1 and min(n_sides) > 1 and groups.max() + 1 < len(groups):
                return name, groups
    return "", None


def _groups_on_sides(groups: np.ndarray, in_condition: np.ndarray) -> tuple[int, int]:
    return len(np.unique(groups[in_condition])), len(np.unique(groups[~in_condition]))


def _warn_of_groups(
    responses: Responses, items: np.ndarray, in_condition: np.ndarray, exchangeable: Sequence[str]
) -> None:
    """Warn where items may come in groups of which nothing was said: several to an entry, each in one condition."""
    for name, column in responses.stimuli.labels.items():
        _, groups = np.unique(np.asarray(column)[items], return_inverse=True)
        n_sides, n_groups = _groups_on_sides(groups, in_condition), int(groups.max()) + 1
        if sum(n_sides) == n_groups and 2 < n_groups <= len(groups) / 2 and name not in _names(exchangeable):
            warnings.warn(
                f"label {name!r} of stimulus set {responses.stimuli.name!r} varies between the sides of the contrast "
                f"only, {n_groups} entries for {len(groups)} items: if its entries were sampled, and not single items, "
                f"say so with StimulusSet(..., sampled_by={name!r}); every p is too small otherwise",
                stacklevel=5,
            )


def _label_nulls(
    formula: Statistic,
    seen: np.ndarray,
    responses: Responses,
    items: np.ndarray,
    in_condition: np.ndarray,
    exchangeable: Sequence[str],
    groups: np.ndarray | None,
    by: str,
    *,
    null: str | None,
    n_draws: int,
    seed: int,
) -> tuple[dict[str, Float[np.ndarray, "draws units"]], dict[str, Any]]:
    """The map under the label null, and the wild one where it is drawn; what to remember of them."""
    names = [name for name in _names(exchangeable) if groups is None or name != by]
    columns = [_column(responses, items, name) for name in names]
    if groups is None:
        blocks, drawing = _exchangeable(responses, items, in_condition, exchangeable)
        labels = relabel(in_condition, blocks, n_draws, stream(seed, "label"))
    else:
        pieces = exchange(columns, in_condition, groups)
        drawing = _exchanged_groups(responses, pieces, by, names, n_draws)
        labels = pieces.labels(n_draws, stream(seed, "label"))
    nulls = {"label": label_maps(formula, seen, labels)}
    alike = _mixed_alike(columns, in_condition)
    if null == "wild" and not alike:
        raise ValueError(
            f"null='wild' with sides that are mixed differently in {' x '.join(names)}: signs of residuals cannot keep "
            "that apart; leave these columns out of exchangeable, or use null='labels'"
        )
    if null is None and groups is None and alike and 2 * in_condition.sum() != len(in_condition):
        null = "wild"
    if null == "wild":
        signed = np.arange(len(items)) if groups is None else groups
        flips = {"n_draws": n_draws, "generator": stream(seed, "wild")}
        nulls["wild"] = wild_maps(formula, seen, in_condition, signed, **flips)
    return nulls, drawing


def _mixed_alike(columns: Sequence[np.ndarray], in_condition: np.ndarray) -> bool:
    """Whether every combination of entries holds the same share of the condition, to one item over all of them."""
    strata = strata_of(columns, len(in_condition))
    expected = np.bincount(strata) * in_condition.mean()
    return bool(np.abs(np.bincount(strata, weights=in_condition) - expected).sum() <= 1)


def _exchanged_groups(
    responses: Responses, pieces: Exchange, by: str, names: Sequence[str], n_draws: int
) -> dict[str, Any]:
    """Refuse groups of which no two can be exchanged; what to remember of others."""
    n_labellings = pieces.n_labellings
    if n_labellings <= 1 + pieces.has_mirror:
        within = f" within {' x '.join(names)}" if names else ""
        raise ValueError(
            f"no label can be exchanged between groups of items{within}: {responses.stimuli!r} was sampled by "
            f"{by!r}, and there are {n_labellings} labellings of its entries; show items of more entries on each side, "
            "use fewer columns in exchangeable, or replace(stimuli, sampled_by=None) to speak of these items only"
        )
    return {
        "exchangeable": list(names),
        "n_exchangeable": pieces.n_items,
        "log10_relabellings": log10_relabellings(pieces.blocks, pieces.in_condition),
        "smallest_p": pieces.smallest_p(n_draws),
    }


def _column(responses: Responses, items: np.ndarray, name: str) -> np.ndarray:
    stimuli = responses.stimuli
    if name == "length":
        if responses.n_tokens is None:
            raise ValueError(f"responses at {responses.site!r} carry no n_tokens to bin; leave 'length' out")
        lengths = responses.n_tokens[items]
        if len(np.unique(lengths)) <= _N_LENGTH_BINS:
            return lengths
        edges = np.quantile(lengths, np.linspace(0, 1, _N_LENGTH_BINS + 1)[1:-1])
        return np.searchsorted(edges, lengths, side="left")
    columns = {"run": stimuli.runs, **stimuli.labels}
    if name not in columns:
        raise ValueError(
            f"stimulus set {stimuli.name!r} has no column {name!r} to exchange within; it has {sorted(columns)}, "
            "and 'length' stands for the number of tokens"
        )
    return np.asarray(columns[name])[items]


def _length(responses: Responses, items: np.ndarray, in_condition: np.ndarray) -> dict[str, Any]:
    """Mean number of tokens on each side: a difference in length is an explanation to rule out."""
    if responses.n_tokens is None:
        return {}
    lengths = responses.n_tokens[items].astype(np.float64)
    first, second = lengths[in_condition], lengths[~in_condition]
    moments = group_moments((lengths - lengths.mean())[:, None], in_condition[None])
    varies = np.ptp(first) or np.ptp(second)
    p = float(welch_p(moments)[0, 0]) if varies else float(first[0] == second[0])
    return {"n_tokens": {"condition": float(first.mean()), "baseline": float(second.mean()), "p": p}}
