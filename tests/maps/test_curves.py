import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from topographic.maps import UnitMap, correlation_by_distance, curves, difference_by_distance
from topographic.sheets import Sheet, grid, permuted_grid


def by_hand(distance, quantity, edges):
    index = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, len(edges) - 2)
    return np.array([quantity[index == b].mean() if (index == b).any() else np.nan for b in range(len(edges) - 1)])


def test_correlation_equals_corrcoef_on_a_non_square_sheet(respond):
    sheet = permuted_grid(60, "s", shape=(4, 15), spacing_mm=0.5)
    values = np.random.default_rng(0).standard_normal((20, 60)) + 7
    found = correlation_by_distance(respond(values, sheet=sheet), n_bins=9)
    distance = pdist(sheet.positions_mm.numpy())
    upper = np.triu_indices(60, 1)
    correlation = np.corrcoef(values.astype(np.float32).astype(float).T)[upper]
    np.testing.assert_allclose(found.edges_mm, np.linspace(distance.min(), distance.max(), 10))
    np.testing.assert_allclose(found.values, by_hand(distance, correlation, found.edges_mm), atol=1e-12)
    assert found.n_pairs.sum() == 60 * 59 / 2
    np.testing.assert_allclose(found.centres_mm, (found.edges_mm[:-1] + found.edges_mm[1:]) / 2)


def test_difference_by_hand_without_missing_units():
    sheet = grid((3, 5))
    values = np.random.default_rng(0).standard_normal(15).astype(np.float32)
    values[[2, 9]] = np.nan
    kept = np.flatnonzero(~np.isnan(values))
    found = difference_by_distance(UnitMap("s", values, sheet, "t"), n_bins=4)
    distance = pdist(sheet.positions_mm.numpy()[kept])
    difference = pdist(values[kept, None].astype(float), "cityblock")
    np.testing.assert_allclose(found.values, by_hand(distance, difference, found.edges_mm), atol=1e-12)
    assert found.n_pairs.sum() == 13 * 12 / 2


def test_distances_on_a_torus_go_the_shorter_way(respond):
    values = np.random.default_rng(0).standard_normal((12, 40))
    flat, torus = (
        correlation_by_distance(respond(values, sheet=grid((4, 10), wrap=wrap)), n_bins=3) for wrap in (False, True)
    )
    assert flat.edges_mm[-1] == pytest.approx(np.hypot(3, 9))
    assert torus.edges_mm[-1] == pytest.approx(np.hypot(2, 5))


def test_far_pairs_can_be_left_out(respond):
    found = correlation_by_distance(
        respond(np.random.default_rng(0).standard_normal((9, 16))), n_bins=1, max_distance_mm=1.0
    )
    assert found.n_pairs.tolist() == [24]  # the rook neighbours of a 4 x 4 grid
    with pytest.raises(ValueError, match=r"no pair of units within max_distance_mm=0.5; widen it"):
        correlation_by_distance(respond(np.eye(16)), max_distance_mm=0.5)


def test_units_that_never_vary_are_left_out(respond):
    values = np.random.default_rng(0).standard_normal((9, 16))
    values[:, [3, 7]] = 0.3
    assert correlation_by_distance(respond(values)).n_pairs.sum() == 14 * 13 / 2
    values[:, 1:] = 0
    with pytest.raises(ValueError, match="1 units at 'site' can be compared; expected at least 2"):
        correlation_by_distance(respond(values))


def test_bins_are_counted(respond):
    with pytest.raises(ValueError, match="n_bins=0; expected at least 1"):
        correlation_by_distance(respond(np.eye(16)), n_bins=0)


def test_large_sheets_are_sampled_by_seed(respond, monkeypatch):
    monkeypatch.setattr(curves, "_MAX_UNITS", 50)
    responses = respond(np.random.default_rng(0).standard_normal((9, 100)))
    one, again, other = (correlation_by_distance(responses, n_bins=4, seed=seed) for seed in (0, 0, 1))
    assert one.n_pairs.sum() == 50 * 49 / 2
    np.testing.assert_array_equal(one.values, again.values)
    assert not np.array_equal(one.values, other.values)


def test_blocks_do_not_matter(respond, monkeypatch):
    responses = respond(np.random.default_rng(0).standard_normal((9, 100)))
    whole = correlation_by_distance(responses)
    monkeypatch.setattr(curves, "_ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(correlation_by_distance(responses).values, whole.values)


def test_a_mesh_in_three_dimensions(respond):
    positions = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sheet = Sheet("mesh", positions, edges=torch.tensor([[0, 1]]))
    values = np.random.default_rng(0).standard_normal((9, 20))
    found = correlation_by_distance(respond(values, sheet=sheet), n_bins=3)
    assert found.edges_mm[-1] == pytest.approx(pdist(positions.numpy()).max())
