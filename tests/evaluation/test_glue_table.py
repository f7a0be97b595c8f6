import pytest

from topographic.evaluation.glue_table import glue_table, published_scores
from topographic.evaluation.results import save_table
from topographic.training.finetuning.glue import TASKS


def result(task, values, majority=0.5):
    """What `fine_tune` returns, with these numbers."""
    names = [f"{task}{suffix}" for suffix in TASKS[task].splits]
    entries = [(name, metric) for name in names for metric in TASKS[task].metrics]
    rows = [
        {"name": name, "metric": metric, "value": value, "low": value - 0.1, "high": value + 0.1, "n_items": 100}
        for (name, metric), value in zip(entries, values, strict=True)
    ]
    return {"scores": rows, "majority": [{**row, "value": majority} for row in rows]}


def test_published_means_are_the_published_means():
    """The mean over nine columns as the paper's data give it, wnli left out."""
    for (model, scores), expected in zip(published_scores().items(), (0.6520, 0.6770, 0.6847, 0.6803), strict=True):
        counted = [value for name, value in scores.items() if name != "wnli"]
        assert len(counted) == 9, model
        assert sum(counted) / 9 == pytest.approx(expected, abs=6e-5)
    names = {f"{name}{suffix}" for name, task in TASKS.items() for suffix in task.splits}
    assert all(set(scores) | {"wnli"} == names for scores in published_scores().values())


def test_one_row_per_split_and_measure():
    rows = glue_table([result("sst2", [0.8]), result("mrpc", [0.7, 0.6]), result("mnli", [0.5, 0.4])]).rows
    found = [(row["task"], row.get("measure")) for row in rows]
    expected = [("sst2", "accuracy"), ("mrpc", "f1"), ("mrpc", "accuracy"), ("mnli-m", "accuracy")]
    assert found == [*expected, ("mnli-mm", "accuracy"), ("mean of 4", None)]
    first, _, other, *_ = rows
    assert (first["score"], first["low"], first["high"], first["items"]) == (0.8, 0.8 - 0.1, 0.8 + 0.1, 100)
    assert first["control (published)"] == 0.8544
    assert first["TopoLM, alpha x 0.1 (published)"] == 0.8498
    assert other["control (published)"] is None, "the published number is an F1"


def test_means_are_over_the_measured_tasks_without_wnli():
    results = [result("sst2", [0.8]), result("mrpc", [0.7, 0.1]), result("wnli", [0.0])]
    mean = glue_table(results, [result("sst2", [0.5]), result("mrpc", [0.6, 0.1]), result("wnli", [0.9])]).rows[-1]
    assert mean["task"] == "mean of 2"
    assert mean["score"] == pytest.approx(0.75)
    assert mean["random weights"] == pytest.approx(0.55)
    assert mean["control (published)"] == pytest.approx((0.8544 + 0.8134) / 2)
    assert "low" not in mean


def test_no_mean_of_one_task_or_with_a_gap():
    assert len(glue_table([result("sst2", [0.8])]).rows) == 1
    rows = glue_table([result("sst2", [0.8]), result("stsb", [0.5, 0.5], majority=None)]).rows
    assert rows[-1]["majority class"] is None
    assert rows[-1]["score"] == pytest.approx(0.65)


def test_it_is_written_with_its_note(tmp_path):
    csv, markdown = save_table(tmp_path, glue_table([result("sst2", [0.8])]))
    text = markdown.read_text(encoding="utf-8")
    assert "| sst2 | accuracy | 100 | 0.800 | 0.700 | 0.900 | 0.500 | 0.854 |" in text
    assert "attention in both directions" in text
    assert csv.read_text().startswith("task,measure,items,score,low,high,majority class,control (published)")
