"""Minimal pairs per phenomenon and paradigm, and perplexity, beside the published numbers."""

from collections.abc import Mapping
from typing import Any

from topographic.behaviour import perplexity
from topographic.evaluation.choices import Choices
from topographic.evaluation.published_numbers import published_columns
from topographic.evaluation.results import Findings, Table
from topographic.evaluation.subject import LanguageSubject

__all__ = ["grammar"]


def grammar(subject: LanguageSubject, choices: Choices) -> Findings:
    """Shares of pairs whose grammatical sentence is the more probable one."""
    scores, passages = subject.read(subject.model, subject.minimal_pairs(), progress=subject.progress)
    rows = [
        {"phenomenon": row["name"], **_accuracy(row)}
        | published_columns("topolm_language", "BLiMP", phenomenon=row["name"])
        for row in (*scores.by_phenomenon(), scores.overall())
    ]
    paradigms = [
        {"paradigm": row["name"], "phenomenon": row["phenomenon"], **_accuracy(row)} for row in scores.by_paradigm()
    ]
    text = {"text": "good sentences" if subject.shown.text is None else subject.shown.text, "passages": len(passages)}
    text |= {"perplexity": perplexity(passages)}
    return Findings(
        "Minimal pairs",
        "Share of pairs whose grammatical sentence is the more probable one, with 95 % intervals over pairs; chance is "
        "0.5, a tie counts as wrong. Each sentence is scored whole after the beginning-of-text token, pads never.",
        [
            Table(
                "phenomena",
                "By phenomenon",
                rows,
                "Published: BLiMP, its pads scored; other pairs are other numbers.",
                keys=("phenomenon",),
                headline=("pairs", "accuracy", "low", "high", "TopoLM (published)", "control (published)"),
            ),
            Table("perplexity", "Perplexity", [text], keys=("text",), headline=("passages", "perplexity")),
            Table("paradigms", "By paradigm", paradigms),
        ],
        notes=[f"{scores.n_ties} of {len(scores.good)} pairs tie."] if scores.n_ties else [],
    )


def _accuracy(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"pairs": row["n_pairs"], **{column: row[column] for column in ("accuracy", "low", "high")}}
