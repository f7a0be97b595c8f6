import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from topographic.brain import (
    beside_controls,
    downsample,
    encode,
    exponential_features,
    orthogonal_autocorrelated_features,
    run_folds,
    shuffled_folds,
    word_controls,
)


def test_published_baseline(shared):
    golden = np.load(shared / "golden" / "litcoder_baseline.npz")
    n, length = int(golden["n"]), float(golden["correlation_length"])
    found = exponential_features(n, length, int(golden["n_columns"]))
    signs = np.sign((found * golden["features"]).sum(axis=0))
    np.testing.assert_allclose(found * signs, golden["features"], atol=1e-10)
    np.testing.assert_allclose(found @ found.T, golden["features_product"], atol=1e-10)
    whole = exponential_features(n, length, n + 5)
    assert whole.shape == (n, n)
    published = golden["features_more_columns_than_samples"]
    np.testing.assert_allclose(whole @ whole.T, published @ published.T, atol=1e-10)
    with pytest.raises(ValueError, match="expected a positive number of samples"):
        exponential_features(9, 0)


def test_features_without_content_score_where_folds_leak_and_nowhere_else():
    """Passages with a mean of their own, as in averaged recordings of sentences."""
    rng = np.random.default_rng(0)
    passages = np.repeat(np.arange(40), 5)
    y = rng.normal(size=(40, 8))[passages] + 0.5 * rng.normal(size=(200, 8))
    oasm = orthogonal_autocorrelated_features(passages, 2.0)
    leaking = encode(oasm, y, folds=shuffled_folds(200, 5, seed=0), progress=False)
    honest = encode(oasm, y, folds=run_folds(passages, 5), runs=passages, progress=False)
    assert leaking.r.mean() > 0.5
    assert np.isnan(honest.r).all() or np.nanmean(honest.r) < 0.1


def test_blocks_are_smoothed_within_their_group_only():
    features = orthogonal_autocorrelated_features(np.array(["a", "a", "a", "b", "b"]), 1.0)
    assert not features[:3, 3:].any()
    assert (features[:3, :3] > 0).all()
    assert np.array_equal(orthogonal_autocorrelated_features(np.array([0, 0]), 0), np.eye(2))
    with pytest.raises(ValueError, match="sigma_samples=-1; expected"):
        orthogonal_autocorrelated_features(np.array([0, 0]), -1)


def letters_and_here():
    """A tokenizer that cuts words into letters, but for one."""
    made = Tokenizer(models.WordLevel({"?": 0, "here": 1}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(" ", "removed"),
        pre_tokenizers.Split(Regex("here|."), "isolated"),
    ])
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?")


def test_controls_of_words_come_to_the_scans_as_features_do():
    times, scans = np.array([0.5, 1.0, 4.5]), np.arange(4) * 2.0
    found = word_controls(["a", "word", "here"], times, scans, log_frequencies=[3.0, 2.0, 1.0], method="sum")
    assert found["word rate"].ravel().tolist() == [2, 0, 1, 0]
    assert found["word length"].ravel().tolist() == [5, 0, 4, 0]
    assert found["log frequency"].ravel().tolist() == [5, 0, 1, 0]
    assert found["position"].shape == (4, 1)
    default = word_controls(["a", "word", "here"], times, scans)
    np.testing.assert_allclose(default["word rate"], downsample(np.ones((3, 1)), times, scans))
    counted = word_controls(["a", "word", "here"], times, scans, tokenizer=letters_and_here(), method="sum")
    assert counted["tokens"].ravel().tolist() == [5, 0, 1, 0]
    assert list(counted) == ["word rate", "word length", "tokens", "position"]
    with pytest.raises(ValueError, match="2 entries of 'log frequency' for 3 onsets"):
        word_controls(["a", "word", "here"], times, scans, log_frequencies=[1.0, 2.0])


def test_what_a_model_adds_to_controls():
    """The first targets follow the control that the model knows too, the others what only the model knows."""
    rng = np.random.default_rng(0)
    control, own = rng.normal(size=(240, 2)), rng.normal(size=(240, 4))
    model = np.hstack([control + 0.05 * rng.normal(size=(240, 2)), own])
    y = np.hstack([control @ rng.normal(size=(2, 5)), own @ rng.normal(size=(4, 5))])
    y += rng.normal(size=y.shape)
    runs = np.repeat(range(4), 60)
    table, fits = beside_controls(model, {"length": control}, y, runs=runs, n_band_draws=10, progress=False)
    assert table["added by model"][:5].abs().max() < 0.05
    assert table["shared"][:5].mean() > 0.2
    assert table["added by model"][5:].min() > 0.2
    np.testing.assert_allclose(
        table["added by model"] + table["added by controls"] + table["shared"], table["r2 both"], atol=1e-12
    )
    assert fits["both"].band_names == ("model", "length")
    with pytest.raises(ValueError, match="no controls; give"):
        beside_controls(model, {}, y)
    with pytest.raises(ValueError, match="name a band of the model and a control"):
        beside_controls({"length": model}, {"length": control}, y)
