from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from topographic.objectives.config import SpatialConfig
from topographic.runs.building import build_model, check_recipe, train_model, trained
from topographic.runs.recipe import ModelConfig, Recipe
from topographic.training.config import DataConfig, TrainingConfig


class Tokenizer:
    """As much of a tokenizer as building a model needs."""

    bos_token_id = eos_token_id = pad_token_id = 0

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size


def test_a_preset_with_changes():
    model = build_model(ModelConfig("tiny", n_layer=1, layout_seed=7, sheet_point="post_residual"), Tokenizer(300))
    assert model.config.n_layer == 1
    assert model.config.sheet_point == "post_residual"
    assert model.config.vocab_size == 320, "the next multiple of 64"
    other = build_model(ModelConfig("tiny", n_layer=1, layout_seed=8), Tokenizer(300))
    assert model.sheets() != other.sheets()


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    one, two, three = (build_model(ModelConfig("tiny", seed=seed), Tokenizer(64)) for seed in (1, 1, 2))
    weights = [model.transformer.wte.weight for model in (one, two, three)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.get_rng_state())


def test_a_pretrained_model_is_taken_as_it_is(demo_folder):
    folder = str(demo_folder / "control" / "model")
    model = build_model(ModelConfig(pretrained=folder), Tokenizer(64))
    expected = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    with pytest.raises(ValueError, match="give either"):
        build_model(ModelConfig(pretrained=folder, n_layer=2), Tokenizer(64))
    with pytest.raises(ValueError, match=r"use its own: data\.tokenizer="):
        build_model(ModelConfig(pretrained=folder), Tokenizer(100_000))


def test_any_architecture_from_its_own_words():
    config = ModelConfig(model_type="gpt_neo", n_layer=3, n_embd=32, n_head=4, config={"intermediate_size": 48})
    model = build_model(config, Tokenizer(300))
    assert type(model).__name__ == "GPTNeoForCausalLM"
    assert (model.config.num_layers, model.config.intermediate_size, model.config.vocab_size) == (3, 48, 320)
    assert (model.config.eos_token_id, model.config.pad_token_id) == (0, None)
    model = build_model(ModelConfig("gpt_neo_demo", vocab_size=301, config={"bos_token_id": 7}), Tokenizer(300))
    assert (model.config.hidden_size, model.config.vocab_size, model.config.bos_token_id) == (192, 301, 7)


def test_the_published_vocabularies():
    """Those of nanoGPT and GPT-Neo, with the 50257 tokens of GPT-2's tokenizer."""
    tiny = {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 8}
    assert build_model(ModelConfig("nanogpt", **tiny), Tokenizer(50257)).config.vocab_size == 50304
    assert build_model(ModelConfig("gpt_neo", vocab_size=50257, **tiny), Tokenizer(50257)).config.vocab_size == 50257


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ModelConfig(n_layer=2, config={"n_layer": 3}),
            r"model\.config gives n_layer; give it as",
        ),
        (
            lambda: ModelConfig(config={"vocab_size": 3}),
            r"gives vocab_size; give it as model\.vocab_size only",
        ),
        (lambda: ModelConfig(pretrained="a", model_type="gpt2"), r"pretrained='a' with model_type='gpt2'; give either"),
        (lambda: build_model(ModelConfig(pretrained="a", config={"b": 1}), Tokenizer(9)), r"\['b'\]; give either"),
        (
            lambda: build_model(ModelConfig("tiny", vocab_size=64), Tokenizer(65)),
            r"model\.vocab_size=64 and the tokenizer knows 65 tokens; give as many",
        ),
        (
            lambda: build_model(ModelConfig("gpt2_demo", n_layer=2, config={"num_hidden_layers": 3}), Tokenizer(9)),
            r"sets n_layer of model_type 'gpt2' a second time",
        ),
    ],
)
def test_what_is_said_twice_or_does_not_fit(make, message):
    with pytest.raises(ValueError, match=message) as told:
        make()
    assert "\n" not in str(told.value)


TINY = ModelConfig("tiny")
LONG = r"data\.sequence_length=256; the model takes 32 tokens at most: shorten it, or set model\.n_positions"
WIDE = (
    r"sheet 'transformer\.h\.0\.attn_sheet': radius=5 needs a 9 x 9 block on a 6 x 6 sheet; choose a radius from 2 to 3"
)
GONE = r"no text at 'absent\.txt'; expected a \.txt"


