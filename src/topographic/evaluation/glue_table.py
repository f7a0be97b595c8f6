"""Scores of fine-tuned models beside their baselines and the published ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from topographic.evaluation.published_numbers import published
from topographic.evaluation.results import Table
from topographic.training.finetuning.glue import TASKS

__all__ = ["glue_table", "published_scores"]

_NOTE = (
    "95 % intervals over the validation items: Wilson's for accuracy and F1, Jeffreys' for Matthews, a bootstrap for "
    "correlations; they say nothing about other seeds. Majority class: the most frequent training label, or the mean "
    "score, for every item. The mean "
    "is over the tasks of this table, without wnli, as published, and counts both sets of mnli. Published: one seed "
    "each, attention in both directions, pairs joined otherwise in evaluation than in training, read off the last "
    "position whether or not it was a pad: good for orientation, not for differences of a few hundredths."
)


def glue_table(results: Sequence[Mapping[str, Any]], random_weights: Sequence[Mapping[str, Any]] = ()) -> Table:
    """One row per validation split and measure, and the mean."""
    main = {name: task.metrics[0] for name, task in _names().items()}
    baselines = {"majority class": _values(results, "majority")}
    if random_weights:
        baselines["random weights"] = _values(random_weights, "scores")
    rows: list[dict[str, Any]] = []
    for entry in (entry for result in results for entry in result["scores"]):
        name, metric = entry["name"], entry["metric"]
        row = {"task": name, "measure": metric, "items": entry["n_items"]}
        row |= {"score": entry["value"], "low": entry["low"], "high": entry["high"]}
        row |= {kind: values.get((name, metric)) for kind, values in baselines.items()}
        theirs = {f"{model} (published)": scores.get(name) for model, scores in published_scores().items()}
        rows.append(row | (theirs if metric == main[name] else dict.fromkeys(theirs)))
    counted = [row for row in rows if row["measure"] == main[row["task"]] and row["task"] != "wnli"]
    if len(counted) > 1:
        columns = [column for column in rows[0] if column not in ("task", "measure", "items", "low", "high")]
        rows.append({"task": f"mean of {len(counted)}", **{column: _mean(counted, column) for column in columns}})
    return Table("glue", "Downstream tasks", rows, _NOTE)


def published_scores() -> dict[str, dict[str, float]]:
    """Scores of a paper by model and task: TopoLM by the share of its alpha that was kept in fine-tuning."""
    found: dict[str, dict[str, float]] = {}
    for one in published("glue"):
        found.setdefault(one.model, {})[one.measure] = float(one.value)
    return found


def _names() -> dict[str, Any]:
    """Tasks by the names of their validation splits in tables."""
    return {f"{name}{suffix}": task for name, task in TASKS.items() for suffix in task.splits}


def _values(results: Sequence[Mapping[str, Any]], kind: str) -> dict[tuple[str, str], float | None]:
    return {(entry["name"], entry["metric"]): entry["value"] for result in results for entry in result[kind]}


def _mean(rows: Sequence[Mapping[str, Any]], column: str) -> float | None:
    """None as soon as one is missing: a mean over other tasks would be another number."""
    values = [row[column] for row in rows]
    return None if None in values else sum(values) / len(values)
