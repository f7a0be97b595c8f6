import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from topographic.recording import tap
from topographic.recording.replacements import SwappedWords, random_word, swap_words
from topographic.recording.swaps import SwapDifferences, record_swaps, within_sequence
from topographic.sheets import grid, permuted_grid

SITES = ["transformer.h.0.mlp.c_fc", "transformer.h.1"]
WORDS = [f"w{index}" for index in range(20)] + ["w1_w2", "w3_w4_w5"]


def make_tokenizer(**special):
    """Words are tokens; an underscore joins several of them to one word."""
    vocabulary = {word: index for index, word in enumerate([*WORDS[:20], "<unk>", "[CLS]", "[SEP]"])}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Split("_", "removed"),
    ])
    if special:
        inner.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", **special)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=23, n_positions=40, n_embd=12, n_layer=2, n_head=2, initializer_range=0.3)
    ).eval()


def sequences(n_sequences=3, n_words=9, seed=0):
    generator = np.random.default_rng(seed)
    return [tuple(generator.choice(WORDS, n_words)) for _ in range(n_sequences)]


@pytest.fixture(scope="module")
def swapped():
    return swap_words(sequences(), random_word(WORDS), seed=1)


def by_hand(model, swapped, site, lags, frame=((), ())):
    """One copy at a time, without pads, word by word."""

    def activations(words):
        before, after = frame
        tokens = [[WORDS.index(token) for token in word.split("_")] for word in words]
        ids = torch.tensor([[*before, *(token for word in tokens for token in word), *after]])
        with torch.no_grad(), tap(model, site) as heard:
            model(ids)
        rows, start = [], len(before)
        for word in tokens:
            rows.append(heard[site][0, start : start + len(word)].mean(0).double().numpy())
            start += len(word)
        return np.array(rows)

    n_words = len(swapped[0].words)
    total = None
    for words, replacements in swapped:
        original = activations(words)
        full = np.array([
            np.abs(activations((*words[:i], replacements[i], *words[i + 1 :])) - original) for i in range(n_words)
        ])
        total = full if total is None else total + full
    total = total / len(swapped)
    banded = np.full((n_words, len(lags), total.shape[-1]), np.nan)
    for i in range(n_words):
        for column, lag in enumerate(lags):
            if 0 <= i + lag < n_words:
                banded[i, column] = total[i, i + lag]
    return banded


def test_it_equals_one_copy_at_a_time(model, tokenizer, swapped):
    lags = (0, 1, 2, 5, -1)
    recorded = record_swaps(model, tokenizer, swapped, SITES, lags=lags, batch_size=4, progress=False)
    assert list(recorded) == SITES
    for site, differences in recorded.items():
        expected = by_hand(model, swapped, site, lags)
        np.testing.assert_allclose(differences.values, expected, atol=2e-6)
        assert (differences.lags, differences.n_sequences) == (lags, 3)
        assert differences.sheet == grid(expected.shape[-1], site)
        assert np.nanmax(differences.values[:, 4]) < 1e-6, "a decoder does not know yet what will be swapped"
        assert np.nanmin(differences.values[:, 0].mean(-1)) > 0.01


def test_the_batch_size_does_not_matter_and_models_without_a_mask_work(model, tokenizer, swapped):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model.transformer

        def forward(self, ids):
            return self.inner(ids).last_hidden_state

    one, many = (record_swaps(model, tokenizer, swapped, SITES, batch_size=n, progress=False) for n in (1, 64))
    bare = record_swaps(Bare(), tokenizer, swapped, "inner.h.1", batch_size=64, progress=False)
    for site in SITES:
        np.testing.assert_allclose(one[site].values, many[site].values, atol=2e-6)
    np.testing.assert_allclose(bare["inner.h.1"].values, many["transformer.h.1"].values, atol=2e-6)


def test_an_encoder_answers_before_the_swap_and_its_frame_is_not_measured(swapped):
    torch.manual_seed(0)
    encoder = BertModel(
        BertConfig(
            vocab_size=23, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
            max_position_embeddings=40, initializer_range=0.3,
        )
    ).eval()  # fmt: skip
    tokenizer = make_tokenizer(cls_token="[CLS]", sep_token="[SEP]")
    site, lags = "encoder.layer.0.output", (-2, 0, 1)
    recorded = record_swaps(encoder, tokenizer, swapped, site, lags=lags, batch_size=5, progress=False)[site]
    expected = by_hand(encoder, swapped, site, lags, frame=([21], [22]))
    np.testing.assert_allclose(recorded.values, expected, atol=2e-6)
    assert np.nanmin(recorded.values[:, 0].mean(-1)) > 1e-4


def test_the_model_is_given_back_as_it_was(tokenizer, swapped):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=23, n_positions=40, n_embd=12, n_layer=2, n_head=2))
    model.train()
    model.transformer.h[1].eval()
    first = record_swaps(model, tokenizer, swapped, SITES[0], progress=False)[SITES[0]]
    again = record_swaps(model, tokenizer, swapped, SITES[0], progress=False)[SITES[0]]
    np.testing.assert_array_equal(first.values, again.values)  # no dropout
    assert model.training
    assert not model.transformer.h[1].training
    assert "forward" not in vars(model.transformer.h[0].mlp.c_fc)