@pytest.mark.parametrize(
    ("recipe", "error", "message"),
    [
        (Recipe(model=TINY), ValueError, f"^{LONG}; {WIDE}$"),
        (Recipe(model=TINY, data=DataConfig("absent.txt")), ValueError, f"^{GONE}.*; {LONG}; {WIDE}$"),
        (Recipe(model=TINY, spatial=SpatialConfig(weight=0.0)), ValueError, f"^{LONG}$"),
        (
            Recipe(model=TINY, spatial=SpatialConfig(radius=3)),
            ValueError,
            rf"^{LONG}; spatial\.n_neighborhoods=5; 4 blocks",
        ),
        (Recipe(model=TINY, spatial=SpatialConfig(neighborhoods="global")), ValueError, f"^{LONG}$"),
        (Recipe(model=ModelConfig("tiny", sheet_point="none")), ValueError, f"^{LONG}$"),
        (Recipe(model=ModelConfig("huge"), data=DataConfig("absent.txt")), ValueError, f"^{GONE}.*; no preset 'huge'"),
        (Recipe(data=DataConfig("absent.txt")), FileNotFoundError, f"^{GONE}"),
        (Recipe(data=DataConfig(tokenizer="./absent")), FileNotFoundError, "^no folder or file at absent"),
        (Recipe(model=ModelConfig(pretrained="./a/b")), FileNotFoundError, "^no folder or file at a/b"),
    ],
)
def test_what_does_not_fit_is_said_together_before_anything_is_made(recipe, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message) as caught:
        train_model(recipe)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_fits_is_let_through():
    check_recipe(Recipe())
    check_recipe(Recipe(model=TINY, data=DataConfig(sequence_length=32), spatial=SpatialConfig(radius=2)))


@pytest.mark.parametrize("name", ["", "mine"])
def test_a_folder_is_refused_before_anything_is_read(name, tmp_path, monkeypatch):
    monkeypatch.setattr("topographic.training.text.tokenizer.open_corpus", None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises((ValueError, FileExistsError), match=r"names no folder|mine holds notes.txt and no run"):
        train_model(Recipe(run=name and str(tmp_path / name), overwrite=True))


@pytest.mark.parametrize(
    ("objective", "labels", "kind"),
    [
        ("next_token", (), "TopoformerForCausalLM"),
        ("masked_tokens", (), "TopoformerForMaskedLM"),
        ("labels", ["bad", "fine", "good"], "TopoformerForSequenceClassification"),
    ],
)
def test_what_is_learnt_decides_the_head(objective, labels, kind, tmp_path):
    config = ModelConfig("topoformer_tiny", n_layer=1)
    model = build_model(config, Tokenizer(300), objective=objective, labels=labels)
    assert type(model).__name__ == kind
    assert model.config.vocab_size == 320
    if labels:
        assert model.config.id2label == {0: "bad", 1: "fine", 2: "good"}
    model.save_pretrained(tmp_path)
    again = build_model(ModelConfig(pretrained=str(tmp_path)), Tokenizer(300), objective=objective, labels=labels)
    assert type(again) is type(model)
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), model.parameters(), strict=True))


def test_neighbourhoods_of_a_topoformer_must_fit_its_sheets(text):
    data, model = (
        DataConfig(text=str(text), sequence_length=16, objective="masked_tokens"),
        ModelConfig("topoformer_tiny"),
    )
    check_recipe(Recipe(model=model, data=data, spatial=SpatialConfig(radius=2)))
    with pytest.raises(ValueError, match=r"radius=9 needs a 17 x 17 block on a 6 x 6 sheet"):
        check_recipe(Recipe(model=model, data=data, spatial=SpatialConfig(radius=9)))


def test_labels_are_looked_for_before_anything_is_made(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "fine"}\n')
    data = DataConfig(text=str(path), sequence_length=16, objective="labels")
    with pytest.raises(ValueError, match="line 1 has no column 'label'"):
        check_recipe(Recipe(model=ModelConfig("topoformer_tiny"), data=data, spatial=SpatialConfig(weight=0.0)))


def test_a_finished_run_is_taken_and_one_of_another_recipe_refused(text, tmp_path):
    training = TrainingConfig(max_steps=1, batch_size=2, report_to="none", eval_batches=1)
    data = DataConfig(text=str(text), vocab_size=300, sequence_length=8, cache_folder=str(tmp_path / "cache"))
    spatial = SpatialConfig(radius=2)
    recipe = Recipe(str(tmp_path / "run"), model=ModelConfig("tiny"), data=data, spatial=spatial, training=training)
    folder = trained(recipe)
    before = (folder / "run.json").read_bytes()
    assert trained(recipe) == folder
    assert (folder / "run.json").read_bytes() == before
    with pytest.raises(FileExistsError, match="holds a run that is finished"):
        trained(replace(recipe, model=ModelConfig("tiny", seed=1)))
