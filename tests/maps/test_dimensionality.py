import numpy as np
import pytest
from sklearn.decomposition import PCA

from topographic.maps import effective_dimensionality, independent_units_dimensionality


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)])
def test_it_equals_the_eigenvalues_of_sklearn(respond, shape):
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(shape) * rng.uniform(0.1, 3, shape[1]) + 100).astype(np.float32)
    eigenvalues = PCA().fit(values.astype(np.float64)).explained_variance_
    expected = eigenvalues.sum() ** 2 / np.square(eigenvalues).sum()
    assert effective_dimensionality(respond(values)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_equal_spread_over_k_directions_is_k(respond, dimensions):
    rng = np.random.default_rng(1)
    orthonormal, _ = np.linalg.qr(rng.standard_normal((40, dimensions + 1)) - 0)
    scores = np.linalg.qr(np.c_[np.ones(40), orthonormal])[0][:, 1 : dimensions + 1]  # centred and orthonormal
    axes, _ = np.linalg.qr(rng.standard_normal((20, dimensions)))
    assert effective_dimensionality(respond(scores @ axes.T * 50)) == pytest.approx(dimensions, rel=1e-5)


def test_a_large_mean_is_no_dimension(respond):
    rng = np.random.default_rng(2)
    values = rng.standard_normal((200, 8))
    assert effective_dimensionality(respond(values + 50)) == pytest.approx(
        effective_dimensionality(respond(values)), rel=1e-4
    )


def test_responses_that_never_vary_are_refused(respond):
    with pytest.raises(ValueError, match="responses at 'site' are the same for every stimulus"):
        effective_dimensionality(respond(np.full((4, 6), 0.1)))


@pytest.mark.parametrize(("n_stimuli", "n_units"), [(30, 12), (12, 30), (5, 100), (400, 3), (50, 50)])
def test_independent_units_have_what_theory_says(respond, n_stimuli, n_units):
    rng = np.random.default_rng(3)
    drawn = [effective_dimensionality(respond(rng.standard_normal((n_stimuli, n_units)))) for _ in range(100)]
    expected = independent_units_dimensionality(n_stimuli, n_units)
    # a ratio of expectations is not the expectation of the ratio, but near it
    assert np.mean(drawn) == pytest.approx(expected, rel=0.02)
    assert 1 <= expected < min(n_stimuli - 1, n_units)


def test_the_reference_of_no_stimuli_is_refused():
    with pytest.raises(ValueError, match="n_stimuli=1, n_units=4; expected at least 2 stimuli and 1 unit"):
        independent_units_dimensionality(1, 4)
