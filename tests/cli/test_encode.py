import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.brain import SpeechEncoder
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


@pytest.fixture
def ears(wav2vec, tmp_path):
    """The folder of a speech encoder."""
    for part in wav2vec:
        part.save_pretrained(tmp_path / "ears")
    return tmp_path / "ears"


def test_several_subjects_are_kept_and_become_a_group(source, ears, wav2vec, heard_stories, tmp_path, capsys):
    pytest.importorskip("himalaya", reason="needs the extra topographic[brain]")
    hearing = SpeechEncoder(*wav2vec, window_s=1.0, stride_s=0.5)
    data = heard_stories(hearing, n_subjects=3, n_runs=2, n_scans=30, noise=0.5, motion_mm=[0.1, 0.2, 0.3])
    out = tmp_path / "group"
    words = ["encode", str(source), f"data={data}", f"out={out}", "depths=[0]", "n_tokens=32", "n_draws=19"]
    words += ["trim_start=1", "trim_end=1", "delays=[1,2]", f"speech={ears}"]
    words += ["speech_window_s=1", "speech_stride_s=0.5", "subject=all", "seed=1"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said.count("speech, depth 0: r ") == 3
    assert ": kept" not in said
    assert "group of 3: GroupEncoding(3 subjects, " in said
    made = {name: json.loads((out / name / "encoding.json").read_text()) for name in ("s1", "s2", "s3")}
    assert len({one["key"] for one in made.values()}) == 3
    assert all(0.05 < one["displacement_mm"] / (0.1 * row) < 2 for row, one in enumerate(made.values(), start=1))
    rows = pd.read_csv(out / "group.csv").query("score == 'r'").set_index("model")
    heard, read = rows.loc["speech"], rows.loc["text"]
    assert (heard["layer"], heard["p"]) == ("feature_projection", 1 / 8)
    assert heard["mean"] > read["mean"] + 0.2
    assert len(pd.read_csv(out / "scores.csv")) == 3 * (1 + 1)
    page = (out / "index.html").read_text()
    assert "cannot be told from 3: 5 subjects with confounds are needed" in page
    assert '<a href="s2/index.html">s2</a>' in page
    assert "Layers of the speech encoder" in (out / "s1" / "index.html").read_text()
    # states of all who heard a story are one: 2 models of words and 2 of sound in 2 runs, surprisal and entropy
    assert len(list((out / "states").glob("*.npy"))) == 2 * 2 + 2 * 2 + 2 * 2
    # again: nobody is measured, and a page that is gone is written
    (out / "s3" / "index.html").unlink()
    at = {name: (out / name / "encoding.json").stat().st_mtime_ns for name in made}
    assert main(words) == 0
    assert capsys.readouterr().out.count(": kept") == 3
    assert {name: (out / name / "encoding.json").stat().st_mtime_ns for name in made} == at
    assert (out / "s3" / "index.html").is_file()
    # one whose scans are others is measured, the others are not; one with a single run is left out and named
    np.save(data / "s2" / "run0.npy", np.load(data / "s2" / "run0.npy")[::-1])
    (data / "s3" / "run1.npy").unlink()
    assert main([*words, "subject=[s1,s2,s3]"]) == 0
    said = capsys.readouterr().out
    assert said.count(": kept") == 1
    assert "s3 is left out: s3 has one run only" in said
    assert "s3 is left out: s3 has one run only" in (out / "index.html").read_text()
    assert pd.read_csv(out / "subjects.csv")["subject"].tolist() == ["s1", "s2"]
    assert main([*words, "subject=[s3]"]) == 1
    assert "can be encoded; the first: s3 has one run only" in capsys.readouterr().err


def test_groups_and_sound_that_there_are_not(source, ears, wav2vec, heard_stories, tmp_path, capsys):
    data = heard_stories(SpeechEncoder(*wav2vec, window_s=1.0, stride_s=1.0), n_runs=2, n_scans=12)
    words = ["encode", str(source), f"data={data}", f"out={tmp_path / 'out'}", "n_draws=19", "n_tokens=32"]
    assert main([*words, "subject=[s1,s9]"]) == 1
    assert "subject=s9 is not among s1; give some of these, or all" in capsys.readouterr().err
    (data / "run1.wav").unlink()
    assert main([*words, "subject=s1", f"speech={ears}"]) == 1
    assert "s1, run 'run1' has no sound for a speech encoder; put its WAV file where" in capsys.readouterr().err
    assert main([*words, "subject=s1", f"speech={source}"]) == 1
    assert "tiny does not say how it takes sound" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"data=synthetic has no sound for a speech encoder; give a data set"):
        EncodeCommand("gpt2", speech="ears")
    with pytest.raises(ValueError, match=r"subject=all of data=synthetic, which is one subject; leave subject out"):
        EncodeCommand("gpt2", subject="all")
    assert EncodeCommand("gpt2", data="x", subject="[001, 7]").subject == ["001", "7"]
    for wrong in ([], ["a", "a"], "[]"):
        with pytest.raises(ValueError, match=r"expected subjects of the folder, each once, or all"):
            EncodeCommand("gpt2", data="x", subject=wrong)


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
