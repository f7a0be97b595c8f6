"""Whether two halves of the data find the same units."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from topographic.maps.contrasts import Conditions
from topographic.maps.localizer import localize, localizer_maps, one_stimulus_set
from topographic.maps.nulls import check_draws, stream
from topographic.maps.references import Referenced, compare
from topographic.recording.responses import Responses

__all__ = ["HalfAgreement", "split_half", "split_half_stability"]


def split_half(responses: Mapping[str, Responses]) -> tuple[dict[str, Responses], dict[str, Responses]]:
    """Two halves of the items that share no run."""
    stimuli = one_stimulus_set(responses)
    if len(stimuli) < 2:
        raise ValueError(f"{stimuli!r} has 1 item and cannot be divided; give at least 2")
    runs = list(dict.fromkeys(stimuli.runs))
    if len(runs) > 1:
        in_second = np.array([runs.index(run) % 2 == 1 for run in stimuli.runs])
    else:
        in_second = np.zeros(len(stimuli), bool)
        for condition in stimuli.condition_names:
            in_second[np.flatnonzero(np.array(stimuli.conditions) == condition)[1::2]] = True
    parts = (np.flatnonzero(~in_second), np.flatnonzero(in_second))
    first, second = ({site: one.take(part) for site, one in responses.items()} for part in parts)
    return first, second


@dataclass(frozen=True, eq=False)
class HalfAgreement:
    """How alike two halves of the data find one site, or all sites, each number against the unit null."""

    site: str  # or "all"
    n_first: int  # units that each half selects
    n_second: int
    dice: Referenced  # 2 |A and B| / (|A| + |B|), NaN where both are empty
    correlation: Referenced  # Pearson's r of the two maps of t

    def to_row(self) -> dict[str, Any]:
        """One row of a table."""
        row: dict[str, Any] = {"site": self.site, "n_first": self.n_first, "n_second": self.n_second}
        for name, number in (("dice", self.dice), ("correlation", self.correlation)):
            null = number.unit_null
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

    The unit null permutes the units of the second half within each site, mask and t together: what would two halves
    share that find as many units, but find them anywhere?

    Parameters
    ----------
    responses, condition, baseline, rule, level, length, seed
        As in `localize`; the halves are those of `split_half`. The seed is also that of the null.
    n_draws : int
        Draws of the null, at least 2.

    Returns
    -------
    list of HalfAgreement
        One per site, then one called "all" over all units together; units without a value in a half are left out.

    Raises
    ------
    ValueError
        As `localize`, for either half.

    Notes
    -----
    Where neighbouring units respond alike, units are fewer than they seem and the permutation is too sure: read the
    values, and the p of a topographic sheet as a lower bound.
    """
    check_draws(n_draws, seed, least=2)
    options = {"length": length, "seed": seed}
    halves = split_half(responses)
    chosen = [localize(half, condition, baseline, rule=rule, level=level, **options) for half in halves]
    maps = [localizer_maps(half, condition, baseline, **options) for half in halves]
    masks, values, draws = [], [], []
    rows = []
    for site in responses:
        found = np.array([one[site].values for one in maps], dtype=np.float64)
        present = ~np.isnan(found).any(0)
        masks.append(np.array([one[site].mask[present] for one in chosen]))
        values.append(found[:, present])
        generator, n_units = stream(seed, "split half", site), masks[-1].shape[1]
        draws.append(generator.permuted(np.tile(np.arange(n_units), (n_draws, 1)), axis=1))
        shuffled = (masks[-1][1][draws[-1]], values[-1][1][draws[-1]])
        rows.append(_agreement(site, masks[-1], values[-1], *shuffled))
    shuffled = [
        np.concatenate([half[1][draw] for half, draw in zip(one, draws, strict=True)], 1) for one in (masks, values)
    ]
    return [*rows, _agreement("all", np.concatenate(masks, 1), np.concatenate(values, 1), *shuffled)]


def _agreement(
    site: str,
    masks: Bool[np.ndarray, "2 units"],
    values: Float[np.ndarray, "2 units"],
    shuffled_masks: Bool[np.ndarray, "draws units"],
    shuffled_values: Float[np.ndarray, "draws units"],
) -> HalfAgreement:
    n_first, n_second = masks.sum(1).tolist()
    dice = correlation = Referenced(float("nan"))
    if n_first + n_second:
        share = 2 / (n_first + n_second)
        value = share * float((masks[0] & masks[1]).sum())
        dice = Referenced(value, {"unit": compare(value, share * (masks[0] & shuffled_masks).sum(1))})
    scales = values.std(1)
    if scales.all():
        scores = (values - values.mean(1, keepdims=True)) / scales[:, None]
        value = float(np.mean(scores[0] * scores[1]))
        null = (shuffled_values - values[1].mean()) / scales[1] @ scores[0] / values.shape[1]
        correlation = Referenced(value, {"unit": compare(value, null)})
    return HalfAgreement(site, n_first, n_second, dice, correlation)
