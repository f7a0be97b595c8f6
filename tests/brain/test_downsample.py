import numpy as np
import pytest

from topographic.brain import convolve_hrf, delay, downsample, trim, zscore_runs
from topographic.brain.downsample import DOWNSAMPLERS


@pytest.fixture
def golden(shared):
    return np.load(shared / "golden" / "litcoder_downsample.npz")


OPTIONS = {
    "rect": ("rect", {}),
    "lanczos_w3_c1": ("lanczos", {}),
    "lanczos_w2_c2": ("lanczos", {"window": 2, "cutoff": 2}),
    "lanczos_w3_c1_rectified": ("lanczos", {"rectify": True}),
    "sinc_w3_c1": ("sinc", {}),
    "sinc_w3_c1_renorm": ("sinc", {"renormalize": True}),
    "sinc_w3_c1_causal": ("sinc", {"causal": True}),
    "sinc_w3_c1_causal_renorm": ("sinc", {"causal": True, "renormalize": True}),
    "sinc_w1_c05_renorm": ("sinc", {"window": 1, "cutoff": 0.5, "renormalize": True}),
    "gabor_f005_f01_s4": ("gabor", {"frequencies_hz": (0.05, 0.1), "sigma_s": 4.0}),
    "average": ("average", {}),
    "sum": ("sum", {}),
    "last": ("last", {}),
}


@pytest.mark.parametrize("prefix", ["", "ties_"])
@pytest.mark.parametrize("name", OPTIONS)
def test_published_values(golden, prefix, name):
    """To 1e-10; a word exactly on a scan and trailing silence are where we depart on purpose."""
    method, options = OPTIONS[name]
    times, scans = golden[prefix + "word_times_s"], golden[prefix + "tr_times_s"]
    found = downsample(golden[prefix + "values"], times, scans, method, **options)
    expected = golden[prefix + name]
    assert len(found) == len(scans)
    if prefix and method == "sinc":
        on_scan = (times[:, None] == scans).any(axis=0)
        bandwidth = options.get("cutoff", 1) / 2.0
        reach = options.get("window", 3) / (2 * bandwidth)
        near = np.array([
            any(t == s for t in times) or any(abs(abs(t - s) - reach) < 1e-9 for t in times) for s in scans
        ])
        assert on_scan.any()
        np.testing.assert_allclose(found[~near], expected[~near], rtol=1e-10, atol=1e-10)
        return
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-10, atol=1e-10)
    assert not found[len(expected) :].any()  # the silence that was cut


def test_a_word_exactly_on_a_scan_has_the_limit_of_the_sinc():
    scans = np.arange(5) * 2.0
    found = downsample(np.ones((1, 1)), np.array([4.0]), scans, "sinc")
    assert found[2, 0] == 2 * 0.5
    just_beside = downsample(np.ones((1, 1)), np.array([4.0 + 1e-9]), scans, "sinc")
    np.testing.assert_allclose(found, just_beside, atol=1e-8)


def test_normalised_rows_keep_a_constant_and_published_ones_turn_it_into_word_rate():
    times = np.sort(np.random.default_rng(0).uniform(0, 400, 1000))
    scans = np.arange(200) * 2.0
    constant = np.ones((1000, 1))
    rate = downsample(constant, times, scans, "sum").ravel()
    published = downsample(constant, times, scans).ravel()
    assert np.corrcoef(published, downsample(constant, times, scans, "rect").ravel() * rate)[0, 1] > 0.5
    kept = downsample(constant, times, scans, renormalize=True).ravel()
    np.testing.assert_allclose(kept, 1.0, atol=1e-9)


