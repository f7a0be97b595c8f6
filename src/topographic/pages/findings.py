"""The page of one evaluation or sweep: all its parts, self-contained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from topographic.evaluation.results import Findings, markdown_table, rest_of, shown_rows
from topographic.pages.chance import chance_of_part, chance_of_table
from topographic.pages.evaluation import shown_picture
from topographic.pages.pictures import common_limit, pictured_maps
from topographic.pages.render import anchor, write_rendered
from topographic.pages.tables import Cells
from topographic.storage import write_atomically

__all__ = ["write_findings"]


def write_findings(
    folder: str | Path, title: str, lead: str, parts: Mapping[str, Findings], *, name: str = "evaluation"
) -> tuple[Path, Path]:
    """Write all parts of an evaluation as ``evaluation.md`` and as a self-contained ``index.html``."""
    folder = Path(folder)
    blocks = [f"# {title}", lead]
    for part, findings in parts.items():
        blocks += [f"## {findings.title}", findings.text, *(f"- {note}" for note in findings.notes)]
        blocks += [
            f"![{one.title}]({quote(part)}/{one.name}.png)\n\n{one.title}. {one.note}" for one in findings.pictures
        ]
        blocks += [
            markdown_table(one) + f"\n\n[{one.name}.csv]({quote(part)}/{one.name}.csv)" for one in findings.tables
        ]
    with write_atomically(folder / f"{name}.md") as temporary:
        temporary.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    drawn = [(findings, one.name) for findings in parts.values() for one in findings.pictures]
    limit = common_limit(pictured_maps(findings, picture) for findings, picture in drawn)
    shown = [_part(folder, part, parts, limit) for part in parts]
    chance = [(one["findings"].title, {"": one["chance"]}) for one in shown if one["chance"]]
    page = write_rendered(folder / "index.html", "findings.html", title=title, lead=lead, parts=shown, chance=chance)
    return folder / f"{name}.md", page


def _part(folder: Path, name: str, parts: Mapping[str, Findings], limit: float) -> dict[str, Any]:
    findings, others = parts[name], list(parts.values())
    return {
        "anchor": anchor(name),
        "findings": findings,
        "pictures": [shown_picture(folder / name, findings, one, limit, others) for one in findings.pictures],
        "tables": [
            (one, Cells(one.columns, shown_rows(one)), rest_of(one), bool(chance_of_table(one)))
            for one in findings.tables
        ],
        "chance": chance_of_part(findings),
    }
