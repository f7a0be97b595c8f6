"""A number beside its nulls.

A map carries its own null maps (`UnitMap.nulls`): whatever number is computed from the map is tested by computing it
on those too. Nothing here draws anything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.stats import false_discovery_control

from topographic.maps.unit_map import UnitMap
from topographic.maps.wording import number, p_value

__all__ = [
    "BesideNulls",
    "NotMeasurable",
    "NullReference",
    "Referenced",
    "against_nulls",
    "compare",
    "mean_over_sheets",
    "null_title",
    "passing_sheets",
]


class NotMeasurable(ValueError):
    """A number that cannot be had from what is there, and why.

    Raised on purpose, where a known condition is not met: the only failure that may stand in a table.
    """


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
        spread = f"{number(self.mean, 3)} ± {number(self.sd, 3)} over {self.n_draws} draws"
        return f"{spread}: z = {number(self.z, 1)}, p {p_value(self.p, sign=True)}"


class BesideNulls:
    """A number with what it is under nulls of any name; `Referenced` and `MoransI` are such numbers."""

    value: float
    nulls: Mapping[str, NullReference]

    @property
    def floor(self) -> NullReference | None:
        """White noise through the same readout; None where there is no such null."""
        return self.nulls.get("floor")

    @property
    def unit_null(self) -> NullReference | None:
        """The units permuted, evidence for smoothness only; None where there is no such null."""
        return self.nulls.get("unit")

    @property
    def label_null(self) -> NullReference | None:
        """The labels of the items permuted; None where there is no such null."""
        return self.nulls.get("label")

    def to_columns(
        self, name: str, *, of: str | None = None, show: Sequence[str] = ("mean", "sd", "p")
    ) -> dict[str, float]:
        """The number and its nulls as cells of a row, called alike in all tables.

        ``{name, "unit null", "sd (unit)", "p (unit)", ...}`` with of each null what is shown: "mean", "sd", "z", "p".
        For a row of several numbers, of one null only and called after the number: ``{name, "name null", "p (name)"}``.
        """
        row = {name: self.value}
        for null in sorted(self.nulls, key=lambda null: null != "floor"):  # what is least comes first
            if of in (None, null):
                reference = self.nulls[null]
                title, word = (f"{name} null", name) if of else (null_title(null), null)
                row |= {title if one == "mean" else f"{one} ({word})": getattr(reference, one) for one in show}
        return row


@dataclass(frozen=True, eq=False)
class Referenced(BesideNulls):
    """A number computed from a map, beside the same number under its nulls.

    Parameters
    ----------
    value : float
        The number for the map itself.
    nulls : mapping of str to NullReference
        The same number under each null that was drawn, by the names that `UnitMap.nulls` has: "floor", "unit",
        "label", or any other. ``floor``, ``unit_null`` and ``label_null`` read these three, None where not drawn.

    Examples
    --------
    >>> number = Referenced(0.7, {"unit": NullReference(0.1, 0.2, 3.0, 0.005, 199)})
    >>> number.to_columns("I", show=("mean", "p"))
    {'I': 0.7, 'unit null': 0.1, 'p (unit)': 0.005}
    """

    value: float
    nulls: Mapping[str, NullReference] = field(default_factory=dict)


def null_title(name: str) -> str:
    """What a null is called in a table: the floor is one, the others are nulls of something."""
    return name if name == "floor" else f"{name} null"


def compare(value: float, draws: Float[np.ndarray, " draws"], *, two_sided: bool = False) -> NullReference:
    """Compare a value with its draws under a null.

    ``p = (1 + #{draw >= value}) / (n + 1)``, one-sided (greater), which is never 0 and is valid for
    any number of draws (Phipson & Smyth 2010); ``two_sided`` compares absolute values, for what may lie on either
    side of 0.

    Notes
    -----
    Draws within a millionth of the value count as equal to it: a draw that happens to be the observed
    labelling must count, whatever its last bits are.
    """
    draws = np.asarray(draws, dtype=np.float64)
    if len(draws) < 2 or not np.isfinite(draws).all():
        raise ValueError(f"a null needs at least 2 finite draws and has {np.isfinite(draws).sum()} of {len(draws)}")
    mean, sd = float(draws.mean()), float(draws.std(ddof=1))
    sizes, size = (np.abs(draws), abs(value)) if two_sided else (draws, value)
    reached = int((sizes >= size - 1e-6 * abs(value)).sum())
    z = (value - mean) / sd if sd > 0 else float("nan")
    return NullReference(mean, sd, z, (1 + reached) / (len(draws) + 1), len(draws), draws)


def against_nulls(unit_map: UnitMap, measure: Callable[[np.ndarray], np.ndarray]) -> Referenced:
    """A number computed from a map and, in the same way, from its null maps.

    Parameters
    ----------
    unit_map : UnitMap
        The map, with whatever nulls it carries.
    measure : callable
        ``(maps, units) -> (maps,)``.

    Returns
    -------
    Referenced
        The value, and what it is under each of them.
    """
    value = float(measure(unit_map.values[None].astype(np.float64))[0])
    drawn = {null: compare(value, measure(maps.astype(np.float64))) for null, maps in unit_map.nulls.items()}
    return Referenced(value, drawn)


def mean_over_sheets(numbers: Sequence[BesideNulls]) -> Referenced:
    """Mean of a number over sheets, against the mean of the same draw over the sheets.

    Draw ``k`` of the label null is one relabelling of the items seen by all sheets, so its mean keeps
    whatever the sheets have in common; floor and unit draws are independent between sheets.

    Parameters
    ----------
    numbers : sequence of Referenced or MoransI
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
    means = {}
    for null in numbers[0].nulls:
        references = [one.nulls[null] for one in numbers if null in one.nulls]
        if len(references) < len(numbers):
            continue
        lengths = {len(one.draws) for one in references}
        if len(lengths) > 1 or lengths == {0}:
            raise ValueError(f"sheets carry {sorted(lengths)} draws; expected equally many: draw them with one n_draws")
        means[null] = compare(value, np.mean([one.draws for one in references], axis=0))
    return Referenced(value, means)


def passing_sheets(numbers: Mapping[str, BesideNulls], null: str, *, alpha: float = 0.05) -> list[str]:
    """The sheets whose number lies above its null, corrected over sheets (Benjamini & Hochberg 1995).

    Of the sheets that are named at most the share ``alpha`` is expected to be there by chance.
    """
    p = [one.nulls[null].p for one in numbers.values()]
    return [site for site, q in zip(numbers, false_discovery_control(p), strict=True) if q <= alpha]
