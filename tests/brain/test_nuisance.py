from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test, spearmanr

from topographic.brain import (
    censored_scans,
    encode,
    framewise_displacement_mm,
    motion_regressors,
    motion_score_correlation,
)
from topographic.brain.nuisance import MOTION_PARAMETERS


@pytest.fixture
def confounds():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(scale=0.01, size=(50, 6)).cumsum(axis=0), columns=MOTION_PARAMETERS)
    table.insert(0, "global_signal", 1.0)
    return table


def test_regressors_of_a_table_and_of_its_file(confounds, tmp_path):
    confounds.assign(trans_x_derivative1="n/a").to_csv(tmp_path / "c.tsv", sep="\t", index=False)
    six = motion_regressors(tmp_path / "c.tsv")
    np.testing.assert_allclose(six, confounds[list(MOTION_PARAMETERS)])
    many = motion_regressors(confounds, 24)
    difference = confounds[list(MOTION_PARAMETERS)].diff().fillna(0).to_numpy()
    np.testing.assert_allclose(many, np.hstack([six, difference, six**2, difference**2]))


def test_displacement_is_power_s(confounds):
    """A shift of 1 mm and a turn of .01 rad on a sphere of 50 mm."""
    still = confounds * 0
    still.loc[3:, "trans_y"] = -1.0
    still.loc[7, "rot_z"] = 0.01
    moved = framewise_displacement_mm(still)
    np.testing.assert_allclose(moved[[0, 3, 7, 8]], [0, 1, 0.5, 0.5])
    assert moved.sum() == pytest.approx(2)
    assert np.flatnonzero(censored_scans(moved, 0.6, before=1, after=2)).tolist() == [2, 3, 4, 5]
    with pytest.raises(ValueError, match="every scan moved by more than -1 mm"):
        censored_scans(moved, -1)


def test_motion_is_a_band_of_its_own(confounds):
    rng = np.random.default_rng(0)
    motion = np.vstack([motion_regressors(confounds)] * 4)
    features = rng.normal(size=(200, 5))
    y = 20 * motion @ rng.normal(size=(6, 3)) + rng.normal(size=(200, 3))
    found = encode(
        {"motion": motion, "words": features}, y, runs=np.repeat(range(4), 50), n_band_draws=10, progress=False
    )
    assert (found.band_r2[0] > 5 * np.abs(found.band_r2[1])).all()


def test_scores_beside_motion_over_subjects():
    displacement = np.linspace(0.1, 0.4, 12)
    scores = -displacement + np.random.default_rng(0).normal(scale=0.02, size=12)
    found = motion_score_correlation(scores, displacement, n_draws=199)
    assert found["rho"] == pytest.approx(spearmanr(scores, displacement).statistic)
    assert found["p"] == 1 / 200
    nothing = [
        motion_score_correlation(np.random.default_rng(seed).normal(size=12), displacement, n_draws=99)["p"]
        for seed in range(60)
    ]
    assert np.mean(np.array(nothing) <= 0.05) <= 0.15


def test_five_subjects_are_tested_by_all_their_orders():
    """120 permutations, counted one by one; scipy's own test of all of them says the same."""
    draw = np.random.default_rng(1)
    for _ in range(5):
        scores, moved = draw.normal(size=5), draw.gamma(2.0, size=5)
        found = motion_score_correlation(scores, moved, n_draws=119)
        assert (found["exact"], found["n_subjects"]) == (True, 5)
        rhos = [spearmanr(scores, moved[list(order)]).statistic for order in permutations(range(5))]
        assert len(rhos) == 120
        assert found["rho"] == pytest.approx(rhos[0])
        reached = sum(abs(one) >= abs(rhos[0]) - 1e-9 for one in rhos)
        assert found["p"] == pytest.approx(reached / 120)
        by_scipy = permutation_test(
            (scores,), lambda one, moved=moved: spearmanr(one, moved).statistic, permutation_type="pairings"
        )
        assert found["p"] == pytest.approx(by_scipy.pvalue)
    assert motion_score_correlation(scores, moved, n_draws=118)["exact"] is False
    ties = motion_score_correlation([1.0, 1.0, 2.0, 3.0, 3.0], [5.0, 4.0, 4.0, 2.0, 1.0])
    assert ties["rho"] == pytest.approx(spearmanr([1, 1, 2, 3, 3], [5, 4, 4, 2, 1]).statistic)


@pytest.mark.unchecked
@pytest.mark.parametrize("n", [5, 8, 20])
def test_noise_is_called_related_in_one_of_twenty(n):
    draw = np.random.default_rng(n)
    p = [
        motion_score_correlation(draw.normal(size=n), draw.gamma(2.0, size=n), n_draws=199, seed=seed)["p"]
        for seed in range(600)
    ]
    # of five subjects p goes in steps of 1 / 60, and the nearest below .05 is .033 or so
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.08
    assert 0.4 <= np.mean(p) <= 0.6


@pytest.mark.unchecked
def test_motion_that_costs_a_score_is_found():
    draw, found = np.random.default_rng(0), []
    for seed in range(100):
        moved = draw.gamma(2.0, 0.1, size=16)
        scores = 0.2 - 0.3 * moved + draw.normal(scale=0.03, size=16)
        found.append(motion_score_correlation(scores, moved, n_draws=199, seed=seed))
    assert np.mean([one["p"] <= 0.05 for one in found]) > 0.8
    assert np.mean([one["rho"] for one in found]) < -0.6


@pytest.mark.parametrize(
    ("scores", "moved", "message"),
    [
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], "4 scores, 4 displacements; expected one of each for 5 subjects"),
        ([1.0] * 5, [1.0] * 6, "5 scores, 6 displacements; expected one of each for 5 subjects or more"),
        ([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0], "scores are all alike; expected numbers that differ"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], [0.0, np.nan, 1.0, 2.0, 3.0], "displacements are not all finite"),
    ],
)
def test_relations_with_motion_that_cannot_be_told(scores, moved, message):
    with pytest.raises(ValueError, match=message):
        motion_score_correlation(scores, moved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="rot_x"), "confounds without .'rot_x'.; expected fMRIPrep's columns"),
        (lambda table: table.assign(rot_x="?"), "confounds of scan 0 hold no numbers"),
    ],
)
def test_tables_that_are_none(confounds, change, message):
    with pytest.raises(ValueError, match=message):
        motion_regressors(change(confounds))


def test_other_refusals(confounds, tmp_path):
    with pytest.raises(FileNotFoundError, match="no confounds at"):
        motion_regressors(tmp_path / "none.tsv")
    with pytest.raises(ValueError, match="expected 6 or 24"):
        motion_regressors(confounds, 12)
