import pytest
import torch
from transformers import AutoModelForCausalLM

from topographic.cli import main
from topographic.cli.map import load_model
from topographic.cli.train import ModelConfig, build_model
from topographic.maps import UnitMap
from topographic.sheets import grid, permuted_grid


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


@pytest.mark.parametrize("preset", ["nanogpt_demo", "gpt2_demo", "gpt_neo_demo"])
def test_a_run_without_sheets_is_trained_and_mapped(preset, text, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = tmp_path / "run"
    words = [f"model.preset={preset}", "model.n_layer=2", "model.n_embd=48", f"data.text={text}", f"run={run}"]
    words += ["data.vocab_size=300", "data.sequence_length=16", "training.max_steps=2", "training.batch_size=2"]
    assert main(["train", *words, "spatial.weight=0", "training.report_to=none"]) == 0
    assert f"next: topo map {run} sites='transformer.h.*.mlp.c_fc'" in capsys.readouterr().out
    model, tokenizer = load_model(run)
    assert (len(model.transformer.h), model.config.vocab_size, len(tokenizer)) == (2, 320, 300)
    assert main(["map", str(run), "sites=transformer.h.*.mlp.c_fc", "contrasts=[nouns_verbs]", "n_draws=19"]) == 0
    (folder,) = (run / "maps").iterdir()
    unit_map = UnitMap.load(folder / "transformer.h.1.mlp.c_fc.safetensors")
    assert unit_map.sheet.n_units == 192
    assert main(["map", str(run)]) == 1
    assert "carries no sheets" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "places"),
    [
        (
            ["smoothness.weight=1", "smoothness.factor=[3,2]", "smoothness.sites=[transformer.h.1.mlp.c_fc]"],
            {"transformer.h.1.mlp.c_fc": grid(192, "transformer.h.1.mlp.c_fc")},
        ),
        (
            ["smoothness.watched=[transformer.h.0.mlp.c_fc]", "smoothness.factor=2"],
            {"transformer.h.0.mlp.c_fc": grid(192, "transformer.h.0.mlp.c_fc")},
        ),
        (
            [
                "smoothness.weight=1",
                "smoothness.sheets=[{sites: transformer.h.*.attn.c_proj, shape: [8, 6], layout: permuted_grid}]",
            ],
            {
                f"transformer.h.{block}.attn.c_proj": permuted_grid(
                    48, f"transformer.h.{block}.attn.c_proj", shape=(8, 6)
                )
                for block in (0, 1)
            },
        ),
        (
            ["spatial.sites=[transformer.h.1.mlp]", "smoothness.sites=[transformer.h.*.mlp.c_fc]"],
            {"transformer.h.1.mlp": permuted_grid(48, "transformer.h.1.mlp")},
        ),
    ],
)
def test_a_run_is_mapped_where_it_says_and_its_control_too(words, places, text, tmp_path, capsys, monkeypatch):
    """Without a word about sites: those of config.yaml, where they were in training."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = tmp_path / "run"
    small = ["model.preset=gpt2_demo", "model.n_layer=2", "model.n_embd=48", "data.vocab_size=300", f"data.text={text}"]
    small += ["data.sequence_length=16", "training.max_steps=1", "training.batch_size=2", "training.report_to=none"]
    assert main(["train", *small, "spatial.weight=0", f"run={run}", *words]) == 0
    assert f"next: topo map {run}\n" in capsys.readouterr().out
    assert main(["map", str(run), "contrasts=[nouns_verbs]", "n_draws=0"]) == 0
    (folder,) = (run / "maps").iterdir()
    made = {path.stem: UnitMap.load(path) for path in folder.glob("*.safetensors")}
    assert {site: one.sheet for site, one in made.items()} == places
    (site, sheet), *_ = places.items()
    assert main(["map", str(run), "contrasts=[nouns_verbs]", "n_draws=0", f"sites={site}", f"out={tmp_path}/a"]) == 0
    named = UnitMap.load(tmp_path / "a" / "noun-verb" / f"{site}.safetensors")
    assert named.sheet == grid(sheet.n_units, site), "sites that are named lie on a plain grid"
    assert main(["map", str(run), "contrasts=[nouns_verbs]", "n_draws=0", "layout=grid", f"out={tmp_path}/b"]) == 0
    assert UnitMap.load(tmp_path / "b" / "noun-verb" / f"{site}.safetensors").sheet == grid(sheet.n_units, site)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["model.model_type=gpt3"], 1, "no causal architecture 'gpt3'"),
        (["model.model_type=gpt2", "model.config.layers=3"], 1, "'gpt2' has no field layers"),
        (["model.preset=gpt2_demo", "model.n_head=5"], 1, "n_embd=192 is not a multiple of n_head=5"),
        (["model.preset=gpt2_demo", "model.vocab_size=12"], 1, "model.vocab_size=12 and the tokenizer knows 300"),
        (["model.preset=nanogpt_demo"], 1, "carries no sheets and spatial.sites names none"),
        (["model.n_layer=2", "model.config={n_layer: 3}"], 2, "model.config gives n_layer"),
        (["model.preset=huge"], 1, "no preset 'huge'"),
        (["model.preset=tiny", "model.n_embd=37"], 1, "37"),
        (["model.preset=tiny"], 1, "radius=5 needs a 9 x 9 block on a 6 x 6 sheet"),
        (["training.max_steps=0"], 2, "training.max_steps=0"),
        (["model.layers=3"], 2, "model.layers"),
    ],
)
def test_what_cannot_be_trained_is_one_line(words, status, message, text, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = [f"data.text={text}", "data.vocab_size=300", "data.sequence_length=16", f"run={tmp_path / 'run'}", *words]
    assert main(["train", *words]) == status
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("topo train:")
    assert message in line
    assert not (tmp_path / "run" / "model").exists()
