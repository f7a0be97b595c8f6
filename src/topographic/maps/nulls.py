"""The three references of every map: kernel floor, unit null, label null.

- floor: white noise on the same sheet through the same readout and the same statistic;
- unit: the same responses with the units of the sheet permuted before the readout; above it a map is smooth, which is
  no evidence for what it is about;
- label: the same sheet and responses with the labels of exchangeable items permuted, or of whole groups of items
  where these were sampled (`Exchange`).

Beside the last, where spreads may differ, the signs of residuals are drawn (`wild_maps`), for tests of clusters.

A map that has no labels to permute gets its own values elsewhere (`permuted_null`) and noise in their place
(`noise_floor`). This module makes the null maps; `references` compares numbers computed from them.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import comb, prod

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln

from topographic.maps.two_sample import Moments, Statistic, group_moments, residual_moments, signed_moments
from topographic.maps.unit_map import UnitMap
from topographic.recording.readout import LatticeKernel

__all__ = [
    "Exchange",
    "check_draws",
    "check_seed",
    "exchange",
    "exchangeable_blocks",
    "floor_maps",
    "label_maps",
    "log10_relabellings",
    "noise_floor",
    "permuted_null",
    "relabel",
    "strata_of",
    "stream",
    "unit_maps",
    "wild_maps",
]

# numbers in one array of a batch of labellings; bounds memory at about 100 MB whatever the size of the sheet
_BATCH_SIZE = 1 << 21


def check_draws(n_draws: int, seed: int, *, least: int = 0) -> None:
    """Refuse draws of which no null can be made, and seeds that are none, before anything runs."""
    if n_draws < least or n_draws == 1:
        none = "" if least else "0 for no nulls, or "
        raise ValueError(f"n_draws={n_draws}; expected {none}at least 2 draws (200 give p down to .005)")
    check_seed(seed)


def check_seed(seed: int) -> None:
    """Refuse a seed that no generator takes."""
    if seed < 0:
        raise ValueError(f"seed={seed}; expected 0 or more")


def stream(seed: int, null: str, site: str = "") -> np.random.Generator:
    """Source of randomness of one null at one site."""
    check_seed(seed)
    digest = hashlib.sha256(f"{null}/{site}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def exchangeable_blocks(
    columns: Sequence[Sequence[str] | np.ndarray], in_condition: Bool[np.ndarray, " items"]
) -> Int[np.ndarray, " items"]:
    """Blocks of items whose labels may be exchanged: equal entries in every column."""
    return _mixed(strata_of(columns, len(in_condition)), in_condition)


def strata_of(columns: Sequence[Sequence[str] | np.ndarray], n_items: int) -> Int[np.ndarray, " items"]:
    """Number of each item's combination of entries in the columns."""
    strata = np.zeros(n_items, dtype=np.int64)
    for column in columns:
        _, entry = np.unique(np.asarray(column), return_inverse=True)
        _, strata = np.unique(strata * (entry.max() + 1) + entry, return_inverse=True)
    return strata


