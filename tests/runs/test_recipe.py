import subprocess
import sys

import pytest
import yaml

from topographic.cli.arguments import parse_command
from topographic.models import PRESETS, preset
from topographic.objectives.config import SmoothnessConfig, WeightSheetConfig
from topographic.runs.recipe import PRESET_CONTEXTS, ModelConfig, Recipe, read_recipe, write_recipe
from topographic.training.config import DataConfig, ImageConfig, TrainingConfig, plain


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


RECIPE = Recipe(
    "runs/a b",
    model=ModelConfig("gpt2_demo", config={"activation_function": "relu"}),
    images=ImageConfig(None, mean=[0.1, 0.2, 0.3]),
    smoothness=SmoothnessConfig(weight=1.0, sheets=[WeightSheetConfig("a", shape=(3, 4))], factor=(3.0, 2.0)),
    training=TrainingConfig(max_steps=7, betas=(0.5, 0.6)),
)


def test_what_is_written_is_read_again(tmp_path):
    write_recipe(tmp_path / "config.yaml", RECIPE)
    assert read_recipe(tmp_path / "config.yaml") == read_recipe(str(tmp_path)) == RECIPE
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == plain(RECIPE)


def test_a_file_from_before_a_field_existed_has_its_default(tmp_path):
    content = plain(RECIPE)
    del content["images"], content["training"]["report_to"], content["smoothness"]["sheets"]
    content["smoothness"]["sites"] = ["a"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    recipe = read_recipe(tmp_path)
    assert (recipe.images, recipe.training, recipe.smoothness.sheets) == (ImageConfig(), RECIPE.training, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "training: {max_stepz: 3}",
            r"config\.yaml: unknown key training\.max_stepz; did you mean training\.max_steps\?",
        ),
        ("training: {max_steps: many}", r"config\.yaml: training\.max_steps=many; expected a whole number"),
        ("training: {max_steps: 0}", r"config\.yaml: training\.max_steps=0; expected at least 1"),
        ("- a", r"config\.yaml holds a list; expected keys and values"),
        ("a: [", r"config\.yaml is not valid YAML"),
    ],
)
def test_what_is_no_recipe_is_refused_by_its_name(content, message, tmp_path):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_recipe(tmp_path)


def heard(*words):
    recipe = parse_command("train", Recipe, "", words)
    return recipe.data.sequence_length, recipe.spatial.radius


def test_small_presets_mean_windows_and_blocks_that_fit():
    assert heard() == (256, 5)
    assert heard("model.preset=tiny") == (32, 2)
    assert heard("model.preset=demo") == (128, 5)
    assert heard("model.preset=tiny", "data.sequence_length=16", "spatial.radius=3") == (16, 3), "what is said is meant"
    assert heard("model.preset=tiny", "model.n_positions=64", "model.n_embd=400") == (64, 5)
    assert heard("model.n_positions=100") == (100, 5)
    assert heard("model.preset=tiny", "model.model_type=gpt2") == heard("model.pretrained=gpt2") == (256, 5)


def test_the_contexts_are_those_of_the_presets():
    contexts = {name: preset(name).max_position_embeddings for name in PRESETS}
    assert {name: n for name, n in contexts.items() if n < DataConfig.sequence_length} == PRESET_CONTEXTS


def test_a_recipe_is_read_without_transformers():
    """Objectives and training are rooms whose names are fetched when they are used."""
    code = "import sys, topographic.runs as r; r.Recipe(); print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
