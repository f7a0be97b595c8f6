import csv

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from topographic.brain.word_corpora import (
    ERP_COMPONENTS,
    SentenceCorpus,
    WordCorpus,
    load_sentence_corpora,
    load_word_corpora,
    load_word_corpus,
)


def written(folder, rows, texts="The cat sat.\nA dog ran off."):
    with open(folder / "own.csv", "w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "own_texts.txt").write_text(texts + "\n")
    return folder / "own.csv"


ROWS = [
    {"text_id": 0, "position": 1, "word": "cat", "rt": 300.0, "log_freq": 5.0, "length": 3},
    {"text_id": 0, "position": 2, "word": "sat", "rt": "", "log_freq": 4.0, "length": 3},
    {"text_id": 1, "position": 1, "word": "dog", "rt": 250.0, "log_freq": "", "length": 3},
]


def test_a_corpus_of_ones_own_is_read_with_its_gaps(tmp_path):
    corpus = load_word_corpus(written(tmp_path, ROWS))
    assert corpus.words == ("cat", "sat.", "dog")
    assert corpus.types == ("cat", "sat", "dog")
    assert list(corpus.measures) == ["rt (ms)"]
    np.testing.assert_array_equal(corpus.measures["rt (ms)"], [300, np.nan, 250])
    np.testing.assert_array_equal(corpus.log_frequencies, [5, 4, 4])  # unknown is as rare as the rarest
    assert repr(corpus) == "WordCorpus('own': 3 words in 2 texts, rt (ms))"


def test_spill_over_comes_of_the_words_before_measured_or_not(tmp_path):
    controls = load_word_corpus(written(tmp_path, ROWS)).controls(2)
    np.testing.assert_array_equal(controls["length"], [3, 3, 3])
    np.testing.assert_array_equal(controls["length of word 1 before"], [3, 3, 1])
    np.testing.assert_array_equal(controls["length of word 2 before"], [np.nan, 3, np.nan])
    np.testing.assert_array_equal(controls["log frequency of word 1 before"], [np.nan, 5, np.nan])
    np.testing.assert_array_equal(controls["position"], [1, 2, 1])


def test_tokens_of_words_are_counted_where_a_tokenizer_is_given(tmp_path):
    """A word within the token of another has none: nothing of the model's is read at it."""
    pieces = Tokenizer(models.WordLevel({"?": 0, "sa": 1, "t": 2, "dog ran": 3}, unk_token="?"))
    pieces.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex("(?<!dog) (?!ran)"), "removed"),
        pre_tokenizers.Split(Regex("dog ran|cat|sa|t|[.]"), "isolated"),
    ])
    rows = [*ROWS, {**ROWS[2], "position": 2, "word": "ran"}, {**ROWS[2], "position": 3, "word": "off"}]
    corpus = load_word_corpus(written(tmp_path, rows))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="?")
    found = corpus.controls(1, tokenizer)
    np.testing.assert_array_equal(found["tokens"], [1, 3, 1, 0, 2])  # cat | sa, t, . | dog ran | | off, .
    np.testing.assert_array_equal(found["tokens of word 1 before"], [1, 1, 1, 1, 0])
    without = corpus.controls(1)
    assert set(found) - set(without) == {"tokens", "tokens of word 1 before"}
    for name, values in without.items():
        np.testing.assert_array_equal(found[name], values)


def test_values_of_all_words_come_to_the_measured_ones(tmp_path):
    corpus = load_word_corpus(written(tmp_path, ROWS))
    values = [np.array([10.0, 11, 12]), np.array([20.0, 21, 22, 23])]
    np.testing.assert_array_equal(corpus.per_word(values), [11, 12, 21])
    np.testing.assert_array_equal(corpus.shifted(values, 2), [np.nan, 10, np.nan])


def test_the_checksum_follows_the_content(tmp_path):
    first = load_word_corpus(written(tmp_path, ROWS)).checksum
    assert load_word_corpus(written(tmp_path, ROWS)).checksum == first
    other = [{**ROWS[0], "rt": 301.0}, *ROWS[1:]]
    assert load_word_corpus(written(tmp_path, other)).checksum != first


