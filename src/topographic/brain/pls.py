"""PLS-SVD: which directions of a model's units and of a brain's measures vary together, tested on held-out items."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from topographic.brain.folds import Folds, contiguous_folds

__all__ = ["PLSAlignment", "pls_alignment", "pls_svd"]


@dataclass(frozen=True, eq=False)
class PLSAlignment:
    """Components shared by two sets of measures of the same items.

    Parameters
    ----------
    alignment : ndarray, shape (components,)
        Correlation of the held-out scores of both sides, for each component.
    p : ndarray, shape (components,)
        Share of the draws, the observed one among them, in which it is as large with the items permuted.
    first_weights, second_weights : ndarray, shape (features, components), (measures, components)
        Weights on all items, each component of length 1: values on the sheet, and on the brain.
    singular_values : ndarray, shape (components,)
        Covariances of the scores on all items.
    nulls : ndarray, shape (draws, components)
        Alignments with the items permuted.
    """

    alignment: Float[np.ndarray, " components"]
    p: Float[np.ndarray, " components"]
    first_weights: Float[np.ndarray, "features components"]
    second_weights: Float[np.ndarray, "measures components"]
    singular_values: Float[np.ndarray, " components"]
    nulls: Float[np.ndarray, "draws components"] = field(repr=False)


def pls_svd(
    first: Float[np.ndarray, "items features"], second: Float[np.ndarray, "items measures"], n_components: int
) -> tuple[
    Float[np.ndarray, "features components"], Float[np.ndarray, " components"], Float[np.ndarray, "measures components"]
]:
    """``X^T Y / (n - 1) = U S V^T`` of standardised columns: U, S and V of the largest components."""
    x, y = _standardised(first), _standardised(second)
    if min(x.shape[1], y.shape[1]) <= len(x):
        left, values, right = np.linalg.svd(x.T @ y / (len(x) - 1), full_matrices=False)
        u, v = left[:, :n_components], right[:n_components].T
    else:  # of more units and measures than items the decomposition is one of as many items only
        (q_first, r_first), (q_second, r_second) = np.linalg.qr(x.T), np.linalg.qr(y.T)
        left, values, right = np.linalg.svd(r_first @ r_second.T / (len(x) - 1), full_matrices=False)
        u, v = q_first @ left[:, :n_components], q_second @ right[:n_components].T
    signs = np.where(u.sum(0) < 0, -1.0, 1.0)
    return u * signs, values[:n_components], v * signs


def pls_alignment(
    first: Float[np.ndarray, "items features"],
    second: Float[np.ndarray, "others measures"],
    *,
    n_components: int = 10,
    folds: Folds | None = None,
    orders: Int[np.ndarray, "draws _"] | None = None,
    n_draws: int = 199,
    seed: int = 0,
) -> PLSAlignment:
    """Directions in which a model and a brain vary together over items, and whether they do so on other items.

    ``X^T Y / (n - 1) = U S V^T`` on the training items of a fold, columns standardised there; ``alignment_k`` is the
    mean over folds of the correlation of ``X u_k`` and ``Y v_k`` on the held-out items.

    The null hypothesis of its p: any item of one side might have been beside any of the other; with ``orders``: those
    leave what one item has to do with the next, and nothing lies in which of them is observed.

    Parameters
    ----------
    first : ndarray, shape (items, features)
        Responses of the units of a sheet, for example ``Responses.values``.
    second : ndarray, shape (items, measures)
        Voxels, or components of an event-related potential, for the same items.
    n_components : int
        How many, the largest covariance first.
    folds : Folds, optional
        Five contiguous ones without a gap by default, for items that stand alone; of continuous recordings give those
        of `run_folds`.
    orders : ndarray of int, shape (draws, items), optional
        Orders of the items of the brain to draw in place of permutations: of items that follow one another in time,
        moved around by some number of items (``np.roll``).
    n_draws : int
        Permutations of the items of the brain, in each of which all is fitted again; without ``orders``.
    seed : int
        Decides the permutations.

    Returns
    -------
    PLSAlignment
        Held-out correlations with p, one-sided and not corrected over components, and weights to lay on the sheets.

    Raises
    ------
    ValueError
        If the items do not agree, a value is not finite, or there are too few items for the components.

    References
    ----------
    McIntosh and Lobaugh (2004), NeuroImage 23:S250, on PLS-SVD; the alignment of Topoformer is of this kind.

    Notes
    -----
    Components of a fold are those of the same rank on all items; where two covariances are nearly equal they may trade
    places between folds, which lowers both alignments. Permuted items must be exchangeable: of a recording in time,
    or of words of one text, they are not, and ``orders`` has to keep what they share.

    Examples
    --------
    >>> shared = np.random.default_rng(0).standard_normal((100, 1))
    >>> found = pls_alignment(shared @ np.ones((1, 3)), shared @ np.ones((1, 2)), n_components=1, n_draws=19)
    >>> found.alignment.round(3).tolist(), found.p.tolist()
    ([1.0], [0.05])
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise ValueError(
            f"shapes {first.shape} and {second.shape}; expected (items, features) and (items, measures), of the "
            "same items"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a value is NaN or infinite; leave such units, measures or items out")
    if n_draws < 1:
        raise ValueError(f"n_draws={n_draws}; expected at least 1 permutation, 199 for p to .005")
    if orders is None:
        draw = np.random.default_rng(seed)
        orders = np.array([draw.permutation(len(second)) for _ in range(n_draws)])
    elif orders.shape[1:] != (len(second),) or not len(orders):
        raise ValueError(f"orders of shape {orders.shape} for {len(second)} items; expected (draws, items)")
    folds = contiguous_folds(len(first), 5, gap=0) if folds is None else folds
    fewest = min(len(train) for train, _ in folds.pairs)
    most = min(fewest - 1, first.shape[1], second.shape[1])
    if not 1 <= n_components <= most:
        raise ValueError(
            f"n_components={n_components} with {fewest} training items, {first.shape[1]} features and "
            f"{second.shape[1]} measures; expected 1 to {most}"
        )
    observed = _held_out(first, second, folds, n_components)
    nulls = np.array([_held_out(first, second[order], folds, n_components) for order in orders])
    u, values, v = pls_svd(first, second, n_components)
    p = (1 + (nulls >= observed).sum(0)) / (1 + len(orders))
    return PLSAlignment(observed, p, u, v, values, nulls)


def _held_out(first: np.ndarray, second: np.ndarray, folds: Folds, n_components: int) -> np.ndarray:
    found = []
    for train, test in folds.pairs:
        u, _, v = pls_svd(first[train], second[train], n_components)
        scores = _standardised(first[train], first[test]) @ u, _standardised(second[train], second[test]) @ v
        found.append([_correlation(*pair) for pair in zip(*(one.T for one in scores), strict=True)])
    return np.mean(found, axis=0)


def _standardised(train: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
    """With the means and deviations of the training items; a column that never varies there is 0."""
    deviation = train.std(0, ddof=1)
    centred = (train if values is None else values) - train.mean(0)
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    length = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / length) if length > 0 else 0.0
