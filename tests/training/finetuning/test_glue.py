import pytest

from topographic.training.finetuning.glue import TASKS, task_named
from topographic.training.finetuning.scores import METRICS


def test_the_nine_tasks_are_those_of_glue():
    assert set(TASKS) == {"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"}
    pairs = {name for name, task in TASKS.items() if len(task.texts) == 2}
    assert set(TASKS) - pairs == {"cola", "sst2"}
    assert {name for name, task in TASKS.items() if task.is_regression} == {"stsb"}
    assert TASKS["stsb"].span == (0, 5)
    first = {name: task.metrics[0] for name, task in TASKS.items()}
    assert first.pop("cola") == "matthews"
    assert (first.pop("mrpc"), first.pop("qqp"), first.pop("stsb")) == ("f1", "f1", "pearson")
    assert set(first.values()) == {"accuracy"}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_be_scored_and_validated(name):
    task = task_named(name)
    assert set(task.metrics) <= set(METRICS)
    assert task.n_outputs == {"mnli": 3, "stsb": 1}.get(name, 2)
    splits = {"-m": "validation_matched", "-mm": "validation_mismatched"} if name == "mnli" else {"": "validation"}
    assert dict(task.splits) == splits


def test_unknown_task():
    with pytest.raises(ValueError, match="no task 'sst3'; expected one of cola, sst2, mrpc"):
        task_named("sst3")
