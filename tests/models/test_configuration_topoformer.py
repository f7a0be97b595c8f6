import pytest

from topographic.layers import receptive_fields
from topographic.models import TopoformerConfig
from topographic.sheets import grid, head_tiles

TINY = {"vocab_size": 50, "n_positions": 8, "n_embd": 36, "n_layer": 1, "n_inner": 48}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"n_embd": 40}, "40 units, no square; choose 36 or 49, or give sheet_shape"),
        ({"n_embd": 48, "n_head": 4}, "a head 12 units, no square; choose 36 or 64$"),
        ({"n_head": 5}, "not a multiple of n_head=5"),
        ({"querying_fraction": 0.0}, r"querying_fraction=0.0; expected a share of the sheet above 0 and at most 1"),
        ({"reweighting_fraction": 1.5}, "reweighting_fraction=1.5"),
        ({"fields": "square"}, "fields='square'; expected one of"),
        ({"norm": "both"}, "norm='both'; expected one of"),
        ({"activation": "gelou"}, "activation='gelou'"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"n_layer": 0}, "n_layer=0; expected a whole number"),
        ({"classifier_width": 0}, "classifier_width=0; expected at least 1"),
        ({"n_inner": 49}, "n_inner=49 with gated=True"),
        ({"column_gains": True, "querying_fraction": None}, "column_gains=True without spatial querying"),
        ({"n_head": 4, "sheet_shape": (6, 6)}, "with heads as tiles"),
        ({"sheet_shape": (5, 6)}, "36 units do not fill 5 x 6"),
        ({"lateral_sigma_mm": 0.0}, "sigma_mm=0.0; expected a reach above 0 mm"),
        ({"lateral_sigma_mm": 1.0, "lateral_strength": 2.0}, "strength=2.0; expected a share from 0 to 1"),
        (
            {"lateral_sigma_mm": 1.0, "n_head": 4, "head_sheets": "own"},
            "lateral_sigma_mm=1.0 with a sheet for every head, and outputs that join them; set head_sheets='tiles'",
        ),
    ],
)
def test_what_no_model_can_be_built_from_is_refused_in_one_line(fields, said):
    with pytest.raises(ValueError, match=said) as refusal:
        TopoformerConfig(**{**TINY, **fields})
    assert "\n" not in str(refusal.value)


def test_sheets_are_wrapped_grids_in_order_or_tiles_or_of_a_head():
    assert TopoformerConfig(**TINY).sheet("s") == grid(36, "s", wrap=True)
    assert TopoformerConfig(**TINY, n_head=4).sheet("s") == head_tiles(36, "s", n_heads=4, wrap=True)
    assert TopoformerConfig(**TINY, n_head=4, head_sheets="own").sheet("s") == grid(9, "s", wrap=True)
    rectangle = TopoformerConfig(**{**TINY, "n_embd": 40}, sheet_shape=(5, 8), wrap=False)
    assert rectangle.sheet("s") == grid((5, 8), "s")


def test_fields_are_those_of_the_sheet_and_repeat_where_heads_have_their_own():
    config = TopoformerConfig(**TINY, querying_fraction=0.1, reweighting_fraction=0.3)
    assert (config.receptive_fields("querying") == receptive_fields(grid(36, wrap=True), 0.1)).all()
    assert (config.map_fields("reweighting") == receptive_fields(grid(36, wrap=True), 0.3)).all()
    own = TopoformerConfig(**TINY, n_head=4, head_sheets="own")
    fields = own.receptive_fields("reweighting")
    assert fields.shape == (9, 9)
    assert (own.map_fields("reweighting").unflatten(0, (4, 9)).unflatten(2, (4, 9)) == fields[:, None]).all()
    assert TopoformerConfig(**TINY, querying_fraction=None).receptive_fields("querying") is None
    assert TopoformerConfig(**TINY, fields="full").map_fields("reweighting").all()
    with pytest.raises(ValueError, match="mechanism='keys'"):
        own.receptive_fields("keys")


def test_a_configuration_survives_its_file(tmp_path):
    config = TopoformerConfig(**{**TINY, "n_embd": 40}, sheet_shape=(5, 8), n_head=1)
    config.save_pretrained(tmp_path)
    again = TopoformerConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert again.sheet_shape == (5, 8)
