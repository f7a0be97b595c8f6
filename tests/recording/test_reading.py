import inspect

import pytest
import torch
from torch import nn

from topographic.recording.reading import Text, batches, evaluating, expect_tokenizer, per_token, text_batches

TEXTS = [Text(list(range(1, n + 1)), [False] + [True] * (n - 1), True) for n in (3, 5, 5, 2)]


class Tokenizer:
    pad_token_id = 9


class Masked(nn.Module):
    def forward(self, input_ids, attention_mask=None):
        return input_ids, attention_mask


class Bare(nn.Module):
    def forward(self, tokens):
        return tokens


def test_batches_hold_every_item_once_longest_first():
    assert list(batches([3, 5, 5, 2], 3)) == [[1, 2, 0], [3]]
    assert list(batches([3, 5, 5, 2], 3, shortest=1.0)) == [[1, 2], [0], [3]]
    assert list(batches([10, 9, 8, 8], 3, shortest=0.9)) == [[0, 1], [2, 3]]


def test_pads_stand_on_the_right_and_in_neither_mask():
    (batch,) = text_batches(Masked(), Tokenizer(), [TEXTS[1], TEXTS[3]], 2)
    ids, shown = batch.run()
    assert ids.tolist() == [[1, 2, 3, 4, 5], [1, 2, 9, 9, 9]]
    assert shown.tolist() == batch.shown.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert batch.own.tolist() == [[False, True, True, True, True], [False, True, False, False, False]]


def test_models_without_a_mask_are_called_without_one_and_read_one_length_at_a_time():
    first, *rest = text_batches(Bare(), Tokenizer(), TEXTS, 3)
    assert (first.indices, [batch.indices for batch in rest]) == ([1, 2], [[0], [3]])
    assert torch.equal(first.run(), torch.tensor([TEXTS[1].ids, TEXTS[2].ids]))


def test_what_is_no_tokenizer_is_refused_in_one_line():
    message = r"tokenizer is the string 'gpt2'; expected a Callable: a loaded .*from_pretrained\('gpt2'\)$"
    with pytest.raises(TypeError, match=message):
        expect_tokenizer("gpt2")
    expect_tokenizer(inspect.signature)  # whatever can be called


def test_evaluating_gives_every_module_its_own_mode_back():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    model[1].eval()

    def fail():
        with evaluating(model):
            assert not model.training
            assert not model[0].training
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_tokens_in_one_row_are_told_apart():
    values = torch.arange(24.0).view(2, 3, 4)
    shown = torch.ones(2, 3, dtype=torch.int64)
    assert torch.equal(per_token("a", values, shown), values)
    assert torch.equal(per_token("a", values.flatten(0, 1).half(), shown), values)
    for misfit in (values[:1], values[:, :2], values[0], values[:, :, 0], values.flatten()):
        with pytest.raises(
            ValueError, match=r"site 'a' gives shape .* expected \(batch, tokens, units\) = \(2, 3, units"
        ):
            per_token("a", misfit, shown)
    with pytest.raises(ValueError, match="site 'a' was not called while the model read"):
        per_token("a", None, shown)


def test_the_first_text_may_go_alone():
    lengths = [
        [len(batch.indices) for batch in text_batches(Masked(), Tokenizer(), TEXTS, 2, first_alone=alone)]
        for alone in (False, True)
    ]
    assert lengths[1] == [1, lengths[0][0] - 1, *lengths[0][1:]]
