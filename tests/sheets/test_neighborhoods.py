import numpy as np
import pytest
import torch

from topographic.sheets import (
    Sheet,
    distances,
    from_positions,
    global_neighborhoods,
    grid,
    local_centres,
    local_neighborhoods,
    permuted_grid,
    sample_neighborhoods,
    scattered_neighborhoods,
)

OFF_LATTICE = Sheet(name="x", positions_mm=[[0, 0], [1, 0.3], [0, 1.0]])
WITH_HOLES = Sheet(name="x", positions_mm=[[0, 0], [1, 1.0]])


@pytest.mark.parametrize(
    ("radius", "closed", "count", "size"), [(5, False, 400, 81), (10, False, 100, 361), (5, True, 18**2, 121)]
)
def test_published_counts(radius, closed, count, size):
    sheet = permuted_grid(784, "x")
    members = local_neighborhoods(sheet, radius, closed=closed)
    assert members.dtype == torch.int64
    assert members.shape == (count, size)


@pytest.mark.parametrize("closed", [False, True])
def test_members_are_those_within_the_chebyshev_radius(closed):
    sheet = permuted_grid((9, 12), "x", spacing_mm=0.5)
    members, centres = local_neighborhoods(sheet, 3, closed=closed), local_centres(sheet, 3, closed=closed)
    between = distances(sheet.positions_mm, norm="linf") / 0.5
    near = between <= 3 if closed else between < 3
    whole = near.sum(1) == (7 if closed else 5) ** 2
    assert centres.tolist() == whole.nonzero().squeeze(1).tolist()
    for row, centre in zip(members, centres, strict=True):
        assert row.tolist() == near[centre].nonzero().squeeze(1).tolist()


def test_on_a_torus_every_unit_is_a_centre():
    sheet = grid((7, 8), wrap=True)
    members = local_neighborhoods(sheet, 3)
    between = distances(sheet.positions_mm, norm="linf", period_mm=sheet.period_mm)
    assert members.shape == (56, 25)
    assert members[0].tolist() == (between[0] < 3).nonzero().squeeze(1).tolist()


@pytest.mark.parametrize("golden", ["spatial_loss_14x14_r5", "spatial_loss_12x12_r3"])
def test_centres_equal_golden(shared, golden):
    expected = np.load(shared / "golden" / f"{golden}.npz")
    sheet = from_positions(expected["positions_mm"])(len(expected["positions_mm"]), "golden")
    assert local_centres(sheet, int(expected["radius"])).tolist() == expected["centre_units"].tolist()


def test_scattered_sets_are_random_and_repeat():
    sheet = grid(100)

    def draw(seed):
        return scattered_neighborhoods(sheet, 20, n_neighborhoods=300, generator=torch.Generator().manual_seed(seed))

    members = draw(0)
    assert members.shape == (300, 20)
    assert all(len(set(row)) == 20 for row in members.tolist())
    assert torch.equal(members, draw(0))
    assert not torch.equal(members, draw(1))
    counts = torch.bincount(members.flatten(), minlength=100)
    assert counts.min() > 30, "every unit is drawn about 60 times"
    assert counts.max() < 95


def test_global_holds_everyone():
    assert global_neighborhoods(grid(6)).tolist() == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: local_neighborhoods(grid(36), 5), "needs a 9 x 9 block on a 6 x 6 sheet; choose a radius from 2 to 3"),
        (lambda: local_neighborhoods(grid(36), 1), "choose a radius from 2 to 3"),
        (lambda: local_neighborhoods(grid(36), 0), "at least 1"),
        (
            lambda: local_neighborhoods(Sheet(name="x", positions_mm=[[0, 0], [1, 0.3], [0, 1.0]])),
            "off a square lattice",
        ),
        (
            lambda: local_neighborhoods(Sheet(name="x", positions_mm=[[0, 0], [1, 1.0]])),
            "do not fill its 2 x 2 lattice",
        ),
        (lambda: scattered_neighborhoods(grid(9), 10, generator=torch.Generator()), "expected 3 to 9 units"),
    ],
)
def test_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_samples_are_rows_without_repetition():
    every = local_neighborhoods(permuted_grid(100, "x"), 2)
    rows = sample_neighborhoods(every, 40, generator=torch.Generator().manual_seed(1)).tolist()
    assert len({tuple(row) for row in rows}) == 40
    assert all(row in every.tolist() for row in rows)
    assert rows == sample_neighborhoods(every, 40, generator=torch.Generator().manual_seed(1)).tolist()
    assert rows != sample_neighborhoods(every, 40, generator=torch.Generator().manual_seed(2)).tolist()


def test_every_neighborhood_is_sampled_equally_often(generator):
    every = torch.arange(30).view(10, 3)
    first = torch.cat([sample_neighborhoods(every, 3, generator=generator)[:, 0] for _ in range(2000)])
    counts = torch.bincount(first // 3, minlength=10)
    # 600 each; the standard deviation of a count is 20.5
    assert (counts - 600).abs().max() < 5 * 20.5


@pytest.mark.parametrize("n", [0, 11])
def test_too_many_or_too_few_samples(n, generator):
    with pytest.raises(ValueError, match=f"n={n} neighbourhoods of 10; ask for 1 to 10 of them"):
        sample_neighborhoods(torch.arange(30).view(10, 3), n, generator=generator)
