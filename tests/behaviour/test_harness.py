import copy
import json
import random
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2LMHeadModel

from topographic.behaviour.harness import (
    FUNCTIONAL_TASKS,
    evaluate_with_harness,
    functional_competence,
    harness_command,
    harness_version,
)
from topographic.behaviour.minimal_pairs import minimal_pairs
from topographic.behaviour.surprisal import token_log_probabilities
from topographic.models import TopoLMForCausalLM, preset, register

NO_HARNESS = "lm-evaluation-harness is not installed (pip install topographic[eval])"
TASK = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    train: {file}
validation_split: train
output_type: multiple_choice
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{{{[sentence_good, sentence_bad]}}}}"
num_fewshot: 0
metric_list:
  - metric: acc
"""


@pytest.fixture
def task_folder(tmp_path, own_pairs, monkeypatch):
    """The shipped pairs and one tie as a task on a local file, in BLiMP's own terms."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    pairs = [*zip(own_pairs.items[::2], own_pairs.items[1::2], strict=True), ("A dog.", "A dog.")]
    lines = [json.dumps({"sentence_good": good, "sentence_bad": bad}) for good, bad in pairs]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "own.yaml").write_text(TASK.format(name="own_pairs", file=tmp_path / "pairs.jsonl"))
    (folder / "group.yaml").write_text(
        "group: own_group\ntask:\n  - own_pairs\naggregate_metric_list:\n  - metric: acc\n    weight_by_size: false\n"
    )
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_items": 0}, "n_items=0; expected at least 1"),
        ({"n_examples": -1}, "n_examples=-1; expected at least 0"),
        ({"batch_size": 0}, "batch_size=0; expected at least 1"),
    ],
)
def test_bad_numbers_are_refused_before_the_harness_is_looked_for(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_with_harness(nn.Linear(1, 1), None, "blimp", **options)
    with pytest.raises(TypeError, match=r"model is the string 'gpt2'; expected a Module: a loaded model"):
        evaluate_with_harness("gpt2", None, "blimp")


@pytest.mark.parametrize(
    "call",
    [
        lambda: evaluate_with_harness(nn.Linear(1, 1), None, "blimp"),
        lambda: harness_command([]),
        lambda: functional_competence(nn.Linear(1, 1), None, "tasks"),
        harness_version,
    ],
)
def test_without_the_harness_the_message_says_what_to_install(monkeypatch, call):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"cannot be imported .*; install it with: pip install topographic\[eval\]"
    ):
        call()


def test_command_hands_its_arguments_on_and_restores_them(monkeypatch):
    seen = []
    main = types.ModuleType("lm_eval.__main__")
    main.cli_evaluate = lambda: seen.append(list(sys.argv))
    monkeypatch.setitem(sys.modules, "lm_eval", types.ModuleType("lm_eval"))
    monkeypatch.setitem(sys.modules, "lm_eval.__main__", main)
    before = list(sys.argv)
    harness_command(["--model", "hf", "--tasks", "blimp"])
    assert seen == [["lm_eval", "--model", "hf", "--tasks", "blimp"]]
    assert sys.argv == before

    def fail():
        raise SystemExit(2)

    main.cli_evaluate = fail
    with pytest.raises(SystemExit):
        harness_command(["--nonsense"])
    assert sys.argv == before


class StandInManager:
    """Knows a task for every .yaml of a folder, as the harness's own does."""

    def __init__(self, include_path=None, include_defaults=True):
        assert include_defaults is False
        self.all_tasks = sorted(path.stem for path in Path(include_path).glob("*.yaml"))


@pytest.fixture
def stand_in(monkeypatch):
    """A harness that answers from a table: {task: {metric: value}}, an exception in place of the table is raised."""
    answers = {}

    def evaluate(model, tasks, num_fewshot, limit, **_):
        if "raise" in answers:
            raise answers["raise"]
        results = {task: {"alias": task, **answers[task]} for task in tasks}
        return {"results": results, "n-samples": {task: {"effective": limit or 8} for task in tasks}}

    modules = {name: types.ModuleType(name) for name in ("lm_eval", "lm_eval.models.huggingface", "lm_eval.tasks")}
    modules["lm_eval"].simple_evaluate = evaluate
    modules["lm_eval.models.huggingface"].HFLM = lambda **_: None
    modules["lm_eval.tasks"].TaskManager = StandInManager
    for name, one in modules.items():
        monkeypatch.setitem(sys.modules, name, one)
    return answers


