"""Whether two halves of the data find the same units."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import stdtr

from topographic.maps.contrasts import Conditions, sampled_groups
from topographic.maps.length import match_length
from topographic.maps.localizer import LOCALIZER_RULES, localize, localizer_maps, one_stimulus_set
from topographic.maps.nulls import check_draws, exchange, exchangeable_blocks, label_maps, relabel, stream
from topographic.maps.references import NotMeasurable, Referenced, compare
from topographic.maps.two_sample import STATISTICS, welch_p
from topographic.recording.responses import Responses
from topographic.stimuli.stimulus_set import StimulusSet

__all__ = ["HalfAgreement", "split_half", "split_half_stability"]


def split_half(responses: Mapping[str, Responses]) -> tuple[dict[str, Responses], dict[str, Responses]]:
    """Two halves of the items that share no run; of one run, no entry of what was sampled (``sampled_by``)."""
    stimuli = one_stimulus_set(responses)
    if len(stimuli) < 2:
        raise ValueError(f"{stimuli!r} has 1 item and cannot be divided; give at least 2")
    runs = list(dict.fromkeys(stimuli.runs))
    if len(runs) > 1:
        in_second = np.array([runs.index(run) % 2 == 1 for run in stimuli.runs])
    else:
        by = stimuli.sampled_by
        entries = range(len(stimuli)) if by is None else stimuli.labels[by]
        conditions: dict[Any, dict[str, None]] = {entry: {} for entry in entries}
        for entry, condition in zip(entries, stimuli.conditions, strict=True):
            conditions[entry][condition] = None
        kinds = {entry: tuple(sorted(found)) for entry, found in conditions.items()}
        second = {entry for kind in set(kinds.values()) for entry in [one for one in kinds if kinds[one] == kind][1::2]}
        in_second = np.array([entry in second for entry in entries])
        if not in_second.any():
            raise ValueError(f"{stimuli!r} has 1 entry of {by!r} of a kind and cannot be divided; give at least 2")
    parts = (np.flatnonzero(~in_second), np.flatnonzero(in_second))
    first, second = ({site: one.take(part) for site, one in responses.items()} for part in parts)
    return first, second


@dataclass(frozen=True, eq=False)
class HalfAgreement:
    """How alike two halves of the data find one site, or all sites, each number against the label null."""

    site: str  # or "all"
    n_first: int  # units that each half selects
    n_second: int
    dice: Referenced  # 2 |A and B| / (|A| + |B|), NaN where both are empty
    correlation: Referenced  # Pearson's r of the two maps of t

    def to_row(self) -> dict[str, Any]:
        """One row of a table."""
        row: dict[str, Any] = {"site": self.site, "n_first": self.n_first, "n_second": self.n_second}
        for name, number in (("dice", self.dice), ("correlation", self.correlation)):
            null = number.label_null
            row |= {name: number.value, f"{name}_null": None if null is None else null.mean}
            row |= {f"{name}_null_sd": None if null is None else null.sd, f"{name}_p": None if null is None else null.p}
        return row


def split_half_stability(
    responses: Mapping[str, Responses],
    condition: Conditions,
    baseline: Conditions,
    *,
    rule: str = "q",
    level: float | None = None,
    length: str = "none",
    n_draws: int = 1000,
    seed: int = 0,
) -> list[HalfAgreement]:
    """Localize twice, on two halves of the items, and compare.

    Null hypothesis: in the second half the labels say nothing about the responses, items of a run being exchangeable,
    or whole entries of what was sampled where the set says so (``sampled_by``), as in `t_map`. Each draw exchanges
    labels of the second half, makes its maps and chooses its units anew, and compares them with those of the first
    half, which stays; where there are no more labellings than draws each is used once. Responses are not touched, so
    the null is as smooth as the sheet and as tied together over sheets as the data.

    Parameters
    ----------
    responses, condition, baseline, rule, level, length, seed
        As in `localize`; the halves are those of `split_half`. The seed is also that of the null.
    n_draws : int
        Draws of the null, at least 2; one relabelling serves all sites.

    Returns
    -------
    list of HalfAgreement
        One per site, then one called "all" over all units together; units without a value in a half are left out.

    Raises
    ------
    NotMeasurable
        If no label of the second half can be exchanged: every run holds one side of the contrast only, or there are
        too few entries of what was sampled; or if such an entry has items in both halves.
    ValueError
        As `localize`, for either half.

    Notes
    -----
    The p is exact for ``length="none"``. With "matched" it is exact given the items that are kept; with "regressed"
    labels are exchanged and lengths stay with their items, which is exact where the groups have equal lengths and
    else as good as the analysis of covariance, whose t does not depend on how far the lengths differ.

    References
    ----------
    For the permutation of labels Nichols & Holmes 2002, Hum. Brain Mapp. 15; with a covariate Draper & Stoneman 1966,
    Technometrics 8.
    """
    check_draws(n_draws, seed, least=2)
    options = {"length": length, "seed": seed}
    halves = split_half(responses)
    _check_apart(*(one_stimulus_set(half) for half in halves))
    chosen = [localize(half, condition, baseline, rule=rule, level=level, **options) for half in halves]
    maps = [localizer_maps(half, condition, baseline, **options) for half in halves]
    found = np.array([np.concatenate([one[site].values for site in responses]) for one in maps], dtype=np.float64)
    masks = np.array([np.concatenate([one[site].mask for site in responses]) for one in chosen])
    by_rule = LOCALIZER_RULES[rule]
    drawn = _drawn_maps(halves[1], condition, baseline, by_rule.statistic, length=length, n_draws=n_draws, seed=seed)
    drawn = [np.where(np.isnan(found[1]), np.nan, one) for one in drawn]
    drawn_masks = by_rule.choose_drawn(drawn[1], drawn[2], by_rule.level if level is None else level)
    present = ~np.isnan(found).any(0)
    of_site = np.repeat(np.arange(len(responses)), [len(one.values) for one in maps[0].values()])
    parts = {site: present & (of_site == index) for index, site in enumerate(responses)} | {"all": present}
    return [
        _agreement(site, masks[:, units], found[:, units], drawn_masks[:, units], drawn[0][:, units])
        for site, units in parts.items()
    ]


def _check_apart(first: StimulusSet, second: StimulusSet) -> None:
    """Refuse halves that share what was sampled: they agree by that, whatever it is."""
    by = first.sampled_by
    shared = set() if by is None else {*first.labels[by]} & {*second.labels[by]}
    if shared:
        raise NotMeasurable(
            f"{len(shared)} entries of {by!r} have items in both halves of {first.name!r}, which agree by these "
            "whatever the labels: give runs that keep the items of an entry together"
        )


def _drawn_maps(
    half: Mapping[str, Responses],
    condition: Conditions,
    baseline: Conditions,
    statistic: str,
    *,
    length: str,
    n_draws: int,
    seed: int,
) -> list[Float[np.ndarray, "draws units"]]:
    """Under every labelling the maps of t, those of the statistic, and p, the units of all sites side by side."""
    if length == "matched":
        half = match_length(half, condition, baseline, seed=seed)
    stimuli = one_stimulus_set(half)
    sides = [
        np.isin(stimuli.conditions, [names] if isinstance(names, str) else names) for names in (condition, baseline)
    ]
    items = np.flatnonzero(sides[0] | sides[1])
    in_condition, runs = sides[0][items], np.array(stimuli.runs)[items]
    by, groups = sampled_groups(next(iter(half.values())), items, in_condition, ())
    if groups is None:
        blocks = exchangeable_blocks([runs], in_condition)
        if (blocks < 0).all():
            raise NotMeasurable(
                f"every run of the second half of {stimuli!r} holds one side of the contrast only, so that no label "
                "can be exchanged: give runs that hold both sides"
            )
        labels = relabel(in_condition, blocks, n_draws, stream(seed, "split half"))
    else:
        pieces = exchange([runs], in_condition, groups)
        if pieces.n_labellings < 3:  # two besides the observed one
            raise NotMeasurable(
                f"the second half of {stimuli!r} was sampled by {by!r} and has {pieces.n_labellings} labellings of its "
                "entries, too few for a null: show items of more entries on each side"
            )
        labels = pieces.labels(n_draws, stream(seed, "split half"))
    drawn = []
    for one in half.values():
        values = one.values[items].astype(np.float64)
        values -= values.mean(0)
        if length == "regressed" and one.n_tokens is not None:
            made = _adjusted_maps(values, one.n_tokens[items], labels, statistic)
        else:
            made = [label_maps(formula, values, labels) for formula in (STATISTICS["welch_t"], STATISTICS[statistic])]
            made.append(label_maps(welch_p, values, labels))
        drawn.append([_finite(made[0]), _finite(made[1]), made[2]])
    return [np.concatenate(kind, axis=1) for kind in zip(*drawn, strict=True)]


def _adjusted_maps(
    values: Float[np.ndarray, "items units"],
    lengths: Int[np.ndarray, " items"],
    labels: Bool[np.ndarray, "draws items"],
    statistic: str,
) -> list[Float[np.ndarray, "draws units"]]:
    """The maps of `length_adjusted_map` under every labelling.

    Its t is that of a partial correlation ``r`` of labels and responses, ``t = r sqrt((N - 3) / (1 - r^2))``, and its
    d is ``t`` by the length of what lengths leave of the labels (Frisch & Waugh 1933).
    """
    spread = lengths - lengths.mean()
    basis = np.stack([np.full(len(lengths), len(lengths) ** -0.5), spread / np.linalg.norm(spread)])
    left = labels - labels @ basis.T @ basis
    rest = values - basis.T @ (basis @ values)
    scale = np.linalg.norm(left, axis=1, keepdims=True)
    size = np.linalg.norm(rest, axis=0)
    varies = size > 1e-6 * np.linalg.norm(values, axis=0)  # below that it is rounding error
    r = left @ np.divide(rest, size, out=np.zeros_like(rest), where=varies) / scale
    with np.errstate(divide="ignore"):
        t = r * np.sqrt((len(values) - 3) / np.maximum(1 - r**2, 0))
    return [t, t / scale if statistic == "cohens_d" else t, 2 * stdtr(len(values) - 3, -np.abs(t))]


def _finite(maps: Float[np.ndarray, "draws units"]) -> Float[np.ndarray, "draws units"]:
    """A unit that a labelling tells apart without error has the largest value of that draw."""
    reached = np.where(np.isfinite(maps), np.abs(maps), 0).max(axis=1, keepdims=True)
    return np.clip(maps, -reached, reached)


def _agreement(
    site: str,
    masks: Bool[np.ndarray, "2 units"],
    values: Float[np.ndarray, "2 units"],
    drawn_masks: Bool[np.ndarray, "draws units"],
    drawn_values: Float[np.ndarray, "draws units"],
) -> HalfAgreement:
    n_first, n_second = masks.sum(1).tolist()
    dice = correlation = Referenced(float("nan"))
    if n_first + n_second:
        # two empty masks share nothing
        sizes = np.maximum(n_first + np.array([n_second, *drawn_masks.sum(1)]), 1)
        value, *null = 2 * (masks[0] & np.vstack([masks[1], drawn_masks])).sum(1) / sizes
        dice = Referenced(float(value), {"label": compare(float(value), np.array(null))})
    if values.std(1).all():
        value, *null = _correlations(values[0], np.vstack([values[1], drawn_values]))
        correlation = Referenced(float(value), {"label": compare(float(value), np.array(null))})
    return HalfAgreement(site, n_first, n_second, dice, correlation)


def _correlations(
    one: Float[np.ndarray, " units"], others: Float[np.ndarray, "maps units"]
) -> Float[np.ndarray, " maps"]:
    """Pearson's r of a map with others; 0 with one that does not vary."""
    one, others = one - one.mean(), others - others.mean(1, keepdims=True)
    scale = np.linalg.norm(one) * np.linalg.norm(others, axis=1)
    return np.divide(others @ one, scale, out=np.zeros(len(others)), where=scale > 0)
