import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.linear_model import Ridge

from topographic.brain import pearson_r, run_folds, shuffled_folds, significance
from topographic.brain.significance import REARRANGEMENTS

RUNS = np.repeat([0, 1, 2, 3], 60)


def autoregressive(rng, columns, phi=0.9):
    return np.vstack([lfilter([1], [1, -phi], rng.normal(size=(160, columns)), axis=0)[100:] for _ in range(4)])


def test_autocorrelated_noise_is_called_noise_and_a_planted_signal_is_found():
    rng = np.random.default_rng(0)
    rates, found = [], []
    for _ in range(12):
        x, y = autoregressive(rng, 10), autoregressive(rng, 60)
        y[:, :10] += 2 * x @ rng.normal(size=(10, 10))
        done = significance(x, y, runs=RUNS, n_draws=39, progress=False, seed=int(rng.integers(99)))
        rates.append((done.p[10:] <= 0.05).mean())
        found.append((done.p[:10] <= 0.05).mean())
    # targets of one simulation share features: the error is that of the simulations
    assert np.mean(rates) <= 0.05 + 3 * np.std(rates, ddof=1) / np.sqrt(len(rates))
    assert np.mean(rates) < 0.09
    assert np.mean(found) > 0.95


@pytest.mark.parametrize("null", REARRANGEMENTS)
def test_independent_noise_has_its_level_under_any_null(null):
    rng = np.random.default_rng(1)
    p = np.concatenate([
        significance(
            rng.normal(size=(240, 5)), rng.normal(size=(240, 40)), runs=RUNS, null=null, n_draws=39, progress=False
        ).p
        for _ in range(8)
    ])
    assert 0.01 < (p <= 0.05).mean() < 0.10


def test_the_score_is_that_of_scikit_learn_s_ridge():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(240, 6)) * 3 + 1, rng.normal(size=(240, 3)) + 5
    y[:, 0] += x[:, 0]
    found = significance(x, y, runs=RUNS, alphas=(0.5,), n_draws=2, progress=False)
    z = (x - x.mean(axis=0)) / x.std(axis=0) / np.sqrt(6)
    expected = []
    for train, test in run_folds(RUNS).pairs:
        centred = z[train] - z[train].mean(axis=0)
        alpha = 0.5 * np.square(centred).sum() / len(train)
        expected.append(pearson_r(y[test], Ridge(alpha=alpha).fit(z[train], y[train]).predict(z[test])))
    np.testing.assert_allclose(found.r, np.mean(expected, axis=0), rtol=1e-6)


def test_what_a_band_adds_is_tested_beyond_the_others():
    """A band that repeats another adds nothing, though it predicts the recording as well."""
    rng = np.random.default_rng(0)
    base = autoregressive(rng, 4)
    own = autoregressive(rng, 4)
    y = np.hstack([base @ rng.normal(size=(4, 20)), (base + own) @ rng.normal(size=(4, 20))])
    y += 2 * rng.normal(size=y.shape)
    bands = {"base": base, "own": own}
    found = significance(bands, y, runs=RUNS, band="own", n_draws=39, progress=False)
    assert (found.p[:20] <= 0.05).mean() <= 0.2
    assert (found.p[20:] <= 0.05).mean() > 0.9
    assert "circular shift of own, 39 draws" in repr(found)


def test_without_runs_the_whole_recording_is_shifted_and_targets_without_score_stay_so():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    y = np.hstack([x @ rng.normal(size=(4, 2)), np.ones((200, 1))])
    found = significance(x, y, n_draws=39, correction="max_t", progress=False)
    assert found.corrected[:2].max() == 1 / 40
    assert np.isnan(found.p[2])
    assert "constant" in found.warnings[0]
    assert list(found.to_frame().columns) == ["r", "null", "sd (null)", "p", "p (max t)"]
    again = significance(x, y, n_draws=39, correction="max_t", progress=False)
    assert np.array_equal(found.null_mean, again.null_mean, equal_nan=True)
    warned = significance(x, y, folds=shuffled_folds(200, 4, seed=0), n_draws=2, progress=False)
    assert any("shuffled folds" in one for one in warned.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"null": "phase"}, "null='phase'; expected one of"),
        ({"band": "b"}, "band='b'; expected one of"),
        ({"band": "features"}, "band='features' is the only one"),
        ({"n_draws": 1}, "expected at least 2 draws|at least 2"),
    ],
)
def test_bad_input(change, message):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=message):
        significance(rng.normal(size=(40, 2)), rng.normal(size=(40, 2)), progress=False, **change)
