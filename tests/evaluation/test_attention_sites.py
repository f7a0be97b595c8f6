import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from topographic.evaluation.attention_sites import attention_sites
from topographic.models import fresh_model, preset


def test_sheets_that_a_model_carries_come_first():
    model = fresh_model(preset("topoformer_tiny"), seed=0, objective="masked_tokens")
    assert sorted(attention_sites(model)) == sorted(model.sheets())


def test_the_four_maps_of_other_families_in_every_layer():
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.device("meta"):
        llama = LlamaForCausalLM(LlamaConfig(vocab_size=10, num_key_value_heads=2, **size))
        bert = BertForMaskedLM(BertConfig(vocab_size=10, **size))
    found = attention_sites(llama)
    assert found[:4] == [f"model.layers.0.self_attn.{name}_proj" for name in "qkvo"]
    assert len(found) == 8
    found = attention_sites(bert)
    within = "bert.encoder.layer.1.attention"
    names = [f"{within}.self.{name}" for name in ("query", "key", "value")]
    assert found[4:] == [*names, f"{within}.output.dense"]


def test_a_model_whose_queries_are_not_apart_is_refused():
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=10, n_embd=16, n_layer=1, n_head=2))
    for model in (gpt2, nn.Sequential(nn.Linear(2, 2))):
        with pytest.raises(ValueError, match=r"has no queries, keys, values and outputs .* name modules with sites="):
            attention_sites(model)