@pytest.mark.parametrize("method", DOWNSAMPLERS)
def test_silence_gives_rows_of_zeros(method):
    scans = np.arange(50) * 2.0
    found = downsample(np.ones((3, 2)), np.array([10.0, 10.5, 11.0]), scans, method, frequencies_hz=(0.1,), sigma_s=0.5)
    assert found.shape == (50, 2)
    np.testing.assert_allclose(found[20:], 0, atol=1e-12)
    empty = downsample(np.ones((0, 2)), np.array([]), scans, method, frequencies_hz=(0.1,))
    assert empty.shape == (50, 2)
    assert not empty.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times_s": np.array([1.0, 0.5, 2.0])}, r"out of order: 0.5 s \(row 1\) follows 1 s; sort"),
        ({"times_s": np.array([1.0, 2.0, 99.0])}, "scans end at 20 s but 1 words begin later, the last at 99 s"),
        ({"times_s": np.array([1.0, 2.0])}, "for 2 times; expected one row of features per word"),
        ({"times_s": np.array([1.0, 2.0, np.nan])}, "times_s holds no finite times"),
        ({"values": np.full((3, 2), np.nan)}, "6 feature values are not finite"),
        ({"scan_times_s": np.array([0.0, 0.0, 2.0])}, "do not increase"),
        ({"method": "cubic"}, "method='cubic'; expected one of"),
        ({"method": "gabor"}, "without frequencies; give frequencies_hz="),
        ({"window": 0}, "window=0; expected a positive number"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, message):
    given = {"values": np.ones((3, 2)), "times_s": np.arange(3.0), "scan_times_s": np.arange(10) * 2.0} | change
    with pytest.raises(ValueError, match=message) as caught:
        downsample(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "delays"), [("1_to_4", [1, 2, 3, 4]), ("0_to_2", [0, 1, 2]), ("minus1_0_1", [-1, 0, 1])]
)
def test_published_delays(shared, name, delays):
    golden = np.load(shared / "golden" / "litcoder_delays.npz")
    assert np.array_equal(delay(golden["values"], delays), golden[f"delays_{name}"])
    assert np.array_equal(delay(golden["values"], delays, circular=True), golden[f"delays_{name}_circular"])


@pytest.mark.parametrize("delays", [[], [1.5], [9]])
def test_delays_that_are_none(delays):
    with pytest.raises(ValueError, match="expected whole numbers below that"):
        delay(np.ones((9, 1)), delays)


def test_a_word_gives_the_canonical_response():
    from nilearn.glm.first_level import spm_hrf

    scans = np.arange(40) * 1.0
    found = convolve_hrf(np.array([[2.0, 0.0]]), np.array([0.0]), scans)
    expected = spm_hrf(1.0, oversampling=20, time_length=40)[::20]
    assert np.corrcoef(found[:, 0], expected[:40])[0, 1] > 0.99
    assert found[:, 0].argmax() == 5
    assert not found[:, 1].any()
    assert len(convolve_hrf(np.ones((2, 1)), np.array([0.0, 1.0]), scans, duration_s=[0.2, 0.4])) == 40
    with pytest.raises(ValueError, match="expected 'spm' or 'glover'"):
        convolve_hrf(np.ones((1, 1)), np.zeros(1), scans, hrf="fir")


def test_runs_are_trimmed_and_scored_one_by_one():
    runs = np.repeat(["a", "b"], [5, 6])
    values = np.arange(11.0)[:, None]
    assert trim(values, runs, 1, 2).ravel().tolist() == [1, 2, 6, 7, 8]
    scored = zscore_runs(np.hstack([values, np.full((11, 1), 0.1)]), runs)
    for run in "ab":
        np.testing.assert_allclose(scored[runs == run].mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(scored[runs == run].std(axis=0), [1, 0])
    with pytest.raises(ValueError, match=r"run 'a' has 5 samples; trimming 3 [+] 2 leaves none"):
        trim(values, runs, 3, 2)
    with pytest.raises(ValueError, match="expected numbers of samples, 0 or more"):
        trim(values, runs, -1)
    with pytest.raises(ValueError, match="expected one run per sample"):
        zscore_runs(values, runs[:3])
