import importlib.util
import json

import numpy as np
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from topographic.cli import main
from topographic.maps import MapSummary
from topographic.runs.loading import load_model, load_tokenizer
from topographic.stimuli import StimulusSet, load_localizer


def test_a_truncated_model_is_one_line(demo_folder, tmp_path, capsys):
    import shutil

    shutil.copytree(demo_folder / "control" / "model", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    assert main(["map", str(tmp_path), "n_draws=0"]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "truncated" in line


def write_gguf(file, model, words):
    """A Llama in llama.cpp's names, its rotary halves interleaved as llama.cpp has them."""
    gguf = pytest.importorskip("gguf", reason="needs the extra topographic[gguf]")
    shape, weights = model.config, {name: one.numpy() for name, one in model.state_dict().items()}

    def interleaved(name, n_heads):
        rows, columns = weights[name].shape
        return weights[name].reshape(n_heads, 2, rows // n_heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)

    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(shape.max_position_embeddings)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.num_hidden_layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_attention_heads)
    writer.add_head_count_kv(shape.num_key_value_heads)
    writer.add_layer_norm_rms_eps(shape.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3] + [1] * (len(words) - 1))
    writer.add_token_merges(["d o"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    writer.add_tensor("output.weight", weights["lm_head.weight"])
    for layer in range(shape.num_hidden_layers):
        theirs, ours = f"blk.{layer}.", f"model.layers.{layer}."
        writer.add_tensor(f"{theirs}attn_q.weight", interleaved(f"{ours}self_attn.q_proj.weight", 4))
        writer.add_tensor(f"{theirs}attn_k.weight", interleaved(f"{ours}self_attn.k_proj.weight", 2))
        for name, module in GGUF_NAMES.items():
            writer.add_tensor(f"{theirs}{name}.weight", weights[f"{ours}{module}.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


GGUF_NAMES = {
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_norm": "post_attention_layernorm",
}


def test_a_gguf_file_is_a_model(tmp_path):
    words = ["<|endoftext|>", *sorted(ByteLevel.alphabet()), "do"]
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(**shape, num_key_value_heads=2, vocab_size=len(words), max_position_embeddings=64)
    ).eval()
    write_gguf(tmp_path / "tiny.gguf", model, words)
    loaded, tokenizer = load_model(tmp_path / "tiny.gguf")
    loaded = loaded.cpu()
    ids = tokenizer("a dog", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "a dog"
    with torch.no_grad():
        expected, found = (one(torch.tensor([ids])).logits for one in (model, loaded))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"tokenizer .* knows 258 tokens and the model 100; give the one it was"):
        load_tokenizer(str(tmp_path), 100, gguf_file="tiny.gguf")


def test_a_gguf_file_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no file at .*absent\.gguf; expected a model in GGUF format"):
        load_model(tmp_path / "absent.gguf")
    (tmp_path / "there.gguf").write_bytes(b"GGUF")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name))
    with pytest.raises(ImportError, match=r"there\.gguf needs gguf; run `pip install 'topographic\[gguf\]'`"):
        load_model(tmp_path / "there.gguf")
