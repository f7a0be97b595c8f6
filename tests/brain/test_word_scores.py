import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import RidgeCV

from topographic.brain import orthogonal_autocorrelated_features, run_folds
from topographic.brain.word_scores import (
    grouped_correlation,
    grouped_gain,
    held_out_words,
    likelihood_gain,
    sentence_and_type_folds,
    usable_words,
)

SENTENCES = np.repeat(np.arange(40), 8)


def test_no_sentence_and_no_type_is_on_both_sides():
    types = np.random.default_rng(0).integers(0, 60, len(SENTENCES))
    folds = sentence_and_type_folds(SENTENCES, types, 4)
    for train, test in folds.pairs:
        assert not set(SENTENCES[train]) & set(SENTENCES[test])
        assert not set(types[train]) & set(types[test])
    tested = np.concatenate([test for _, test in folds.pairs])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(SENTENCES)))
    again = sentence_and_type_folds(SENTENCES, types, 4)
    np.testing.assert_array_equal(folds.pairs[3][1], again.pairs[3][1])
    with pytest.raises(ValueError, match="n_folds=50 for 40 sentences; expected from 2 to 40"):
        sentence_and_type_folds(SENTENCES, types, 50)


def test_word_identity_scores_only_where_types_are_shared():
    rng = np.random.default_rng(0)
    types = rng.integers(0, 30, len(SENTENCES))
    identity = np.eye(30)[types]
    y = rng.normal(size=30)[types][:, None]  # all that there is to know is the word
    by_sentence = held_out_words(identity, y, run_folds(SENTENCES, 5))
    by_type = held_out_words(identity, y, sentence_and_type_folds(SENTENCES, types, 5))
    assert np.corrcoef(by_sentence[:, 0], y[:, 0])[0, 1] > 0.95
    assert np.corrcoef(by_type[:, 0], y[:, 0])[0, 1] < 0.1


def test_features_of_neighbourhood_predict_one_number_per_fold():
    y = np.random.default_rng(0).normal(size=(len(SENTENCES), 1))
    folds = run_folds(SENTENCES, 5)
    predicted = held_out_words(orthogonal_autocorrelated_features(SENTENCES, 1.0), y, folds)
    for train, test in folds.pairs:
        assert np.ptp(predicted[test]) < 1e-9  # the test words have none of these features
        assert predicted[test].mean() == pytest.approx(y[train].mean(), abs=0.05)


def test_held_out_predictions_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(320, 12)) * rng.uniform(1, 9, 12), rng.normal(size=(320, 2))
    train, test = run_folds(SENTENCES, 5).pairs[2]
    scaled = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    model = RidgeCV(alphas=10.0 ** np.arange(7), alpha_per_target=True).fit(scaled[train], y[train])
    found = held_out_words(x, y, run_folds(SENTENCES, 5))
    np.testing.assert_allclose(found[test], model.predict(scaled[test]))
    with pytest.raises(ValueError, match="not finite; leave out the words that lack one"):
        held_out_words(np.full((320, 1), np.nan), y, run_folds(SENTENCES, 5))
    with pytest.raises(
        ValueError, match=r"features \(319, 12\) and measures \(320, 2\); expected as many words in all"
    ):
        held_out_words(x[1:], y, run_folds(SENTENCES, 5))
    with pytest.raises(ValueError, match=r"measures \(320, 2\), controls \(319, 1\); expected as many words in all"):
        held_out_words(x, y, run_folds(SENTENCES, 5), controls=x[1:, :1])


def test_no_penalty_falls_on_controls():
    """What a control says is no state's, however large the penalty; with the control among the states it would be."""
    rng, folds = np.random.default_rng(0), run_folds(SENTENCES, 5)
    tokens = 1.0 + rng.poisson(0.5, (320, 1))
    states = tokens + 0.5 * rng.normal(size=(320, 20))
    y = tokens + tokens.std() * rng.normal(size=(320, 1))

    def error(features, **options):
        said = held_out_words(features, y, folds, alphas=(3000.0,), **options)
        return np.square(y - said).mean() / y.var()

    alone = error(np.zeros((320, 1)), controls=tokens)
    assert abs(error(states, controls=tokens) - alone) < 0.005
    assert error(np.hstack([tokens, states])) < error(tokens) - 0.2
    train, test = folds.pairs[0]
    line = np.polyfit(tokens[train, 0], y[train, 0], 1)
    by_hand = np.polyval(line, tokens[test])
    # columns that are mixtures of controls leave nothing to fit to
    for features in (np.zeros((320, 1)), tokens * [1.0, -3.0] + [0.0, 2.0]):
        found = held_out_words(features, y, folds, controls=np.hstack([tokens, np.ones_like(tokens)]))
        np.testing.assert_allclose(found[test], by_hand)


