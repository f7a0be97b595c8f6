import json
from dataclasses import fields

import numpy as np
import pytest
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from topographic.cli import main
from topographic.cli.arguments import parse_command
from topographic.cli.map import MapCommand, headlines, map_model
from topographic.evaluation.choices import MapChoices
from topographic.maps import MapSummary
from topographic.runs.loading import load_model
from topographic.stimuli import StimulusSet, load_localizer


def test_maps_use_the_sheets_the_model_carries(demo_folder):
    model, _ = load_model(demo_folder / "topographic")
    summary = MapSummary.load(demo_folder / "topographic" / "maps" / "sentences-nonwords")
    assert set(summary.maps) == set(model.sheets())
    for site, sheet in model.sheets().items():
        assert summary.maps[site].sheet == sheet


def test_the_stimuli_lie_beside_their_maps(demo_folder):
    kept = StimulusSet.load(demo_folder / "control" / "maps" / "noun-verb" / "stimuli.json")
    assert kept == load_localizer("nouns_verbs")


def test_mapping_twice_gives_the_same_numbers(demo_folder, tmp_path):
    command = {"run": str(demo_folder / "control"), "contrasts": ["nouns_verbs"], "n_draws": 19}
    (one,) = map_model(MapCommand(**command, out=str(tmp_path / "a")))
    (two,) = map_model(MapCommand(**command, out=str(tmp_path / "b")))
    (other,) = map_model(MapCommand(**command, out=str(tmp_path / "c"), seed=1))
    assert json.dumps(one.to_json()) == json.dumps(two.to_json())
    assert one.morans_i.value == other.morans_i.value
    assert one.morans_i.unit_null.mean != other.morans_i.unit_null.mean


def test_null_maps_may_be_left_out(demo_folder, tmp_path):
    command = {"run": str(demo_folder / "control"), "contrasts": ["nouns_verbs"], "n_draws": 19}
    map_model(MapCommand(**command, out=str(tmp_path), nulls=False))
    kept = MapSummary.load(tmp_path / "noun-verb")
    assert all(unit_map.nulls == {} for unit_map in kept.maps.values())
    assert kept.morans_i.unit_null.n_draws == 19, "the numbers stay"


def test_any_hugging_face_model_on_a_layout(demo_folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(demo_folder / "control" / "model")
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=36, n_layer=2, n_head=4)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    words = ["sites=transformer.h.*.mlp", "contrasts=[nouns_verbs]", "n_draws=9", f"out={tmp_path / 'maps'}"]
    assert main(["map", str(tmp_path), *words]) == 0
    summary = MapSummary.load(tmp_path / "maps" / "noun-verb")
    assert [row.site for row in summary.rows] == ["transformer.h.0.mlp", "transformer.h.1.mlp"]
    assert all(np.isfinite(unit_map.values).all() for unit_map in summary.maps.values())


def test_a_model_without_sheets_needs_sites(tmp_path, demo_folder, capsys):
    tokenizer = AutoTokenizer.from_pretrained(demo_folder / "control" / "model")
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=36, n_layer=1, n_head=4)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert main(["map", str(tmp_path), f"out={tmp_path / 'maps'}"]) == 1
    assert "carries no sheets; say which modules to lay out" in capsys.readouterr().err
    assert main(["map", str(tmp_path), "sites=nothing.*", f"out={tmp_path / 'maps'}"]) == 1
    assert "site pattern 'nothing.*' matches no module" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["no_such_folder"], 1, "no folder no_such_folder here"),
        (["x", "contrasts=[poetry]"], 2, r"contrasts=['poetry']; expected one or more of"),
        (["x", "pooling=most"], 2, "pooling"),
    ],
)
def test_wrong_words_are_one_line(words, status, message, capsys):
    assert main(["map", *words]) == status
    line = capsys.readouterr().err.strip()
    assert line.startswith("topo map:")
    assert "\n" not in line
    assert message in line


