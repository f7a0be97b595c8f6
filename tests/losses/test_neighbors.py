import numpy as np
import pytest
import torch
from scipy.spatial.distance import correlation, cosine, euclidean

from topographic.losses import NEIGHBOR_DISTANCES, neighbor_dissimilarity, wiring_cost, wiring_swaps
from topographic.sheets import adjacent_pairs, distances, grid

REFERENCE = {"euclidean": euclidean, "cosine": cosine, "correlation": correlation}


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("distance", NEIGHBOR_DISTANCES)
def test_it_is_the_mean_over_the_directed_pairs_of_a_moore_neighbourhood(distance):
    values, expected = drawn(121, 5), []
    cells = values.reshape(11, 11, 5).numpy()
    for row, column in np.ndindex(11, 11):
        for down, right in np.ndindex(3, 3):
            other = row + down - 1, column + right - 1
            if other != (row, column) and min(other) >= 0 and max(other) < 11:
                expected.append(REFERENCE[distance](cells[row, column], cells[other]))
    assert len(expected) == 840
    found = neighbor_dissimilarity(values, adjacent_pairs(grid(121)), metric=distance)
    assert float(found) == pytest.approx(np.mean(expected))
    assert float(neighbor_dissimilarity(values.new_ones(121, 5), adjacent_pairs(grid(121)))) == 0


def test_training_makes_neighbours_alike():
    values, pairs = drawn(25, 3).requires_grad_(), adjacent_pairs(grid(25))
    before = neighbor_dissimilarity(values, pairs)
    before.backward()
    assert torch.isfinite(values.grad).all()
    assert neighbor_dissimilarity(values.detach() - values.grad, pairs) < before.detach()


def test_wiring_costs_weights_times_lengths():
    weight, places = drawn(4, 9), [grid(4).positions_mm, grid(9).positions_mm]
    lengths = distances(*places)
    expected = np.mean([
        abs(weight[i, j]) * np.linalg.norm(places[0][i] - places[1][j]) for i in range(4) for j in range(9)
    ])
    assert float(wiring_cost(weight, lengths)) == pytest.approx(float(expected))


def test_swaps_shorten_wires_and_change_nothing_that_is_computed():
    """Units that copy the input at their place, in another order: swaps put them back."""
    places = grid(16).positions_mm
    lengths, shuffled = distances(places, places), torch.randperm(16, generator=torch.Generator().manual_seed(0))
    incoming, outgoing = torch.eye(16, dtype=lengths.dtype)[shuffled], torch.eye(16, dtype=lengths.dtype)[:, shuffled]

    def cost(order):
        return float((incoming[order] * lengths).sum() + (outgoing[:, order] * lengths).sum())

    order = wiring_swaps(incoming, outgoing, lengths, lengths, n_candidates=16)
    assert sorted(order.tolist()) == list(range(16))
    assert cost(order) < 0.3 * cost(torch.arange(16))
    inputs = drawn(5, 16).to(incoming)
    torch.testing.assert_close(inputs @ incoming[order].T @ outgoing[:, order].T, inputs @ incoming.T @ outgoing.T)
    once = wiring_swaps(incoming, outgoing, lengths, lengths, n_candidates=1)
    assert cost(order) < cost(once) <= cost(torch.arange(16))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="metric='l1'; expected one of"):
        neighbor_dissimilarity(drawn(4, 2), adjacent_pairs(grid(4)), metric="l1")
    with pytest.raises(ValueError, match="no two units are adjacent"):
        neighbor_dissimilarity(drawn(4, 2), torch.empty(0, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="n_candidates=0; expected at least 1"):
        wiring_swaps(drawn(4, 2), drawn(3, 4), drawn(4, 2), drawn(3, 4), n_candidates=0)