def test_the_bootstrap_draws_sentences():
    rng = np.random.default_rng(0)
    x = rng.normal(size=len(SENTENCES))
    y = x + rng.normal(size=len(SENTENCES))
    found = grouped_correlation(x, y, SENTENCES, n_draws=500, seed=3)
    assert found.value == pytest.approx(stats.pearsonr(x, y)[0])
    assert found.low < found.value < found.high
    # copies of one sentence under other names are no further sentences, copies within a sentence no further information
    twice = grouped_correlation(np.tile(x, 2), np.tile(y, 2), np.tile(SENTENCES, 2), n_draws=500, seed=3)
    assert (twice.low, twice.high) == pytest.approx((found.low, found.high))
    assert np.isnan(grouped_correlation(x, np.ones_like(x), SENTENCES, n_draws=20).value)
    same = grouped_correlation(x, y, SENTENCES, beside=y, n_draws=20)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_correlated_words_of_a_sentence_keep_their_error_rate():
    """Sentences shift all their words: over words the test would be wrong half the time."""
    rng, wrong, by_word = np.random.default_rng(0), 0, 0
    for seed in range(300):
        gains = np.repeat(rng.normal(size=40), 8) + 0.3 * rng.normal(size=320)
        found = grouped_gain(gains, SENTENCES, n_draws=99, seed=seed)
        wrong += found.p <= 0.05
        by_word += stats.ttest_1samp(gains, 0, alternative="greater").pvalue <= 0.05
    assert wrong / 300 <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 300)
    assert by_word / 300 > 0.15


def planted(rng, strength):
    surprisal, length = rng.gamma(2, 2, len(SENTENCES)), rng.integers(1, 10, len(SENTENCES)).astype(float)
    sentence = rng.normal(size=40)[SENTENCES]
    y = 250 + 5 * length + strength * surprisal + 3 * sentence + 8 * rng.normal(size=len(SENTENCES))
    return y, {"length": length}, {"surprisal": surprisal}


def test_surprisal_gains_where_it_is_planted_and_not_elsewhere():
    rng, folds = np.random.default_rng(0), run_folds(SENTENCES, 5)
    p = {
        strength: [
            grouped_gain(likelihood_gain(*planted(rng, strength), folds), SENTENCES, n_draws=99, seed=seed).p
            for seed in range(60)
        ]
        for strength in (0.0, 1.5)
    }
    assert np.mean(np.array(p[0.0]) <= 0.05) <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 60)
    assert np.mean(np.array(p[1.5]) <= 0.05) >= 0.8


def test_the_gain_is_a_difference_of_normal_log_densities():
    y, controls, added = planted(np.random.default_rng(1), 2.0)
    folds = run_folds(SENTENCES, 5)
    gains = likelihood_gain(y, controls, added, folds)
    train, test = folds.pairs[1]

    def density(*columns):
        table = np.column_stack([np.ones(len(y)), *columns])
        weights = np.linalg.lstsq(table[train], y[train], rcond=None)[0]
        residual = y - table @ weights
        sd = np.sqrt(np.square(residual[train]).sum() / (len(train) - table.shape[1]))
        return stats.norm(0, sd).logpdf(residual[test])

    expected = density(controls["length"], added["surprisal"]) - density(controls["length"])
    np.testing.assert_allclose(gains[test], expected)


def test_words_without_a_predictor_are_left_out_by_name():
    y, controls, added = planted(np.random.default_rng(1), 2.0)
    added["surprisal"][3] = np.nan
    with pytest.raises(ValueError, match="leave out the words that lack one"):
        likelihood_gain(y, controls, added, run_folds(SENTENCES, 5))
    assert usable_words({"y": y}, controls, added).sum() == len(y) - 1


def test_features_that_tell_topics_apart_say_nothing_of_other_topics():
    """What is alike within topics alone: sentences left out one by one say that it predicts, whole topics that not."""
    topics = np.repeat(np.arange(24), 8)
    folds, gains = run_folds(topics, 6), {"one by one": [], "whole topics": []}
    for seed in range(3):
        source = np.random.default_rng(seed)
        about, response = source.normal(size=(24, 60)), source.normal(size=(24, 1))
        features = about[topics] + 0.3 * source.normal(size=(192, 60))
        y, length = response[topics] + 0.3 * source.normal(size=(192, 1)), source.normal(size=(192, 1))
        base = held_out_words(np.zeros((192, 1)), y, folds, controls=length)
        for name, groups in (("one by one", None), ("whole topics", topics)):
            said = held_out_words(features, y, folds, controls=length, groups=groups)
            gains[name].append((np.square(y - base) - np.square(y - said)).mean() / y.var())
    assert np.mean(gains["one by one"]) < -0.5
    assert -0.1 < np.mean(gains["whole topics"]) < 0.01


def test_groups_change_nothing_but_how_the_penalty_is_chosen():
    source = np.random.default_rng(1)
    x, y = source.normal(size=(320, 4)), source.normal(size=(320, 2))
    folds, options = run_folds(SENTENCES, 5), {"alphas": (30.0,), "controls": source.normal(size=(320, 2))}
    one_by_one = held_out_words(x, y, folds, **options)
    np.testing.assert_allclose(held_out_words(x, y, folds, groups=SENTENCES, **options), one_by_one, atol=1e-8)
