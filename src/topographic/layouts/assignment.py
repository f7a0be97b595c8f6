"""A layout found, not trained: the permutation of units under which places close together respond alike."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.linalg import eigh
from scipy.optimize import linear_sum_assignment, quadratic_assignment
from scipy.sparse.csgraph import shortest_path
from torch import Tensor
from tqdm.auto import tqdm

from topographic.layouts.blocks import fitting_neighborhoods
from topographic.layouts.population import Values, check_population, covariance
from topographic.sheets import Sheet, distances
from topographic.sheets.expectations import expect_whole

__all__ = ["Arrangement", "fit_assignment"]

_ROUNDS = 15  # of the assignment by Frank and Wolfe; after 40 the loss is lower by .001
_AT_ONCE = 64
_PARTNERS = 6
_NEAREST = 8  # neighbours of a place on a lattice
_SMALL = 500  # units by starts


def fit_assignment(
    values: Values, sheet: Sheet, *, seed: int = 0, swaps: int = 0, progress: bool = False
) -> Int64[Tensor, " units"]:
    """Which unit to put at each place of a sheet, so that places close together respond alike.

    Place ``i`` holds unit ``order[i]``: ``values[:, order]`` lies on the sheet. The order makes the spatial loss
    (`spatial_correlation_loss` over all neighbourhoods of radius 5) small: first its numerator, a quadratic
    assignment of correlations ``r`` to closeness ``d``, ``max sum_ij r_(order i, order j) w_ij`` with
    ``w_ij = sum_(M with i, j) (d_ij - mean_M d)``; then, where asked for, swaps of two units that
    lower the loss itself.

    Parameters
    ----------
    values : ndarray or Tensor, shape (samples, units)
        Activations of any origin, at least twice as many samples as units.
    sheet : Sheet
        Where the places lie, as `fit_rotation` takes it.
    seed : int
        Seed of the start and of the swaps that are tried.
    swaps : int
        How many swaps to try at most after the assignment, none by default (Notes). It ends sooner where nothing
        improves any more.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Tensor of int64, shape (units,)
        A permutation.

    Raises
    ------
    ValueError
        If there are too few samples, a unit is constant, values are not finite, or the widths differ.

    Warns
    -----
    UserWarning
        If two units do the same in all samples.

    Notes
    -----
    The quadratic assignment (Frank and Wolfe, each step a linear assignment) takes the place of an embedding in two
    dimensions. A swap changes two rows of the correlations of the neighbourhoods it touches, and nothing else is
    computed; it is made if the loss becomes strictly lower.

    Measured on the residual stream of block 14 of SmolLM2-135M (576 units, 8,192 tokens of Wikipedia, one thread): the
    assignment takes 1.7 s of processor time and reaches .218 on these tokens and .284 on 4,096 others (.500 in the
    units' own order); 50,000 swaps take 3.3 s more and reach .214, and .284 on the others, which they do not help:
    ask for them where these samples are all that there is.

    References
    ----------
    Vogelstein et al. (2015), Fast approximate quadratic programming for graph matching; Margalit et al. (2024), A
    unifying framework for functional organization in early and higher ventral visual cortex (swaps).

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> values = torch.randn(400, 36, generator=torch.Generator().manual_seed(0)).cumsum(1)
    >>> order = fit_assignment(values, grid(36), swaps=200)
    >>> sorted(order.tolist()) == list(range(36))
    True
    """
    expect_whole("seed", seed)
    expect_whole("swaps", swaps)
    check_population(values, sheet)
    _, shared = covariance(values)
    own = shared.diagonal().sqrt()
    generator = np.random.default_rng(seed)
    arrangement = Arrangement((shared / torch.outer(own, own)).numpy(), sheet)
    arrangement.put(_assigned(arrangement, sheet, generator))
    with tqdm(total=swaps, desc="swap units", disable=not progress) as bar:
        in_vain = 0
        for tried in range(0, swaps, _AT_ONCE):
            n_swaps = min(_AT_ONCE, swaps - tried)
            in_vain = 0 if _improve(arrangement, generator, n_swaps) else in_vain + 1
            bar.update(n_swaps)
            if in_vain > 3 * sheet.n_units:
                break
    return torch.from_numpy(arrangement.order.copy())


class Arrangement:
    """Units at places, with the sums over neighbourhoods from which the change of the loss by any swap follows."""

    def __init__(self, correlation: Float[np.ndarray, "units units"], sheet: Sheet) -> None:
        members = fitting_neighborhoods(sheet).numpy()
        self.n_units, self.n_pairs = sheet.n_units, members.shape[1] * (members.shape[1] - 1)
        self.within = np.zeros((len(members), sheet.n_units))
        np.put_along_axis(self.within, members, 1.0, axis=1)
        self.apart_mm = distances(sheet.positions_mm, period_mm=sheet.period_mm).numpy()
        self.closeness = 1 / (1 + self.apart_mm)
        np.fill_diagonal(self.closeness, 0)
        self.d_mean = self._over_pairs(self.closeness) / self.n_pairs
        self.d_sd = np.sqrt(np.maximum(self._over_pairs(self.closeness**2) / self.n_pairs - self.d_mean**2, 0))
        self.by_unit = correlation.copy()
        np.fill_diagonal(self.by_unit, 0)
        self.put(np.arange(sheet.n_units))

    def put(self, order: Int64[np.ndarray, " units"]) -> None:
        """Put unit ``order[i]`` at place ``i``."""
        self.order = np.array(order, np.int64)
        self.r = self.by_unit[np.ix_(self.order, self.order)]
        self.sums = np.stack([self._over_pairs(part) for part in (self.r, self.r**2, self.r * self.closeness)])

    def _over_pairs(self, values: Float[np.ndarray, "units units"]) -> Float[np.ndarray, " neighborhoods"]:
        return ((self.within @ values) * self.within).sum(1)

    def _losses(self, sums: Float[np.ndarray, "3 neighborhoods *swaps"]) -> Float[np.ndarray, "neighborhoods *swaps"]:
        r, r_squared, r_d = sums / self.n_pairs
        d_mean, d_sd = (part.reshape(-1, *[1] * (r.ndim - 1)) for part in (self.d_mean, self.d_sd))
        r_sd = np.sqrt(np.maximum(r_squared - r**2, 0))
        scale = r_sd * d_sd
        return (1 - np.divide(r_d - r * d_mean, scale, out=np.zeros_like(r), where=scale > 1e-12)) / 2

    @property
    def loss(self) -> float:
        """Spatial loss, the mean over neighbourhoods."""
        return float(self._losses(self.sums).mean())

    def changed_sums(
        self, place: int, others: Int64[np.ndarray, " swaps"]
    ) -> Float[np.ndarray, "3 neighborhoods swaps"]:
        """The sums after the unit at a place has changed places with that at each of the others."""
        here, there = self.r[:, place, None], self.r[:, others]
        columns = np.arange(len(others))
        parts = [there - here, there**2 - here**2]
        for part in parts:
            part[place] = 0
            part[others, columns] = 0
        gained = self.within @ np.concatenate(
            [*parts, parts[0] * self.closeness[:, place, None], parts[0] * self.closeness[:, others]], axis=1
        )
        r, r_squared, near_here, near_there = np.split(gained, 4, axis=1)
        at_place, at_other = self.within[:, place, None], self.within[:, others]
        both = at_place - at_other
        changes = np.stack([both * r, both * r_squared, at_place * near_here - at_other * near_there])
        return self.sums[..., None] + 2 * changes

    def losses_after(self, place: int, others: Int64[np.ndarray, " swaps"]) -> Float[np.ndarray, " swaps"]:
        """Loss after each of some swaps, every one on its own."""
        return self._losses(self.changed_sums(place, others)).mean(0)

    def swap(self, place: int, other: int) -> None:
        """Let the units at two places change places."""
        self.sums = self.changed_sums(place, np.array([other]))[..., 0]
        self.order[[place, other]] = self.order[[other, place]]
        self.r[[place, other]] = self.r[[other, place]]
        self.r[:, [place, other]] = self.r[:, [other, place]]

    @property
    def pull(self) -> Float[np.ndarray, "places places"]:
        """Numerator of the loss as weights of a quadratic assignment."""
        pull = (self.within.T @ self.within) * self.closeness - self.within.T @ (self.d_mean[:, None] * self.within)
        np.fill_diagonal(pull, 0)
        return pull


def _assigned(arrangement: Arrangement, sheet: Sheet, generator: np.random.Generator) -> Int64[np.ndarray, " units"]:
    """The best of the quadratic assignments that begin from an embedding and from random orders."""
    n_units, found = arrangement.n_units, {}
    # neighbourhoods say nothing of what lies far apart: an embedding unfolds the whole, small sheets afford many starts
    n_random = int(np.clip(_SMALL / n_units, 0, 8))
    starts = [_embedded(arrangement, sheet), *(generator.permutation(n_units) for _ in range(n_random))]
    for start in starts:
        # around the barycentre, where no unit has a place yet; in it all places of a torus would be alike
        weights = np.full((n_units, n_units), 0.8 / n_units)
        weights[np.arange(n_units), start] += 0.2
        options = {"maximize": True, "P0": weights, "maxiter": _ROUNDS, "tol": 1e-4}
        solved = quadratic_assignment(arrangement.pull, arrangement.by_unit, method="faq", options=options)
        for order in (start, solved.col_ind):
            arrangement.put(order)
            found[arrangement.loss] = arrangement.order
    return found[min(found)]


def _embedded(arrangement: Arrangement, sheet: Sheet) -> Int64[np.ndarray, " units"]:
    """Order by two dimensions in which paths between units of like responses are as long as on the sheet (Isomap)."""
    n_units, axes = arrangement.n_units, sheet.positions_mm.numpy()
    apart = np.sqrt(np.maximum(2 * (1 - arrangement.by_unit), 1e-12))
    np.fill_diagonal(apart, 0)
    near = np.where(apart <= np.sort(apart, axis=1)[:, min(_NEAREST, n_units - 1), None], apart, 0)
    paths = shortest_path(np.maximum(near, near.T), directed=False)
    paths = np.minimum(paths, 2 * paths[np.isfinite(paths)].max())  # islands lie far from one another
    squared = paths**2
    centred = squared.mean(0) + squared.mean(1, keepdims=True) - squared - squared.mean()
    _, vectors = eigh(centred, subset_by_index=[n_units - axes.shape[1], n_units - 1])
    # the axis with the longest extent gets the widest dimension; its scale makes places and units comparable
    axes = axes - axes.mean(0)
    wide = np.argsort(np.ptp(axes, axis=0), kind="stable")
    # on a square sheet both dimensions are equally wide, and any turn of them is as good to the embedding
    best = []
    for angle in np.linspace(0, np.pi / 2, 6, endpoint=False):
        turned = vectors.copy()
        turned[:, -2:] @= [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        cost = ((axes[:, None, wide] - (turned / turned.std(0) * axes[:, wide].std(0))[None]) ** 2).sum(-1)
        places, order = linear_sum_assignment(cost)
        best.append((cost[places, order].sum(), order))
    return min(best, key=lambda found: found[0])[1]


def _improve(arrangement: Arrangement, generator: np.random.Generator, n_swaps: int) -> bool:
    """Make the best of some swaps of one place if it lowers the loss; whether it does."""
    place = int(generator.integers(arrangement.n_units))
    # beside the units it correlates with most, and anywhere
    partners = np.argsort(-arrangement.r[place], kind="stable")[:_PARTNERS]
    beside = np.argsort(arrangement.apart_mm[partners], axis=1, kind="stable")[:, :9].ravel()
    anywhere = generator.integers(arrangement.n_units, size=n_swaps)
    others = np.unique(np.concatenate([beside, anywhere])[:n_swaps])
    others = others[others != place]
    if not len(others):
        return False
    after = arrangement.losses_after(place, others)
    best = int(after.argmin())
    if after[best] >= arrangement.loss - 1e-9:
        return False
    arrangement.swap(place, int(others[best]))
    return True
