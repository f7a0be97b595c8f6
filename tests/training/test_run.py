import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2ForSequenceClassification

from topographic.models import fresh_model, preset
from topographic.objectives.config import (
    NeighborActivationsConfig,
    NeighborWeightsConfig,
    SmoothnessConfig,
    SpatialConfig,
    WeightSheetConfig,
    WiringConfig,
)
from topographic.objectives.terms import configured_objective
from topographic.runs.folder import RunState, require_finished, run_state
from topographic.storage import load_json
from topographic.training import run as module
from topographic.training.config import DataConfig, RunConfig, TrainingConfig, plain
from topographic.training.material import Material
from topographic.training.run import EXAMPLE_TOKENS, rehearse, train, train_on, training_arguments
from topographic.training.text.data import prepare_tokens
from topographic.training.text.tokenizer import load_tokenizer
from topographic.training.trainer import TopographicTrainer

HERE = Path(__file__).parent


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_open_formats_only(folder):
    """No file that unpickling could execute: neither a pickle nor the zip that torch.save makes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        start = path.read_bytes()[:4]
        assert not start.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")), path
        known = {".json", ".jsonl", ".yaml", ".safetensors"}
        assert path.suffix in known or path.name.startswith("events.out.tfevents"), path
        assert not path.name.endswith(".partial")


def run_script(*command, **environment):
    kept = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **environment}
    path = os.pathsep.join([str(HERE), str(HERE.parents[1] / "src")])
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env={**kept, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def write_short_corpus(folder):
    """A text of which six steps make an epoch."""
    draw = np.random.default_rng(0)
    words = ["river", "tree", "cat", "dog", "house", "child", "saw", "found"]
    documents = [" ".join(draw.choice(words, size=12)) for _ in range(60)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Folder of runs that were killed or asked to leave, and what came of each attempt."""
    folder = tmp_path_factory.mktemp("interrupted")
    write_short_corpus(folder)
    run_script(HERE / "killed_runs.py", folder)
    return folder, load_json(folder / "ended.json")


DONE = {
    "code": 0,
    "left": ["checkpoint-12", "checkpoint-14"],
    "last": "checkpoint-14",
    "said": "finished",
}


