import numpy as np
import pytest
from scipy.stats import ttest_ind

from topographic.maps.two_sample import STATISTICS, Moments, cohens_d, group_moments, grouped_p, welch_p, welch_t


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((21, 6)) * rng.uniform(0.1, 30, 6) + rng.uniform(-5, 5, 6)
    values[:9, 2] *= 4  # unequal variances
    return values


@pytest.fixture
def in_condition():
    return np.arange(21) < 9


def moments_of(values, in_condition):
    return group_moments(values - values.mean(0), in_condition[None])


def test_moments_equal_numpy(values, in_condition):
    moments = moments_of(values, in_condition)
    for part, mean, variance in (
        (in_condition, moments.condition_mean, moments.condition_variance),
        (~in_condition, moments.baseline_mean, moments.baseline_variance),
    ):
        np.testing.assert_allclose(mean[0], values[part].mean(0) - values.mean(0), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(variance[0], values[part].var(0, ddof=1), rtol=1e-12)
    assert (moments.n_condition, moments.n_baseline) == (9, 12)


def test_welch_equals_scipy(values, in_condition):
    moments = moments_of(values, in_condition)
    expected = ttest_ind(values[in_condition], values[~in_condition], equal_var=False)
    np.testing.assert_allclose(welch_t(moments)[0], expected.statistic, rtol=1e-11)
    np.testing.assert_allclose(welch_p(moments)[0], expected.pvalue, rtol=1e-10)


def test_the_released_code_of_tdann_divides_by_the_number_of_items(values):
    """Its t, transcribed: larger by sqrt(n / (n - 1)) in groups of n items each, as the Notes say."""
    condition, baseline = values[:10], values[10:20]
    theirs = (condition.mean(0) - baseline.mean(0)) / np.sqrt(condition.var(0) / 10 + baseline.var(0) / 10)
    ours = welch_t(moments_of(values[:20], np.arange(20) < 10))[0]
    np.testing.assert_allclose(theirs, ours * np.sqrt(10 / 9), rtol=1e-11)


def test_cohens_d_equals_the_pooled_t(values, in_condition):
    """With equal variances assumed, t = d / sqrt(1 / n_1 + 1 / n_2)."""
    expected = ttest_ind(values[in_condition], values[~in_condition]).statistic * np.sqrt(1 / 9 + 1 / 12)
    np.testing.assert_allclose(cohens_d(moments_of(values, in_condition))[0], expected, rtol=1e-11)


def test_many_labellings_and_many_populations_at_once(values):
    labellings = np.random.default_rng(1).permuted(np.tile(np.arange(21) < 9, (5, 1)), axis=1)
    together = welch_t(group_moments(values, labellings))
    assert together.shape == (5, 6)
    for draw, labelling in enumerate(labellings):
        expected = ttest_ind(values[labelling], values[~labelling], equal_var=False).statistic
        np.testing.assert_allclose(together[draw], expected, rtol=1e-9)
    batch = np.stack([values, values[:, ::-1]])
    np.testing.assert_allclose(welch_t(group_moments(batch, labellings))[1], together[:, ::-1], rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e6, -3e7])
def test_digits_survive_a_large_mean(values, in_condition, offset):
    """Massive activations: centring before the sums keeps what a one-pass variance would lose."""
    shifted = (values + offset).astype(np.float32).astype(np.float64)
    expected = ttest_ind(shifted[in_condition], shifted[~in_condition], equal_var=False).statistic
    np.testing.assert_allclose(welch_t(moments_of(shifted, in_condition))[0], expected, rtol=1e-6)


@pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)
@pytest.mark.parametrize("level", [0.0, 0.1, 1234.567])
def test_units_that_do_not_vary_get_zero(values, in_condition, statistic, level):
    values[:, 1] = np.float32(level)
    moments = moments_of(values, in_condition)
    assert (statistic(moments)[0, 1], welch_p(moments)[0, 1]) == (0, 1)
    assert (statistic(moments)[0, [0, 2, 3, 4, 5]] != 0).all()


@pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)
def test_a_difference_without_error_is_infinite(values, in_condition, statistic):
    """As scipy has it; it once was 0, which said that such a unit tells nothing apart."""
    values[:, 3] = np.where(in_condition, 0.1, 0.7)
    values[:, 4] = np.where(in_condition, 5e6, 0.0)
    moments = moments_of(values, in_condition)
    assert statistic(moments)[0, [3, 4]].tolist() == [-np.inf, np.inf]
    assert welch_p(moments)[0, [3, 4]].tolist() == [0, 0]
    assert np.isfinite(statistic(moments)[0, [0, 1, 2, 5]]).all()


def test_rounding_is_no_variance(in_condition):
    """Two constants whose sums do not cancel to the last bit have no noise, and one constant no difference."""
    levels = np.random.default_rng(0).random((2, 200))
    values = np.where(in_condition[:, None], levels[0], levels[1])
    assert np.isinf(welch_t(moments_of(values, in_condition))).all()
    same = group_moments(np.tile(levels[0], (21, 1)), in_condition[None])
    assert (welch_t(same) == 0).all()


def test_tiny_and_huge_variances_keep_their_p():
    rng = np.random.default_rng(0)
    values, in_condition = rng.standard_normal((20, 3)), np.arange(20) % 2 == 0
    expected = ttest_ind(values[in_condition], values[~in_condition], equal_var=False).pvalue
    moments = moments_of(values * [1e-90, 1.0, 1e90], in_condition)  # scipy itself overflows on these
    np.testing.assert_allclose(welch_p(moments)[0], expected, rtol=1e-9)


def test_one_group_may_be_constant():
    moments = Moments(np.array([2.0]), np.array([4.0]), np.array([0.0]), np.array([0.0]), 4, 9)
    assert welch_t(moments)[0] == 2
    # the degrees of freedom are those of the group that varies
    assert welch_p(moments)[0] == pytest.approx(0.13932, abs=1e-5)


def test_labellings_of_unequal_sizes(values):
    labels = np.array([np.arange(21) < 9, np.arange(21) < 4, np.arange(21) < 1])
    moments = group_moments(values - values.mean(0), labels)
    assert moments.n_condition.tolist() == [[9], [4], [1]]
    for t, label in zip(welch_t(moments)[:2], labels, strict=False):
        np.testing.assert_allclose(t, ttest_ind(values[label], values[~label], equal_var=False).statistic, rtol=1e-10)
    assert np.isfinite(welch_t(moments)).all()


def test_p_of_groups_that_do_not_vary():
    values = np.zeros((8, 2))
    values[::2, 1] = 1.0
    in_condition = np.arange(8) % 2 == 0
    assert grouped_p(values, in_condition, np.arange(8) // 2).tolist() == [1.0, 0.0]
    assert grouped_p(values, in_condition, np.arange(8) % 2) is None