def test_a_word_elsewhere_than_its_row_says_is_refused(tmp_path):
    with pytest.raises(ValueError, match="row 0 says 'mouse' where its text has 'cat'; positions count words"):
        load_word_corpus(written(tmp_path, [{**ROWS[0], "word": "mouse"}]))
    with pytest.raises(ValueError, match="names word 7 of text 0, which does not exist"):
        load_word_corpus(written(tmp_path, [{**ROWS[0], "position": 7}]))
    with pytest.raises(ValueError, match="has no column 'log_freq'"):
        load_word_corpus(written(tmp_path, [{key: one for key, one in ROWS[0].items() if key != "log_freq"}]))
    with pytest.raises(ValueError, match=r"column 'rt': could not convert .*; a measure is a number"):
        load_word_corpus(written(tmp_path, [{**ROWS[0], "rt": "slow"}]))
    with pytest.raises(FileNotFoundError, match=r"expected NAME\.csv beside NAME_texts.txt"):
        load_word_corpus(tmp_path / "absent.csv")
    with pytest.raises(FileNotFoundError, match="give one with corpora below it"):
        load_word_corpora(tmp_path / "absent")


def test_lengths_have_to_agree():
    with pytest.raises(ValueError, match="'rt' has 2 entries for 1 words"):
        WordCorpus("a", ("a b",), np.array([0]), np.array([1]), {"rt": np.zeros(2)}, np.zeros(1))
    with pytest.raises(ValueError, match="has no measured word"):
        WordCorpus("a", ("a b",), np.array([0]), np.array([1]), {}, np.zeros(1))
    with pytest.raises(ValueError, match="2 sentences, 1 groups, 1 responses"):
        SentenceCorpus("a", ("x", "y"), ("g",), np.zeros(1))


def test_the_place_of_a_sentence_counts_within_its_group():
    corpus = SentenceCorpus("a", ("one two", "three", "four"), ("g", "h", "g"), np.zeros(3))
    np.testing.assert_array_equal(corpus.controls()["position"], [0, 0, 1])
    np.testing.assert_array_equal(corpus.controls()["words"], [2, 1, 1])


def test_real_corpora_are_as_their_sources_say(shared):
    corpora = load_word_corpora(shared / "data" / "brain")
    sizes = {name: (len(one), len(np.unique(one.text))) for name, one in corpora.items()}
    assert sizes["ucl_erp"] == (1726, 205)
    assert {name: size[0] for name, size in sizes.items()} == {
        "ucl_erp": 1726, "brown": 6738, "meco": 2096, "natstor": 9759, "provo": 2659, "ucl_spr": 1726, "ucl": 1726
    }  # fmt: skip
    ucl = corpora["ucl_erp"]
    assert list(ucl.measures)[:6] == list(ERP_COMPONENTS)
    assert {"GPT2", "GPTNeo-125M", "cloze"} <= set(ucl.surprisal)
    # self-paced reading of the same words came by two ways, means over readers made in two
    again, words = corpora["ucl_spr"], {}
    for text, place, value in zip(again.text, again.position, again.measures["rt (ms)"], strict=True):
        words[again.texts[text].split()[0], again.texts[text].split()[-1], place] = value
    own = [
        (ucl.texts[text].split()[0], ucl.texts[text].split()[-1], place)
        for text, place in zip(ucl.text, ucl.position, strict=True)
    ]
    there = np.array([words.get(one, np.nan) for one in own])
    both = np.isfinite(there)
    assert both.mean() > 0.9
    assert np.corrcoef(there[both], ucl.measures["self-paced reading time (ms)"][both])[0, 1] > 0.8


def test_real_averages_per_sentence(shared):
    corpora = load_sentence_corpora(shared / "data" / "brain")
    assert {name: (len(one), len(set(one.groups))) for name, one in corpora.items()} == {
        "243sentences": (243, 24), "384sentences": (384, 24)
    }  # fmt: skip


def test_a_mark_after_a_word_is_a_control(tmp_path):
    controls = load_word_corpus(written(tmp_path, ROWS)).controls(1)
    np.testing.assert_array_equal(controls["punctuation"], [0, 1, 0])
    np.testing.assert_array_equal(controls["punctuation of word 1 before"], [0, 0, 0])
