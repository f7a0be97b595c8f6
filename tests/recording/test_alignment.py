import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from topographic.recording import align_words
from topographic.stimuli import load_localizer
from topographic.training.text.tokenizer import train_tokenizer

WORDS = ["The", "old", "naïve", "café-owner", "isn't", "żółty", "here", "…"]


def word_piece():
    """As BERT's: no spaces in tokens, pieces of words marked."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator([" ".join(WORDS)], trainers.WordPieceTrainer(vocab_size=45, special_tokens=["[UNK]"]))
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]")


def sentence_piece():
    """As Llama's: spaces become letters of the words after them."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator([" ".join(WORDS)], trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>"]))
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def byte_level():
    return train_tokenizer(load_localizer("language").items, 300)


@pytest.mark.parametrize("make", [word_piece, sentence_piece, byte_level])
def test_the_tokens_of_every_word_spell_it(make):
    tokenizer = make()
    found = align_words(tokenizer, WORDS)
    encoded = tokenizer(" ".join(WORDS), add_special_tokens=False, return_offsets_mapping=True)
    text, offsets = " ".join(WORDS), encoded["offset_mapping"]
    assert found.ids.tolist() == encoded["input_ids"]
    assert found.starts[0] == 0
    assert found.ends[-1] == len(found.ids)
    np.testing.assert_array_equal(found.starts[1:], found.ends[:-1])  # no token is lost or held twice
    np.testing.assert_array_equal(found.n_tokens, found.ends - found.starts)
    for word, start, end in zip(WORDS, found.starts, found.ends, strict=True):
        assert text[offsets[start][0] : offsets[end - 1][1]].strip() == word


def test_words_are_found_in_the_text_as_it_was_written():
    tokenizer = byte_level()
    text = '"The dog," he said — "THE dog... ran!"'
    found = align_words(tokenizer, ["the", "dog", "he", "said", "the", "dog", "ran"], text)
    offsets = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    spelled = [
        text[offsets[a][0] : offsets[b - 1][1]].lower().strip() for a, b in zip(found.starts, found.ends, strict=True)
    ]
    assert [one.strip('" ,.!—') for one in spelled] == ["the", "dog", "he", "said", "the", "dog", "ran"]
    with pytest.raises(ValueError, match=r"word 1 \('cat'\) is not in the text after"):
        align_words(tokenizer, ["the", "cat"], text)


def test_letters_that_become_two_in_lower_case_are_found():
    found = align_words(byte_level(), ["İzmir", "is", "far"], text="İzmir is far")
    assert len(found) == 3


def test_a_token_over_two_words_belongs_to_both():
    made = Tokenizer(models.WordLevel({"?": 0, "in the": 1, "end": 2}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("in the|end"), "isolated")
    found = align_words(PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?"), ["in", "the", "end"])
    assert (found.starts[0], found.ends[0]) == (0, 1)
    assert found.starts[1] == 0
    assert found.ids[found.ends[2] - 1] == 2
    assert found.n_tokens.tolist() == [1, 0, 2]  # but is counted once; the space before the last word is a token


def test_what_cannot_be_aligned():
    class Slow:
        is_fast = False

        def __call__(self, text):
            return text

    with pytest.raises(ValueError, match=r"Slow is no fast tokenizer.*use_fast=True"):
        align_words(Slow(), ["a"])
    with pytest.raises(ValueError, match="expected a sequence of at least one word"):
        align_words(byte_level(), "word")
    made = Tokenizer(models.WordLevel({"?": 0, "a": 1}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s|-"), "removed")
    with pytest.raises(ValueError, match=r"word 1 \('-'\) has no token \(1 of 3 words have none\)"):
        align_words(PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?"), ["a", "-", "a"])