def _mixed(blocks: Int[np.ndarray, " n"], in_condition: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The blocks that hold both sides; -1 for what lies in another."""
    size = np.bincount(blocks)
    members = np.bincount(blocks, weights=in_condition)
    mixed = (members > 0) & (members < size)
    return np.where(mixed[blocks], blocks, -1)


@dataclass(frozen=True, eq=False)
class Exchange:
    """Which labels may be exchanged: pieces, an item or a whole group of items each, within blocks of pieces."""

    piece: Int[np.ndarray, " items"]  # that each item belongs to
    blocks: Int[np.ndarray, " pieces"]  # -1 for a piece that keeps its label
    in_condition: Bool[np.ndarray, " pieces"]

    @property
    def n_items(self) -> int:
        """Items whose label may change."""
        return int((self.blocks[self.piece] >= 0).sum())

    @property
    def n_labellings(self) -> int:
        """How many labellings there are, the observed one among them."""
        return prod(comb(len(inside), int(self.in_condition[inside].sum())) for inside in self._inside())

    @property
    def has_mirror(self) -> bool:
        """Whether the labelling with the sides exchanged is one of them."""
        inside = self._inside()
        halves = all(2 * self.in_condition[pieces].sum() == len(pieces) for pieces in inside)
        return bool(inside) and bool(halves) and bool((self.blocks >= 0).all())

    def smallest_p(self, n_draws: int) -> float:
        """The smallest p that a number can have which is the same when the sides are exchanged, as I and |t| are."""
        return max((1 + self.has_mirror) / self.n_labellings, 1 / (n_draws + 1))

    def labels(self, n_draws: int, generator: np.random.Generator) -> Bool[np.ndarray, "draws items"]:
        """Labellings: every other one once where these are no more than the draws, else drawn."""
        if self.n_labellings > n_draws + 1:
            return relabel(self.in_condition, self.blocks, n_draws, generator)[:, self.piece]
        choices = [
            [(inside, list(chosen)) for chosen in combinations(inside, int(self.in_condition[inside].sum()))]
            for inside in self._inside()
        ]
        every = []
        for chosen in product(*choices):
            labels = self.in_condition.copy()
            for inside, members in chosen:
                labels[inside] = False
                labels[members] = True
            if (labels != self.in_condition).any():
                every.append(labels)
        return np.array(every).reshape(-1, len(self.blocks))[:, self.piece]

    def _inside(self) -> list[Int[np.ndarray, " pieces"]]:
        return [np.flatnonzero(self.blocks == block) for block in np.unique(self.blocks[self.blocks >= 0])]


def exchange(
    columns: Sequence[Sequence[str] | np.ndarray],
    in_condition: Bool[np.ndarray, " items"],
    groups: Int[np.ndarray, " items"],
) -> Exchange:
    """Labels exchanged at the level of groups.

    A group that lies in one condition keeps its items together, and changes places with groups that have items of
    the same entries in the columns. Within a group of both conditions, such as a matched pair, items change places.
    """
    strata = strata_of(columns, len(in_condition))
    _, group = np.unique(groups, return_inverse=True)
    members = np.bincount(group, weights=in_condition)
    whole = (members == 0) | (members == np.bincount(group))
    _, piece = np.unique(np.where(whole[group], group, len(whole) + np.arange(len(group))), return_inverse=True)
    first = np.unique(piece, return_index=True)[1]
    # whole groups by the entries they span, others by themselves and the entry
    spans = [tuple(np.unique(strata[group == one])) if whole[one] else () for one in range(len(whole))]
    keys = [spans[one] if whole[one] else ("within", one, stratum) for one, stratum in zip(group, strata, strict=True)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    blocks = np.array([numbers[keys[item]] for item in first])
    return Exchange(piece, _mixed(blocks, in_condition[first]), in_condition[first])


def log10_relabellings(blocks: Int[np.ndarray, " items"], in_condition: Bool[np.ndarray, " items"]) -> float:
    """How many different labellings the blocks allow, as a power of ten.

    ``sum over blocks of log10 C(n_b, k_b)``
    """
    free = blocks >= 0
    size = np.bincount(blocks[free]).astype(np.float64)
    members = np.bincount(blocks[free], weights=in_condition[free])
    ways = gammaln(size + 1) - gammaln(members + 1) - gammaln(size - members + 1)
    return float(ways.sum() / np.log(10))


def relabel(
    in_condition: Bool[np.ndarray, " items"],
    blocks: Int[np.ndarray, " items"],
    n_draws: int,
    generator: np.random.Generator,
) -> Bool[np.ndarray, "draws items"]:
    """Labels permuted within blocks."""
    # the fixed items become blocks of their own
    blocks = np.where(blocks >= 0, blocks, blocks.max(initial=-1) + 1 + np.arange(len(blocks)))
    shuffled = np.argsort(blocks + generator.random((n_draws, len(blocks))), axis=1)
    labels = np.empty((n_draws, len(blocks)), dtype=bool)
    labels[:, np.argsort(blocks, kind="stable")] = in_condition[shuffled]
    return labels


def label_maps(
    statistic: Statistic, values: Float[np.ndarray, "items units"], labels: Bool[np.ndarray, "draws items"]
) -> Float[np.ndarray, "draws units"]:
    """The map under every labelling."""
    step = max(1, _BATCH_SIZE // values.shape[1])
    parts = [statistic(group_moments(values, labels[start : start + step])) for start in range(0, len(labels), step)]
    return np.concatenate(parts).astype(np.float32)


def wild_maps(
    statistic: Statistic,
    values: Float[np.ndarray, "items units"],
    in_condition: Bool[np.ndarray, " items"],
    groups: Int[np.ndarray, " items"],
    *,
    n_draws: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, "draws units"]:
    """The map of residuals with random signs, one for all units of an item and all items of a group (wild bootstrap).

    Every condition keeps its own spread: what is drawn are maps of equal means, not of equal distributions.

    References
    ----------
    Wu 1986, Ann. Stat. 14; Cameron, Gelbach & Miller 2008, Rev. Econ. Stat. 90.
    """
    residuals = values.astype(np.float64)
    for side in (in_condition, ~in_condition):
        # what the mean took of the variance is given back (HC2)
        n_side = side.sum()
        residuals[side] = (residuals[side] - residuals[side].mean(0)) * np.sqrt(n_side / (n_side - 1))
    _, group = np.unique(groups, return_inverse=True)
    signs = (2.0 * generator.integers(2, size=(n_draws, group.max() + 1)) - 1.0)[:, group]
    step = max(1, _BATCH_SIZE // values.shape[1])
    parts = [
        statistic(signed_moments(residuals, in_condition, signs[start : start + step]))
        for start in range(0, n_draws, step)
    ]
    return np.concatenate(parts).astype(np.float32)


def unit_maps(
    statistic: Statistic,
    values: Float[np.ndarray, "items units"],
    in_condition: Bool[np.ndarray, " items"],
    *,
    kernel: Float[np.ndarray, "units sites"] | LatticeKernel | None,
    n_draws: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, "draws sites"]:
    """The map with the units of the sheet permuted before the readout."""
    if kernel is None:
        observed = statistic(group_moments(values, in_condition[None]))[0]
        maps, present = np.full((n_draws, len(observed)), np.nan, dtype=np.float32), np.flatnonzero(~np.isinf(observed))
        for one in maps:
            one[present] = observed[generator.permutation(present)]
        return maps
    units, (residuals, means) = np.arange(values.shape[1]), _residuals_and_means(values, in_condition)

    def permuted() -> tuple[np.ndarray, np.ndarray]:
        order = generator.permutation(units)
        return residuals[order], means[order]

    return _read_out_maps(statistic, in_condition, kernel, n_draws, permuted)


def floor_maps(
    statistic: Statistic,
    in_condition: Bool[np.ndarray, " items"],
    *,
    n_units: int,
    kernel: Float[np.ndarray, "units sites"] | LatticeKernel | None,
    n_draws: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, "draws sites"]:
    """The map that the readout alone makes of white noise.

    Notes
    -----
    Without a readout the units are independent and only their means and variances are drawn: for
    normal noise these are independent, normal and chi-square, so nothing is lost by not drawing the items.
    """
    if kernel is not None:
        shape = (len(in_condition), n_units)

        def noise() -> tuple[np.ndarray, np.ndarray]:
            return _residuals_and_means(generator.standard_normal(shape, dtype=np.float32), in_condition)

        return _read_out_maps(statistic, in_condition, kernel, n_draws, noise)
    shape, n_condition, n_baseline = (n_draws, n_units), int(in_condition.sum()), int((~in_condition).sum())
    moments = Moments(
        condition_mean=generator.standard_normal(shape) / np.sqrt(n_condition),
        condition_variance=generator.chisquare(n_condition - 1, shape) / (n_condition - 1),
        baseline_mean=generator.standard_normal(shape) / np.sqrt(n_baseline),
        baseline_variance=generator.chisquare(n_baseline - 1, shape) / (n_baseline - 1),
        n_condition=n_condition,
        n_baseline=n_baseline,
    )
    return statistic(moments).astype(np.float32)


def _residuals_and_means(
    values: Float[np.ndarray, "items units"], in_condition: Bool[np.ndarray, " items"]
) -> tuple[Float[np.ndarray, "units items"], Float[np.ndarray, "units 2"]]:
    """What is left of the items of each side without its mean, the condition first; and the two means.

    The residuals in float32: a null map needs no more than six digits, and without the means none cancel.
    """
    n_items, n_units = values.shape
    n_condition = int(in_condition.sum())
    residuals, means = np.empty((n_units, n_items), np.float32), np.empty((n_units, 2))
    for number, (side, columns) in enumerate((
        (in_condition, slice(n_condition)),
        (~in_condition, slice(n_condition, n_items)),
    )):
        own = values[side]
        means[:, number] = own.mean(0, dtype=np.float64)
        own -= means[:, number].astype(own.dtype)
        residuals[:, columns] = own.T
    return residuals, means


def _read_out_maps(
    statistic: Statistic,
    in_condition: np.ndarray,
    kernel: np.ndarray | LatticeKernel,
    n_draws: int,
    population: Callable[[], tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """Map of each of ``n_draws`` populations of residuals and means seen through the readout.

    The readout of residuals is the residual of the readout: one sum of squares for each side is all that a draw needs.
    """
    n_condition, n_items = int(in_condition.sum()), len(in_condition)
    read = kernel.read if isinstance(kernel, LatticeKernel) else _whole(kernel)
    means, squares = [], []
    for _ in range(n_draws):
        residuals, both = population()
        seen = read(residuals)
        sides = seen[:, :n_condition], seen[:, n_condition:]
        squares.append([np.einsum("si,si->s", side, side) for side in sides])
        means.append(both)
    # draws and sides are the items of one more readout
    seen_means = read(np.concatenate(means, axis=1)).reshape(-1, n_draws, 2).transpose(2, 1, 0)
    scatter = np.array(squares, dtype=np.float64).transpose(1, 0, 2)
    return statistic(residual_moments(seen_means, scatter, n_condition, n_items - n_condition)).astype(np.float32)


def _whole(kernel: Float[np.ndarray, "units sites"]) -> Callable[[np.ndarray], np.ndarray]:
    weights = {dtype: np.ascontiguousarray(kernel.T, dtype) for dtype in (np.dtype(np.float32), np.dtype(np.float64))}
    return lambda values: weights[values.dtype] @ values


def permuted_null(unit_map: UnitMap, *, n_draws: int, seed: int = 0) -> UnitMap:
    """The map with the null "unit", evidence for smoothness only: its values permuted over the units that have one.

    ``m*_u = m_pi(u)``, with ``pi`` a random permutation of the units whose value is not NaN.

    Parameters
    ----------
    unit_map : UnitMap
        Any map of units; for a smoothed map permute the units before the smoothing instead.
    n_draws : int
        Number of permutations, at least 2.
    seed : int
        Seed. Maps of one site that miss the same units get the same permutations.

    Returns
    -------
    UnitMap
        The same map with ``nulls["unit"]``, shape (n_draws, units), NaN where the map is NaN; its other
        nulls are kept.

    Raises
    ------
    ValueError
        If there are fewer than 2 draws, or the map is a readout.
    """
    present = _present(unit_map, n_draws, seed)
    generator = stream(seed, "unit", unit_map.site)
    draws = np.full((n_draws, len(present)), np.nan, dtype=np.float32)
    for draw in draws:
        draw[present] = unit_map.values[generator.permutation(np.flatnonzero(present))]
    return replace(unit_map, nulls={**unit_map.nulls, "unit": draws})


def noise_floor(unit_map: UnitMap, *, n_draws: int, seed: int = 0) -> UnitMap:
    """The map with the null "floor": white noise on the same units.

    ``m*_u ~ N(mean(m), sd(m)^2)``, independent, for the units whose value is not NaN.

    Parameters
    ----------
    unit_map : UnitMap
        Any map of units.
    n_draws : int
        Number of noise maps, at least 2.
    seed : int
        Seed.

    Returns
    -------
    UnitMap
        The same map with ``nulls["floor"]``, shape (n_draws, units), NaN where the map is NaN; its other
        nulls are kept.

    Raises
    ------
    ValueError
        If there are fewer than 2 draws, or the map is a readout.
    """
    present = _present(unit_map, n_draws, seed)
    values = unit_map.values[present].astype(np.float64)
    mean, sd = (values.mean(), values.std()) if len(values) else (0.0, 0.0)
    draws = np.full((n_draws, len(present)), np.nan, dtype=np.float32)
    noise = stream(seed, "floor", unit_map.site).standard_normal((n_draws, len(values)))
    draws[:, present] = mean + sd * noise
    return replace(unit_map, nulls={**unit_map.nulls, "floor": draws})


def _present(unit_map: UnitMap, n_draws: int, seed: int) -> np.ndarray:
    check_draws(n_draws, seed, least=2)
    if unit_map.sheet.is_readout:
        raise ValueError(
            f"the map at {unit_map.site!r} is a readout, whose sites are not exchangeable: the smoothing ties "
            "neighbours together; permute the units before the readout"
        )
    return ~np.isnan(unit_map.values)
