"""Shapes that fit and shapes that do not."""

import json
import warnings

import pytest
import torch

from topographic.models import TopoLMConfig, TopoLMForCausalLM
from topographic.sheets import head_tiles, permuted_grid


def test_other_libraries_find_the_usual_names() -> None:
    """attribute_map reads and writes."""
    config = TopoLMConfig(hidden_size=36, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=17)
    assert (config.n_embd, config.n_layer, config.n_head, config.n_positions) == (36, 3, 4, 17)
    config.n_layer = 5
    assert config.num_hidden_layers == 5


def test_file_round_trip(tmp_path) -> None:
    """Every field survives JSON, also the tuple."""
    config = TopoLMConfig(
        n_embd=24, n_head=2, sheet_shape=(3, 8), spacing_mm=0.25, wrap=True, layout_seed=7, eos_token_id=3, bias=True
    )
    config.save_pretrained(tmp_path)
    again = TopoLMConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.sheet_shape == (3, 8)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "topolm"


def test_sheet_follows_the_layout_options() -> None:
    """Options reach the layout functions; seeds and sites matter."""
    config = TopoLMConfig(n_embd=24, n_head=6, sheet_shape=(3, 8), spacing_mm=0.5, wrap=True, layout_seed=7)
    assert config.sheet("a") == permuted_grid(24, "a", seed=7, shape=(3, 8), spacing_mm=0.5, wrap=True)
    assert not torch.equal(config.sheet("a").positions_mm, config.sheet("b").positions_mm)
    tiled = TopoLMConfig(n_embd=36, n_head=4, head_tiles=True)
    assert tiled.sheet("transformer.h.1.attn_sheet") == head_tiles(36, "transformer.h.1.attn_sheet", n_heads=4)
    assert tiled.sheet("transformer.h.1.mlp_sheet") == permuted_grid(36, "transformer.h.1.mlp_sheet")
    assert TopoLMConfig(n_embd=36, n_head=4, layout="head_tiles").sheet("x") == head_tiles(36, "x", n_heads=4)


def test_sheet_ignores_an_ambient_device() -> None:
    """Models are built under the meta device when they are loaded; positions must exist all the same."""
    with torch.device("meta"):
        sheet = TopoLMConfig(n_embd=36, n_head=4).sheet("a")
    assert sheet == permuted_grid(36, "a")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_embd": 50, "n_head": 4}, r"n_embd=50 is not a multiple of n_head=4; choose a number of heads"),
        ({"n_embd": 26, "n_head": 2, "sheet_shape": (5, 5)}, r"26 units do not fill 5 x 5 = 25 places; pass a shape"),
        ({"n_embd": 29, "n_head": 1}, r"29 units fill no rectangle but 1 x 29; choose another width"),
        ({"n_embd": 20, "n_head": 4, "head_tiles": True}, r"tile.*5 units fill no rectangle"),
        ({"n_layer": 0}, r"n_layer=0; expected a whole number of at least 1"),
        ({"vocab_size": 1.5}, r"vocab_size=1.5; expected a whole number"),
        ({"n_inner": 0}, r"n_inner=0; expected at least 1"),
        ({"dropout": 1.0}, r"dropout=1.0; expected a probability"),
        ({"activation": "gelo"}, r"activation='gelo'; expected a name in transformers.activations.ACT2FN"),
        (
            {"sheet_point": "before"},
            r"sheet_point='before'; expected one of \['pre_residual', 'post_residual', 'none'\]",
        ),
        ({"layout": "spiral"}, r"layout='spiral'; expected one of \['grid'"),
        ({"layout": "head_tiles", "sheet_shape": (28, 28)}, r"whose shape follows from the heads; leave sheet_shape"),
        ({"spacing_mm": 1 / 3}, r"spacing_mm=0.333.*whole number of micrometres"),
        ({"spacing_mm": 0.0}, r"spacing_mm=0.0; expected"),
        ({"spacing_mm": float("nan")}, r"spacing_mm=nan; expected"),
    ],
)
def test_misfits_are_refused_in_one_line(fields, message) -> None:
    """What does not fit is said at once, in one line."""
    with pytest.raises(ValueError, match=message) as raised:
        TopoLMConfig(**fields)
    assert "\n" not in str(raised.value)


def test_a_width_that_makes_a_strip_is_said_once() -> None:
    """With widths that the heads divide; not where a shape was chosen or there are no sheets."""
    with pytest.warns(UserWarning, match=r"n_embd=62: 62 units lie on a strip of 2 x 31.*60 \(6 x 10\) or 64") as said:
        config = TopoLMConfig(n_embd=62, n_head=2, n_layer=2, vocab_size=9, n_positions=4)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TopoLMForCausalLM(config)
        TopoLMConfig(n_embd=62, n_head=2, sheet_shape=(2, 31))
        TopoLMConfig(n_embd=62, n_head=2, sheet_point="none")
        TopoLMConfig(n_embd=64, n_head=2)
        TopoLMConfig()