def assert_equal_runs(whole, other):
    assert (whole / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    for file in ("model/model.safetensors", "model/config.json", "checkpoints/checkpoint-14/optimizer.safetensors"):
        assert (whole / file).read_bytes() == (other / file).read_bytes()
    assert_open_formats_only(other)


def test_a_killed_run_ends_as_if_nothing_had_happened(interrupted):
    folder, ended = interrupted
    assert ended["whole"] == ended["third"] == DONE
    assert ended["first"] == {
        "code": -signal.SIGKILL,
        "left": ["checkpoint-4"],
        "last": "checkpoint-4",
        "said": "running",
    }
    assert ended["second"]["code"] == -signal.SIGKILL
    assert ended["second"]["left"] == [".checkpoint-12.partial", "checkpoint-4", "checkpoint-8"]
    whole, killed = folder / "whole", folder / "killed"
    assert_equal_runs(whole, killed)
    seen = lines(killed)
    assert [line["step"] for line in seen if "loss" in line] == [3, 6, 9, 12]
    assert [line["step"] for line in seen if "eval_loss" in line] == [6, 12, 14]
    assert max(line["epoch"] for line in seen) > 2
    record = load_json(killed / "run.json")
    assert [entry["step"] for entry in record["resumed"]] == [4, 8]
    assert record["status"] == "finished"
    assert load_json(whole / "run.json")["resumed"] == []


def test_a_run_that_is_asked_to_leave_loses_no_step(interrupted):
    """Ctrl-C within the sixth step and SIGTERM within the eleventh; a second Ctrl-C leaves at once."""
    folder, ended = interrupted
    assert ended["ctrl-c"] == {
        "code": 130,
        "left": ["checkpoint-4", "checkpoint-6"],
        "last": "checkpoint-6",
        "said": "interrupted",
    }
    assert ended["twice"] == {**ended["ctrl-c"], "left": ["checkpoint-6", "checkpoint-8"], "last": "checkpoint-8"}
    assert (ended["sigterm"]["code"], ended["sigterm"]["last"]) == (143, "checkpoint-11")
    assert ended["last"] == DONE
    assert_equal_runs(folder / "whole", folder / "asked")
    record = load_json(folder / "asked" / "run.json")
    assert [entry["step"] for entry in record["resumed"]] == [6, 8, 11]


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    """Folder of what two processes trained together."""
    folder = tmp_path_factory.mktemp("two")
    write_short_corpus(folder)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", 2, "--master-port", free_port()]
    run_script(*launcher, HERE / "two_processes.py", folder)
    return folder


def test_two_processes_train_alike_on_different_draws(of_two_processes):
    folder = of_two_processes
    first, second = load_json(folder / "said-0.json"), load_json(folder / "said-1.json")
    for name in first:
        assert first[name]["weights"] == second[name]["weights"]
        assert [entry[:2] for entry in first[name]["drawn"]] == [entry[:2] for entry in second[name]["drawn"]]
        equal = [a == b for a, b in zip(first[name]["drawn"], second[name]["drawn"], strict=True)]
        assert sum(equal) < len(equal) / 2  # six pairs of four blocks, so that a few coincide
        assert first[name]["sharded"] is name.startswith("sharded")
    for kind in ("replicated", "sharded"):
        whole, resumed = folder / f"{kind}-whole", folder / kind
        assert (whole / "metrics.jsonl").read_text() == (resumed / "metrics.jsonl").read_text()
        assert first[kind]["weights"] == first[f"{kind} again"]["weights"]
        files = {path.name for path in (whole / "checkpoints" / "checkpoint-8").iterdir()}
        assert {"process-0.safetensors", "process-1.safetensors"} <= files
        assert load_json(whole / "run.json")["n_processes"] == 2
        assert_open_formats_only(whole)
    asked = [load_json(folder / f"asked-{rank}.json") for rank in (0, 1)]
    assert [one["code"] for one in asked] == [143, 143], "both leave though one was asked"
    assert asked[0]["left"] == ["checkpoint-4", "checkpoint-5"]
    assert {one["weights"] for one in asked} == {first["replicated"]["weights"]}
    assert (folder / "asked/metrics.jsonl").read_text() == (folder / "replicated/metrics.jsonl").read_text()
    logged = [line for line in lines(folder / "replicated-whole") if "loss" in line]
    assert logged[-1]["spatial_loss"] < logged[0]["spatial_loss"]
    assert logged[-1]["task_loss"] < logged[0]["task_loss"]
    replicated, sharded = (
        load_file(folder / f"{kind}-whole/model/model.safetensors") for kind in first if " " not in kind
    )
    for name, weights in replicated.items():
        torch.testing.assert_close(sharded[name], weights, rtol=1e-3, atol=2e-4)


def test_two_processes_smooth_weights_as_one_does(interrupted, of_two_processes):
    """Two processes of two passes each see in a step what one process of four passes sees: equal losses and weights."""
    one, two = interrupted[0] / "smooth", of_two_processes / "smooth"
    assert [load_json(folder / "run.json")["n_processes"] for folder in (one, two)] == [1, 2]
    # validations count batches of every process, so that two processes see more
    logged, others = ([line for line in lines(folder) if "loss" in line] for folder in (one, two))
    for ours, theirs in zip(logged, others, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-4, abs=1e-6)
    first, last = logged
    names = [name for name in first if name.startswith("smoothness/")]
    assert names == ["smoothness/transformer.h.0.mlp.c_fc", "smoothness/transformer.h.1.mlp.c_fc"]
    assert first["loss"] == pytest.approx(first["task_loss"] + first["smoothness_loss"], rel=1e-4)
    assert first["smoothness_weight"] < last["smoothness_weight"] == 2.0
    assert all(last[name] < first[name] for name in names)
    weights, others = (load_file(folder / "model/model.safetensors") for folder in (one, two))
    for name, ours in weights.items():
        torch.testing.assert_close(others[name], ours, rtol=1e-3, atol=2e-4, msg=name)


@pytest.fixture
def start(tmp_path, run_config, tokenizer, small_gpt2):
    def start(name="run", *, model=None, config=None, **words):
        config = run_config if config is None else config
        return train(small_gpt2(tokenizer) if model is None else model, tokenizer, config, tmp_path / name, **words)

    return start


def test_a_run_folder_holds_everything(start, run_config, tokenizer, small_gpt2):
    run_config.training.report_to = "tensorboard"
    model = small_gpt2(tokenizer)
    folder = start(model=model)
    held = {path.name for path in folder.iterdir()}
    assert held == {"config.yaml", "run.json", "metrics.jsonl", "tensorboard", "checkpoints", "model"}
    assert yaml.safe_load((folder / "config.yaml").read_text()) == plain(run_config)
    record = load_json(folder / "run.json")
    assert (record["status"], record["steps"], record["stopped_early"]) == ("finished", 6, False)
    assert record["tokens_seen"] == 6 * 2 * 4 * 16
    assert record["corpus"]["text_sha256"] == prepare_tokens(run_config.data, tokenizer).manifest["text_sha256"]
    assert record["n_parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert record["corpus"]["held_out"] == "documents"
    assert record["seeds"] == {"data": 42, "training": 42}
    assert record["eval_loss"] == [line["eval_loss"] for line in lines(folder) if "eval_loss" in line][-1]
    assert [line["step"] for line in lines(folder)] == [2, 3, 4, 6, 6]
    loaded = AutoModelForCausalLM.from_pretrained(folder / "model")
    for (name, ours), theirs in zip(model.named_parameters(), loaded.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    text = "the cat saw the dog"
    assert AutoTokenizer.from_pretrained(folder / "model")(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert_open_formats_only(folder)


def test_the_same_run_gives_the_same_numbers(start):
    first, second = start("first"), start("second")
    assert (first / "metrics.jsonl").read_text() == (second / "metrics.jsonl").read_text()
    assert (first / "model/model.safetensors").read_bytes() == (second / "model/model.safetensors").read_bytes()


def test_a_finished_run_is_refused_unless_it_is_overwritten(start, tmp_path):
    folder = start()
    (folder / "notes.txt").write_text("of the user")
    for resume in ("auto", "never"):
        with pytest.raises(
            FileExistsError, match=r"holds a run that is finished; expected a new folder.* or say overwrite=true"
        ):
            start(resume=resume)
    before = (folder / "metrics.jsonl").read_text()
    (folder / "maps").mkdir()
    for name in ("evaluation", "evaluation_toponets", "evaluation_notes"):
        (folder / name).mkdir()
        (folder / name / "index.html").touch()
    for name in ("evaluation", "evaluation_toponets"):
        (folder / name / "evaluation.json").touch()
    start(overwrite=True)
    assert (folder / "metrics.jsonl").read_text() == before
    left = {path.name for path in folder.iterdir() if path.is_dir()}
    assert left == {"checkpoints", "model", "evaluation_notes"}, "maps and evaluations were those of another model"
    assert (folder / "notes.txt").read_text() == "of the user"


def test_files_of_a_user_are_refused_and_not_touched(start, tmp_path):
    """A folder with a model/ of the user's own, and a name that is none."""
    for name in ("model/weights.bin", "notes.txt"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text("of the user")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match=r"run holds model and no run; expected a new or empty folder"):
            start(overwrite=overwrite)
    held = {str(path.relative_to(tmp_path / "run")): path for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert set(held) == {"model/weights.bin", "notes.txt"}
    assert {path.read_text() for path in held.values()} == {"of the user"}


def test_an_empty_name_is_refused(run_config, tokenizer, small_gpt2):
    with pytest.raises(ValueError, match=r"run='' names no folder; expected a new or empty one: say run=runs/NAME"):
        train(small_gpt2(tokenizer), tokenizer, run_config, "")


@pytest.fixture
def breaking(run_config):
    """A rate at which everything is infinite within a few steps."""
    rates = {"learning_rate": 1e30, "min_learning_rate": 1e30, "warmup_steps": 0, "max_grad_norm": 0.0}
    return replace(run_config, training=replace(run_config.training, **rates, logging_steps=1))


def strict(folder):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_that_breaks_says_so_and_its_predecessor_is_kept(start, breaking, run_config, tmp_path):
    folder = start()
    whole = (folder / "model/model.safetensors").read_bytes()
    aside = tmp_path / ".run.replaced-1"
    with pytest.raises(
        FloatingPointError, match=r"NaN or infinite.*; the run that this one was to replace is kept in "
    ):
        start(config=breaking, overwrite=True)
    assert (aside / "model/model.safetensors").read_bytes() == whole
    assert run_state(aside).status == "finished"
    state = run_state(folder)
    assert (state.status, state.step) == ("failed", 1 + strict(folder)[-1]["step"])
    assert state.reason.startswith("NotFiniteError: ")
    assert "\n" not in state.reason
    with pytest.raises(
        ValueError, match=rf"run that failed at step {state.step} \(NotFiniteError: .*kept in .*-1; mend"
    ):
        require_finished(folder)
    with pytest.raises(FileExistsError, match="holds a failed run with another configuration"):
        start()
    start(overwrite=True)
    assert run_state(folder) == RunState("finished", 6)
    assert "failure" not in load_json(folder / "run.json")
    assert (folder / "model/model.safetensors").read_bytes() == whole
    assert not list(tmp_path.glob(".run.replaced*")), "what was replaced goes once the new run is good"
    aside.mkdir()
    shutil.rmtree(folder)
    start()
    assert aside.is_dir(), "it was replaced by another run, which somebody has removed"


def test_a_run_that_failed_for_another_reason_goes_on(start, monkeypatch):
    whole = start("whole")
    with monkeypatch.context() as patch:

        def full(self, *_, **__):
            if self.state.global_step == 5:
                raise OSError("no space\nleft")
            return step(self, *_, **__)

        step = TopographicTrainer.training_step
        patch.setattr(TopographicTrainer, "training_step", full)
        with pytest.raises(OSError, match="no space"):
            start()
    folder = whole.parent / "run"
    assert run_state(folder) == RunState("failed", 5, "OSError: no space left")
    start()
    assert run_state(folder) == RunState("finished", 6)
    assert (folder / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()
    assert (folder / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_what_is_refused_leaves_no_folder_and_puts_the_old_run_back(start, run_config, tmp_path, monkeypatch):
    few = replace(run_config, training=replace(run_config.training, batch_size=4000))
    broken = replace(run_config, training=replace(run_config.training, max_steps=5))
    with pytest.raises(ValueError, match="one step takes 8000"):
        start(config=few)
    assert {path.name for path in tmp_path.iterdir()} == {"corpus.jsonl", "cache", ".run.lock"}
    folder = start()
    whole = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="one step takes 8000"):
        start(config=few, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(module, "check_checkpoint", None)
        patch.setattr(module, "last_checkpoint", lambda _: 1 / 0)
        for config, words in ((broken, {"overwrite": True}), (broken, {"name": "other"})):
            with pytest.raises(ZeroDivisionError):
                start(config=config, **words)
    assert {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == whole
    assert {path.name for path in tmp_path.iterdir()} == {"corpus.jsonl", "cache", ".run.lock", ".other.lock", "run"}


def test_of_two_processes_one_trains(tmp_path):
    """At the same time into the same folder; the other says who holds it, and nothing is interleaved."""
    write_short_corpus(tmp_path)
    run_script(HERE / "rival_runs.py", tmp_path)
    rivals = load_json(tmp_path / "rivals.json")
    assert rivals["codes"] == {"a": 0, "b": 0}
    said = {name: (tmp_path / f"{name}.said").read_text() for name in "ab"}
    (loser,) = (name for name in said if said[name])
    winner = "ab".replace(loser, "")
    holder = rf"HeldElsewhereError: .*run is being written by process {rivals['processes'][winner]} on .* since "
    assert re.match(holder, said[loser])
    rate = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]["learning_rate"]
    assert rate == {"a": 0.01, "b": 0.02}[winner]
    steps = [line["step"] for line in lines(tmp_path / "run") if "loss" in line]
    assert steps == list(range(3, 40, 3))
    assert run_state(tmp_path / "run") == RunState("finished", 40)


def interrupt(folder, *, keep):
    """Put a finished run back to where its checkpoint stood."""
    record = load_json(folder / "run.json")
    (folder / "run.json").write_text(json.dumps(record | {"status": "running"}))
    for path in (folder / "checkpoints").iterdir():
        if path.name != f"checkpoint-{keep}":
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


def test_an_interrupted_run_asks_for_the_same_configuration(start, run_config):
    folder = start()
    interrupt(folder, keep=4)
    other = replace(run_config, training=replace(run_config.training, learning_rate=2e-2))
    with pytest.raises(FileExistsError, match=r"another configuration \(training.learning_rate was 0.01 and is 0.02\)"):
        start(config=other)
    with pytest.raises(FileExistsError, match=r"holds a run that is running"):
        start(resume="never")
    weights = (folder / "model/model.safetensors").read_bytes()
    start()
    assert (folder / "model/model.safetensors").read_bytes() == weights


def test_a_run_killed_after_its_last_step_is_only_finished(start, monkeypatch):
    folder = start()
    metrics, weights = (folder / "metrics.jsonl").read_text(), (folder / "model/model.safetensors").read_bytes()
    interrupt(folder, keep=6)
    (folder / "model/model.safetensors").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("transformers.Trainer.training_step", None)
        start()
    assert (folder / "metrics.jsonl").read_text() == metrics
    assert (folder / "model/model.safetensors").read_bytes() == weights
    assert load_json(folder / "run.json")["status"] == "finished"


def test_a_truncated_checkpoint_is_said(start):
    folder = start()
    interrupt(folder, keep=4)
    damaged = folder / "checkpoints/checkpoint-4/optimizer.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"checkpoint-4 is damaged") as caught:
        start()
    assert "\n" not in str(caught.value)


def test_rising_validation_losses_end_the_run(start, run_config):
    """A rate far too high makes the loss rise; the patience is two rises in a row."""
    training = replace(
        run_config.training,
        max_steps=60,
        learning_rate=0.3,
        min_learning_rate=0.3,
        eval_steps=1,
        logging_steps=60,
        save_steps=100,
        early_stopping_patience=2,
    )
    folder = start(config=replace(run_config, training=training))
    losses = [line["eval_loss"] for line in lines(folder) if "eval_loss" in line]
    assert len(losses) < 60
    assert losses[-1] > losses[-2] > losses[-3]
    rises = [later > earlier for earlier, later in pairwise(losses)]
    assert not any(a and b for a, b in pairwise(rises[:-1]))  # not a step too late
    record = load_json(folder / "run.json")
    assert (record["stopped_early"], record["steps"], record["status"]) == (True, len(losses), "finished")


def test_a_wider_configuration_is_kept_whole(start, run_config):
    @dataclass
    class WithModel:
        overwrite: bool = False
        model: dict = field(default_factory=lambda: {"preset": "small"})
        data: DataConfig = field(default_factory=DataConfig)
        spatial: SpatialConfig = field(default_factory=SpatialConfig)
        smoothness: SmoothnessConfig = field(default_factory=SmoothnessConfig)
        training: TrainingConfig = field(default_factory=TrainingConfig)

    config = WithModel(
        data=run_config.data, spatial=run_config.spatial, training=replace(run_config.training, max_steps=1)
    )
    folder = start(config=config)
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"] == {"preset": "small"}
    interrupt(folder, keep=1)
    with pytest.raises(FileExistsError, match=r"model.preset was small and is large"):
        start(config=replace(config, model={"preset": "large"}))
    start(config=replace(config, overwrite=True))  # a word of the caller's, not a part of the run
    assert load_json(folder / "run.json")["status"] == "finished"


BAD = {
    "radius": (lambda c: replace(c, spatial=replace(c.spatial, radius=9)), "radius=9 needs a 17 x 17 block on a 4 x 4"),
    "sites": (lambda c: replace(c, spatial=replace(c.spatial, sites=["no.such"])), "'no.such' matches no module"),
    "long": (lambda c: replace(c, data=replace(c.data, sequence_length=64)), "the model takes 32 tokens at most"),
    "patience": (
        lambda c: replace(
            c,
            data=replace(c.data, validation_fraction=0.0),
            training=replace(c.training, early_stopping_patience=2),
        ),
        "data.validation_fraction is 0; hold some documents out",
    ),
    "fsdp": (lambda c: replace(c, training=replace(c.training, fsdp=True)), "start several with torchrun"),
    "bf16": (
        lambda c: replace(c, training=replace(c.training, bf16=True, cpu=False)),
        "no accelerator here .*; say training.bf16=false",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_before_anything_is_made(start, run_config, tmp_path, name):
    change, said = BAD[name]
    if name == "bf16" and torch.cuda.is_available() and torch.cuda.is_bf16_supported():
        pytest.skip("the accelerator here computes in bfloat16")
    with pytest.raises(ValueError, match=said) as caught:
        start(config=change(run_config))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def test_a_vocabulary_that_is_too_small_is_refused(start, tokenizer, small_gpt2):
    model = small_gpt2(tokenizer)
    model.config.vocab_size = 200
    with pytest.raises(ValueError, match=f"tokenizer has {len(tokenizer)} entries, the model 200"):
        start(model=model)


def test_too_few_windows_for_a_step_are_said(start, run_config):
    config = replace(run_config, training=replace(run_config.training, batch_size=4000))
    with pytest.raises(ValueError, match=r"training items of 16 tokens; one step takes 8000 \(batch_size x"):
        start(config=config)


@pytest.mark.parametrize(("library", "report_to"), [("accelerate", "none"), ("wandb", "wandb")])
def test_missing_extras_are_named(start, run_config, monkeypatch, library, report_to):
    find = module.importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == library else find(name))
    config = replace(run_config, training=replace(run_config.training, report_to=report_to))
    with pytest.raises(ImportError, match=rf"needs {library}, which is not installed; run `pip install 'topographic\["):
        start(config=config)


def test_sharding_needs_accelerators(start, run_config, monkeypatch):
    """As under torchrun on a machine without accelerators, where accelerate would quietly replicate."""

    def quietly(config, *rest, **words):
        return training_arguments(replace(config, fsdp=False), *rest, **words)

    monkeypatch.setattr(module, "training_arguments", quietly)
    monkeypatch.setattr(module, "_require_machine", lambda *_: None)
    config = replace(run_config, training=replace(run_config.training, fsdp=True))
    with pytest.raises(ValueError, match=r"training.fsdp=True on cpu; parameters are sharded over accelerators only"):
        start(config=config)


def test_the_rehearsal_leaves_the_model_as_it_was(tokenizer, small_gpt2, run_config):
    model = small_gpt2(tokenizer, dropout=0.5)
    state = torch.get_rng_state()
    rehearse(model, configured_objective(model, run_config), EXAMPLE_TOKENS)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_arguments_say_what_the_configuration_says(tmp_path):
    config = TrainingConfig(bf16=True, cpu=True, save_steps=7, keep_checkpoints=None, seed=5, report_to="none")
    arguments = training_arguments(config, tmp_path, evaluates=False)
    assert arguments.bf16
    assert (arguments.eval_strategy, arguments.save_steps, arguments.save_total_limit) == ("no", 7, None)
    assert (arguments.adam_beta1, arguments.adam_beta2, arguments.weight_decay) == (0.9, 0.95, 0.1)
    assert (arguments.seed, arguments.data_seed) == (5, 5)
    assert arguments.report_to == []
    assert RunConfig().training == TrainingConfig()


def test_smooth_weights_beside_the_spatial_loss_resume_exactly(start, run_config):
    smoothness = SmoothnessConfig(
        weight=2.0, sites=["transformer.h.*.mlp.c_fc"], factor=2.0, schedule="linear", schedule_steps=4
    )
    config = replace(run_config, smoothness=smoothness)
    folder = start("whole", config=config)
    logged = [line for line in lines(folder) if "loss" in line]
    for line in logged:
        parts = line["task_loss"] + line["spatial_loss"] + line["smoothness_loss"]
        assert line["loss"] == pytest.approx(parts, rel=1e-4)
    # the weight of the last of each two steps; it has risen, and the loss of the layers falls
    assert [line["smoothness_weight"] for line in logged] == [0.5, 1.5, 2.0]
    assert logged[-1]["smoothness/transformer.h.0.mlp.c_fc"] < logged[0]["smoothness/transformer.h.0.mlp.c_fc"]
    start("killed", config=config)
    killed = folder.parent / "killed"
    interrupt(killed, keep=4)
    start("killed", config=config)
    assert (killed / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()
    assert (killed / "model/model.safetensors").read_bytes() == (folder / "model/model.safetensors").read_bytes()


def test_neighbours_wires_and_swaps_resume_exactly(start, run_config):
    layers = ["transformer.h.*.mlp.c_fc", "transformer.h.*.mlp.c_proj"]
    sections = {
        "neighbor_weights": NeighborWeightsConfig(0.5, layers[0], metric="cosine"),
        "neighbor_activations": NeighborActivationsConfig(0.5, "transformer.h.*.attn", metric="correlation"),
        "wiring": WiringConfig(10.0, layers, swap=layers, swap_steps=1),
    }
    config = replace(run_config, **sections)
    folder = start("whole", config=config)
    logged = [line for line in lines(folder) if "loss" in line]
    for line in logged:
        added = sum(line[f"{name}_loss"] for name in ("task", "spatial", *sections) if name != "task")
        assert line["loss"] == pytest.approx(line["task_loss"] + added, rel=1e-4)
        assert line["wiring/transformer.h.1.mlp.c_proj"] > 0
    start("killed", config=config)
    killed = folder.parent / "killed"
    interrupt(killed, keep=4)
    start("killed", config=config)
    assert (killed / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()
    assert (killed / "model/model.safetensors").read_bytes() == (folder / "model/model.safetensors").read_bytes()
    still = start("still", config=replace(config, wiring=replace(config.wiring, swap=None, swap_steps=200)))
    trained, other = (load_file(one / "model/model.safetensors") for one in (folder, still))
    name = "transformer.h.0.mlp.c_fc.weight"
    assert not torch.equal(trained[name], other[name]), "units have changed places"


def test_swaps_of_sharded_weights_are_refused(run_config):
    layers = ["transformer.h.*.mlp.c_fc", "transformer.h.*.mlp.c_proj"]
    training = replace(run_config.training, fsdp=True)
    config = replace(run_config, wiring=WiringConfig(1.0, layers, swap=layers), training=training)
    with pytest.raises(
        ValueError, match=r"^wiring.swap=.* with training.fsdp=True, which leaves no process all weights"
    ):
        module.unit_swaps(torch.nn.Identity(), config, EXAMPLE_TOKENS)


def test_sheets_of_many_kinds_resume_exactly(start, run_config):
    """From the file, where pairs are lists."""
    sheets = [
        WeightSheetConfig("transformer.h.0.mlp.c_fc", factor=(2.0, 3.0), shape=(9, 8), scale=0.5),
        WeightSheetConfig("transformer.h.*.mlp.c_proj", "input", layout="permuted_grid", layout_seed=1),
        WeightSheetConfig("transformer.h.1.mlp.c_fc", scale=None),
    ]
    config = replace(run_config, smoothness=SmoothnessConfig(weight=2.0, factor=(2.0, 1.5), sheets=sheets))
    folder = start(config=config)
    metrics, weights = (folder / "metrics.jsonl").read_text(), (folder / "model/model.safetensors").read_bytes()
    logged = [line for line in lines(folder) if "loss" in line]
    names = ("h.0.mlp.c_fc", "h.0.mlp.c_proj.inputs", "h.1.mlp.c_proj.inputs", "h.1.mlp.c_fc")
    assert {name for name in logged[0] if "/" in name and name.startswith("smooth")} == {
        f"smoothness/transformer.{name}" for name in names
    }
    assert "smoothness_weight" not in logged[0], "the configuration says it"
    interrupt(folder, keep=4)
    start(config=config)
    assert (folder / "metrics.jsonl").read_text() == metrics
    assert (folder / "model/model.safetensors").read_bytes() == weights
    interrupt(folder, keep=4)
    other = replace(config.smoothness, sheets=[replace(sheets[0], shape=(8, 9)), *sheets[1:]])
    with pytest.raises(FileExistsError, match=r"another configuration \(smoothness.sheets was "):
        start(config=replace(config, smoothness=other))


def test_a_file_from_before_a_field_existed_goes_on_if_the_field_is_at_its_default(start, run_config):
    folder = start()
    weights = (folder / "model/model.safetensors").read_bytes()
    written = yaml.safe_load((folder / "config.yaml").read_text())
    for name in ("sheets", "factor"):
        del written["smoothness"][name]
    without = {key: entry for key, entry in written.items() if key != "smoothness"}
    for said, changed in ((written, {}), (without, {}), (written, {"factor": 4.0})):
        interrupt(folder, keep=4)
        (folder / "config.yaml").write_text(yaml.safe_dump(said))
        config = replace(run_config, smoothness=SmoothnessConfig(**changed))
        if changed:
            with pytest.raises(FileExistsError, match=r"\(smoothness.factor was 3.0 and is 4.0\)"):
                start(config=config)
        else:
            start(config=config)
            assert (folder / "model/model.safetensors").read_bytes() == weights
            assert yaml.safe_load((folder / "config.yaml").read_text()) == plain(run_config), "the whole of it again"


class Digits(torch.utils.data.Dataset):
    """Sentences of different lengths whose first token says their class."""

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return {"input_ids": [3 + index % 2] + [7 + index % 5] * (1 + index % 4), "labels": index % 2}


def padded(items):
    longest = max(len(item["input_ids"]) for item in items)
    ids = [item["input_ids"] + [0] * (longest - len(item["input_ids"])) for item in items]
    kept = [[1] * len(item["input_ids"]) + [0] * (longest - len(item["input_ids"])) for item in items]
    batch = {"input_ids": ids, "attention_mask": kept, "labels": [item["labels"] for item in items]}
    return {name: torch.tensor(entry) for name, entry in batch.items()}


def test_anything_can_be_trained_on(tmp_path, run_config, tokenizer):
    """A classifier of padded sentences, with a metric; pads are no samples of the spatial loss."""
    torch.manual_seed(0)
    shape = {"n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 300}
    model = GPT2ForSequenceClassification(GPT2Config(**shape, pad_token_id=0, num_labels=2))

    def accuracy(predicted):
        return {"accuracy": float((predicted.predictions.argmax(-1) == predicted.label_ids).mean())}

    def prepare():
        about = {"text": "digits"}
        return Material(Digits(), Digits(), about, 0, ("sentences", 1), collator=padded, metrics=accuracy)

    training = replace(run_config.training, max_steps=30, eval_steps=30, eval_batches=None, logging_steps=10)
    spatial = replace(run_config.spatial, sites=["transformer.h.*.mlp"])
    config = replace(run_config, training=training, spatial=spatial)
    example = {"input_ids": torch.zeros(2, 2, dtype=torch.int64)}
    folder = train_on(model, config, tmp_path / "run", prepare=prepare, example=example, processor=tokenizer)
    (validated,) = [line for line in lines(folder) if "eval_loss" in line]
    assert validated["eval_accuracy"] == 1.0
    record = load_json(folder / "run.json")
    assert record["sentences_seen"] == 30 * 2 * 4
    assert record["corpus"] == {"text": "digits"}
    assert "tokens_seen" not in record


def few_documents(path, *, labels):
    """Of two steps an epoch: 40 sentences with a word that says their label."""
    draw = np.random.default_rng(0)
    rows = []
    for number in range(40):
        words = [*draw.choice(["river", "tree", "cat"], size=int(draw.integers(8, 20))), ["bad", "good"][number % 2]]
        rows.append({"text": f"{number} " + " ".join(words)} | ({"label": number % 2} if labels else {}))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("objective", ["masked_tokens", "labels"])
def test_what_is_learnt_from_text_resumes_to_the_bit_with_a_spatial_loss_beside(objective, tmp_path, run_config):
    """Across epochs, of which each masks anew; with dropout, and sheets of queries, keys, values and outputs."""
    data = DataConfig(
        text=str(few_documents(tmp_path / "texts.jsonl", labels=objective == "labels")),
        vocab_size=300,
        sequence_length=16,
        validation_fraction=0.2,
        objective=objective,
        cache_folder=str(tmp_path / "cache"),
    )
    training = replace(run_config.training, max_steps=10, save_steps=3, eval_steps=5, keep_checkpoints=None)
    config = RunConfig(data, SpatialConfig(radius=2, n_neighborhoods=2, weight=0.5), training=training)
    reader = load_tokenizer(data)
    shape = preset("topoformer_tiny", vocab_size=384, dropout=0.1)

    def start(name, seed):
        return train(fresh_model(shape, seed=seed, objective=objective), reader, config, tmp_path / name)

    whole, killed = start("whole", 0), start("killed", 0)
    interrupt(killed, keep=6)
    start("killed", 99)
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert (killed / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()
    logged = lines(whole)
    assert logged[-1]["epoch"] > 2
    assert all(line["loss"] == pytest.approx(line["task_loss"] + line["spatial_loss"], rel=1e-4) for line in logged[:2])
    assert ("eval_accuracy" in logged[-1]) is (objective == "labels")
    again = AutoTokenizer.from_pretrained(whole / "model")
    assert (again.mask_token is not None) is (objective == "masked_tokens")
    corpus = load_json(whole / "run.json")["corpus"]
    assert corpus.get("masked_fraction") == (0.15 if objective == "masked_tokens" else None)
    assert corpus.get("labels") == (["negative", "positive"] if objective == "labels" else None)


def test_labels_are_learnt(tmp_path, run_config):
    data = DataConfig(
        text=str(few_documents(tmp_path / "texts.jsonl", labels=True)),
        vocab_size=300,
        sequence_length=16,
        validation_fraction=0.2,
        objective="labels",
        cache_folder=str(tmp_path / "cache"),
    )
    rates = {"learning_rate": 3e-3, "min_learning_rate": 3e-3, "max_steps": 60, "eval_steps": 60, "save_steps": 60}
    config = RunConfig(data, SpatialConfig(weight=0.0), training=replace(run_config.training, **rates))
    model = fresh_model(
        preset("topoformer_imdb", n_embd=36, n_inner=72, dropout=0.0, vocab_size=384), seed=0, objective="labels"
    )
    assert lines(train(model, load_tokenizer(data), config, tmp_path / "run"))[-1]["eval_accuracy"] > 0.7


def test_documents_without_labels_or_pads_are_refused_before_a_step(tmp_path, run_config, tokenizer):
    path = few_documents(tmp_path / "texts.jsonl", labels=False)
    data = replace(run_config.data, text=str(path), objective="labels", sequence_length=16)
    config = RunConfig(data, SpatialConfig(weight=0.0), training=run_config.training)
    model = fresh_model(preset("topoformer_tiny", vocab_size=384), seed=0, objective="labels")
    with pytest.raises(ValueError, match="line 1 has no column 'label'"):
        train(model, load_tokenizer(data), config, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
    padless = load_tokenizer(replace(data, objective="next_token"))
    padless.pad_token = None
    with pytest.raises(ValueError, match="has no pad token"):
        train(model, padless, config, tmp_path / "run")


def test_low_rank_updates_are_resumed_and_saved_as_weights_of_the_model(start, run_config, tokenizer, small_gpt2):
    """Interrupted and resumed it ends where an unbroken run ends, in a folder of the model's own architecture."""
    settings = replace(run_config.training, adapter="lora", adapter_rank=2, save_steps=3)
    config = replace(run_config, training=settings)
    whole = start("whole", config=config)
    resumed = whole.with_name("resumed")
    shutil.copytree(whole, resumed, ignore=shutil.ignore_patterns("model", "checkpoint-6"))
    record = load_json(resumed / "run.json")
    (resumed / "run.json").write_text(json.dumps({**record, "status": "interrupted", "steps": 3}))
    start("resumed", config=config)
    tensors = load_file(whole / "model/model.safetensors")
    again = load_file(resumed / "model/model.safetensors")
    assert [entry["step"] for entry in load_json(resumed / "run.json")["resumed"]] == [3]
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    fresh = small_gpt2(tokenizer).state_dict()
    assert not [name for name in tensors if "lora" in name]
    assert not torch.equal(tensors["transformer.h.0.attn.c_attn.weight"], fresh["transformer.h.0.attn.c_attn.weight"])
    assert torch.equal(tensors["transformer.wte.weight"], fresh["transformer.wte.weight"])
    model = AutoModelForCausalLM.from_pretrained(whole / "model")
    assert torch.equal(
        model.state_dict()["transformer.h.0.attn.c_attn.weight"], tensors["transformer.h.0.attn.c_attn.weight"]
    )
    assert {"loss", "task_loss"} <= set().union(*lines(whole))
