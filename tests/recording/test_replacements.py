from collections import Counter

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from topographic.recording.replacements import (
    SwappedWords,
    embedding_matched_word,
    random_word,
    same_class_word,
    single_token_words,
    swap_words,
    word_prefix_of,
    word_token_ids,
)

WORDS = [f"w{index}" for index in range(40)]


@pytest.fixture(scope="module")
def tokenizer():
    """Words are tokens; an underscore joins several of them to one word."""
    inner = Tokenizer(WordLevel({word: index for index, word in enumerate([*WORDS, "<unk>"])}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Split("_", "removed"),
    ])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=41, n_positions=16, n_embd=16, n_layer=1, n_head=2))


def draws(replacement, word, n=2000, seed=0):
    generator = np.random.default_rng(seed)
    return Counter(replacement(("left", word, "right"), 1, generator) for _ in range(n))


def test_copies_differ_in_one_word():
    (swapped,) = swap_words([["a", "b", "c"]], lambda words, place, _: f"{words[place]}{place}")
    assert swapped == SwappedWords(("a", "b", "c"), ("a0", "b1", "c2"))
    assert [swapped.copy(place) for place in range(3)] == [("a0", "b", "c"), ("a", "b1", "c"), ("a", "b", "c2")]


def test_swaps_follow_the_seed():
    sequences = [WORDS[:10], WORDS[5:15]]
    first, again, other = (swap_words(sequences, random_word(WORDS), seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert [one.words for one in first] == [tuple(sequence) for sequence in sequences]


def test_a_random_word_is_any_other_word_equally_often():
    counts = draws(random_word(["a", "b", "c", "d", "d"]), "b", 3000)
    assert set(counts) == {"a", "c", "d"}
    assert min(counts.values()) > 900
    assert set(draws(random_word(["a", "b", "c"]), "elsewhere")) == {"a", "b", "c"}


def test_the_class_is_kept_and_small_classes_are_one_pool():
    classes = {**dict.fromkeys("abcdef", "noun"), **dict.fromkeys("uvw", "verb"), **dict.fromkeys("xy", "other")}
    replacement = same_class_word(classes)
    assert set(draws(replacement, "c")) == set("abdef")
    assert set(draws(replacement, "u")) == set("vwxy")
    assert set(draws(replacement, "unheard")) == set("uvwxy")
    assert set(draws(same_class_word(classes, min_words=3), "u")) == set("vw")


def test_a_class_without_another_word_is_refused():
    with pytest.raises(ValueError, match="word 'z' has class 'verb' and there is no other word in the pool of classes"):
        draws(same_class_word({**dict.fromkeys("abcdef", "noun"), "z": "verb"}), "z", 1)
    with pytest.raises(ValueError, match="word 'new' has no class and there is no other word"):
        draws(same_class_word(dict.fromkeys("abcdef", "noun")), "new", 1)


def distance(model, tokenizer, word, other):
    table = model.transformer.wte.weight.detach().numpy()
    first, second = (table[word_token_ids(tokenizer, each)].mean(0) for each in (word, other))
    return np.abs(first - second).mean()


def test_matched_words_lie_at_the_distance(model, tokenizer):
    replacement = embedding_matched_word(model, tokenizer, WORDS, embedding_distance=0.022, half_width=0.002)
    for word in ("w3", "w1_w2"):
        counts = draws(replacement, word)
        within = {other for other in WORDS if abs(distance(model, tokenizer, word, other) - 0.022) <= 0.002}
        assert set(counts) == within
        assert 2 < len(within) < 35


def test_slices_of_the_band_are_equally_likely(model, tokenizer):
    replacement = embedding_matched_word(
        model, tokenizer, WORDS, embedding_distance=0.022, half_width=0.004, n_slices=2
    )
    counts = draws(replacement, "w3", 4000)
    near = sum(count for other, count in counts.items() if distance(model, tokenizer, "w3", other) < 0.022)
    n_near = sum(distance(model, tokenizer, "w3", other) < 0.022 for other in counts)
    assert n_near != len(counts) - n_near, "or drawing words evenly would give the same"
    assert near == pytest.approx(2000, abs=150)


def test_by_default_the_distance_is_the_usual_one_of_the_vocabulary(model, tokenizer):
    replacement = embedding_matched_word(model, tokenizer, WORDS)
    pairs = [distance(model, tokenizer, one, other) for one in WORDS for other in WORDS if one < other]
    chosen = [distance(model, tokenizer, word, other) for word in WORDS for other in draws(replacement, word, 20)]
    assert np.median(chosen) == pytest.approx(np.median(pairs), rel=0.05)
    assert np.std(chosen) < 0.4 * np.std(pairs)


def test_where_no_word_lies_in_the_band_the_nearest_is_taken(model, tokenizer):
    farthest = max(set(WORDS) - {"w3"}, key=lambda other: distance(model, tokenizer, "w3", other))
    assert set(draws(embedding_matched_word(model, tokenizer, WORDS, embedding_distance=1.0), "w3", 20)) == {farthest}
    closest = min(set(WORDS) - {"w3"}, key=lambda other: distance(model, tokenizer, "w3", other))
    tiny = embedding_matched_word(model, tokenizer, WORDS, embedding_distance=1e-6)
    assert set(draws(tiny, "w3", 20)) == {closest}, "the word itself is nearer, and no replacement"


def test_words_of_one_token_are_told_from_others(tokenizer):
    assert single_token_words(tokenizer, ["w1", "w1_w2", "unheard", "w5", "w1"]) == ["w1", "w5"]
    assert word_token_ids(tokenizer, "w1_w2") == [1, 2]


def test_what_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="the replacement of 'a' is 'a'; expected another word"):
        swap_words([["b", "a"]], lambda words, place, generator: "a")
    with pytest.raises(ValueError, match="vocabulary='word'; expected a list of at least two different words"):
        random_word("word")
    with pytest.raises(ValueError, match="expected a list of at least two different words"):
        same_class_word({"one": "noun"})
    with pytest.raises(ValueError, match=r"embedding_distance=0.1, half_width=0.0; expected both above 0"):
        embedding_matched_word(model, tokenizer, WORDS, embedding_distance=0.1, half_width=0.0)
    with pytest.raises(ValueError, match="word '_' tokenises to nothing"):
        word_token_ids(tokenizer, "_")


def test_a_space_stands_before_a_word_where_the_tokenizer_wants_one(tokenizer):
    """A tokenizer that marks the start of a word itself makes a token of the space, as those of Llama 2 do."""
    assert word_prefix_of(tokenizer, WORDS) == " "
    inner = Tokenizer(WordLevel({"\u2581": 0, "\u2581w1": 1, "\u2581w2": 2, "<unk>": 3}, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    inner.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    marking = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    assert word_token_ids(marking, "w2", "") == [2]
    assert word_token_ids(marking, "w2", " ") == [0, 2]
    assert word_prefix_of(marking, ["w1", "w2"]) == ""
