import numpy as np
import pytest
from sklearn.cross_decomposition import PLSSVD

from topographic.brain import contiguous_folds, pls_alignment
from topographic.brain.pls import pls_svd


def planted(n_items=120, n_units=40, n_voxels=30, strength=1.0, seed=0):
    draw = np.random.default_rng(seed)
    shared = draw.standard_normal(n_items) * strength
    units, voxels = draw.standard_normal(n_units), draw.standard_normal(n_voxels)
    noise = draw.standard_normal((n_items, n_units)), draw.standard_normal((n_items, n_voxels))
    return noise[0] + np.outer(shared, units), noise[1] + np.outer(shared, voxels), units, voxels


@pytest.mark.parametrize("shape", [(50, 8, 6), (20, 40, 30)])
def test_weights_are_those_of_scikit_learn(shape):
    first, second, *_ = planted(*shape)
    u, values, v = pls_svd(first, second, 3)
    theirs = PLSSVD(3, scale=True).fit(first, second)
    for ours, expected in ((u, theirs.x_weights_), (v, theirs.y_weights_)):
        np.testing.assert_allclose(np.abs((ours * expected).sum(0)), 1, atol=1e-6)
    standard = [(one - one.mean(0)) / one.std(0, ddof=1) for one in (first, second)]
    expected = np.linalg.svd(standard[0].T @ standard[1] / (len(first) - 1), compute_uv=False)[:3]
    np.testing.assert_allclose(values, expected, atol=1e-10)


def test_a_planted_direction_is_found_and_no_second_one():
    first, second, units, voxels = planted()
    found = pls_alignment(first, second, n_components=2, n_draws=99)
    assert found.p[0] == 0.01
    assert found.alignment[0] > 0.8
    assert found.p[1] > 0.05
    assert abs(np.corrcoef(found.first_weights[:, 0], units / first.std(0))[0, 1]) > 0.9
    assert abs(np.corrcoef(found.second_weights[:, 0], voxels / second.std(0))[0, 1]) > 0.9


def test_level_and_power():
    def p(strength, seed):
        first, second, *_ = planted(60, 20, 15, strength, seed)
        return pls_alignment(
            first, second, n_components=1, folds=contiguous_folds(60, 3, gap=0), n_draws=19, seed=seed
        ).p[0]

    false = np.mean([p(0.0, seed) <= 0.05 for seed in range(60)])
    assert false <= 0.15  # 99.8 % of the times at a rate of .05
    assert np.mean([p(0.6, seed) <= 0.05 for seed in range(10)]) >= 0.9


@pytest.mark.unchecked
def test_orders_keep_what_follows_in_time():
    """Slow noise on both sides passes for alignment under permutations, and not where one side is moved around."""

    def slow(seed):
        draw, n_items = np.random.default_rng(seed), 200
        sides = []
        for n in (8, 3):
            steps = draw.standard_normal((n_items, n))
            for item in range(1, n_items):
                steps[item] += 0.95 * steps[item - 1]
            sides.append(steps)
        return sides

    rolls = np.array([np.roll(np.arange(200), shift) for shift in range(10, 190, 9)])
    folds = contiguous_folds(200, 4, gap=0)
    shown = {"permuted": {"n_draws": 19}, "moved": {"orders": rolls}}
    called = {
        name: np.mean([
            pls_alignment(*slow(seed), n_components=1, folds=folds, **options).p[0] <= 0.05 for seed in range(40)
        ])
        for name, options in shown.items()
    }
    assert called["moved"] <= 0.175 < 0.2 < called["permuted"]  # .175: 99.9 % of the times at a rate of .05
    with pytest.raises(ValueError, match=r"orders of shape \(20, 200\) for 199 items; expected \(draws, items\)"):
        pls_alignment(*(side[1:] for side in slow(0)), n_components=1, orders=rolls)


def test_held_out_items_decide_nothing():
    """More units than items: in sample the scores correlate perfectly whatever the data are."""
    draw = np.random.default_rng(0)
    found = pls_alignment(draw.standard_normal((30, 200)), draw.standard_normal((30, 200)), n_components=1, n_draws=1)
    assert abs(found.alignment[0]) < 0.5


def test_a_unit_that_never_varies_has_no_weight():
    first, second, *_ = planted()
    first[:, 3] = 7.0
    assert pls_alignment(first, second, n_components=1, n_draws=1).first_weights[3, 0] == pytest.approx(0, abs=1e-12)


def test_what_does_not_fit_is_refused():
    first, second, *_ = planted()
    with pytest.raises(ValueError, match=r"shapes \(120, 40\) and \(119, 30\); expected .* the same items"):
        pls_alignment(first, second[1:])
    with pytest.raises(ValueError, match="NaN or infinite"):
        pls_alignment(np.where(first > 2, np.nan, first), second)
    with pytest.raises(ValueError, match="n_components=31 with 96 training items, 40 features and 30 measures"):
        pls_alignment(first, second, n_components=31)
    with pytest.raises(ValueError, match="n_draws=0; expected at least 1"):
        pls_alignment(first, second, n_draws=0)
    folds = contiguous_folds(120, 4, gap=0)
    assert pls_alignment(first, second, n_components=1, folds=folds, n_draws=1).alignment.shape == (1,)
