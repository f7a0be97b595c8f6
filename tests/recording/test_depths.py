import pytest
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model

from topographic.recording import sites_at_depths


def test_depths_are_those_of_blocks_and_of_the_embedding():
    model = GPT2Model(GPT2Config(n_layer=6, n_embd=8, n_head=2, vocab_size=9, n_positions=8))
    assert sites_at_depths(model, [0, 0.25, 0.5, 1]) == {"wte": 0, "h.1": 0.25, "h.2": 0.5, "h.5": 1}
    assert list(sites_at_depths(model, [0.5, 0.52])) == ["h.2"]
    bert = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=8))
    assert list(sites_at_depths(bert, [0, 1])) == ["embeddings.word_embeddings", "encoder.layer.1"]
    with pytest.raises(ValueError, match=r"depths=\[2\]; expected fractions from 0 \(embedding\) to 1"):
        sites_at_depths(model, [2])
    with pytest.raises(ValueError, match=r"depths=\[\]"):
        sites_at_depths(model, [])
