"""A number beside its three references.

A map carries its own null maps (`UnitMap.nulls`): whatever number is computed from the map is tested by computing it
on those too. Nothing here draws anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from topographic.maps.unit_map import UnitMap

__all__ = ["NullReference", "Referenced", "against_nulls", "compare", "mean_over_sheets"]


@dataclass(frozen=True, eq=False)
class NullReference:
    """Where a value lies among the same value under a null.

    Parameters
    ----------
    mean, sd : float
        Mean and standard deviation (ddof 1) over the draws.
    z : float
        ``(value - mean) / sd``; NaN if the draws do not vary.
    p : float
        One-sided, greater: ``(1 + #{draw >= value}) / (n_draws + 1)``.
    n_draws : int
        Number of draws.
    draws : ndarray, shape (draws,), optional
        The draws themselves; empty when read back from a file.
    """

    mean: float
    sd: float
    z: float
    p: float
    n_draws: int
    draws: Float[np.ndarray, " draws"] = field(default_factory=lambda: np.empty(0), repr=False)

    def __str__(self) -> str:
        """One line in plain numbers."""
        return f"{self.mean:.3f} +- {self.sd:.3f} over {self.n_draws} draws: z = {self.z:.1f}, p = {self.p:.3g}"


@dataclass(frozen=True, eq=False)
class Referenced:
    """A number computed from a map, beside its three references.

    Parameters
    ----------
    value : float
        The number for the map itself.
    floor, unit_null, label_null : NullReference, optional
        The same number under each null; None if the map carries no such null.
    """

    value: float
    floor: NullReference | None = None
    unit_null: NullReference | None = None
    label_null: NullReference | None = None


def compare(value: float, draws: Float[np.ndarray, " draws"]) -> NullReference:
    """Compare a value with its draws under a null.

    ``p = (1 + #{draw >= value}) / (n + 1)``, one-sided (greater), which is never 0 and is valid for
    any number of draws (Phipson & Smyth 2010).

    Notes
    -----
    Draws within a millionth of the value count as equal to it: a draw that happens to be the observed
    labelling must count, whatever its last bits are.
    """
    draws = np.asarray(draws, dtype=np.float64)
    if len(draws) < 2 or not np.isfinite(draws).all():
        raise ValueError(f"a null needs at least 2 finite draws and has {np.isfinite(draws).sum()} of {len(draws)}")
    mean, sd = float(draws.mean()), float(draws.std(ddof=1))
    reached = int((draws >= value - 1e-6 * abs(value)).sum())
    z = (value - mean) / sd if sd > 0 else float("nan")
    return NullReference(mean, sd, z, (1 + reached) / (len(draws) + 1), len(draws), draws)


def against_nulls(unit_map: UnitMap, number: Callable[[np.ndarray], np.ndarray]) -> Referenced:
    """A number computed from a map and, in the same way, from its null maps.

    Parameters
    ----------
    unit_map : UnitMap
        The map, with whatever nulls it carries.
    number : callable
        ``(maps, units) -> (maps,)``.

    Returns
    -------
    Referenced
        Value, floor, unit null and label null.
    """
    value = float(number(unit_map.values[None].astype(np.float64))[0])
    floor, unit, label = (
        compare(value, number(unit_map.nulls[null].astype(np.float64))) if null in unit_map.nulls else None
        for null in ("floor", "unit", "label")
    )
    return Referenced(value, floor, unit, label)


def mean_over_sheets(numbers: Sequence[Referenced]) -> Referenced:
    """Mean of a number over sheets, against the mean of the same draw over the sheets.

    Draw ``k`` of the label null is one relabelling of the items seen by all sheets, so its mean keeps
    whatever the sheets have in common; floor and unit draws are independent between sheets.

    Parameters
    ----------
    numbers : sequence of Referenced
        One per sheet, with their draws.

    Returns
    -------
    Referenced
        The mean with a reference for each null that all sheets carry.

    Raises
    ------
    ValueError
        If the sheets have different numbers of draws, or their draws were not kept.
    """
    value = float(np.mean([number.value for number in numbers]))

    def reference(null: str) -> NullReference | None:
        references = [getattr(number, null) for number in numbers]
        if any(one is None for one in references):
            return None
        lengths = {len(one.draws) for one in references}
        if len(lengths) > 1 or lengths == {0}:
            raise ValueError(f"sheets carry {sorted(lengths)} draws; expected equally many: draw them with one n_draws")
        return compare(value, np.mean([one.draws for one in references], axis=0))

    return Referenced(value, *(reference(null) for null in ("floor", "unit_null", "label_null")))
