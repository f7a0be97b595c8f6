from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from topographic.behaviour.word_accuracy import next_word_accuracy
from topographic.training.text.tokenizer import train_tokenizer


class Follows(nn.Module):
    """A model that knows for every token the one that always follows it."""

    def __init__(self, follows, n_tokens):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(n_tokens, n_tokens))
        for token, after in follows.items():
            self.table.data[token, after] = 1.0

    def forward(self, input_ids, attention_mask=None):
        return SimpleNamespace(logits=self.table[input_ids])


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["the cat saw a dog and the dog saw a cat " * 20], 270)


def test_a_word_counts_where_all_its_tokens_are_the_first_choice(tokenizer):
    text = "the cat saw xqvbk dog"
    ids = [tokenizer.bos_token_id or tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert len(ids) > 6  # a word of several tokens is among them
    everything = dict(pairwise(ids))
    assert len(set(ids[:-1])) == len(ids) - 1
    found = next_word_accuracy(Follows(everything, len(tokenizer)), tokenizer, [text], progress=False)
    assert (found.right.tolist(), found.words.tolist()) == ([5], [5])
    # one token within the long word is wrong: the whole word is
    pieces = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    within = next(place for place, (start, end) in enumerate(pieces) if start > text.index("xqvbk") and end <= 17)
    broken = {**everything, ids[within]: ids[0]}
    found = next_word_accuracy(Follows(broken, len(tokenizer)), tokenizer, [text], progress=False)
    assert found.value == pytest.approx(4 / 5)


def test_a_batch_counts_as_its_texts_alone(tokenizer):
    texts = ["the cat", "a dog saw the cat and a dog", "saw  a\ncat"]
    model = Follows({}, len(tokenizer))
    model.table.data = torch.randn(len(tokenizer), len(tokenizer), generator=torch.Generator().manual_seed(0))
    both = next_word_accuracy(model, tokenizer, texts, progress=False)
    alone = [next_word_accuracy(model, tokenizer, [text], progress=False) for text in texts]
    assert both.right.tolist() == np.concatenate([one.right for one in alone]).tolist()
    assert both.words.tolist() == [len(text.split()) for text in texts]


def test_no_texts_and_no_offsets_are_refused(tokenizer):
    with pytest.raises(ValueError, match="no texts to predict"):
        next_word_accuracy(Follows({}, 3), tokenizer, [])
    with pytest.raises(ValueError, match="gives no offsets"):
        next_word_accuracy(Follows({}, 3), SimpleNamespace(is_fast=False), ["a"])
