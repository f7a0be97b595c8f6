import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from torch import nn
from transformers import PreTrainedTokenizerFast

from topographic.maps import morans_i
from topographic.maps.window_fit import window_curve
from topographic.maps.windows import integration_maps, integration_windows, yoking_map
from topographic.recording.replacements import random_word, swap_words
from topographic.recording.swaps import SwapDifferences, record_swaps, within_sequence
from topographic.sheets import grid

N_WORDS = 40
# a, b and c of a 2 x 6 sheet: exponential, power law and mixtures
PLANTED = np.array([
    [0.0, 0.15, 0.0], [0.0, 0.7, 0.0], [0.0, 2.0, 0.0], [0.4, 0.0, 1.0], [0.8, 0.0, 1.0], [1.5, 0.0, 1.0],
    [0.5, 0.2, 0.5], [0.5, 3.0, 0.27], [1.0, 1.0, 0.3], [0.3, 1.0, 0.6], [0.7, 2.0, 0.2], [0.2, 1.5, 0.8],
])  # fmt: skip


class Integrator(nn.Module):
    """``a(j, u) = scale_u sum_d theta_u(d) e(w_{j-d}, u)``, over the words of the sentence only if it has an end."""

    def __init__(self, sentence_words=None):
        super().__init__()
        kernels = window_curve(np.arange(200.0), *PLANTED.T)
        lag = np.subtract.outer(np.arange(200), np.arange(200))
        influence = np.where(lag >= 0, kernels[:, np.abs(lag)], 0.0)
        if sentence_words:
            sentence = np.arange(200) // sentence_words
            influence = np.where(np.equal.outer(sentence, sentence), influence, 0.0)
        self.scale = torch.linspace(0.1, 20, len(PLANTED))
        self.influence = torch.from_numpy(influence).float()

    def forward(self, embedded):
        n_tokens = embedded.shape[1]
        influence = self.influence[:, :n_tokens, :n_tokens]
        return torch.einsum("uji,biu->bju", influence, embedded) * self.scale


class Network(nn.Module):
    def __init__(self, embeddings, sentence_words=None):
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(torch.as_tensor(embeddings).float())
        self.integrate = Integrator(sentence_words)

    def forward(self, ids):
        return self.integrate(self.embedding(ids))


def vocabulary(n):
    return [f"w{index}" for index in range(n)]


