"""Losses of neighbours on a sheet: how unlike their weights or activations are, and what connections cost."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["NEIGHBOR_DISTANCES", "neighbor_dissimilarity", "wiring_cost", "wiring_swaps"]


def neighbor_dissimilarity(
    values: Float[Tensor, "units depth"], pairs: Int64[Tensor, "pairs two"], *, metric: str = "euclidean"
) -> Float[Tensor, ""]:
    """How unlike adjacent units are, by their weights or by what they did: mean distance of their rows.

    ``L = mean over adjacent (u, v) of d(x_u, x_v)``

    Parameters
    ----------
    values : Tensor, shape (units, depth)
        A row per unit: its weights (`weight_sheets`), or its activations over samples.
    pairs : Tensor of int, shape (pairs, 2)
        Adjacent units, each pair once (`topographic.sheets.adjacent_pairs`).
    metric : {"euclidean", "cosine", "correlation"}
        Euclidean norm of the difference, not squared; 1 minus the cosine; 1 minus the correlation.

    Returns
    -------
    Tensor, shape ()
        0 where all adjacent units are alike.

    Raises
    ------
    ValueError
        If there is no pair or the metric is unknown.

    References
    ----------
    Weight and activation similarity of neighbours: arXiv 2508.00043.

    Notes
    -----
    The published code counts every pair in both directions, which has the same mean.

    Examples
    --------
    >>> float(neighbor_dissimilarity(torch.tensor([[0.0], [3.0], [3.0]]), torch.tensor([[0, 1], [1, 2]])))
    1.5
    """
    if metric not in NEIGHBOR_DISTANCES:
        raise ValueError(f"metric={metric!r}; expected one of {sorted(NEIGHBOR_DISTANCES)}")
    if not len(pairs):
        raise ValueError("no two units are adjacent; expected a sheet with neighbours: lay the units on a grid")
    pairs = pairs.to(values.device)
    prepare, distance = NEIGHBOR_DISTANCES[metric]
    prepared = prepare(values)  # once for a unit and not for each of its pairs
    return distance(prepared[pairs[:, 0]], prepared[pairs[:, 1]]).mean()


def wiring_cost(
    weight: Float[Tensor, "outputs inputs"], distances_mm: Float[Tensor, "outputs inputs"]
) -> Float[Tensor, ""]:
    """What connections cost that grow dearer with their length.

    ``L = sum_ij |W_ij| d_ij / (outputs x inputs)``

    Parameters
    ----------
    weight : Tensor, shape (outputs, inputs)
        Weights of a layer.
    distances_mm : Tensor, shape (outputs, inputs)
        Length of each connection.

    Returns
    -------
    Tensor, shape ()
        Mean cost of a connection, in mm.

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    Brain-inspired modular training (BIMT), arXiv 2305.08746 and 2310.07711, whose penalty is the sum.

    Examples
    --------
    >>> float(wiring_cost(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 3.0]])))
    3.0
    """
    if weight.shape != distances_mm.shape:
        raise ValueError(
            f"weights of shape {tuple(weight.shape)} and lengths of {tuple(distances_mm.shape)}; give one each"
        )
    return (weight.abs() * distances_mm.to(weight)).mean()


@torch.no_grad()
def wiring_swaps(
    incoming: Float[Tensor, "units inputs"],
    outgoing: Float[Tensor, "outputs units"],
    into_mm: Float[Tensor, "units inputs"],
    out_of_mm: Float[Tensor, "outputs units"],
    *,
    n_candidates: int = 6,
) -> Int64[Tensor, " units"]:
    """Which unit should lie at each place so that connections are shorter, as neurons are swapped in BIMT.

    The units with the largest ``sum |W_in| + sum |W_out|`` change places, one after another, with the unit with which
    the whole cost ``sum |W_in| d + sum |W_out| d`` falls most, if it falls.

    Parameters
    ----------
    incoming, outgoing : Tensor, shapes (units, inputs), (outputs, units)
        Weights into the units and out of them.
    into_mm, out_of_mm : Tensor, shapes (units, inputs), (outputs, units)
        Length of the connections of each place.
    n_candidates : int
        Units that are tried; six as published.

    Returns
    -------
    Tensor of int, shape (units,)
        Place i takes unit ``order[i]``: permuted by it, rows of the incoming and columns of the outgoing weights
        compute the same and cost no more.

    Raises
    ------
    ValueError
        If the numbers of units differ, or no candidate is asked for.
    """
    n_units = len(incoming)
    if outgoing.shape[1] != n_units or into_mm.shape != incoming.shape or out_of_mm.shape != outgoing.shape:
        raise ValueError(
            f"weights of shapes {tuple(incoming.shape)} and {tuple(outgoing.shape)} and lengths of "
            f"{tuple(into_mm.shape)} and {tuple(out_of_mm.shape)}; expected (units, inputs) and (outputs, units), twice"
        )
    if n_candidates < 1:
        raise ValueError(f"n_candidates={n_candidates}; expected at least 1")
    # cost[u, p]: of unit u at place p
    cost = incoming.abs() @ into_mm.to(incoming).T + outgoing.abs().T @ out_of_mm.to(outgoing)
    order = torch.arange(n_units, device=incoming.device)
    strength = incoming.abs().sum(1) + outgoing.abs().sum(0)
    for unit in strength.topk(min(n_candidates, n_units)).indices.tolist():
        place = int((order == unit).nonzero())
        here = cost[order, torch.arange(n_units, device=order.device)]
        change = cost[unit] + cost[order, place] - cost[unit, place] - here
        best = int(change.argmin())
        if change[best] < 0:
            order[[place, best]] = order[[best, place]]
    return order


def _unit_length(values: Tensor) -> Tensor:
    return torch.nn.functional.normalize(values, dim=1, eps=1e-8)


def _euclidean(first: Tensor, second: Tensor) -> Tensor:
    return torch.linalg.vector_norm(first - second, dim=1)


def _angle(first: Tensor, second: Tensor) -> Tensor:
    return 1 - (first * second).sum(1)


# what rows are brought to, and the distance of two of them
NEIGHBOR_DISTANCES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "euclidean": (lambda values: values, _euclidean),
    "cosine": (_unit_length, _angle),
    "correlation": (lambda values: _unit_length(values - values.mean(1, keepdim=True)), _angle),
}
