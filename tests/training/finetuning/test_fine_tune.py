"""Fine-tuning from items to scores, on texts whose label a model of two blocks can learn."""

import json
import shutil
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from topographic.models import TopoLMForCausalLM, preset, register
from topographic.objectives.config import SmoothnessConfig, SpatialConfig
from topographic.objectives.terms import configured_objective
from topographic.storage import HeldElsewhereError, load_json, locked
from topographic.training.config import TrainingConfig, plain
from topographic.training.finetuning import classification
from topographic.training.finetuning.classification import EncodedItems, PadBatch
from topographic.training.finetuning.classifiers import load_classifier
from topographic.training.finetuning.fine_tune import fine_tune, open_task, whole_epochs
from topographic.training.finetuning.glue import TASKS
from topographic.training.finetuning.labelled import LabelledDataConfig
from topographic.training.finetuning.scores import decide, score
from topographic.training.text.tokenizer import train_tokenizer

GOOD, BAD = ["fine", "lovely", "warm"], ["dull", "awful", "cold"]
FILLERS = ["a", "film", "that", "is", "and", "was", "with", "some", "people", "in", "it"]


def write_reviews(path, n_items, seed, *, pairs=False, scores=False, noise=0.0):
    """Reviews that hold one good or one bad word; for pairs the second text holds it, for scores it counts."""
    draw = np.random.default_rng(seed)
    lines = []
    for _ in range(n_items):
        is_good = bool(draw.integers(2))
        words = list(draw.choice(FILLERS, size=int(draw.integers(2, 9))))
        words.insert(int(draw.integers(len(words) + 1)), str(draw.choice(GOOD if is_good else BAD)))
        label = float(5 * is_good) if scores else int(is_good != (draw.random() < noise))
        texts = ["some people", " ".join(words)] if pairs else [" ".join(words)]
        lines.append("\t".join([*texts, str(label)]) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


@dataclass(frozen=True)
class Config:
    """As much of a command as fine-tuning reads."""

    data: LabelledDataConfig
    spatial: SpatialConfig = field(default_factory=lambda: SpatialConfig(weight=0.25, radius=2))
    smoothness: SmoothnessConfig = field(default_factory=SmoothnessConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            max_steps=6,
            batch_size=16,
            learning_rate=5e-3,
            min_learning_rate=5e-3,
            warmup_steps=0,
            logging_steps=3,
            eval_steps=3,
            save_steps=3,
            cpu=True,
            report_to="none",
        )
    )


