"""Named sizes."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from topographic.models import PRESETS, TopoLMForCausalLM, preset, register
from topographic.sheets import grid, grid_shape


def n_parameters(config, without: str = "wpe") -> int:
    """Parameters of a model that is never allocated, tied ones counted once."""
    register()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for name, parameter in model.named_parameters() if without not in name)


def test_paper_is_the_published_model() -> None:
    """12 x 784 x 16 heads, context 1024, 24 sheets of 28 x 28 before the addition, 127.97 M parameters."""
    config = preset("paper")
    assert (config.n_layer, config.n_embd, config.n_head) == (12, 784, 16)
    assert (config.n_positions, config.vocab_size) == (1024, 50304)
    assert config.sheet_point == "pre_residual"
    assert (config.bias, config.dropout, config.head_tiles, config.extra_projection) == (False, 0.0, False, False)
    assert config.layout == "permuted_grid"
    assert n_parameters(config) == 50304 * 784 + 12 * 12 * 784**2 + 25 * 784 == 127_968_400
    model = TopoLMForCausalLM(preset("paper", vocab_size=8, n_positions=4))
    sheets = model.sheets()
    assert len(sheets) == 24
    assert all(grid_shape(sheet) == (28, 28) and sheet.is_bijective for sheet in sheets.values())


@pytest.mark.parametrize(
    ("name", "side", "blocks"), [("small", 20, 8), ("mini", 16, 6), ("demo", 14, 4), ("tiny", 6, 2)]
)
def test_small_presets_fill_square_sheets(name, side, blocks) -> None:
    """Widths are squares, so that sheets are."""
    config = preset(name)
    assert grid_shape(config.sheet("x")) == (side, side)
    assert config.n_layer == blocks
    width = side * side
    assert n_parameters(config) == config.vocab_size * width + 12 * blocks * width**2 + (2 * blocks + 1) * width


@pytest.mark.parametrize("size", ["", "_demo"])
def test_language_models_of_toponets_have_the_published_parameters(size) -> None:
    """Counted on the model, and written out: d^2 in linear maps, d in biases and norms; embeddings of tokens, places.

    With 50304, 50257 and 50257 tokens: 124.37 M, as published, 124.44 M and 125.20 M.
    """
    published = {"nanogpt": 124_373_760, "gpt2": 124_439_808, "gpt_neo": 125_198_592}
    per_block = {"nanogpt": 2, "gpt2": 13, "gpt_neo": 10}  # GPT-Neo has no biases on queries, keys and values
    last_norm = {"nanogpt": 1, "gpt2": 2, "gpt_neo": 2}
    for name, expected in published.items():
        config = preset(name + size)
        width, blocks = config.hidden_size, config.num_hidden_layers
        embeddings = (config.vocab_size + config.max_position_embeddings) * width
        written_out = embeddings + blocks * (12 * width**2 + per_block[name] * width) + last_norm[name] * width
        assert n_parameters(config, without="nothing") == written_out
        assert size or written_out == expected
        assert grid_shape(grid(4 * width)) == ((24, 32) if size else (48, 64))


def test_nanogpt_carries_no_sheets() -> None:
    """Its weights are the sheets."""
    for name in ("nanogpt", "nanogpt_demo"):
        assert TopoLMForCausalLM(preset(name, vocab_size=8, n_positions=4, n_layer=1)).sheets() == {}


def test_changes_reach_other_architectures() -> None:
    """By the words that serve for all and by their own names."""
    config = preset("gpt_neo_demo", n_layer=3, intermediate_size=100)
    assert (config.num_layers, config.intermediate_size, config.window_size) == (3, 100, 16)
    assert config.attention_layers == ["global", "local", "global"]
    assert preset("gpt_neo").attention_layers == ["global", "local"] * 6


def test_demo_and_tiny_tile_their_heads() -> None:
    """49 = 7 x 7 and 9 = 3 x 3 units per head."""
    for name, side in (("demo", 14), ("tiny", 6)):
        sheet = preset(name, head_tiles=True).sheet("transformer.h.0.attn_sheet")
        assert grid_shape(sheet) == (side, side)


def test_changes_are_made_and_presets_left_alone() -> None:
    """A change belongs to one configuration."""
    assert preset("demo", vocab_size=333, sheet_point="post_residual").vocab_size == 333
    assert preset("demo").vocab_size == PRESETS["demo"]["vocab_size"] != 333
    assert preset("demo").sheet_point == "pre_residual"


def test_unknown_names_are_refused() -> None:
    """Neither a preset nor a field may be misspelt."""
    with pytest.raises(ValueError, match=r"no preset 'papr'; expected one of \['demo', 'gpt2', .*'mini', 'nanogpt'"):
        preset("papr")
    with pytest.raises(ValueError, match=r"model_type 'topolm' has no field n_layers; expected some of \['activation'"):
        preset("tiny", n_layers=3)
    with pytest.raises(ValueError, match="n_embd=36 is not a multiple of n_head=5"):
        preset("tiny", n_head=5)