def test_functional_competence_names_what_is_missing_and_gives_it_no_number(stand_in, gpt2, tokenizer, tmp_path):
    for name in ("piqa", "arc_easy", "blimp"):
        (tmp_path / f"{name}.yaml").write_text("")
    stand_in |= {
        "piqa": {"acc,none": 0.6, "acc_stderr,none": 0.1, "acc_norm,none": 0.7},
        "arc_easy": {"acc,none": 0.25, "acc_stderr,none": "N/A"},
    }
    rows = {row["task"]: row for row in functional_competence(gpt2, tokenizer, tmp_path, n_items=4)}
    assert list(rows) == list(FUNCTIONAL_TASKS)
    assert rows["piqa"] == {
        "task": "piqa",
        "value": 0.6,
        "stderr": 0.1,
        "n_items": 4,
        "chance": 0.5,
        "missing": None,
    }
    assert (rows["arc_easy"]["value"], rows["arc_easy"]["stderr"]) == (0.25, None)
    absent = [rows[name] for name in ("arc_challenge", "hellaswag", "winogrande", "social_iqa")]
    assert all(row["value"] is None and row["missing"] == f"no definition in {tmp_path}" for row in absent)
    assert rows["social_iqa"]["chance"] == pytest.approx(1 / 3)


def test_tasks_that_cannot_be_measured_are_said_in_one_line(stand_in, gpt2, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"defines none of arc_easy, .*; expected one \.yaml each, on local files"):
        functional_competence(gpt2, tokenizer, tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder absent; expected task definitions"):
        functional_competence(gpt2, tokenizer, "absent")
    (tmp_path / "piqa.yaml").write_text("")
    stand_in["piqa"] = {"acc_norm,none": 0.7}
    with pytest.raises(ValueError, match=r"piqa in .* has no metric acc; add it to its metric_list"):
        functional_competence(gpt2, tokenizer, tmp_path)
    for failure in (FileNotFoundError("no such file"), ConnectionError("no route")):
        stand_in["raise"] = failure
        with pytest.raises(FileNotFoundError, match=r"the data of piqa cannot be read \(no .*\); expected local files"):
            functional_competence(gpt2, tokenizer, tmp_path)


def test_functional_competence_is_the_harness_s_own(gpt2, tokenizer, own_pairs, task_folder):
    pytest.importorskip("lm_eval.models.huggingface", reason=NO_HARNESS)
    own = (task_folder / "own.yaml").read_text()
    (task_folder / "piqa.yaml").write_text(own.replace("task: own_pairs", "task: piqa"))
    rows = {row["task"]: row for row in functional_competence(gpt2, tokenizer, task_folder)}
    (direct,) = evaluate_with_harness(gpt2, tokenizer, "own_pairs", task_folder=task_folder)
    assert rows["piqa"]["value"] == direct["value"]
    assert rows["hellaswag"]["value"] is None
    assert harness_version()


def harness_log_likelihoods(model, tokenizer, texts, batch_size):
    huggingface = pytest.importorskip("lm_eval.models.huggingface", reason=NO_HARNESS)
    from lm_eval.api.instance import Instance

    wrapped = huggingface.HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
    requests = [Instance("loglikelihood", {}, ("", text), index) for index, text in enumerate(texts)]
    return np.array([answer[0] for answer in wrapped.loglikelihood(requests, disable_tqdm=True)])


@pytest.mark.parametrize("batch_size", [1, 16])
def test_log_likelihoods_equal_the_harness(gpt2, tokenizer, own_pairs, batch_size):
    texts = [*own_pairs.items, "No", f"{tokenizer.eos_token}The dog runs.", "Zwölf Örter"]
    expected = harness_log_likelihoods(gpt2, tokenizer, texts, batch_size)
    found = [tokens.sum() for tokens in token_log_probabilities(gpt2, tokenizer, texts)]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(expected) > 10


def test_our_own_decoder_equals_the_harness_too(tokenizer, own_pairs):
    model = TopoLMForCausalLM(preset("tiny", vocab_size=len(tokenizer), n_positions=64, initializer_range=0.3)).eval()
    expected = harness_log_likelihoods(model, tokenizer, own_pairs.items, 16)
    found = [tokens.sum() for tokens in token_log_probabilities(model, tokenizer, own_pairs.items)]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_tasks_give_rows_and_leave_everything_as_it_was(gpt2, tokenizer, own_pairs, task_folder):
    pytest.importorskip("lm_eval.models.huggingface", reason=NO_HARNESS)
    model = GPT2LMHeadModel(gpt2.config)
    model.load_state_dict(gpt2.state_dict())
    model.train()
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    drawn = []
    for seed in (1, 2):
        for generator in (random, torch):
            getattr(generator, "seed" if generator is random else "manual_seed")(seed)
        rows = evaluate_with_harness(model, tokenizer, "own_pairs", task_folder=task_folder)
        drawn.append((random.random(), torch.rand(()).item()))
    assert all(first != second for first, second in zip(*drawn, strict=True)), "the process was seeded"
    assert all(module.training for module in model.modules())
    assert tokenizer.pad_token is None
    assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())

    # the harness counts the tie as correct, we do not
    ours = minimal_pairs(gpt2, tokenizer, own_pairs, protocol="harness")
    assert (ours.correct != minimal_pairs(gpt2, tokenizer, own_pairs).correct).any()
    share = (ours.correct.sum() + 1) / 65
    assert rows == [
        {
            "task": "own_pairs",
            "metric": "acc",
            "value": pytest.approx(share),
            "stderr": pytest.approx(np.sqrt(share * (1 - share) / 64), rel=1e-6),
            "n_items": 65,
        }
    ]
    few = evaluate_with_harness(model, tokenizer, ["own_group"], n_items=10, task_folder=task_folder)
    assert {row["task"]: row["n_items"] for row in few} == {"own_group": None, "own_pairs": 10}
    assert [row["value"] for row in few] == pytest.approx([ours.correct[:10].mean()] * 2)


