import numpy as np
import pytest
from scipy import stats

from topographic.maps import NotMeasurable
from topographic.sweeps.curve_statistics import (
    Curves,
    compare_explained,
    interval_over_series,
    r_squared,
    relation_end,
)


def planted(source, n_series, n_checkpoints, *, shared, noise=0.6, memory=0.5):
    """Three curves that rise alike; what is explained shares of its own course as much with the first as is said."""

    def wandering():
        steps = source.standard_normal((n_series, n_checkpoints))
        found = np.empty_like(steps)
        found[:, 0] = steps[:, 0]
        for place in range(1, n_checkpoints):
            found[:, place] = memory * found[:, place - 1] + np.sqrt(1 - memory**2) * steps[:, place]
        return noise * found

    rise = stats.zscore(1 / (1 + np.exp(-1.5 * np.linspace(-3, 3, n_checkpoints))))
    own = wandering()
    first = shared * own + np.sqrt(1 - shared**2) * wandering()
    return [Curves(*three) for three in zip(rise + own, rise + first, rise + wandering(), strict=True)]


def rejections(shared, n_series, n_checkpoints, n_simulations, memory=0.5):
    source = np.random.default_rng(7)
    found = [
        compare_explained(planted(source, n_series, n_checkpoints, shared=shared, memory=memory), n_draws=99, seed=seed)
        for seed in range(n_simulations)
    ]
    return np.mean([one.p <= 0.05 for one in found]), found


@pytest.mark.parametrize(
    ("n_series", "n_checkpoints", "memory"), [(1, 16, 0.5), (2, 12, 0.8), (3, 12, 0), (3, 31, 0.8)]
)
def test_competitors_that_are_followed_alike_are_told_apart_at_the_nominal_level_at_most(
    n_series, n_checkpoints, memory
):
    share, found = rejections(0.0, n_series, n_checkpoints, 300, memory)
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert all((one.p <= 0.05) == (one.difference[1] > 0 or one.difference[2] < 0) for one in found)


def test_the_competitor_that_is_followed_is_found():
    share, found = rejections(0.9, 3, 31, 60)
    assert share > 0.7
    assert all(one.difference[0] > 0 for one in found if one.p <= 0.05)
    swapped = [
        one._replace(first=one.second, second=one.first)
        for one in planted(np.random.default_rng(0), 3, 31, shared=0.95)
    ]
    assert compare_explained(swapped).difference[2] < 0


def test_r_squared_is_that_of_a_line():
    y, x = np.random.default_rng(0).standard_normal((2, 20))
    assert r_squared(y, x) == pytest.approx(stats.linregress(x, y).rvalue ** 2)
    assert r_squared(y, np.ones(20)) == 0


def test_the_interval_over_series_is_students():
    values = np.array([1.0, 2.0, 4.0])
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert interval_over_series(values) == pytest.approx((values.mean(), low, high))
    assert np.isnan(interval_over_series(values[:1])[1:]).all()


def test_what_no_interval_can_be_had_of_is_said():
    short, long = np.arange(7.0), np.random.default_rng(0).standard_normal((3, 12))
    with pytest.raises(NotMeasurable, match="7 checkpoints; expected 8 or more"):
        compare_explained([Curves(short, short, short)])
    with pytest.raises(NotMeasurable, match="a curve is constant"):
        compare_explained([Curves(long[0], long[1], np.zeros(12))])
    with pytest.raises(NotMeasurable, match="no series"):
        compare_explained([])


def test_the_same_seed_draws_the_same():
    series = planted(np.random.default_rng(0), 2, 12, shared=0.5)
    assert compare_explained(series, n_draws=50, seed=1) == compare_explained(series, n_draws=50, seed=1)


def followed_up_to(end, n_series, n_checkpoints, memory, seed, noise=0.1):
    """A rising curve, and one that follows it up to a checkpoint; deviations remember those before them."""
    source = np.random.default_rng(seed)
    x = np.tile(1 / (1 + np.exp(-1.5 * np.linspace(-3, 3, n_checkpoints))), (n_series, 1))
    steps = source.standard_normal(x.shape)
    wandering = steps.copy()
    for place in range(1, n_checkpoints):
        wandering[:, place] = memory * wandering[:, place - 1] + np.sqrt(1 - memory**2) * steps[:, place]
    return x[:, np.minimum(np.arange(n_checkpoints), end)] + noise * wandering, x


@pytest.mark.parametrize(("n_series", "n_checkpoints", "memory"), [(3, 13, 0.5), (3, 31, 0.5), (1, 16, 0.5)])
def test_a_relation_that_never_ends_is_said_to_end_at_the_nominal_level(n_series, n_checkpoints, memory):
    found = [
        relation_end(*followed_up_to(n_checkpoints - 1, n_series, n_checkpoints, memory, seed), n_draws=99, seed=seed)
        for seed in range(200)
    ]
    assert np.mean([one.p <= 0.05 for one in found]) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_the_end_of_a_relation_is_found_with_its_interval():
    found = [relation_end(*followed_up_to(6, 3, 13, 0.5, seed), n_draws=99, seed=seed) for seed in range(100)]
    assert np.mean([one.p <= 0.05 for one in found]) > 0.8
    assert np.median([one.place for one in found]) == 6
    assert np.mean([one.low <= 6 <= one.high for one in found]) > 0.9
    assert np.mean([one.slope for one in found]) == pytest.approx(1, abs=0.1)
    exact = relation_end(*followed_up_to(6, 3, 13, 0.5, 0, noise=1e-6), n_draws=99)
    assert (exact.place, exact.low, exact.high, exact.p, exact.n_series) == (6, 6, 6, 0.01, 3)
    assert exact.slope == pytest.approx(1, abs=1e-4)
    assert exact.r_squared == pytest.approx(1)


def test_what_has_no_end_to_be_looked_for_is_said():
    y, x = followed_up_to(3, 2, 7, 0, 0)
    with pytest.raises(NotMeasurable, match="7 checkpoints; expected 8 or more"):
        relation_end(y, x)
    y, x = followed_up_to(6, 2, 13, 0, 0)
    with pytest.raises(NotMeasurable, match="a curve is constant"):
        relation_end(np.zeros_like(y), x)
    assert relation_end(y, x, n_draws=50, seed=1) == relation_end(y, x, n_draws=50, seed=1)
