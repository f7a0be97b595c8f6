import math

import numpy as np
import pytest
from scipy import stats

from topographic.sweeps.replicates import over_replicates, paired_difference

VALUES = {0: 3.1, 1: 2.4, 2: 4.0, 5: 3.3}
REFERENCES = {0: 2.5, 1: 2.6, 2: 3.1, 9: 8.0}


@pytest.mark.parametrize("n", [2, 3, 7])
def test_interval_is_that_of_scipy(n):
    values = np.random.default_rng(n).normal(5, 2, n)
    found = over_replicates(values)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.n, found.mean, found.sd) == (n, pytest.approx(values.mean()), pytest.approx(values.std(ddof=1)))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [over_replicates(rng.normal(size=3), confidence=0.9) for _ in range(4000)]
    covered = np.mean([one.low <= 0 <= one.high for one in found])
    assert abs(covered - 0.9) < 4 * math.sqrt(0.9 * 0.1 / 4000)


def test_one_replicate_has_no_spread():
    found = over_replicates([2.0])
    assert (found.n, found.mean) == (1, 2.0)
    assert all(math.isnan(value) for value in (found.sd, found.low, found.high))


def test_pairs_are_matched_by_replicate_and_tested_like_scipy():
    found = paired_difference(VALUES, REFERENCES)
    shared = [0, 1, 2]
    ours, theirs = [VALUES[key] for key in shared], [REFERENCES[key] for key in shared]
    assert found.difference.n == 3
    assert found.difference.mean == pytest.approx(np.mean(np.subtract(ours, theirs)))
    assert found.p_t == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    flipped = stats.permutation_test(
        (np.subtract(ours, theirs),), lambda values, axis=-1: values.mean(axis=axis), permutation_type="samples"
    )
    assert found.p_sign_flip == pytest.approx(flipped.pvalue)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_sign_flips_cannot_go_below_their_smallest_p(n):
    found = paired_difference({seed: 10 + 0.01 * seed for seed in range(n)}, dict.fromkeys(range(n), 1.0))
    assert found.p_sign_flip == 2 / 2**n
    assert found.p_t < 1e-6


def test_under_the_null_p_values_are_honest():
    rng = np.random.default_rng(1)
    found = [paired_difference(dict(enumerate(rng.normal(size=6))), dict.fromkeys(range(6), 0.0)) for _ in range(2000)]
    for ps in ([one.p_t for one in found], [one.p_sign_flip for one in found]):
        assert np.mean(np.array(ps) <= 0.0625) <= 0.0625 + 3 * math.sqrt(0.0625 * 0.9375 / 2000)


def test_many_pairs_are_drawn_and_never_p_zero():
    rng = np.random.default_rng(2)
    differences = rng.normal(0.4, 1, 24)
    found = paired_difference(dict(enumerate(differences)), dict.fromkeys(range(24), 0.0))
    assert found.p_sign_flip == pytest.approx(found.p_t, abs=0.02)
    certain = paired_difference(dict.fromkeys(range(24), 1.0), dict.fromkeys(range(24), 0.0))
    assert 0 < certain.p_sign_flip < 1e-3
    assert math.isnan(certain.p_t), "differences that do not vary have no t"


def test_what_cannot_be_compared():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    one = paired_difference({0: 2.0}, {0: 1.0})
    assert one.difference.mean == 1.0
    assert math.isnan(one.p_t)
    assert math.isnan(one.p_sign_flip)
    same = paired_difference(VALUES, VALUES)
    assert (same.difference.mean, same.p_sign_flip) == (0.0, 1.0)
    with pytest.raises(ValueError, match="0 values, 0 of them finite; expected at least one"):
        over_replicates([])
    with pytest.raises(ValueError, match="2 values, 1 of them finite"):
        over_replicates([1.0, math.nan])
