import pytest
import torch
from torch import nn
from transformers import BloomConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlavaConfig, T5Config, XLNetConfig

from topographic.recording import longest_context


class Tokenizer:
    def __init__(self, model_max_length):
        self.model_max_length = model_max_length


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (GPT2Config(n_positions=77), 77),
        (LlamaConfig(max_position_embeddings=99), 99),
        (LlavaConfig(text_config={"model_type": "llama", "max_position_embeddings": 55}), 55),
        (XLNetConfig(), None),
        (BloomConfig(), None),
        (T5Config(), None),
        (type("Own", (), {"n_positions": 0}), None),
        (type("Own", (), {"max_position_embeddings": None, "n_positions": 12}), 12),
        (nn.Linear(2, 2), None),
    ],
)
def test_what_configurations_say(config, expected):
    assert longest_context(config) == expected


def test_models_wrapped_or_not_and_their_tokenizers():
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, n_positions=16, vocab_size=8))
    for one in (model, nn.DataParallel(model), torch.compile(model, backend="eager")):
        assert longest_context(one) == 16
    said = [longest_context(model, Tokenizer(limit)) for limit in (8, 32, 0, None, int(1e30), 1e30)]
    assert said == [8, 16, 16, 16, 16, 16]
    assert longest_context(XLNetConfig(), Tokenizer(int(1e30))) is None
    assert longest_context(XLNetConfig(), Tokenizer(64)) == 64
