import pytest
import torch
from transformers import AutoModelForCausalLM

from topographic.cli import main
from topographic.cli.train import ModelConfig, build_model


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


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
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
