import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

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
    with pytest.raises(ValueError, match="4 subjects or more"):
        motion_score_correlation([1.0, 2.0], [1.0, 2.0])


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
