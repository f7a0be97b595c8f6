"""Evaluations as a report shows them: the headlines of several runs side by side, whatever the suite."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from topographic.evaluation.results import Findings, Table, cell_text
from topographic.pages.render import link, png_source
from topographic.pages.run_folder import Evaluation, RunFolder
from topographic.pages.tables import Cells

__all__ = ["side_by_side"]


def side_by_side(runs: Sequence[RunFolder], place: Path) -> list[dict[str, Any]]:
    """Every suite that some run was evaluated with, as ``evaluations.html`` shows it."""
    suites = dict.fromkeys(suite for run in runs for suite in run.evaluations)
    return [_suite(suite, runs, place) for suite in suites]


def _suite(name: str, runs: Sequence[RunFolder], place: Path) -> dict[str, Any]:
    have = {run.name: run.evaluations[name] for run in runs if name in run.evaluations}
    parts = dict.fromkeys(part for one in have.values() for part in one.parts)
    return {
        "name": name,
        "lacking": [run for run in runs if run.name not in have],
        "evaluations": {
            run: {"lead": one.lead, "link": link(one.folder / "index.html", place)} for run, one in have.items()
        },
        "parts": [_part(part, [run for run in runs if run.name in have], have) for part in parts],
    }


def _part(name: str, runs: Sequence[RunFolder], have: Mapping[str, Evaluation]) -> dict[str, Any]:
    """One part of a suite: what the runs that have it found, their pictures and tables."""
    parts = {run: one.parts.get(name) for run, one in have.items()}
    found = {run: findings for run, findings in parts.items() if findings is not None}
    pictures = dict.fromkeys(one.name for findings in found.values() for one in findings.pictures if one.headline)
    tables = dict.fromkeys(one.name for findings in found.values() for one in findings.tables if one.headline)
    return {
        "name": name,
        "found": found,
        "lacking": [run for run in runs if run.name not in found],
        "pictures": [
            {
                run: {"title": one.title, "note": one.note, "src": png_source(have[run].folder / name / f"{shown}.png")}
                for run, findings in found.items()
                for one in findings.pictures
                if one.name == shown
            }
            for shown in pictures
        ],
        "tables": [_joined(shown, found) for shown in tables],
    }


def _joined(shown: str, found: Mapping[str, Findings]) -> tuple[Table, Cells]:
    """One table of all runs: what has the same keys stands together, one line per run."""
    tables = {run: one for run, findings in found.items() for one in findings.tables if one.name == shown}
    first, *_ = tables.values()
    every = [row for one in tables.values() for row in one.rows]
    columns = [column for column in first.headline if any(row.get(column) is not None for row in every)]
    groups: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for run, one in tables.items():
        for row in one.rows:
            groups.setdefault(tuple(row.get(key) for key in first.keys), {})[run] = row
    names, lines = [*first.keys, *(["run"] if len(tables) > 1 else [])], []
    for about, rows in groups.items():
        for index, (run, row) in enumerate(rows.items()):
            said = [cell_text(key, cell) if index == 0 else "" for key, cell in zip(first.keys, about, strict=True)]
            cells = [cell_text(column, row.get(column)) for column in columns]
            lines.append([*said, *([run] if len(tables) > 1 else []), *cells])
    return first, Cells([*names, *columns], lines, n_names=len(names))