@pytest.fixture
def config(tmp_path):
    return Config(
        LabelledDataConfig(
            train=write_reviews(tmp_path / "train.tsv", 170, 0),
            validation=write_reviews(tmp_path / "dev.tsv", 50, 1),
        )
    )


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A model folder: an untrained TopoLM of four sheets, and its tokenizer."""
    folder = tmp_path_factory.mktemp("pretrained")
    tokenizer = train_tokenizer([" ".join([*GOOD, *BAD, *FILLERS])] * 3, 330)
    end = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
    torch.manual_seed(0)
    TopoLMForCausalLM(preset("tiny", vocab_size=len(tokenizer), **end)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    register()
    return folder


@pytest.fixture
def start(tmp_path, pretrained, config):
    """Function that fine-tunes, and says what came of it."""

    def start(name="run", *, task="sst2", config=config, dropout=0.0, **options):
        tokenizer = AutoTokenizer.from_pretrained(pretrained)
        model = load_classifier(pretrained, TASKS[task], tokenizer, dropout=dropout)
        folder = tmp_path / name
        return fine_tune(model, tokenizer, open_task(task, config.data), config, folder, **options), folder

    return start


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_the_task_and_holds_everything(start, config):
    longer = replace(config, training=replace(config.training, max_steps=60, eval_steps=30, save_steps=60))
    results, folder = start(config=longer)
    (found,), (guess,) = results["scores"], results["majority"]
    assert found["value"] > 0.9 > 0.7 > guess["value"]
    held = {path.name for path in folder.iterdir()}
    files = {"config.yaml", "run.json", "metrics.jsonl", "checkpoints", "model", "finetune.json"}
    assert held == {*files, "predictions.safetensors"}
    assert yaml.safe_load((folder / "config.yaml").read_text()) == plain(longer)
    assert results == load_json(folder / "finetune.json")
    record = load_json(folder / "run.json")
    assert record["scores"] == results["scores"]
    assert (record["status"], record["items_seen"], record["steps"]) == ("finished", 60 * 16, 60)
    assert record["corpus"]["train"]["items"] == 170
    assert record["corpus"]["sst2"]["sha256"] == record["corpus"]["watched"]["sha256"]
    assert (results["task"], results["spatial_weight"], results["epochs"]) == ("sst2", 0.25, 60 * 16 / 170)
    evaluated = [line for line in lines(folder) if "eval_accuracy" in line]
    assert [line["step"] for line in evaluated] == [30, 60]
    assert evaluated[-1]["eval_accuracy"] == pytest.approx(found["value"])
    logged = [line for line in lines(folder) if "loss" in line]
    assert logged[-1]["spatial_loss"] < logged[0]["spatial_loss"]


def test_scores_are_those_of_the_saved_model(start, tmp_path):
    """Read anew with transformers alone, one item at a time, without a pad."""
    results, folder = start()
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = [line.split("\t") for line in (tmp_path / "dev.tsv").read_text().splitlines()]
    right, outputs = 0, []
    for text, label in rows:
        ids = torch.tensor([[*tokenizer(text)["input_ids"], tokenizer.eos_token_id]])
        outputs.append(model(ids).logits[0].tolist())
        right += int(np.argmax(outputs[-1])) == int(label)
    assert results["scores"][0]["value"] == pytest.approx(right / len(rows))
    assert results["scores"][0]["n_items"] == len(rows)
    kept = load_file(folder / "predictions.safetensors")
    np.testing.assert_allclose(kept["sst2/outputs"], outputs, rtol=1e-4, atol=1e-5)
    assert kept["sst2/labels"].tolist() == [int(label) for _, label in rows]
    task = TASKS["sst2"]
    again = score("accuracy", kept["sst2/labels"], decide(task, kept["sst2/outputs"]), seed=0)
    assert {"name": "sst2", **again._asdict()} == results["scores"][0]


def test_sheets_stay_where_they_were(start, pretrained):
    _, folder = start()
    before = TopoLMForCausalLM.from_pretrained(pretrained).sheets()
    assert AutoModelForSequenceClassification.from_pretrained(folder / "model").sheets() == before
    assert TopoLMForCausalLM.from_pretrained(folder / "model").sheets() == before


def test_every_epoch_shows_every_item_once(start, tmp_path, config, monkeypatch):
    """Ten steps of 16 of 170 items: the same 160 in every epoch, each once, in another order."""
    seen = []
    plain_call = PadBatch.__call__

    def noting(self, items):
        seen.append([tuple(item["input_ids"].tolist()) for item in items])
        return plain_call(self, items)

    monkeypatch.setattr(classification.PadBatch, "__call__", noting)
    (tmp_path / "one.tsv").write_text("this one is for validation\t1\n", encoding="utf-8")
    training = whole_epochs(config.training, 170, 2, 1)
    assert (training.max_steps, training.eval_steps, training.save_steps) == (20, 10, 10)
    data = replace(config.data, validation=str(tmp_path / "one.tsv"))
    start(config=replace(config, data=data, training=training))
    steps = [batch for batch in seen if len(batch) > 1]
    assert [len(batch) for batch in steps] == [16] * 20
    epochs = [[item for batch in steps[at : at + 10] for item in batch] for at in (0, 10)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(
    ("n_items", "epochs", "per_epoch", "accumulation", "expected"),
    [(170, 3, 2, 1, (30, 5)), (170, 3, 3, 1, (30, 4)), (170, 2, 1, 4, (4, 2)), (5, 2, 2, 1, (2, 1))],
)
def test_steps_of_whole_epochs(n_items, epochs, per_epoch, accumulation, expected):
    config = TrainingConfig(batch_size=16, gradient_accumulation_steps=accumulation, learning_rate=1e-3)
    counted = whole_epochs(config, n_items, epochs, per_epoch)
    assert (counted.max_steps, counted.eval_steps) == expected
    assert counted.save_steps == counted.eval_steps
    assert counted.learning_rate == 1e-3


def test_steps_are_counted_over_all_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert whole_epochs(TrainingConfig(batch_size=16), 170, 1, 1).max_steps == 5


def test_the_weight_of_the_spatial_loss_is_kept(start, config):
    """At weight 0 it is not computed; what is added is the weight times the sum over sheets."""
    seen = {}
    training = replace(config.training, max_steps=3)
    for weight in (0.0, 0.5):
        chosen = replace(config, spatial=replace(config.spatial, weight=weight), training=training)
        seen[weight] = lines(start(str(weight), config=chosen)[1])[0]
    assert not [name for name in seen[0.0] if name.startswith("spatial")]
    assert seen[0.0]["loss"] == pytest.approx(seen[0.0]["task_loss"])
    sheets = [entry for name, entry in seen[0.5].items() if name.startswith("spatial/")]
    assert len(sheets) == 4
    assert seen[0.5]["loss"] == pytest.approx(seen[0.5]["task_loss"] + 0.5 * sum(sheets), rel=1e-4)


def test_pads_are_no_samples_of_the_spatial_loss(pretrained, config):
    """The same texts with any number of pads have the same spatial loss; if pads counted they would not."""
    tokenizer = AutoTokenizer.from_pretrained(pretrained)
    model = load_classifier(pretrained, TASKS["sst2"], tokenizer, dropout=0.0).train()
    items = EncodedItems([np.arange(5, 5 + length) for length in (3, 9, 12, 4)], np.array([0, 1, 1, 0]))
    batch = PadBatch(tokenizer.pad_token_id)([items[index] for index in range(4)])
    objective = configured_objective(model, config)
    losses = []
    for extra, masked in ((0, True), (8, True), (8, False)):
        pads = torch.full((4, extra), tokenizer.pad_token_id)
        ids = torch.cat([batch["input_ids"], pads], 1)
        mask = torch.cat([batch["attention_mask"], torch.zeros_like(pads)], 1)
        with objective.listen(model):
            model(input_ids=ids, attention_mask=mask)
        losses.append(objective(torch.zeros(()), draw=0, token_mask=mask if masked else None)[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)


def test_pairs_and_scores(start, tmp_path, config):
    data = LabelledDataConfig(
        train=write_reviews(tmp_path / "pairs.tsv", 160, 0, pairs=True, scores=True),
        validation=write_reviews(tmp_path / "pairs_dev.tsv", 40, 1, pairs=True, scores=True),
    )
    training = replace(config.training, max_steps=80, eval_steps=40, save_steps=80)
    results, folder = start(task="stsb", config=replace(config, data=data, training=training))
    found = {entry["metric"]: entry["value"] for entry in results["scores"]}
    assert set(found) == {"pearson", "spearman"}
    assert found["pearson"] > 0.8
    assert [entry["value"] for entry in results["majority"]] == [None, None]
    assert {"eval_pearson", "eval_spearman"} <= set(lines(folder)[-1])


def test_both_validation_splits_of_mnli_are_scored(start, tmp_path, config):
    for split in ("train", "validation_matched", "validation_mismatched"):
        write_reviews(tmp_path / f"{split}.tsv", 32, len(split), pairs=True)
    data = LabelledDataConfig(train=str(tmp_path / "{split}.tsv"), validation=str(tmp_path / "{split}.tsv"))
    results, folder = start(task="mnli", config=replace(config, data=data))
    assert [entry["name"] for entry in results["scores"]] == ["mnli-m", "mnli-mm"]
    assert set(load_file(folder / "predictions.safetensors")) == {
        f"{name}/{what}" for name in ("mnli-m", "mnli-mm") for what in ("labels", "outputs")
    }


def test_some_items_decide_about_stopping(tmp_path, config):
    data = replace(config.data, stopping_fraction=0.25, train_items=80, seed=5)
    splits = open_task("sst2", data)
    assert (len(splits.train), len(splits.watched), len(splits.validation["sst2"])) == (60, 20, 50)
    whole = open_task("sst2", replace(config.data, seed=5))
    assert whole.watched is whole.validation["sst2"]
    assert splits.watched.texts + splits.train.texts == whole.train.texts[:80]
    assert open_task("sst2", replace(config.data, seed=6)).train.texts != whole.train.texts
    assert splits.about["watched"]["items"] == 20
    with pytest.raises(ValueError, match=r"data.stopping_fraction=0.01 of 10 items holds out 0; expected some"):
        open_task("sst2", replace(data, stopping_fraction=0.01, train_items=10))


def test_training_stops_when_the_watched_loss_rises(start, tmp_path, config):
    """Labels without a rule: what is learnt by heart makes the loss on other items rise."""
    data = replace(config.data, train=write_reviews(tmp_path / "noise.tsv", 48, 0, noise=0.5))
    training = replace(config.training, max_steps=400, eval_steps=5, save_steps=400, early_stopping_patience=2)
    results, _ = start(config=replace(config, data=data, training=training))
    assert results["stopped_early"]
    assert results["steps"] < 400


def test_a_finished_run_is_taken_as_it_is_and_another_one_refused(start, config):
    results, folder = start()
    weights = (folder / "model" / "model.safetensors").read_bytes()
    (folder / "metrics.jsonl").unlink()
    assert start()[0] == results
    assert not (folder / "metrics.jsonl").exists()
    (folder / "finetune.json").unlink()
    assert start()[0] == results, "a run killed before it was scored is only scored"
    other = replace(config, training=replace(config.training, learning_rate=6e-3))
    with pytest.raises(FileExistsError, match=r"another configuration \(training.learning_rate was 0.005 and is 0.006"):
        start(config=other)
    again, _ = start(config=other, overwrite=True)
    assert again != results
    start(overwrite=True)
    assert (folder / "model" / "model.safetensors").read_bytes() == weights


def test_a_run_that_breaks_keeps_its_predecessor(start, config, tmp_path):
    results, folder = start()
    rates = {"learning_rate": 1e30, "min_learning_rate": 1e30, "max_grad_norm": 0.0}
    broken = replace(config, training=replace(config.training, **rates, logging_steps=1))
    with pytest.raises(
        FloatingPointError, match=r"the run that this one was to replace is kept in .*\.run\.replaced-1$"
    ):
        start(config=broken, overwrite=True)
    assert load_json(tmp_path / ".run.replaced-1" / "finetune.json") == results
    assert not (folder / "finetune.json").exists()
    assert start(overwrite=True)[0]["scores"] == results["scores"]
    assert not (tmp_path / ".run.replaced-1").exists()


def test_one_writer_in_a_folder_that_is_free(start, tmp_path):
    with locked(tmp_path / "run"), pytest.raises(HeldElsewhereError, match="run is being written by process"):
        start()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").write_text("of the user")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="run holds model and no run"):
            start(overwrite=overwrite)
    assert (tmp_path / "run" / "model").read_text() == "of the user"


def test_a_killed_run_goes_on_where_it_stopped(start):
    results, folder = start()
    weights = (folder / "model" / "model.safetensors").read_bytes()
    record = load_json(folder / "run.json")
    (folder / "run.json").write_text(json.dumps(record | {"status": "running"}))
    shutil.rmtree(folder / "checkpoints" / "checkpoint-6")
    (folder / "finetune.json").unlink()
    again, _ = start()
    assert (folder / "model" / "model.safetensors").read_bytes() == weights
    assert again["scores"] == results["scores"]
    assert [entry["step"] for entry in load_json(folder / "run.json")["resumed"]] == [3]


def test_only_the_first_process_scores(start, monkeypatch):
    results, folder = start()
    monkeypatch.setenv("RANK", "1")
    assert start()[0] is None
    assert load_json(folder / "finetune.json") == results


def test_one_label_only_is_refused(tmp_path, config):
    (tmp_path / "one.tsv").write_text("fine\t1\nlovely\t1\n", encoding="utf-8")
    data = replace(config.data, validation=str(tmp_path / "one.tsv"))
    with pytest.raises(ValueError, match=r"all 2 labels of cola \(.*one.tsv\) are 1; matthews needs two different"):
        open_task("cola", data)
    assert len(open_task("sst2", data).validation["sst2"]) == 2


def test_too_few_and_too_long_items(start, config):
    few = replace(config, data=replace(config.data, train_items=10))
    with pytest.raises(ValueError, match=r"10 training items of 1 items; one step takes 16"):
        start(config=few)
    longest = replace(config, data=replace(config.data, max_tokens=64))
    with pytest.raises(ValueError, match=r"data.max_tokens=64; the model takes 32 tokens at most"):
        start(config=longest)
