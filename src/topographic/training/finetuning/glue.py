"""The tasks of GLUE: which texts, which labels, which measures, and how a file or a hub names them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["TASKS", "Task", "task_named"]

_ONE_SPLIT = MappingProxyType({"": "validation"})


@dataclass(frozen=True)
class Task:
    """A task of labelling texts or pairs of texts.

    Parameters
    ----------
    texts : tuple of str
        Columns of the one or two texts.
    labels : tuple of str
        Names of the labels in the order of their numbers; none where the label is a score.
    metrics : tuple of str
        Keys of `scores.METRICS`; the first is the one that tables compare.
    splits : mapping of str to str
        The validation splits, by what is added to the task's name in tables.
    span : (float, float), optional
        Lowest and highest score, where the label is one.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    splits: Mapping[str, str] = field(default_factory=lambda: _ONE_SPLIT)
    span: tuple[float, float] | None = None

    @property
    def is_regression(self) -> bool:
        """Whether the label is a score."""
        return not self.labels

    @property
    def n_outputs(self) -> int:
        """Numbers a model gives per item: one per label, or the score."""
        return max(1, len(self.labels))


def task_named(name: str) -> Task:
    """Look a task up."""
    if name not in TASKS:
        raise ValueError(f"no task {name!r}; expected one of {', '.join(TASKS)}")
    return TASKS[name]


# Wang et al., GLUE: a multi-task benchmark and analysis platform for natural language understanding, ICLR 2019
TASKS: dict[str, Task] = {
    "cola": Task(("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
    "sst2": Task(("sentence",), ("negative", "positive"), ("accuracy",)),
    "mrpc": Task(("sentence1", "sentence2"), ("not_equivalent", "equivalent"), ("f1", "accuracy")),
    "stsb": Task(("sentence1", "sentence2"), (), ("pearson", "spearman"), span=(0.0, 5.0)),
    "qqp": Task(("question1", "question2"), ("not_duplicate", "duplicate"), ("f1", "accuracy")),
    "mnli": Task(
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy",),
        MappingProxyType({"-m": "validation_matched", "-mm": "validation_mismatched"}),
    ),
    "qnli": Task(("question", "sentence"), ("entailment", "not_entailment"), ("accuracy",)),
    "rte": Task(("sentence1", "sentence2"), ("entailment", "not_entailment"), ("accuracy",)),
    "wnli": Task(("sentence1", "sentence2"), ("not_entailment", "entailment"), ("accuracy",)),
}
