import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.cli import main
from topographic.cli.layout import LayoutCommand, lay_out
from topographic.evaluation.suites import SUITES
from topographic.layouts import Adaptors
from topographic.layouts import fitting as module
from topographic.runs import load_model


@pytest.fixture
def source(tiny_model, tmp_path):
    """The folder of a GPT-2, which carries no sheets, with a tokenizer."""
    folder = tmp_path / "gpt2"
    tokenizer = load_model(tiny_model, device="cpu")[1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"n_layer": 2, "n_embd": 36, "n_head": 2, "n_positions": 128}
        GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def words(source, text, out, *more):
    return ["layout", str(source), f"text={text}", f"out={out}", "steps=20", "context=60", *more]


def test_from_a_model_to_maps_an_evaluation_and_a_page(source, text, tmp_path, capsys, monkeypatch):
    whole = SUITES["topolm"]["language"]
    few = {name: whole.parts[name] for name in ("clusters", "lesions")}
    monkeypatch.setitem(SUITES["topolm"], "language", whole._replace(parts=few))
    out = tmp_path / "sheets"
    assert main(words(source, text, out)) == 0
    printed = capsys.readouterr().out
    assert "transformer.h.1" in printed
    assert f"next: topo map {out}" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpt2", "sheets"], "nothing half-written stays"
    plain, tokenizer = load_model(source, device="cpu")
    laid_out, _ = load_model(out, device="cpu")
    ids = torch.tensor([tokenizer("the dog saw the cat")["input_ids"]])
    torch.testing.assert_close(laid_out(ids).logits, plain(ids).logits, atol=1e-4, rtol=0)
    assert main(["map", str(out), "contrasts=[language]", "n_draws=4"]) == 0
    assert (out / "maps" / "sentences-nonwords" / "summary.json").is_file()
    quick = ["quick=true", "fwhm_mm=[0]", "lesion_pairs=1"]
    assert main(["evaluate", str(out), "suite=topolm", *quick]) == 0
    assert (out / "evaluation" / "index.html").is_file()
    assert main(["report", str(out)]) == 0
    assert "sentences" in (out / "report.html").read_text(encoding="utf-8")


def test_the_worth_of_a_layout(source, text, tmp_path, capsys):
    rng, lines = np.random.default_rng(0), []
    topics = ("rain falls cold clouds wind storm", "music plays loud drums violin", "bread bakes warm oven flour")
    for number in range(150):
        lines.append(" ".join([*rng.choice(topics[number % 3].split(), 4, replace=False), f"number{number}"]))
    passages = tmp_path / "passages.txt"
    passages.write_text("\n".join(lines), encoding="utf-8")
    out, other = tmp_path / "sheets", tmp_path / "other"
    for folder, *more in ((out,), (other, "seed=1")):
        assert main(words(source, text, folder, *more)) == 0
    assert main(["map", str(out), "contrasts=[language]", "n_draws=4"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next: topo evaluate {out} suite=layout"
    shown = [f"text={passages}", f"other_layout={other}", "quick=true", "lesion_pairs=1"]
    assert main(["evaluate", str(out), "suite=layout", *shown]) == 0
    printed = capsys.readouterr().out
    assert "Order of the sheets" in printed
    folder = out / "evaluation_layout"
    assert {path.name for path in folder.iterdir()} >= set(SUITES["layout"]["language"].parts)
    page = (folder / "index.html").read_text(encoding="utf-8")
    for title in ("Order of the sheets", "Reliability of the layout", "Regions found without labels", "Steering"):
        assert title in page
    assert "Measures after TopoTransform" in page
    found = pd.read_csv(folder / "layout_order" / "sheets.csv")
    assert (found["held-out loss"] < found["own order"]).all()
    assert (found["p (near)"] < 0.06).all()


def test_an_interrupted_command_goes_on(source, text, tmp_path, monkeypatch):
    out, calls, inner = tmp_path / "sheets", [], module.METHODS["rotation"]

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return inner(*arguments, **options)

    monkeypatch.setitem(module.METHODS, "rotation", interrupted)
    assert main(words(source, text, out)) == 130
    assert not out.exists()
    assert main(words(source, text, out)) == 0
    assert len(calls) == 3
    assert len(Adaptors.load(out)) == 2


def test_a_layout_that_is_there_is_not_lost(source, text, tmp_path, capsys):
    out = tmp_path / "sheets"
    assert main(words(source, text, out, "sites=attn")) == 0
    assert main(words(source, text, out, "sites=mlp")) == 1
    assert "holds a layout already; choose another folder, or say overwrite=true" in capsys.readouterr().err
    assert main(words(source, text, out, "sites=mlp", "overwrite=true")) == 0
    assert list(Adaptors.load(out)) == ["transformer.h.0.mlp", "transformer.h.1.mlp"]
    (out / "maps").mkdir()
    assert main(words(source, text, out, "sites=attn", "overwrite=true")) == 1
    assert "holds maps of the layout that is there" in capsys.readouterr().err
    assert list(Adaptors.load(out)) == ["transformer.h.0.mlp", "transformer.h.1.mlp"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"out": None}, "out is missing; say where the layout goes"),
        ({"out": "gpt2"}, "holds something else than a layout"),
        ({"source": "absent"}, "no folder or file at .*absent"),
        ({"text": "absent.txt"}, "no text at .*absent.txt"),
        ({"n_tokens": 10}, "n_tokens=10 and site 'transformer.h.0' has 36 units; expected at least 72"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(changed, message, source, text, tmp_path):
    given = {"source": "gpt2", "text": str(text), "out": "sheets", **changed}
    paths = {name: str(tmp_path / given[name]) for name in ("source", "out") if given[name]}
    with pytest.raises((ValueError, OSError), match=message):
        lay_out(LayoutCommand(**{**given, **paths}))
    assert not (tmp_path / "sheets").exists()


@pytest.mark.parametrize(("n_sites", "expected"), [(None, [0, 1]), (1, [0]), (2, [0, 1]), (5, [0, 1])])
def test_sites_are_spaced_over_depth(n_sites, expected, source, text, tmp_path):
    out = tmp_path / "sheets"
    lay_out(LayoutCommand(str(source), str(text), str(out), n_sites=n_sites, steps=20, context=60))
    assert list(Adaptors.load(out)) == [f"transformer.h.{layer}" for layer in expected]


def test_numbers_that_are_none_are_refused():
    for name in ("steps", "context", "batch_size", "n_sites"):
        with pytest.raises(ValueError, match=f"{name}=0; expected at least 1"):
            LayoutCommand("model", **{name: 0})
