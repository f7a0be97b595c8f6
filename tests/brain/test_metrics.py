import numpy as np
import pytest
from scipy import stats

from topographic.brain import contiguous_folds, linear_cka, ols_pearson, rdm_similarity, ridge_pearson

FOLDS = contiguous_folds(60, 4, gap=0)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 10))
    return x, x @ rng.normal(size=(10, 5)) + 2 * rng.normal(size=(60, 5))


def test_ridge_is_the_closed_form_with_one_alpha_by_leave_one_out(pair):
    x, y = pair
    found = ridge_pearson(x, y, FOLDS)
    for fold, (train, test) in enumerate(FOLDS.pairs):
        best = None
        for alpha in np.logspace(-3, 3, 7):
            losses = []
            for left in range(len(train)):
                kept = np.delete(train, left)
                m, n = x[kept].mean(axis=0), y[kept].mean(axis=0)
                z = x[kept] - m
                w = np.linalg.solve(z.T @ z + alpha * np.eye(10), z.T @ (y[kept] - n))
                losses.append(np.square(y[train[left]] - (x[train[left]] - m) @ w - n).mean())
            if best is None or np.mean(losses) < best[0]:
                best = (np.mean(losses), alpha)
        m, n = x[train].mean(axis=0), y[train].mean(axis=0)
        z = x[train] - m
        w = np.linalg.solve(z.T @ z + best[1] * np.eye(10), z.T @ (y[train] - n))
        predicted = (x[test] - m) @ w + n
        expected = [stats.pearsonr(*columns)[0] for columns in zip(y[test].T, predicted.T, strict=True)]
        np.testing.assert_allclose(found[fold], expected, rtol=1e-6)


def test_least_squares_is_the_pseudo_inverse(pair):
    x, y = pair
    train, test = FOLDS.pairs[1]
    with_ones = np.hstack([x, np.ones((60, 1))])
    predicted = with_ones[test] @ (np.linalg.pinv(with_ones[train]) @ y[train])
    expected = [stats.pearsonr(*columns)[0] for columns in zip(y[test].T, predicted.T, strict=True)]
    np.testing.assert_allclose(ols_pearson(x, y, FOLDS)[1], expected, rtol=1e-8)


def test_cka_in_features_equals_cka_in_kernels(pair):
    x, y = pair
    a, b = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = np.linalg.norm(a.T @ b) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert linear_cka(x, y) == pytest.approx(expected)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(10, 10)))[0]
    assert linear_cka(x @ rotation * 3, y) == pytest.approx(expected)
    assert np.isnan(linear_cka(np.ones((60, 2)), y))


def test_rdms_are_those_of_corrcoef(pair):
    x, y = pair
    upper = np.triu_indices(60, 1)
    expected = stats.spearmanr(1 - np.corrcoef(x)[upper], 1 - np.corrcoef(y)[upper]).statistic
    assert rdm_similarity(x, y) == pytest.approx(expected)


def test_what_cannot_be_compared(pair):
    x, y = pair
    with pytest.raises(ValueError, match="1 column: samples cannot be correlated"):
        rdm_similarity(x, y[:, :1])
    with pytest.raises(ValueError, match="60 and 59 samples; expected as many on both sides"):
        linear_cka(x, y[:59])
    with pytest.raises(ValueError, match="60 samples of features for 59 of the recording"):
        ols_pearson(x, y[:59], FOLDS)
