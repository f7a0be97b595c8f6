import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter
from sklearn import metrics

from topographic.brain import (
    group_sign_flip,
    pearson_r,
    r2_score,
    shift_test,
)
from topographic.brain.scores import p_among_draws
from topographic.maps.nulls import stream


def autoregressive(rng, n, columns, phi=0.9):
    return lfilter([1], [1, -phi], rng.normal(size=(n + 100, columns)), axis=0)[100:]


def test_scores_are_those_of_scipy_and_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 4)) + 100
    predicted = y + rng.normal(size=(50, 4))
    np.testing.assert_allclose(
        pearson_r(y, predicted), [stats.pearsonr(*pair)[0] for pair in zip(y.T, predicted.T, strict=True)]
    )
    np.testing.assert_allclose(r2_score(y, predicted), metrics.r2_score(y, predicted, multioutput="raw_values"))
    flat = np.full((50, 4), 0.1)
    assert np.isnan(pearson_r(y, flat)).all()
    assert np.isnan(r2_score(flat, y)).all()


def test_p_and_its_corrections():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(99, 20))
    values = np.r_[np.full(3, 9.0), rng.normal(size=16), np.nan]
    p, q = p_among_draws(values, draws)
    np.testing.assert_allclose(p[:3], 0.01)
    np.testing.assert_allclose(q[:19], stats.false_discovery_control(p[:19]))
    _, family = p_among_draws(values, draws, "max_t")
    assert (family[:19] >= p[:19]).all()
    assert np.isnan([p[19], q[19], family[19]]).all()
    with pytest.raises(ValueError, match="expected 'bh' or 'max_t'"):
        p_among_draws(values, draws, "fwe")


def test_shifted_predictions_of_one_held_out_recording():
    """Level with AR(.9) on both sides, the shifts as a loop makes them, and power."""
    rng = np.random.default_rng(0)
    y, predicted = autoregressive(rng, 600, 400), autoregressive(rng, 600, 400)
    p, _ = shift_test(y, predicted, n_draws=99)
    assert (p <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    p, q = shift_test(y, y + 2 * predicted, n_draws=99)
    assert (q <= 0.05).mean() > 0.5
    few = shift_test(y[:, :1], predicted[:, :1], n_draws=5, seed=3)[0]
    shifts = stream(3, "shift").integers(10, 591, 5)
    rolled = [pearson_r(y[:, :1], np.roll(predicted[:, :1], shift, axis=0))[0] for shift in shifts]
    assert few[0] == (1 + np.sum(np.array(rolled) >= pearson_r(y[:, :1], predicted[:, :1])[0])) / 6
    with pytest.raises(ValueError, match="20 samples cannot be shifted by 10 or more"):
        shift_test(y[:20], y[:20])


def test_sign_flips_over_subjects():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(8, 300))
    scores[:, 0] += 3
    found = group_sign_flip(scores, correction="bh")
    assert found["exact"]
    np.testing.assert_allclose(found["t"], stats.ttest_1samp(scores, 0).statistic)
    assert (found["p"][1:] <= 0.05).mean() < 0.09
    assert found["p"][0] == 1 / 256
    second = stats.permutation_test(
        (scores[:, 5],), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    )
    assert found["p"][5] == pytest.approx(second.pvalue)
    family = group_sign_flip(scores)
    assert family["corrected"][0] <= 0.05
    assert (family["corrected"][1:] > 0.05).all()
    assert not group_sign_flip(rng.normal(size=(20, 3)), n_draws=99)["exact"]
    with pytest.raises(ValueError, match="2 subjects; expected 3 or more"):
        group_sign_flip(scores[:2])