@pytest.mark.parametrize("word", ["seed=-1", "n_draws=-1", "fwhm_mm=-2", "fwhm_mm=nan", "batch_size=0"])
def test_numbers_that_are_none_are_refused_before_anything_is_loaded(word, capsys):
    assert main(["map", "no_such_folder", word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert word.split("=")[0] in line


def test_maps_are_made_once_and_replaced_in_so_many_words(demo_folder, tmp_path, capsys):
    words = [str(demo_folder / "control"), "contrasts=[nouns_verbs]", f"out={tmp_path / 'maps'}", "nulls=false"]
    kept = tmp_path / "maps" / "noun-verb"
    for more, said in (
        (["n_draws=9"], f"noun-verb: {kept}"),
        (["n_draws=9"], f"noun-verb: there already: {kept}"),
        (["n_draws=10"], f"noun-verb: {kept} (in place of others: n_draws was 9 and is 10)"),
    ):
        assert main(["map", *words, *more]) == 0
        first, told, *numbers, last = capsys.readouterr().out.splitlines()
        assert (first, told, last) == (f"reading {words[0]}", said, f"next: topo report {words[0]}")
        assert numbers == headlines(MapSummary.load(kept))


def test_a_field_of_the_choices_is_a_word_of_the_command():
    own = {"run", "sites", "layout", "tokenizer", "out", "stimuli", "contrast"}
    assert {field.name for field in fields(MapCommand)} == own | {field.name for field in fields(MapChoices)}
    command = parse_command("map", MapCommand, "", ["runs/x", "fwhm_mm=2", "contrasts=[syntax]"])
    assert (command.run, command.fwhm_mm, command.contrasts) == ("runs/x", 2.0, ["syntax"])


def test_contrasts_of_images_are_refused_by_a_language_model(demo_folder, capsys):
    assert main(["map", str(demo_folder / "control"), "contrasts=[faces]"]) == 1
    complaint = capsys.readouterr().err
    assert "control is a language model and 'faces' a contrast of images; expected some of language" in complaint


def test_an_unfinished_run_is_sent_back_to_training(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("training: {}\n")
    for command in ("map", "evaluate", "finetune"):
        assert main([command, str(tmp_path)]) == 1
        assert "whose training is not finished" in capsys.readouterr().err


def test_a_contrast_of_ones_own(tiny_model, tmp_path, capsys):
    rows = [
        f"the {kind} {word} {run},{kind},{run}" for word in ("runs", "sat", "is") for kind in "ab" for run in (1, 2)
    ]
    (tmp_path / "my.csv").write_text("\n".join(["text,condition,run", *rows]), encoding="utf-8")
    words = [f"stimuli={tmp_path / 'my.csv'}", f"out={tmp_path / 'maps'}", "n_draws=9", "sites=attn"]
    assert main(["map", str(tiny_model), "contrast=a-b", *words]) == 0
    said = capsys.readouterr()
    kept = MapSummary.load(tmp_path / "maps" / "a-b")
    assert list(kept.maps) == ["transformer.h.0.attn_sheet", "transformer.h.1.attn_sheet"]
    assert StimulusSet.load(tmp_path / "maps" / "a-b" / "stimuli.json").runs == ("1", "2") * 6
    assert said.out.startswith(f"reading {tiny_model}\n")
    index = kept.morans_i
    beside = f"(by chance {index.unit_null.mean:.3f}, p = {index.unit_null.p:.3g})"
    assert f"a-b: mean Moran's I {index.value:.3f} {beside}" in said.out
    assert " units with q < .05" in said.out
    assert said.out.splitlines()[-1].startswith("next: topo evaluate ")
    assert main(["map", str(tiny_model), "contrast=a-b", *words]) == 0
    assert "there already" in capsys.readouterr().out
    assert main(["map", str(tiny_model), "contrast=a-c", *words]) == 1
    assert "contrast='a-c' names no two sides of 'my', whose conditions are a, b; expected" in capsys.readouterr().err


def test_a_contrast_of_a_set_that_ships(tiny_model, tmp_path):
    words = [f"out={tmp_path}", "n_draws=0", "sites=attn", "contrast=sentences+words-jabberwocky"]
    assert main(["map", str(tiny_model), *words]) == 0
    assert MapSummary.load(tmp_path / "sentences+words-jabberwocky").provenance["n_condition"] == 120


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"stimuli": "my.csv"}, r"stimuli=my\.csv without contrast; expected two of its conditions too: contrast=a-b"),
        (
            {"contrast": "a-b", "contrasts": ["syntax"]},
            r"contrast=a-b beside contrasts=\['syntax'\]; give one of",
        ),
    ],
)
def test_what_is_compared_is_said_once(words, match):
    with pytest.raises(ValueError, match=match):
        MapCommand("run", **words)