def test_words_reach_the_tokenizer_with_their_prefix(model, swapped):
    """A byte-level BPE knows a word as it stands in a text by the space before it."""
    inner = Tokenizer(WordLevel({**{f" {word}": k for k, word in enumerate(WORDS[:20])}, "<unk>": 20}, "<unk>"))
    spaced = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    single = [SwappedWords(WORDS[:6], WORDS[6:12])]
    first = record_swaps(model, spaced, single, SITES[0], progress=False)[SITES[0]]
    plain = record_swaps(model, make_tokenizer(), single, SITES[0], progress=False)[SITES[0]]
    np.testing.assert_array_equal(first.values, plain.values)
    unknown = record_swaps(model, spaced, single, SITES[0], word_prefix="", progress=False)[SITES[0]]
    assert np.nanmax(unknown.values) == 0


def test_provenance_says_what_was_read(model, tokenizer, swapped):
    site = SITES[0]
    recorded = record_swaps(model, tokenizer, swapped, site, progress=False)[site]
    provenance = recorded.provenance
    assert (provenance["model"], provenance["n_sequences"], provenance["n_words"]) == ("GPT2LMHeadModel", 3, 9)
    json.dumps(provenance)
    other = swap_words(sequences(seed=5), random_word(WORDS))
    changed = record_swaps(model, tokenizer, other, site, progress=False)[site]
    assert changed.provenance["checksum"] != provenance["checksum"]


def test_which_words_lie_inside():
    np.testing.assert_array_equal(
        within_sequence(3, [0, 1, -2]), [[True, True, False], [True, True, False], [True, False, True]]
    )


def test_a_sequence_longer_than_the_context_is_refused(model, tokenizer):
    long = [SwappedWords(("w0",) * 40, ("w1",) * 39 + ("w1_w2",))]
    with pytest.raises(ValueError, match=r"'sequence 0 and its copies': item 40 .* has 41 tokens; the model reads at"):
        record_swaps(model, tokenizer, long, SITES, progress=False)


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ([], {}, r"swapped sequences have \[\] words; expected at least one sequence"),
        ([SwappedWords(("w1",), ("w2",)), SwappedWords(("w1",) * 2, ("w2",) * 2)], {}, r"have \[1, 2\] words"),
        ([SwappedWords(("w1",) * 2, ("w2",))], {}, "as many replacements as words"),
        ([SwappedWords(("w1",) * 2, ("w2",) * 2)], {"lags": (5,)}, r"lags \(5,\) reach beyond sequences of 2 words"),
        ([SwappedWords(("w1",), ("w2",))], {"lags": ()}, "expected different whole numbers of words"),
        ([SwappedWords(("w1",), ("w2",))], {"lags": (1, 1)}, "expected different whole numbers of words"),
        ([SwappedWords(("w1",), ("w2",))], {"batch_size": 0}, "batch_size=0; expected at least 1"),
        ([SwappedWords(("_",), ("w2",))], {}, "word '_' tokenises to nothing"),
        ([SwappedWords(("w1",), ("w2",))], {"layout": {}}, "layout has no sheet for site"),
    ],
)
def test_what_is_refused(model, tokenizer, words, options, message):
    with pytest.raises(ValueError, match=message):
        record_swaps(model, tokenizer, words, SITES, progress=False, **options)


def test_a_model_that_carries_sheets_uses_them(tokenizer):
    class Carrier(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(23, 4)

        def forward(self, ids):
            return self.embedding(ids)

        def sheets(self):
            return {"embedding": permuted_grid(4, "embedding", seed=3)}

    words = [SwappedWords(("w1", "w2"), ("w2", "w3"))]
    model, options = Carrier(), {"lags": (0,), "progress": False}
    assert record_swaps(model, tokenizer, words, **options)["embedding"].sheet == model.sheets()["embedding"]
    with pytest.raises(ValueError, match="the layout puts the units of site 'embedding' elsewhere"):
        record_swaps(model, tokenizer, words, None, grid, **options)
    anew = record_swaps(model, tokenizer, words, None, grid, relayout=True, **options)
    assert anew["embedding"].sheet == grid(4, "embedding")


def test_sites_that_say_nothing_useful_are_refused(tokenizer):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.pooled, self.unused = nn.Embedding(23, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, ids):
            return self.pooled(self.embedding(ids).mean(1))

    words = [SwappedWords(("w1", "w2"), ("w2", "w3"))]
    with pytest.raises(ValueError, match=r"site 'pooled' gives shape \(1, 4\); expected \(batch, tokens, units\)"):
        record_swaps(Odd(), tokenizer, words, "pooled", progress=False)
    with pytest.raises(ValueError, match="site 'unused' was not called while the model read; choose"):
        record_swaps(Odd(), tokenizer, words, "unused", progress=False)
    broken = Odd()
    with torch.no_grad():
        broken.embedding.weight[3] = float("nan")
    with pytest.raises(ValueError, match="site 'embedding' gives NaN or infinity for swapped words"):
        record_swaps(broken, tokenizer, words, "embedding", progress=False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 1, 4)), r"have shape \(3, 1, 4\); lags and sheet say \(swaps, 2, 4\)"),
        (np.zeros((3, 2, 4)), "and NaN elsewhere"),
        (np.full((3, 2, 4), np.nan), "expected finite values of at least 0 where both words lie in the sequence"),
        (np.where(within_sequence(3, (0, 1))[..., None], -1.0, np.nan) * np.ones(4), "finite values of at least 0"),
    ],
)
def test_misfits_are_refused_at_birth(values, message):
    with pytest.raises(ValueError, match=message):
        SwapDifferences("site", values, (0, 1), grid(4, "site"), 1)
