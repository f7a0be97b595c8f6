import copy

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2Model

from topographic.recording.checksum import architecture_checksum, weights_checksum


class Small(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.linear = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)  # its count of batches is a whole number without axes
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(4, 3, generator=generator))
            self.linear.bias.zero_()


def test_equal_weights_have_equal_checksums():
    model = Small()
    assert weights_checksum(model) == weights_checksum(Small()) == weights_checksum(copy.deepcopy(model).eval())
    assert weights_checksum(nn.DataParallel(model)) == weights_checksum(model)
    assert len(weights_checksum(model)) == 64


def test_an_architecture_is_its_class_and_what_its_configuration_computes():
    shape = {"n_embd": 8, "n_layer": 1, "vocab_size": 9, "n_positions": 8}
    model, other = (GPT2Model(GPT2Config(n_head=n_head, **shape)) for n_head in (2, 4))
    assert architecture_checksum(model) != architecture_checksum(other)
    assert architecture_checksum(model) == architecture_checksum(nn.DataParallel(copy.deepcopy(model)))
    model.config._name_or_path = "elsewhere"
    other.config.n_head = 2
    assert architecture_checksum(model) == architecture_checksum(other)
    assert architecture_checksum(Small()) == architecture_checksum(Small(1)) != architecture_checksum(nn.Linear(1, 1))


def test_one_bit_of_one_weight_changes_it():
    model, other = Small(), Small()
    with torch.no_grad():
        other.linear.weight[2, 1] = torch.nextafter(other.linear.weight[2, 1], torch.tensor(9.0))
    assert weights_checksum(model) != weights_checksum(other)
    assert weights_checksum(model) != weights_checksum(Small(seed=1))


def test_a_buffer_counts():
    model = Small()
    before = weights_checksum(model)
    model.norm.num_batches_tracked += 1
    assert weights_checksum(model) != before


def test_names_and_shapes_count():
    first, second = nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False)
    with torch.no_grad():
        first.weight.zero_()
        second.weight.zero_()
    assert weights_checksum(first) != weights_checksum(second)
    assert weights_checksum(nn.Sequential(first)) != weights_checksum(first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_precision_has_its_own(dtype):
    assert weights_checksum(Small().to(dtype)) != weights_checksum(Small())
    assert weights_checksum(Small().to(dtype)) == weights_checksum(Small().to(dtype))


def test_what_a_module_holds_besides_weights_counts_unless_left_out():
    model, plain = Small(), weights_checksum(Small())
    model.linear.content_checksum = "abc"
    found = weights_checksum(model)
    assert found != plain
    assert weights_checksum(model, contents=False) == plain
    model.linear.content_checksum = "abd"
    assert weights_checksum(model) not in (found, plain)