def differences_of(network, n_embeddings, *, n_sequences=4, n_words=N_WORDS, lags=tuple(range(21))):
    inner = Tokenizer(WordLevel({word: k for k, word in enumerate([*vocabulary(n_embeddings), "<unk>"])}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    words = vocabulary(n_embeddings)
    generator = np.random.default_rng(0)
    sequences = [tuple(generator.choice(words, n_words)) for _ in range(n_sequences)]
    swapped = swap_words(sequences, random_word(words))
    return record_swaps(network, tokenizer, swapped, "integrate", lags=lags, progress=False)["integrate"]


# with two words every swap is equally large, and the windows are the kernels exactly
TWO_WORDS = np.outer([0.0, 1.0], np.ones(len(PLANTED)))


@pytest.fixture(scope="module")
def exact():
    return differences_of(Network(TWO_WORDS), 2)


def made(values, lags=(0, 1, 2), site="site"):
    values = np.where(within_sequence(len(values), lags)[..., None], values, np.nan)
    return SwapDifferences(site, values, tuple(lags), grid(values.shape[-1], site), 1)


def test_windows_are_the_kernels_whatever_the_gain_of_a_unit(exact):
    windows = integration_windows(exact)
    np.testing.assert_allclose(windows, window_curve(np.arange(21), *PLANTED.T), atol=1e-5)


def test_planted_parameters_come_back_and_free_ones_are_masked(exact):
    maps = integration_maps(exact)
    a, b, c = (maps[name].values for name in "abc")
    np.testing.assert_allclose(c, PLANTED[:, 2], atol=0.01)
    np.testing.assert_array_equal(np.isnan(a), PLANTED[:, 2] == 0)
    np.testing.assert_array_equal(np.isnan(b), PLANTED[:, 2] == 1)
    np.testing.assert_allclose(a[3:], PLANTED[3:, 0], atol=0.03)
    exponential = [0, 1, 2, 6, 7, 8, 9, 10, 11]
    np.testing.assert_allclose(b[exponential], PLANTED[exponential, 1], rtol=0.05)
    assert maps["rmse"].values.max() < 1e-4
    assert {name: unit_map.statistic for name, unit_map in maps.items()} == {
        name: f"integration_{name}" for name in ("a", "b", "c", "rmse")
    }
    assert maps["a"].sheet == grid(12, "integrate")
    assert maps["a"].provenance["lags"] == list(range(21))


def test_words_of_unequal_size_average_out():
    rng = np.random.default_rng(0)
    differences = differences_of(Network(rng.normal(size=(30, len(PLANTED)))), 30, n_sequences=60)
    windows = integration_windows(differences)
    truth = window_curve(np.arange(21), *PLANTED.T)
    assert np.abs(windows - truth).max() < 0.1
    maps = integration_maps(differences)
    np.testing.assert_allclose(maps["c"].values[[0, 1, 4, 5]], PLANTED[[0, 1, 4, 5], 2], atol=0.15)
    assert maps["b"].values[0] == pytest.approx(0.15, rel=0.2)
    assert maps["a"].values[4] == pytest.approx(0.8, rel=0.2)


def test_windows_equal_the_procedure_word_by_word():
    rng = np.random.default_rng(0)
    lags = (0, 1, 2, 3)
    values = rng.uniform(0.5, 2, (9, 4, 6))
    windows = integration_windows(made(values, lags))
    for unit in range(6):
        per_word = []
        for measured in range(9):
            if measured - 3 > 1:
                scaled = values[..., unit] / np.median(values[:, 0, unit])
                window = np.array([scaled[measured - lag, lag] for lag in lags])
                per_word.append(window / window[0])
        assert len(per_word) == 4
        np.testing.assert_allclose(windows[unit], np.median(per_word, axis=0), rtol=1e-6)


def test_a_model_that_reads_both_ways_has_a_window_before_the_swap():
    values = np.random.default_rng(0).uniform(0.5, 2, (8, 3, 2))
    windows = integration_windows(made(values, (-2, 0, 1)))
    expected = [
        [values[j + 2, 0, u] / values[j, 1, u] for j in range(3, 6)] for u in range(2)
    ]  # measured words whose swaps two later and one before exist, none of these among the first two
    np.testing.assert_allclose(windows[:, 0], np.median(expected, axis=1), rtol=1e-6)
    with pytest.raises(ValueError, match="at least 4 different lags from 0 up"):
        integration_maps(made(values, (-2, 0, 1)))


def test_dead_units_have_no_value_and_a_silent_word_is_left_out():
    values = np.random.default_rng(0).uniform(0.5, 2, (10, 4, 3))
    values[:, :, 1] = 0
    values[6, :, 2] = 0
    differences = made(values, (0, 1, 2, 3))
    windows = integration_windows(differences)
    np.testing.assert_array_equal(np.isnan(windows), [[False] * 4, [True] * 4, [False] * 4])
    assert windows[2, 0] == 1
    maps = integration_maps(differences, n_draws=3)
    for unit_map in maps.values():
        assert np.isnan(unit_map.values[1])
        assert all(np.isnan(draws[:, 1]).all() for draws in unit_map.nulls.values())
    nothing = integration_maps(made(np.zeros((10, 4, 3)), (0, 1, 2, 3)))
    assert all(np.isnan(unit_map.values).all() for unit_map in nothing.values())
    assert np.isnan(yoking_map(differences, sentence_words=3).values[1])


def test_flat_and_instant_windows_have_no_parameters():
    lags = tuple(range(6))
    instant, flat, short = np.full((12, 6), 0.01), np.full((12, 6), 0.98), np.full((12, 6), 0.01)
    instant[:, 0] = flat[:, 0] = short[:, 0] = 1
    short[:, 1] = 0.2
    differences = made(np.stack([instant, flat, short, short], axis=-1), lags)
    maps = integration_maps(differences)
    for name in "abc":
        assert np.isnan(maps[name].values[:2]).all()
    np.testing.assert_array_equal(np.isnan(maps["c"].values[2:]), [False, False])
    assert not np.isnan(integration_maps(differences, identifiable=0.0)["c"].values).any()
    assert not np.isnan(maps["rmse"].values).any()


def test_both_nulls_tell_a_planted_map_from_chance():
    """The share of the power law grows along a 6 x 8 sheet."""
    share = np.repeat(np.linspace(0.1, 0.9, 6), 8)
    kernels = window_curve(np.arange(21), np.full(48, 0.5), np.full(48, 1.5), share)
    values = np.broadcast_to(kernels.T, (30, 21, 48))
    maps = integration_maps(made(values, tuple(range(21))), n_draws=99, seed=3)
    result = morans_i(maps["c"])
    assert (result.unit_null.p, result.floor.p) == (0.01, 0.01)
    assert result.value > 0.7
    again = integration_maps(made(values, tuple(range(21))), n_draws=99, seed=3)["c"]
    np.testing.assert_array_equal(again.nulls["unit"], maps["c"].nulls["unit"])
    assert not integration_maps(made(values, tuple(range(21))))["c"].nulls


# yoking

SENTENCE, LAGS_12 = 12, tuple(range(11))


def planted_index():
    """By formula: the effect of a sentence-final word is cut after lag 0, that of the first word runs on."""
    kernels = window_curve(np.arange(11), *PLANTED.T)
    return (kernels.sum(axis=1) - 1) / 11


def test_a_window_cut_at_the_boundary_is_yoked_to_it():
    differences = differences_of(Network(TWO_WORDS, SENTENCE), 2, n_words=60, lags=LAGS_12)
    index = yoking_map(differences)
    np.testing.assert_allclose(index.values, planted_index(), atol=1e-5)
    assert index.values.min() > 0.01
    assert index.statistic == "structure_yoking"
    assert index.provenance["sentence_words"] == 12


def test_a_window_that_knows_positions_only_is_not():
    differences = differences_of(Network(TWO_WORDS), 2, n_words=60, lags=LAGS_12)
    np.testing.assert_allclose(yoking_map(differences).values, 0, atol=1e-5)


def test_yoking_to_other_boundaries_is_not_taken_for_it():
    differences = differences_of(Network(TWO_WORDS, 10), 2, n_words=60, lags=LAGS_12)
    right, wrong = (yoking_map(differences, sentence_words=n).values for n in (10, 12))
    assert (right > wrong + 0.005).all()


def test_yoking_equals_the_procedure_word_by_word():
    n, n_words = 4, 18
    full = np.random.default_rng(0).uniform(0.1, 1, (n_words, n_words, 3))
    lags = (2, 0, 1, 7)  # in no order, and one too many
    values = np.stack([[full[i, min(i + lag, n_words - 1)] for lag in lags] for i in range(n_words)])
    found = yoking_map(made(values, lags), sentence_words=n, n_draws=4)
    for unit in range(3):
        scale, f = np.median([full[i, i, unit] for i in range(n_words)]), {}
        for j in range(n_words - 1):
            if j + 1 + n - 2 < n_words:
                terms = [full[j + 1, j + 1 + k, unit] - full[j, j + k, unit] for k in range(n - 1)]
                f[j + 1] = np.mean(terms) / scale
        expected = np.mean([f[first] for first in (4, 8, 12)] + ([f[16]] if 16 in f else []))
        assert found.values[unit] == pytest.approx(expected, rel=1e-5)
    assert set(found.nulls) == {"unit", "floor"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: integration_windows(made(np.ones((4, 3, 2)))), r"needs lag 0 and more than 4 words"),
        (lambda: integration_windows(made(np.ones((9, 2, 2)), (1, 2))), "needs lag 0"),
        (lambda: integration_maps(made(np.ones((9, 3, 2))), identifiable=0.5), "identifiable=0.5; expected a share"),
        (lambda: integration_maps(made(np.ones((9, 3, 2)))), "at least 4 different lags"),
        (lambda: yoking_map(made(np.ones((9, 3, 2)))), r"sentences of 12 words \(2 or more\) need the lags 0 to 10"),
        (lambda: yoking_map(made(np.ones((6, 3, 2))), sentence_words=4), "at least two sentences"),
        (lambda: yoking_map(made(np.ones((6, 3, 2))), sentence_words=1), "2 or more"),
        (lambda: integration_maps(made(np.ones((9, 3, 2))), n_draws=-1), "n_draws=-1; expected 0 for no nulls"),
        (lambda: integration_maps(made(np.ones((9, 3, 2))), seed=-1), "seed=-1; expected 0 or more"),
        (
            lambda: yoking_map(made(np.ones((9, 3, 2))), sentence_words=4, n_draws=1),
            "n_draws=1; expected 0 for no nulls",
        ),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
