import numpy as np
import pytest

from topographic.brain import (
    beside_controls,
    convolve_hrf,
    delay,
    downsample,
    fsaverage5_mesh,
    motion_regressors,
    parcels_of,
    significance,
    story_subject,
    word_controls,
    zscore_runs,
)


@pytest.fixture(scope="module")
def subject():
    places = np.random.default_rng(0).uniform(0, 100, size=(80, 3))
    return story_subject(places, n_runs=4, n_scans=80, n_parcels=8, n_features=6, seed=1)


def at_scans(subject, run):
    """Features and controls of a run at its scans, each with delays of one to four scans."""
    table, scans = subject.words[run], subject.scan_times_s(run)
    times = table["onset_s"].to_numpy()
    model = delay(downsample(subject.features[run], times, scans), [1, 2, 3, 4])
    controls = word_controls(table["word"].tolist(), times, scans)
    return model, delay(np.hstack([controls["word rate"], controls["word length"]]), [1, 2, 3, 4])


def test_the_whole_way_finds_meaning_where_it_was_put_and_nowhere_else(subject):
    parts = [at_scans(subject, run) for run in range(4)]
    model, words = (np.vstack(one) for one in zip(*parts, strict=True))
    motion = np.vstack([motion_regressors(one) for one in subject.confounds])
    y = zscore_runs(np.vstack(subject.recordings), subject.runs)
    meaning = np.isin(subject.parcels, subject.meaning_parcels)
    rate = np.isin(subject.parcels, subject.rate_parcels)
    controls = {"words": words, "nuisance": motion}
    table, fits = beside_controls({"meaning": model}, controls, y, runs=subject.runs, n_band_draws=10, progress=False)
    added = table["added by model"].to_numpy()
    assert added[meaning].mean() > 0.15
    assert np.abs(added[~meaning].mean()) < 0.03
    assert fits["controls"].r[rate].mean() > fits["controls"].r[~rate].mean() + 0.2
    bands = {"meaning": model, **controls}
    tested = significance(bands, y, runs=subject.runs, band="meaning", n_draws=39, progress=False)
    assert (tested.p[meaning] <= 0.05).mean() > 0.9
    assert (tested.p[~meaning] <= 0.05).mean() < 0.15


def test_the_truth_is_in_the_recording(subject):
    """Least squares on the canonical response gives the planted weights back, up to noise."""
    run = 0
    times, scans = subject.words[run]["onset_s"].to_numpy(), subject.scan_times_s(run)
    heard = convolve_hrf(subject.features[run], times, scans)
    heard = (heard - heard.mean(axis=0)) / heard.std(axis=0)
    found = np.linalg.lstsq(heard, subject.recordings[run] - subject.recordings[run].mean(axis=0), rcond=None)[0]
    meaning = np.isin(subject.parcels, subject.meaning_parcels)
    assert np.corrcoef(found[:, meaning].ravel(), subject.weights[:, meaning].ravel())[0, 1] > 0.8
    assert not subject.weights[:, ~meaning].any()


def test_a_seed_makes_the_same_subject_again():
    places = np.random.default_rng(0).normal(size=(30, 3))
    first, again, other = (story_subject(places, n_runs=1, n_scans=30, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.recordings[0], again.recordings[0])
    assert not np.array_equal(first.recordings[0], other.recordings[0])
    assert first.words[0].equals(again.words[0])
    assert "\n" not in repr(first)


def test_fsaverage5_and_its_parcels():
    mesh = fsaverage5_mesh()
    assert len(mesh.positions_mm) == 20_484
    assert len(mesh.triangles) == 40_960
    parcels = parcels_of(mesh.positions_mm, 50)
    assert set(parcels) == set(range(50))
    assert np.bincount(parcels).min() > 20


def test_what_cannot_be_made_up():
    places = np.zeros((30, 3)) + np.arange(30)[:, None]
    with pytest.raises(ValueError, match="expected different ones of 4"):
        story_subject(places, n_parcels=4)
    with pytest.raises(ValueError, match="expected from 0 to below 1"):
        story_subject(places, autocorrelation=1.0)
    with pytest.raises(ValueError, match="n_parcels=31 of 30 vertices"):
        parcels_of(places, 31)
