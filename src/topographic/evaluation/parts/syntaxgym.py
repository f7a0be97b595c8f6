"""SyntaxGym: whether predictions about the surprisal of regions hold."""

from typing import Any

from topographic.behaviour import syntaxgym
from topographic.evaluation.choices import Choices
from topographic.evaluation.results import Findings, Table
from topographic.evaluation.subject import LanguageSubject

__all__ = ["syntax"]


def syntax(subject: LanguageSubject, choices: Choices) -> Findings:
    """Shares of items of which all predictions hold."""
    options = {"batch_size": subject.shown.batch_size, "progress": subject.progress}
    scores = syntaxgym(subject.model, subject.tokenizer, subject.suites(), **options)
    rows: dict[str, list[dict[str, Any]]] = {"suite": [], "prediction": []}
    for row in scores.to_rows():
        level = "prediction" if row["level"] == "prediction" else "suite"
        share = {column: row[column] for column in ("accuracy", "low", "high")}
        rows[level].append({level: row["name"], "items": row["n_items"], **share})
    return Findings(
        "SyntaxGym",
        "Share of items of which all predictions about the surprisal of regions hold, with 95 % intervals over items. "
        "Chance depends on the suite: a half for one comparison, less where several have to hold at once.",
        [
            Table("suites", "By suite", rows["suite"], "", ("suite",), ("items", "accuracy", "low", "high")),
            Table("predictions", "By prediction", rows["prediction"], "Of suites with more than one prediction."),
        ],
    )
