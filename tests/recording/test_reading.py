import pytest
import torch
from torch import nn

from topographic.recording.reading import (
    Text,
    batches,
    caller,
    check_layout_names,
    evaluating,
    padded,
    per_token,
    sheet_of,
)
from topographic.sheets import grid

TEXTS = [Text(list(range(1, n + 1)), [False] + [True] * (n - 1), True) for n in (3, 5, 5, 2)]


def test_batches_hold_every_item_once_longest_first():
    assert list(batches(TEXTS, 3, may_pad=True)) == [[1, 2, 0], [3]]
    assert list(batches(TEXTS, 3, may_pad=False)) == [[1, 2], [0], [3]]


def test_pads_stand_on_the_right_and_in_neither_mask():
    ids, shown, pooled = padded([TEXTS[1], TEXTS[3]], pad_id=9)
    assert ids.tolist() == [[1, 2, 3, 4, 5], [1, 2, 9, 9, 9]]
    assert shown.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
    assert pooled.tolist() == [[False, True, True, True, True], [False, True, False, False, False]]


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


def test_models_without_a_mask_are_called_without_one():
    class Masked(nn.Module):
        def forward(self, input_ids, attention_mask=None):
            return attention_mask

    class Bare(nn.Module):
        def forward(self, tokens):
            return tokens

    ids, shown = torch.ones(1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64)
    call, takes_mask = caller(Masked())
    assert takes_mask
    assert torch.equal(call(ids, shown), shown)
    call, takes_mask = caller(Bare())
    assert not takes_mask
    assert torch.equal(call(ids, shown), ids)


def test_sheets_have_to_fit():
    assert sheet_of(grid, "a", 6) == grid(6, "a")
    with pytest.raises(ValueError, match="has 6 units and its sheet 'a' places 4"):
        sheet_of({"a": grid(4, "a")}, "a", 6)
    with pytest.raises(ValueError, match="layout has no sheet for site 'b'"):
        check_layout_names({"a": grid(4)}, ["a", "b"])


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
