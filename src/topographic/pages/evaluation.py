"""Evaluations as a report shows them: the headlines of several runs side by side, whatever the suite."""

import base64
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from topographic.evaluation.results import Findings, Table, cell_text, load_findings
from topographic.pages.markup import Html, missing, table, tag
from topographic.storage import load_json

__all__ = ["Evaluation", "evaluation_blocks", "read_evaluations"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An evaluation that is on disk.

    Parameters
    ----------
    folder : Path
        Where it lies.
    suite : str
        What was measured.
    lead : str
        Of which model, with which stimuli, in one paragraph.
    parts : mapping of str to Findings or None
        By the names of their folders; None where a part is gone or not finished.
    """

    folder: Path
    suite: str
    lead: str
    parts: Mapping[str, Findings | None]


def read_evaluations(folder: Path) -> dict[str, Evaluation]:
    """Read every evaluation of a run."""
    found = {}
    for file in sorted(folder.glob("evaluation*/evaluation.json")):
        record = load_json(file)
        lacking = [key for key in ("suite", "lead", "parts") if not isinstance(record, Mapping) or key not in record]
        if lacking:
            raise ValueError(f"{file} has no {lacking[0]!r}; it is of another version: run topo evaluate again")
        keys = record.get("keys", {})  # of before: none
        parts = {name: load_findings(file.parent / name, keys.get(name)) for name in record["parts"]}
        found[record["suite"]] = Evaluation(file.parent, record["suite"], record["lead"], parts)
    return found


def evaluation_blocks(runs: Mapping[str, tuple[Path, Mapping[str, Evaluation]]], place: Path) -> Html:
    """The headlines of every suite that some run was evaluated with, runs side by side."""
    suites = list(dict.fromkeys(suite for _, evaluations in runs.values() for suite in evaluations))
    if not suites:
        return Html("".join(_missing(name, folder) for name, (folder, _) in runs.items()))
    blocks = []
    for suite in suites:
        have = {name: evaluations[suite] for name, (_, evaluations) in runs.items() if suite in evaluations}
        blocks += [tag("h3", f"Suite {suite}")] if len(suites) > 1 else []
        blocks += [_missing(name, folder, suite) for name, (folder, _) in runs.items() if name not in have]
        blocks += [_lead(name, one, place) for name, one in have.items()]
        for part in dict.fromkeys(part for one in have.values() for part in one.parts):
            found = {name: one.parts.get(part) for name, one in have.items()}
            blocks += [
                _missing(name, runs[name][0], suite, f"has no finished part {part!r}")
                for name, findings in found.items()
                if findings is None
            ]
            folders = {name: one.folder / part for name, one in have.items()}
            blocks += _part({name: findings for name, findings in found.items() if findings is not None}, folders)
    return Html("".join(blocks))


def _missing(name: str, folder: Path, suite: str | None = None, lacks: str = "has no evaluation yet") -> Html:
    command = f"topo evaluate {shlex.quote(str(folder))}" + (f" suite={suite}" if suite else "")
    return missing(f"{name} {lacks}:", command)


def _lead(name: str, evaluation: Evaluation, place: Path) -> Html:
    page = os.path.relpath(evaluation.folder / "index.html", place)
    link = tag("a", "All tables and pictures.", href=quote(page.replace(os.sep, "/")))
    return tag("p", tag("strong", f"{name}. "), f"{evaluation.lead} ", link)


def _part(found: Mapping[str, Findings], folders: Mapping[str, Path]) -> list[Html]:
    """One part of a suite: text, notes, pictures and tables of the runs that have it."""
    if not found:
        return []
    first, *_ = found.values()
    texts = {findings.text for findings in found.values()}
    blocks = [tag("h3", first.title)]
    blocks += [
        tag("p", tag("strong", f"{name}. ") if len(texts) > 1 else None, findings.text)
        for name, findings in (found.items() if len(texts) > 1 else [("", first)])
    ]
    blocks += [
        tag("p", f"{name}: {note}", class_="missing") for name, findings in found.items() for note in findings.notes
    ]
    for shown in dict.fromkeys(one.name for findings in found.values() for one in findings.pictures if one.headline):
        blocks.append(_pictures(shown, found, folders))
    for shown in dict.fromkeys(one.name for findings in found.values() for one in findings.tables if one.headline):
        tables = {name: one for name, findings in found.items() for one in findings.tables if one.name == shown}
        blocks += _tables(tables)
    return blocks


def _pictures(shown: str, found: Mapping[str, Findings], folders: Mapping[str, Path]) -> Html:
    panels = []
    for name, findings in found.items():
        for picture in findings.pictures:
            if picture.name != shown:
                continue
            encoded = base64.b64encode((folders[name] / f"{shown}.png").read_bytes()).decode("ascii")
            heading = f"{picture.title}: {name}" if len(found) > 1 else picture.title
            image = tag("img", src=f"data:image/png;base64,{encoded}", alt=f"{picture.title}, {name}. {picture.note}")
            panels.append(tag("figure", tag("h4", heading), image, tag("figcaption", picture.note)))
    return tag("div", *panels, class_="panels")


def _tables(tables: Mapping[str, Table]) -> list[Html]:
    """One table of all runs: what has the same keys stands together, one line per run."""
    first, *_ = tables.values()
    keys, columns = list(first.keys), [column for column in first.headline if _has(column, tables.values())]
    groups: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for name, one in tables.items():
        for row in one.rows:
            groups.setdefault(tuple(row.get(key) for key in keys), {})[name] = row
    header = [*keys, *(["run"] if len(tables) > 1 else []), *columns]
    lines = []
    for about, rows in groups.items():
        for index, (name, row) in enumerate(rows.items()):
            said = [cell_text(key, cell) if index == 0 else "" for key, cell in zip(keys, about, strict=True)]
            cells = [cell_text(column, row.get(column)) for column in columns]
            lines.append([*said, *([name] if len(tables) > 1 else []), *cells])
    names = len(header) - len(columns)
    body = table(header, lines, style="numbers dense wraps", n_names=names) if lines else tag("p", "none")
    return [tag("h4", first.title), body, *([tag("p", first.note, class_="note")] if first.note else [])]


def _has(column: str, tables: Iterable[Table]) -> bool:
    """Whether any row has something in this column."""
    return any(row.get(column) is not None for one in tables for row in one.rows)
