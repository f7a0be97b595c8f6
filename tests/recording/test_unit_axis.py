import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2Model, ResNetConfig, ResNetModel, ViTConfig, ViTModel

from topographic.recording import find_sites, tap
from topographic.recording.unit_axis import units_are_last


def judged(model, *inputs, sites="*"):
    """What is said of every site that gives a tensor of more than two axes."""
    with torch.no_grad(), tap(model, find_sites(model, sites)) as heard:
        model(*inputs)
    return {site: units_are_last(model, site, each) for site, each in heard.items() if each.ndim > 2}


def test_feature_maps_of_a_resnet_and_all_that_is_between_them():
    model = ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")).eval()
    said = judged(nn.DataParallel(model), torch.zeros(2, 3, 32, 32))
    assert {site.rpartition(".")[2] for site in said} > {
        "convolution",
        "normalization",
        "activation",
        "pooler",
        "encoder",
    }
    assert set(said.values()) == {False}


@pytest.mark.parametrize("patches", [2, 4])  # four patches and the class token make five: no channel of eight
def test_tokens_of_a_vit(patches):
    shape = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = ViTModel(ViTConfig(image_size=8, patch_size=8 // patches, **shape)).eval()
    said = judged(model, torch.zeros(2, 3, 8, 8))
    assert [site for site, last in said.items() if not last] == ["embeddings.patch_embeddings.projection"]


def test_tokens_of_a_language_model():
    model = GPT2Model(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=8, n_positions=8)).eval()
    assert set(judged(model, torch.arange(6)[None]).values()) == {True}


def test_one_dimensional_convolutions_and_norms_over_places():
    block = nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.GELU(), nn.GroupNorm(2, 8))
    said = judged(block.eval(), torch.zeros(2, 3, 12))
    assert said == {"0": False, "1": False, "2": False, "3": False}
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU()))
    assert all(units_are_last(model, site, torch.zeros(2, 8)) for site in find_sites(model, "*"))


def test_channels_last_between_convolutions():
    """A block as in ConvNeXt: its layers see channels last, it gives them second."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.widen, self.act, self.narrow = nn.Linear(8, 24), nn.GELU(), nn.Linear(24, 8)

        def forward(self, maps):
            return self.narrow(self.act(self.widen(self.depthwise(maps).movedim(1, -1)))).movedim(-1, 1)

    said = judged(nn.Sequential(Block()), torch.zeros(2, 8, 5, 5))
    assert said == {"0": False, "0.depthwise": False, "0.widen": True, "0.act": True, "0.narrow": True}


def test_more_axes_than_tokens_where_nothing_convolves():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh())
    assert set(judged(model, torch.zeros(2, 6, 5, 4)).values()) == {True}


def test_a_norm_that_was_told_to_put_channels_second():
    class ChannelsFirst(nn.LayerNorm):
        def forward(self, maps):
            return super().forward(maps.movedim(1, -1)).movedim(-1, 1)

    assert judged(nn.Sequential(ChannelsFirst(6)), torch.zeros(2, 6, 5, 5)) == {"0": False}
