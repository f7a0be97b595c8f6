import time

import numpy as np
import pytest
from scipy.optimize import check_grad, least_squares

from topographic.maps.window_fit import _slopes, fit_windows, window_curve

LAGS = np.arange(21.0)


def curves(a, b, c, n=1):
    return window_curve(LAGS, *(np.full(n, float(value)) for value in (a, b, c)))


def test_the_curve_is_the_formula():
    assert window_curve([0, 1, 3], np.array([2.0]), np.array([0.5]), np.array([0.25])) == pytest.approx(
        np.array([[1.0, 0.25 * 2**-2.0 + 0.75 * np.exp(-0.5), 0.25 * 4**-2.0 + 0.75 * np.exp(-1.5)]])
    )


def test_slopes_are_those_of_finite_differences():
    window, theta = curves(1, 1, 0.3) + 0.05 * np.cos(LAGS), np.array([0.7, 0.4, 0.6])

    def cost(theta):
        return np.square(window_curve(LAGS, *theta[:, None]) - window).sum() / 2

    gradient = lambda theta: _slopes(window, LAGS, theta[None])[0][0]  # noqa: E731
    assert check_grad(cost, gradient, theta) < 1e-6


@pytest.mark.parametrize(
    ("true", "tolerances"),
    [
        ((1, 1, 0.3), (0.05, 0.02, 0.03)),
        ((0.5, 3, 0.27), (0.02, 0.1, 0.01)),
        ((1.02, 6, 0.11), (0.1, 1.5, 0.02)),
        ((0.5, 0.2, 0.5), (0.02, 0.01, 0.02)),
        ((2, 0.1, 0), (np.inf, 0.002, 0.01)),
    ],
)
def test_planted_parameters_are_found_under_noise(true, tolerances):
    """Noise of 0.003, about that of windows averaged over many sequences; a is free where c is 0."""
    windows = curves(*true, n=101) + np.random.default_rng(0).normal(0, 0.003, (101, 21))
    fit = fit_windows(windows, LAGS)
    for found, expected, tolerance in zip((fit.a, fit.b, fit.c), true, tolerances, strict=True):
        assert np.median(found) == pytest.approx(expected, abs=tolerance)
    assert np.median(fit.rmse) == pytest.approx(0.003 * np.sqrt(18 / 21), rel=0.1)


def test_without_noise_the_fit_is_exact():
    rng = np.random.default_rng(1)
    a, b, c = rng.uniform(0.3, 2, 50), rng.uniform(0.3, 2, 50), rng.uniform(0.2, 0.8, 50)
    fit = fit_windows(window_curve(LAGS, a, b, c), LAGS)
    assert fit.rmse.max() < 1e-6
    np.testing.assert_allclose(np.median(np.abs([fit.a - a, fit.b - b, fit.c - c]), axis=1), 0, atol=1e-4)


def test_no_fit_of_scipy_is_better():
    rng = np.random.default_rng(2)
    true = rng.uniform(0, 1, (60, 3)) * [4, 4, 1]
    windows = window_curve(LAGS, *true.T) + rng.normal(0, 0.02, (60, 21))
    fit = fit_windows(windows, LAGS)
    ours, agreements = fit.rmse**2 * 21, 0
    for unit, window in enumerate(windows):
        other = least_squares(
            lambda p, w=window: p[2] * (LAGS + 1) ** -p[0] + (1 - p[2]) * np.exp(-p[1] * LAGS) - w,
            (1, 1, 0.5),
            bounds=([0, 0, 0], [10, 10, 1]),
            xtol=1e-12,
            ftol=1e-12,
        )
        assert ours[unit] <= 2 * other.cost * (1 + 1e-6) + 1e-12
        if ours[unit] > 2 * other.cost * (1 - 1e-6) and 0.1 < other.x[2] < 0.9:  # the same valley
            agreements += 1
            np.testing.assert_allclose([fit.a[unit], fit.b[unit], fit.c[unit]], other.x, atol=0.01)
    assert agreements > 20


def test_parameters_stay_within_their_bounds():
    rising, delta, flat = 1 + LAGS / 20, np.eye(21)[0], np.ones(21)
    fit = fit_windows(np.stack([rising, delta, flat, -delta]), LAGS)
    for found, top in ((fit.a, 10), (fit.b, 10), (fit.c, 1)):
        assert found.min() >= 0
        assert found.max() <= top
    assert (fit.a[0] * fit.c[0], fit.b[0] * (1 - fit.c[0])) == (0, 0), "it cannot rise: flat is best"
    np.testing.assert_allclose(fit.rmse[1:3], 0, atol=1e-3)


def test_windows_without_values_are_left_out_and_disturb_no_other():
    windows = curves(0.5, 3, 0.27, n=3)
    windows[1, 7] = np.nan
    fit = fit_windows(windows, LAGS)
    for values in (fit.a, fit.b, fit.c, fit.rmse):
        np.testing.assert_array_equal(np.isnan(values), [False, True, False])
    assert fit.a[0] == pytest.approx(0.5, abs=1e-4)
    assert np.isnan(fit_windows(np.full((2, 21), np.nan), LAGS).a).all()


def test_lags_may_have_gaps():
    lags = [0, 1, 2, 4, 8, 16, 32]
    fit = fit_windows(window_curve(lags, np.array([0.5]), np.array([2.0]), np.array([0.4])), lags)
    assert (fit.a[0], fit.b[0], fit.c[0]) == pytest.approx((0.5, 2.0, 0.4), abs=1e-3)


@pytest.mark.slow
def test_all_first_mlp_layers_of_gpt_2_are_fitted_in_a_minute():
    rng = np.random.default_rng(3)
    true = rng.uniform(0, 1, (12 * 3072, 3)) * [4, 4, 1]
    windows = window_curve(LAGS, *true.T) + rng.normal(0, 0.02, (len(true), 21))
    start = time.perf_counter()
    fit_windows(windows, LAGS)
    assert time.perf_counter() - start < 60


@pytest.mark.parametrize(
    ("lags", "shape"), [([0, 1, 2], (2, 3)), ([0, 1, 1, 0], (2, 4)), ([-1, 0, 1, 2], (2, 4)), (range(5), (2, 4))]
)
def test_lags_that_cannot_be_fitted_are_refused(lags, shape):
    with pytest.raises(ValueError, match="expected one column per lag and at least 4 different lags from 0 up"):
        fit_windows(np.ones(shape), list(lags))
