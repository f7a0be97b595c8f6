"""`topo finetune` on local files, from words to the table."""

import dataclasses
import json

import numpy as np
import pytest
import yaml
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
)

from topographic.cli import main
from topographic.cli.arguments import parse_command
from topographic.cli.finetune import FinetuneCommand
from topographic.objectives.config import SmoothnessConfig, SpatialConfig, WeightSheetConfig
from topographic.recording.checksum import weights_checksum
from topographic.runs.finetuning_choices import ClassifierConfig
from topographic.storage import load_json
from topographic.training.config import RunConfig, plain, save_config

QUICK = ["epochs=1", "training.batch_size=8", "training.report_to=none", "training.cpu=true"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A few items of three tasks, one file per task and split."""
    folder, draw = tmp_path_factory.mktemp("glue"), np.random.default_rng(0)
    words = ["a", "child", "found", "the", "old", "river", "and", "then", "ran"]
    for task, n_texts in {"sst2": 1, "cola": 1, "rte": 2}.items():
        for split, n_items in {"train": 24, "validation": 12}.items():
            rows = [
                [" ".join(draw.choice(words, size=int(draw.integers(2, 6)))) for _ in range(n_texts)] + [str(k % 2)]
                for k in range(n_items)
            ]
            (folder / f"{task}-{split}.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    return [f"data.{split}={folder}/{{task}}-{{split}}.tsv" for split in ("train", "validation")]


@pytest.fixture
def call(files, tmp_path, capsys):
    """Function that runs the command and returns status, words on the output and the last line of complaint."""

    def call(run, *words, out="out"):
        folder = [] if out is None else [f"out={tmp_path / out}"]
        status = main(["finetune", str(run), *folder, *files, *QUICK, *words])
        said = capsys.readouterr()
        return status, said.out, (said.err.strip().splitlines() or [""])[-1]

    return call


def test_several_tasks_beside_their_baselines(call, tiny_model, tmp_path):
    words = ["tasks=[cola,rte]", "spatial.weight=2.5", "spatial.radius=2", "scale=0.1", "random_weights=true"]
    status, printed, _ = call(tiny_model, *words)
    assert status == 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir() if path.name[0] != "."} == {
        *(f"{task}{kind}" for task in ("cola", "rte") for kind in ("", "-random")),
        "glue.md",
        "glue.csv",
    }
    table = (out / "glue.md").read_text(encoding="utf-8")
    assert table in printed
    assert [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][2:] == [
        "cola",
        "rte",
        "mean of 2",
    ]
    assert "| random weights |" in table
    config = yaml.safe_load((out / "rte" / "config.yaml").read_text())
    assert config["spatial"]["weight"] == pytest.approx(0.25)
    assert config["training"]["max_steps"] == 3
    start = config["start"]
    assert (start["task"], start["pretrained"], start["dropout"]) == ("rte", str(tiny_model), 0.1)
    assert not start["random_weights"]
    other = yaml.safe_load((out / "rte-random" / "config.yaml").read_text())["start"]
    assert other["random_weights"]
    assert other["weights"] != start["weights"]
    trained = AutoModelForSequenceClassification.from_pretrained(out / "rte" / "model")
    assert weights_checksum(trained) != start["weights"]
    results = load_json(out / "cola" / "finetune.json")
    assert results["spatial_weight"] == pytest.approx(0.25)
    assert results["majority"][0]["value"] == 0


def test_a_run_keeps_the_spatial_loss_it_was_trained_with(call, demo_folder, tmp_path):
    """Neighbourhoods and all, times the scale; results lie in the run by default."""
    run = demo_folder / "topographic"
    trained = yaml.safe_load((run / "config.yaml").read_text())["spatial"]
    assert trained["weight"] > 0
    for scale in (0, 0.1):
        assert call(run, f"scale={scale}", out=f"x{scale}")[0] == 0
        kept = yaml.safe_load((tmp_path / f"x{scale}" / "sst2" / "config.yaml").read_text())["spatial"]
        assert kept == {**trained, "weight": scale * trained["weight"]}
        logged = json.loads((tmp_path / f"x{scale}" / "sst2" / "metrics.jsonl").read_text().splitlines()[-1])
        assert ("eval_spatial_loss" in logged) is (scale > 0)
    assert call(run, out=None)[0] == 0
    assert (run / "finetune" / "glue.md").is_file()


def test_a_run_keeps_its_smooth_weights(call, tiny_model, tmp_path):
    """Sheets, blur and all, at the weight its schedule ended with, times the scale, unless another section is given."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "model").symlink_to(tiny_model)
    layers = [f"transformer.h.{block}.mlp.c_fc" for block in (0, 1)]
    smoothness = SmoothnessConfig(
        weight=2.0,
        sites=layers[:1],
        factor=(3.0, 2.0),
        blur="gaussian",
        sheets=[WeightSheetConfig(layers[1], scale=0.5, shape=(9, 16))],
        schedule="cosine",
        start_weight=5.0,
    )
    save_config(run / "config.yaml", RunConfig(spatial=SpatialConfig(weight=0.0), smoothness=smoothness))
    for scale in (0.1, 0):
        assert call(run, f"scale={scale}", "training.logging_steps=1", out=f"x{scale}")[0] == 0
        folder = tmp_path / f"x{scale}" / "sst2"
        ended = dataclasses.replace(smoothness, schedule="constant", start_weight=0.0, weight=2.0 * scale)
        assert yaml.safe_load((folder / "config.yaml").read_text())["smoothness"] == plain(ended)
        assert load_json(folder / "finetune.json")["smoothness_weight"] == 2.0 * scale
        logged = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
        names = [name for name in logged if name.startswith("smoothness/")]
        assert names == ([f"smoothness/{layer}" for layer in layers] if scale else [])
        if scale:
            assert logged["loss"] == pytest.approx(logged["task_loss"] + logged["smoothness_loss"], rel=1e-4)
            joined = (logged[names[0]] + 0.5 * logged[names[1]]) / 2
            assert logged["smoothness_loss"] == pytest.approx(2.0 * scale * joined, rel=1e-4)
    words = ["smoothness.weight=4", f"smoothness.watched=[{layers[0]}]", f"smoothness.sites=[{layers[1]}]", "scale=0.5"]
    assert call(run, *words)[0] == 0
    kept = yaml.safe_load((tmp_path / "out" / "sst2" / "config.yaml").read_text())["smoothness"]
    assert kept == plain(SmoothnessConfig(weight=2.0, sites=layers[1:], watched=layers[:1]))


def test_any_causal_model_can_be_laid_on_sheets(call, tiny_model, tmp_path):
    """A GPT-2 with the tokenizer of the tiny model, its attention outputs on grids of 6 x 6."""
    shape = {"n_positions": 64, "n_embd": 36, "n_layer": 2, "n_head": 4}
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    GPT2LMHeadModel(GPT2Config(**shape, vocab_size=len(tokenizer))).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    words = ["spatial.weight=1", "spatial.radius=2", "spatial.sites=[transformer.h.*.attn]", "training.logging_steps=1"]
    assert call(tmp_path / "gpt2", *words)[0] == 0
    folder = tmp_path / "out" / "sst2"
    logged = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    sheets = [name for name in logged if name.startswith("spatial/")]
    assert sheets == ["spatial/transformer.h.0.attn", "spatial/transformer.h.1.attn"]
    assert logged["loss"] == pytest.approx(logged["task_loss"] + sum(logged[name] for name in sheets), rel=1e-4)
    assert type(AutoModelForSequenceClassification.from_pretrained(folder / "model")) is GPT2ForSequenceClassification


def test_the_same_command_takes_what_is_there(call, tiny_model, tmp_path):
    _, first, _ = call(tiny_model, "scale=0")
    (tmp_path / "out" / "glue.md").unlink()
    (tmp_path / "out" / "sst2" / "metrics.jsonl").unlink()
    status, second, _ = call(tiny_model, "scale=0")
    assert (status, second) == (0, first)
    status, _, complaint = call(tiny_model, "scale=0", "model.seed=1")
    assert status == 1
    assert "another configuration (start.weights was" in complaint
    weights = (tmp_path / "out" / "sst2" / "model" / "model.safetensors").read_bytes()
    assert call(tiny_model, "scale=0", "model.seed=1", "overwrite=true")[0] == 0
    assert (tmp_path / "out" / "sst2" / "model" / "model.safetensors").read_bytes() != weights


def test_maps_of_a_fine_tuned_model_can_be_made(call, tiny_model, tmp_path):
    """Its sheets came along, so that it can be asked what fine-tuning did to the maps."""
    assert call(tiny_model, "scale=0")[0] == 0
    assert main(["map", str(tmp_path / "out" / "sst2"), "contrasts=[nouns_verbs]", "n_draws=19"]) == 0
    assert main(["report", str(tmp_path / "out" / "sst2")]) == 0


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["tasks=sst3"], 2, "no task 'sst3'; expected one of cola, sst2"),
        (["tasks=[sst2,sst2]"], 2, "expected one or more tasks, each once"),
        (["tasks=[]"], 2, "expected one or more tasks"),
        (["scale=-1"], 2, "scale=-1.0; expected a share of alpha from 0 on"),
        (["epochs=0"], 2, "epochs=0, validations_per_epoch=2; expected at least 1 of each"),
        (["training.max_steps=4", "epochs=3"], 2, "training.max_steps=4 with epochs=3, which decides how many steps"),
        (["model.dropout=1"], 2, "model.dropout=1.0; expected a probability"),
        (["data.nosuch=1"], 2, "data.nosuch"),
        ([], 1, "says with which alpha it was trained; set spatial.weight (2.5 in the TopoLM paper), or scale=0"),
        (["scale=0", "tasks=mrpc"], 1, "no labelled texts at"),
        (["scale=0", "data.label_column=gold", "data.text_columns=[a,b]"], 1, "data.text_columns=['a', 'b']; the task"),
        (["spatial.weight=1"], 1, "radius=5 needs a 9 x 9 block on a 6 x 6 sheet"),
    ],
)
def test_what_cannot_be_fine_tuned_is_one_line(call, tiny_model, tmp_path, words, status, message):
    found, _, complaint = call(tiny_model, *words)
    assert found == status
    assert complaint.startswith("topo finetune:")
    assert message in complaint
    assert not (tmp_path / "out" / "sst2" / "model").exists()


def test_models_that_are_none(call, tmp_path, tiny_model):
    status, _, complaint = call(tmp_path / "nowhere", "scale=0")
    assert status == 1
    assert "no model with a tokenizer at" in complaint
    status, _, complaint = call(tiny_model, "scale=0", out=None)
    assert status == 1
    assert "is no run folder (it has no model/); say where the runs go: --out FOLDER" in complaint


def test_the_defaults_are_the_published_recipe():
    command = parse_command("finetune", FinetuneCommand, "", ["runs/topolm"])
    training = command.training
    assert (training.batch_size, training.learning_rate, training.min_learning_rate) == (64, 2e-5, 2e-5)
    assert (training.warmup_steps, training.early_stopping_patience) == (0, 3)
    assert command.model == ClassifierConfig(dropout=0.1, seed=0)
    assert command.names() == ["sst2"]
    assert dataclasses.replace(command, tasks=["cola", "rte"]).names() == ["cola", "rte"]