def test_unknown_tasks(gpt2, tokenizer, task_folder):
    pytest.importorskip("lm_eval.models.huggingface", reason=NO_HARNESS)
    for tasks, match in (
        ("no_such_task", "has no task no_such_task; `topo lm-eval ls tasks`"),
        ([], "no task without a name"),
    ):
        with pytest.raises(ValueError, match=match):
            evaluate_with_harness(gpt2, tokenizer, tasks, task_folder=task_folder)


@pytest.mark.slow  # the harness reads thousands of task definitions first
def test_a_saved_decoder_runs_under_the_harness_command(tokenizer, own_pairs, task_folder, tmp_path):
    pytest.importorskip("lm_eval.models.huggingface", reason=NO_HARNESS)
    pytest.importorskip("pytablewriter", reason="the harness prints its table with pytablewriter")
    model = TopoLMForCausalLM(preset("tiny", vocab_size=len(tokenizer), n_positions=64, initializer_range=0.3)).eval()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    register()
    harness_command([
        *("--model", "hf", "--model_args", f"pretrained={tmp_path / 'model'}", "--device", "cpu", "--batch_size", "16"),
        *("--tasks", "own_pairs", "--include_path", str(task_folder), "--output_path", str(tmp_path / "out")),
    ])
    (file,) = (tmp_path / "out").rglob("results_*.json")
    ours = minimal_pairs(model, tokenizer, own_pairs, protocol="harness")
    accuracy = json.loads(file.read_text())["results"]["own_pairs"]["acc,none"]
    assert accuracy == pytest.approx((ours.correct.sum() + ours.n_ties + 1) / 65)
