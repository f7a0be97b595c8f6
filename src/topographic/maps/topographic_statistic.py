"""The topographic statistic: whether units that respond alike lie near one another, at all scales together."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata

from topographic.maps.curves import unit_length
from topographic.maps.nulls import check_seed
from topographic.maps.references import Referenced, compare
from topographic.recording.responses import Responses
from topographic.sheets import distances

__all__ = ["TOPOGRAPHIC_STATISTICS", "topographic_statistic"]

CUTOFFS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def topographic_statistic(
    responses: Responses,
    *,
    kind: str = "spearman",
    torus: bool = True,
    cutoffs: Sequence[float] = CUTOFFS,
    max_pairs: int = 100_000,
    n_draws: int = 199,
    seed: int = 0,
) -> Referenced:
    """Fall of the correlation of two units' responses with their distance, averaged over neighbourhoods of all sizes.

    ``t_g = mean over D of - Spearman(r_ij, d_ij) over the pairs with 0 < d_ij <= D``

    The null hypothesis of its p: it does not matter which unit lies in which place.

    Parameters
    ----------
    responses : Responses
        Responses of one site. A unit that never varies correlates with no other.
    kind : {"spearman", "pearson", "ratio"}
        What is taken at each cut-off: minus the rank correlation, minus the correlation, or the mean of ``r / d``
        with r in standard deviations from its mean.
    torus : bool
        Measure the shorter way round the sheet, as published, whether or not its opposite edges are joined.
    cutoffs : sequence of float
        The distances D, where each side of the sheet is 1 long; on a torus all pairs lie within 0.71.
    max_pairs : int
        Of more pairs than this within a cut-off so many are drawn.
    n_draws : int
        Permutations of the units, the null named "unit"; 0 for none.
    seed : int
        Decides the pairs and the permutations.

    Returns
    -------
    Referenced
        t_g, in [-1, 1] for the correlations: about 0 where place says nothing, above it where near units respond
        alike.

    Raises
    ------
    ValueError
        If no pair of units lies within a cut-off, the kind is unknown, or the sheet has no area.

    References
    ----------
    Topoformer: brain-like topographic organization in Transformer language models through spatial querying and
    reweighting, Re-Align workshop at ICLR 2024.

    Notes
    -----
    The published code counts each pair in both directions; here once, which changes nothing but what is drawn. Its
    cut-offs 0.1 to 0.8 include one that takes in every pair of a torus. Where all pairs within a cut-off are as far
    apart, as those within 0.1 on a grid of 12 x 12, it adds 0.
    """
    check_seed(seed)
    if kind not in TOPOGRAPHIC_STATISTICS:
        raise ValueError(f"kind={kind!r}; expected one of {sorted(TOPOGRAPHIC_STATISTICS)}")
    statistic, draw = TOPOGRAPHIC_STATISTICS[kind], np.random.default_rng(seed)
    between = _sides_apart(responses, torus)
    first, second = np.triu_indices(len(between), 1)
    apart = between[first, second]
    chosen = []
    for cutoff in cutoffs:
        near = np.flatnonzero((apart > 0) & (apart <= cutoff))
        if len(near) < 2:
            raise ValueError(
                f"{len(near)} pairs of units of {responses.site!r} lie within {cutoff} of a side of their sheet; "
                "expected at least 2: leave out cut-offs that are too short for it"
            )
        if len(near) > max_pairs:
            near = draw.choice(near, max_pairs, replace=False)
        # distances are the same in every draw
        chosen.append((near, statistic(apart[near])))
    values = responses.values.astype(np.float64)
    varies = np.ptp(values, axis=0) > 0
    standard = np.zeros_like(values)
    standard[:, varies] = unit_length(values[:, varies])
    correlations = standard.T @ standard

    def at(order: np.ndarray) -> float:
        return float(np.mean([of(correlations[order[first[near]], order[second[near]]]) for near, of in chosen]))

    value = at(np.arange(len(between)))
    if not n_draws:
        return Referenced(value)
    nulls = np.array([at(draw.permutation(len(between))) for _ in range(n_draws)])
    return Referenced(value, {"unit": compare(value, nulls)})


def _sides_apart(responses: Responses, torus: bool) -> Float[np.ndarray, "units units"]:
    """Distances on a sheet whose sides are 1 long."""
    sheet = responses.sheet
    extent_mm = np.asarray(sheet.extent_mm, np.float64)
    if len(extent_mm) != 2 or not (extent_mm > 0).all():
        raise ValueError(f"{sheet!r} is no plane with an area, on which pairs would be near or far; use `grid`")
    positions = sheet.positions_mm / torch.from_numpy(extent_mm)
    # 9 digits: a pair at a cut-off stays within it whatever the spacing of the units
    return distances(positions, period_mm=(1.0, 1.0) if torus else None).numpy().round(9)


def _correlation(values: np.ndarray, others: np.ndarray) -> float:
    values, others = values - values.mean(), others - others.mean()
    length = np.sqrt((values @ values) * (others @ others))
    return float(values @ others / length) if length > 0 else 0.0


def _spearman(apart: np.ndarray) -> Callable[[np.ndarray], float]:
    ranks = rankdata(apart)
    return lambda correlations: -_correlation(rankdata(correlations), ranks)


def _pearson(apart: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda correlations: -_correlation(correlations, apart)


def _ratio(apart: np.ndarray) -> Callable[[np.ndarray], float]:
    def mean(correlations: np.ndarray) -> float:
        spread = correlations.std()
        return float(((correlations - correlations.mean()) / spread / apart).mean()) if spread > 0 else 0.0

    return mean


TOPOGRAPHIC_STATISTICS: dict[str, Callable[[np.ndarray], Callable[[np.ndarray], float]]] = {
    "spearman": _spearman,
    "pearson": _pearson,
    "ratio": _ratio,
}
