import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.cli import main
from topographic.cli.encode import EncodeCommand
from topographic.stimuli import load_localizer
from topographic.training.text.tokenizer import train_tokenizer


@pytest.fixture
def source(tmp_path):
    """A small model with its tokenizer."""
    tokenizer = train_tokenizer(load_localizer("language").items, 300)
    torch.manual_seed(0)
    shape = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape)).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_arrays_of_ones_own_become_a_page(source, tmp_path, capsys):
    pytest.importorskip("himalaya", reason="needs the extra topographic[brain]")
    data, draw = tmp_path / "data", np.random.default_rng(0)
    data.mkdir()
    spoken = " ".join(load_localizer("language").items).split()
    lines = ["word,onset_s,run"]
    for run in ("a", "b", "c"):
        lines += [f"{spoken[place]},{0.5 * place},{run}" for place in range(100)]
        np.save(data / f"{run}.npy", draw.normal(size=(30, 4)))
    (data / "words.csv").write_text("\n".join(lines) + "\n")
    (data / "recording.json").write_text('{"tr_s": 2.0}')
    words = [str(source), f"data={data}", f"out={tmp_path / 'enc'}", "depths=[0.5]", "n_tokens=32", "n_draws=19"]
    assert main(["encode", *words, "trim_start=1", "trim_end=1", "delays=[1,2]"]) == 0
    said = capsys.readouterr().out
    assert "depth 0.5: r " in said
    page = (tmp_path / "enc" / "index.html").read_text()
    assert "tiny and data" in page
    assert len(pd.read_csv(tmp_path / "enc" / "layers.csv")) == 2
    assert len(pd.read_csv(tmp_path / "enc" / "targets.csv")) == 4
    assert list(pd.read_csv(tmp_path / "enc" / "alone.csv")["feature"])[-2:] == [
        "surprisal and entropy",
        "neighbours in time (OASM)",
    ]
    assert json.loads((tmp_path / "enc" / "encoding.json").read_text())["about"]["controls"][0] == "word rate"


def test_faults_are_said_in_one_line(tmp_path, capsys):
    assert main(["encode", "gpt2", f"data={tmp_path / 'none'}"]) == 1
    assert "no folder at" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"depths=\[2.0\]; expected fractions"):
        EncodeCommand("gpt2", depths=[2.0])
    with pytest.raises(ValueError, match="n_draws=3; expected at least 19 draws"):
        EncodeCommand("gpt2", n_draws=3)
    with pytest.raises(ValueError, match=r"delays=\[\]; expected delays in scans"):
        EncodeCommand("gpt2", delays=[])


def test_help_loads_no_torch():
    told = "import sys; from topographic.cli import main\ntry: main(['encode', '--help'])\nexcept SystemExit: pass\n"
    done = subprocess.run(
        [sys.executable, "-c", told + "assert 'torch' not in sys.modules"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "n_draws" in done.stdout
