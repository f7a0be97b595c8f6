"""`topo convert`: from the authors' files to a model folder that loads by itself."""

import json
import pickle

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from topographic.cli.arguments import parse_command
from topographic.cli.convert import ConvertCommand, convert
from topographic.models import TopoLMForCausalLM, preset
from topographic.runs.loading import load_model, sites_and_layout


class LayerPositions:
    """A record like the authors'."""

    def __init__(self, **fields) -> None:
        vars(self).update(fields)


def command(shared, tmp_path, *words):
    folder = shared / "golden" / "topolm_checkpoint_tiny"
    options = [f"--checkpoint={folder / 'ckpt.pt'}", f"--positions={folder / 'positions'}", f"--out={tmp_path / 'out'}"]
    return parse_command("convert", ConvertCommand, "", [*options, *words])


def save_tokenizer(folder, n_words):
    words = {"<end>": 0} | {f"w{index}": index for index in range(1, n_words)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<end>", eos_token="<end>").save_pretrained(folder)
    return folder


def test_the_folder_is_a_model_that_topo_map_can_load(shared, tmp_path, capsys):
    tokenizer = save_tokenizer(tmp_path / "tokenizer", 300)
    assert convert(command(shared, tmp_path, f"tokenizer={tokenizer}")) == tmp_path / "out"
    printed = capsys.readouterr()
    assert "4 pre_residual sheets of 64 units" in printed.out
    assert "warning" not in printed.err
    model, loaded = load_model(tmp_path / "out")
    assert (model.config.n_layer, model.config.n_embd, model.config.eos_token_id) == (2, 64, 0)
    assert loaded("w7 w12")["input_ids"] == [7, 12]
    assert json.loads((tmp_path / "out/conversion.json").read_text())["model_args"]["n_embed"] == 64


def test_a_tokenizer_of_another_model_is_refused_before_anything_is_written(shared, tmp_path):
    tokenizer = save_tokenizer(tmp_path / "tokenizer", 301)
    with pytest.raises(ValueError, match="knows 301 tokens and the model 300; give the one it was trained with"):
        convert(command(shared, tmp_path, f"tokenizer={tokenizer}"))
    assert not (tmp_path / "out").exists()


def test_the_published_kind_of_layout_is_told_in_one_line(shared, tmp_path, capsys):
    folder = tmp_path / "positions"
    folder.mkdir()
    for name in ("layer.0.attn", "layer.0.mlp", "layer.1.attn", "layer.1.mlp"):
        coordinates = torch.arange(64).div(8, rounding_mode="floor")
        places = torch.stack([coordinates, torch.arange(64) % 8], 1).float()
        places[5] = places[4]
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(LayerPositions(name=name, coordinates=places)))
    convert(command(shared, tmp_path, f"positions={folder}"))
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if "warning" in line]
    assert line.startswith("topo convert: warning: on 4 of 4 sheets units share places (63 places for 64 units")
    assert "without a tokenizer" in printed.out


def test_a_malicious_file_ends_in_one_line(shared, tmp_path):
    torch.save({"model": {}, "model_args": {}, "x": torch.nn.Linear(1, 1)}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt asks for torch\.nn\.modules\.linear\.Linear, which is refused"):
        convert(command(shared, tmp_path, f"checkpoint={tmp_path / 'evil.pt'}"))


@pytest.fixture
def nanogpt(tmp_path):
    """A checkpoint with the entries of nanoGPT's training script."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TopoLMForCausalLM(preset("nanogpt_demo", vocab_size=64, n_layer=2))
    names = {"n_layer": 2, "n_head": 6, "n_embd": 192, "block_size": 128, "bias": False, "vocab_size": 64}
    stored = {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"model": stored, "model_args": names, "iter_num": 5}, tmp_path / "ckpt.pt")
    return tmp_path / "ckpt.pt", model


def test_a_checkpoint_of_nanogpt_needs_no_positions(nanogpt, tmp_path, capsys):
    path, source = nanogpt
    tokenizer = save_tokenizer(tmp_path / "tokenizer", 64)
    words = [f"checkpoint={path}", f"out={tmp_path / 'out'}", f"tokenizer={tokenizer}"]
    convert(parse_command("convert", ConvertCommand, "", words))
    assert "2 sheets of 768 units, the weights of transformer.h.*.mlp.c_fc" in capsys.readouterr().out
    model, _ = load_model(tmp_path / "out")
    tokens = torch.arange(20)[None]
    torch.testing.assert_close(model.cpu()(tokens).logits, source.eval()(tokens).logits)
    with pytest.raises(ValueError, match=r"carries no sheets; say which modules to lay out"):
        sites_and_layout(model, tmp_path / "out")


def test_either_kind_is_told_what_it_lacks(nanogpt, shared, tmp_path):
    words = [f"checkpoint={shared / 'golden/topolm_checkpoint_tiny/ckpt.pt'}", f"out={tmp_path / 'out'}"]
    with pytest.raises(ValueError, match=r"is of TopoLM; expected the folder of its positions"):
        convert(parse_command("convert", ConvertCommand, "", words))
    words = [f"checkpoint={nanogpt[0]}", f"out={tmp_path / 'out'}", "positions=somewhere"]
    with pytest.raises(ValueError, match=r"is of nanoGPT, whose sheets are its weights; leave positions"):
        convert(parse_command("convert", ConvertCommand, "", words))
    assert not (tmp_path / "out").exists()
