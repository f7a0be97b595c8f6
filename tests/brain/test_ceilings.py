import numpy as np
import pytest

from topographic.brain import (
    cross_subject_prediction,
    explainable_variance,
    noise_ceiling_nsd,
    spearman_brown,
    split_half_ceiling,
)
from topographic.brain.ceilings import CEILINGS


@pytest.fixture
def repeats():
    """Ten repeats of a signal that is .2, .5 and .8 of a repeat's variance."""
    rng = np.random.default_rng(0)
    share = np.array([0.2, 0.5, 0.8])
    signal, noise = rng.normal(size=(4000, 3)), rng.normal(size=(10, 4000, 3))
    return np.sqrt(share) * signal + np.sqrt(1 - share) * noise


def test_ceilings_find_the_share_of_signal(repeats):
    share = np.array([0.2, 0.5, 0.8])
    np.testing.assert_allclose(explainable_variance(repeats), share, atol=0.03)
    np.testing.assert_allclose(noise_ceiling_nsd(repeats), share, atol=0.03)
    of_mean = share / (share + (1 - share) / 10)
    np.testing.assert_allclose(noise_ceiling_nsd(repeats, 10), of_mean, atol=0.02)
    np.testing.assert_allclose(split_half_ceiling(repeats), of_mean, atol=0.02)
    assert spearman_brown(0.348) == pytest.approx(0.517, abs=0.001)  # as published for Pereira's averages


def test_ceilings_of_noise_are_not_clipped():
    noise = np.random.default_rng(0).normal(size=(2, 30, 200))
    assert (explainable_variance(noise) < 0).any()
    assert (split_half_ceiling(noise) < 0).any()
    np.testing.assert_allclose(explainable_variance(noise).mean(), 0, atol=0.05)


@pytest.mark.parametrize("name", CEILINGS)
def test_a_ceiling_needs_repeats(name):
    with pytest.raises(ValueError, match="with 2 repeats or more"):
        CEILINGS[name](np.ones((1, 5, 2)))


def test_subjects_are_predicted_from_each_other_as_far_as_they_share():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(200, 4))
    recordings = [
        np.hstack([shared @ rng.normal(size=(4, 6)) + rng.normal(size=(200, 6)), rng.normal(size=(200, 3))])
        for _ in range(3)
    ]
    found = cross_subject_prediction(recordings, runs=np.repeat(range(4), 50), progress=False)
    assert [one[:6].mean() > 0.5 for one in found] == [True] * 3
    assert np.abs([one[6:] for one in found]).max() < 0.35
    with pytest.raises(ValueError, match=r"2 recordings of .200. samples; expected 3 subjects or more"):
        cross_subject_prediction(recordings[:2])
