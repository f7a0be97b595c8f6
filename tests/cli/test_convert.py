"""`topo convert`: from the authors' files to a model folder that loads by itself."""

import json
import pickle

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from topographic.cli.arguments import parse_command
from topographic.cli.convert import ConvertCommand, convert
from topographic.cli.map import load_model


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
