"""Whether responses grow less alike with distance: near by, and beyond patches that are kept as they are."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from topographic.maps.curves import DistanceCurve, Pairs, standardised
from topographic.maps.nulls import check_draws, stream
from topographic.maps.references import NotMeasurable, Referenced, compare
from topographic.recording.responses import Responses
from topographic.sheets import Sheet, distances, grid_cells

__all__ = ["DistanceDecay", "block_orders", "distance_decay", "profile_agreement"]


@dataclass(frozen=True, eq=False)
class DistanceDecay:
    """How responses grow less alike with distance.

    Parameters
    ----------
    near : Referenced
        Correlation, over all pairs of units, of ``r_ij`` with ``1 / (1 + d_ij)``, beside permuted units ("unit").
    far : Referenced
        Minus the correlation of ``r_ij`` with ``d_ij`` over the pairs farther apart than a block is long, beside the
        sheet with its blocks in another order ("block"), which keeps what is smooth inside them.
    """

    near: Referenced
    far: Referenced


def distance_decay(responses: Responses, *, block: int = 6, n_draws: int = 199, seed: int = 0) -> DistanceDecay:
    """Order of a sheet near by and far away, each against what chance makes of it.

    Null hypotheses: it does not matter which unit lies in which place (``near``); nor which block does (``far``).

    Parameters
    ----------
    responses : Responses
        Of a lattice. Judge a layout on stimuli it was not fitted on.
    block : int
        Rows and columns of a block, in units; more than the distance over which neighbours are alike.
    n_draws : int
        Draws of each null.
    seed : int
        Of the draws.

    Returns
    -------
    DistanceDecay
        Two numbers with z and p.

    Raises
    ------
    NotMeasurable
        If fewer than 4 whole blocks fit, or no pair is that far apart.
    ValueError
        If the units lie on no lattice, or fewer than two vary.

    Notes
    -----
    Any layout that was fitted to responses is smooth near by; ``near`` says no more. A sheet may then be a patchwork
    whose pieces lie anywhere, for which ``far`` is about 0, and its z with it.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> from topographic.stimuli import StimulusSet
    >>> slopes = np.random.default_rng(0).standard_normal((40, 2)) @ grid((12, 12)).positions_mm.numpy().T
    >>> noise = np.random.default_rng(1).standard_normal(slopes.shape)
    >>> shown = StimulusSet("noise", [str(i) for i in range(40)], ["a"] * 40)
    >>> found = distance_decay(Responses("site", slopes + noise, grid((12, 12)), shown), block=3, n_draws=99)
    >>> found.near.nulls["unit"].p, found.far.nulls["block"].p
    (0.01, 0.01)
    """
    check_draws(n_draws, seed, least=2)
    units, standard = standardised(responses, seed)
    r, apart = standard.T @ standard, _apart(responses.sheet, units)
    orders = _orders(responses, units, block, n_draws, seed)
    every = np.triu_indices(len(units), 1)
    far = tuple(one[apart[every] > block * np.sqrt(2) * _spacing(apart)] for one in every)
    if not len(far[0]):
        raise NotMeasurable(f"sheet {responses.sheet.name!r} has no pair of units beyond a block of {block}; lower it")
    near = _beside(r, 1 / (1 + apart), every, orders["unit"])
    return DistanceDecay(
        Referenced(near[0], {"unit": compare(near[0], near[1:])}),
        Referenced((value := _beside(r, -apart, far, orders["block"]))[0], {"block": compare(value[0], value[1:])}),
    )


def profile_agreement(
    responses: Responses,
    reference: DistanceCurve,
    *,
    block: int = 6,
    alpha: float = 0.05,
    n_draws: int = 199,
    seed: int = 0,
) -> Referenced:
    """Agreement of a sheet's correlation by distance with a reference, such as that of cortex.

    Pearson's r over bins of the two curves, both in equal bins from their nearest to their farthest pair.

    The null hypothesis: the curve of the sheet agrees as it would with units, or whole blocks, in any other order.

    Parameters
    ----------
    responses : Responses
        Of a lattice.
    reference : DistanceCurve
        What `correlation_by_distance` gives for a cortex, with as many bins.
    block : int
        As in `distance_decay`.
    alpha : float
        Level at which the sheet's own curve has to decay.
    n_draws, seed
        Of each null.

    Returns
    -------
    Referenced
        r with two nulls: "unit" (permuted units) and "block" (the blocks in another order, smooth inside).

    Raises
    ------
    NotMeasurable
        If the sheet's own correlations do not fall with distance, with p <= alpha against permuted units; or as
        `distance_decay`.
    ValueError
        If a curve of the two does not vary or has an empty bin.

    Notes
    -----
    A flat curve correlates with anything by the scatter of its bins, and the curves of permuted units do so below 0:
    the difference of the two made a sheet without any decay look like cortex. It is refused here, and what is not gets
    its z from the draws, not a difference of means.
    """
    check_draws(n_draws, seed, least=2)
    decay = distance_decay(responses, block=block, n_draws=n_draws, seed=seed).near
    if decay.nulls["unit"].p > alpha:
        raise NotMeasurable(
            f"responses at {responses.site!r} do not grow less alike with distance (r {decay.value:.3f} with "
            f"1 / (1 + d), p {decay.nulls['unit'].p:.2g}); a flat curve agrees with nothing"
        )
    wanted = np.asarray(reference.values, np.float64)
    units, standard = standardised(responses, seed)
    pairs = Pairs(responses.sheet, units, n_bins=len(wanted))
    own = pairs.correlation(standard).values
    for name, curve in (("reference", wanted), (f"curve at {responses.site!r}", own)):
        if not np.isfinite(curve).all() or len(curve) < 3 or np.ptp(curve) == 0:
            raise ValueError(f"the {name} has empty bins, fewer than 3, or does not vary; use other bins")
    value = float(np.corrcoef(own, wanted)[0, 1])
    drawn = {
        name: np.array([np.corrcoef(pairs.correlation(standard[:, order]).values, wanted)[0, 1] for order in orders])
        for name, orders in _orders(responses, units, block, n_draws, seed).items()
    }
    return Referenced(value, {name: compare(value, draws) for name, draws in drawn.items()})


def block_orders(
    sheet: Sheet, block: int, n_draws: int, generator: np.random.Generator
) -> Int[np.ndarray, "draws units"]:
    """Which unit lies at each place when blocks of the lattice lie elsewhere, those at an edge with those as large."""
    _, cells = grid_cells(sheet)
    columns = int(grid_cells(sheet)[0][1])
    row, column = np.divmod(np.asarray(cells), columns)
    places: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for unit, (i, j) in enumerate(zip(row.tolist(), column.tolist(), strict=True)):
        places.setdefault((i // block, j // block), []).append((i % block, j % block, unit))
    alike: dict[tuple[tuple[int, int], ...], list[list[int]]] = {}
    for members in places.values():
        members.sort()
        alike.setdefault(tuple((i, j) for i, j, _ in members), []).append([unit for *_, unit in members])
    if max(map(len, alike.values())) < 4:
        raise NotMeasurable(
            f"sheet {sheet.name!r} has fewer than 4 whole blocks of {block} x {block} units; lower block"
        )
    orders = np.empty((n_draws, sheet.n_units), np.int64)
    for same in alike.values():
        units = np.array(same)
        turned = np.argsort(generator.random((n_draws, len(same))), axis=1)
        orders[:, units.ravel()] = units[turned].reshape(n_draws, units.size)
    return orders


def _orders(
    responses: Responses, units: Int[np.ndarray, "_"], block: int, n_draws: int, seed: int
) -> dict[str, Int[np.ndarray, "_ _"]]:
    """Permutations of the units that vary, and of the blocks."""
    site = responses.site
    if len(units) < responses.sheet.n_units:
        raise NotMeasurable(
            f"{responses.sheet.n_units - len(units)} units at {site!r} never vary, or are too many for all pairs; "
            "blocks can be moved where all units count"
        )
    permuted = stream(seed, "unit", site).permuted(np.tile(units, (n_draws, 1)), axis=1)
    return {"unit": permuted, "block": block_orders(responses.sheet, block, n_draws, stream(seed, "block", site))}


def _apart(sheet: Sheet, units: Int[np.ndarray, "_"]) -> Float[np.ndarray, "units units"]:
    positions_mm = sheet.positions_mm[units.tolist()]
    return distances(positions_mm, period_mm=sheet.period_mm).numpy().astype(np.float64)


def _spacing(apart: Float[np.ndarray, "units units"]) -> float:
    return float(apart[apart > 0].min())


def _beside(
    r: Float[np.ndarray, "units units"],
    near: Float[np.ndarray, "units units"],
    pairs: tuple[Int[np.ndarray, " pairs"], ...],
    orders: Int[np.ndarray, "draws units"],
) -> Float[np.ndarray, " labellings"]:
    """Correlation over pairs of r with nearness, as the units lie and in every order."""
    first, second = pairs
    wanted = near[first, second] - near[first, second].mean()
    wanted /= np.linalg.norm(wanted)

    def one(values: Float[np.ndarray, " pairs"]) -> float:
        values = values - values.mean()
        return float(values @ wanted / np.linalg.norm(values))

    return np.array([one(r[first, second]), *(one(r[order[first], order[second]]) for order in orders)])
