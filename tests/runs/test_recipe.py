import pytest

from topographic.cli.arguments import parse_command
from topographic.objectives.config import SmoothnessConfig, WeightSheetConfig
from topographic.runs.recipe import Recipe


def told(*words):
    return parse_command("train", Recipe, "", words).smoothness


def test_a_recipe_and_words_after_it(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "smoothness:\n  weight: 2\n  factor: [2, 3]\n  sheets:\n"
        "  - sites: rnn\n    kind: input\n    factor: [4, 2]\n    blur: antialias\n    parameters: weight_hh_*\n"
        "  - {sites: fc, layout: permuted_grid, layout_seed: 3, scale: 0.5}\n"
    )
    config = told(str(recipe))
    assert config.factor == (2.0, 3.0)
    assert config.sheets == [
        WeightSheetConfig("rnn", "input", factor=(4.0, 2.0), blur="antialias", parameters="weight_hh_*"),
        WeightSheetConfig("fc", scale=0.5, layout="permuted_grid", layout_seed=3),
    ]
    assert told(str(recipe), "smoothness.sheets=[]", "smoothness.weight=0").sheets == []
