import shlex

import pytest

from topographic.cli import main
from topographic.maps import UnitMap
from topographic.runs.loading import load_model
from topographic.runs.recipe import read_recipe
from topographic.sheets import grid, permuted_grid


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
        (["model.preset=tiny", "spatial.radius=5"], 1, "radius=5 needs a 9 x 9 block on a 6 x 6 sheet"),
        (
            ["model.preset=tiny", "data.sequence_length=64", "spatial.radius=4"],
            1,
            "data.sequence_length=64; the model takes 32 tokens at most: shorten it, or set model.n_positions; sheet",
        ),
        (["training.max_steps=0"], 2, "training.max_steps=0"),
        (
            ["training.max_steps=0", "spatial.weight=-1"],
            2,
            "in the configuration; spatial.weight=-1.0; expected a number",
        ),
        (["model.layers=3"], 2, "unknown key model.layers; did you mean model.n_layer? `topo train --help`"),
        (["data.tokenizer=./absent"], 1, "no folder or file at absent; correct the name"),
        (["data.tokenizer=owner/absent"], 1, "no folder owner/absent here, and the hub cannot be reached"),
        (["model.pretrained=owner/absent"], 1, "no folder owner/absent here, and the hub cannot be reached"),
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


def test_tiny_runs_with_its_defaults_and_the_next_command_can_be_pasted(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = tmp_path / "a run"
    words = [f"data.text={text}", "data.vocab_size=300", "training.max_steps=1", "training.report_to=none"]
    assert main(["train", "model.preset=tiny", *words, f"run={run}"]) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert line == f"finished: {run}; next: topo map '{run}'"
    told = read_recipe(run)
    assert (told.data.sequence_length, told.spatial.radius) == (32, 2)
    assert main([*shlex.split(line.split("next: topo ")[1]), "contrasts=nouns_verbs", "n_draws=0"]) == 0


@pytest.mark.parametrize("name", ["text.txt", "some text.jsonl.gz", "absent.parquet", "notes.md", "texts", "texts/"])
def test_a_text_is_no_folder_for_a_run(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for there in ("text.txt", "some text.jsonl.gz", "notes.md", "texts/a.txt"):
        (tmp_path / there).parent.mkdir(exist_ok=True)
        (tmp_path / there).write_text("a text")
    assert main(["train", name]) == 1
    line = capsys.readouterr().err.strip()
    is_folder = name.startswith("texts")
    assert line.startswith(
        f"topo train: run={name} is a {'folder of texts' if is_folder else 'file'}; expected a folder"
    )
    assert line.endswith(f"if it is the text, say data.text={shlex.quote(name)}")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["notes.md", "some text.jsonl.gz", "text.txt", "texts"]


def test_an_empty_name_is_no_folder_even_among_texts(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("some text")
    assert main(["train", "run="]) == 1
    assert "run='' names no folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
