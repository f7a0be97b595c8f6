"""The page of one evaluation or sweep: all its parts, self-contained."""

import base64
from collections.abc import Mapping
from pathlib import Path
from string import Template
from urllib.parse import quote

import topographic
from topographic.evaluation.results import Findings, markdown_table, rest_of, shown_rows
from topographic.pages.markup import Html, resource, table, tag
from topographic.storage import write_atomically

__all__ = ["write_findings"]


def write_findings(
    folder: str | Path, title: str, lead: str, parts: Mapping[str, Findings], *, name: str = "evaluation"
) -> tuple[Path, Path]:
    """Write all parts of an evaluation as ``evaluation.md`` and as a self-contained ``index.html``."""
    folder = Path(folder)
    blocks = [f"# {title}", lead]
    sections = []
    for part, findings in parts.items():
        blocks += [f"## {findings.title}", findings.text, *(f"- {note}" for note in findings.notes)]
        blocks += [
            f"![{one.title}]({quote(part)}/{one.name}.png)\n\n{one.title}. {one.note}" for one in findings.pictures
        ]
        blocks += [
            markdown_table(one) + f"\n\n[{one.name}.csv]({quote(part)}/{one.name}.csv)" for one in findings.tables
        ]
        sections.append(_section(folder / part, findings))
    files = folder / f"{name}.md", folder / "index.html"
    page = Template(resource("page.html")).substitute(
        title=tag("title", title),
        style=resource("page.css"),
        header=tag("header", tag("h1", title), tag("p", lead, class_="lead")),
        main=tag("main", *sections),
        footer=tag("footer", tag("p", f"Written by topographic {topographic.__version__}.")),
    )
    for file, content in zip(files, ("\n\n".join(blocks) + "\n", page), strict=True):
        with write_atomically(file) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return files


def _section(folder: Path, findings: Findings) -> Html:
    parts = [tag("h2", findings.title), tag("p", findings.text)]
    parts += [tag("p", note, class_="missing") for note in findings.notes]
    for picture in findings.pictures:
        encoded = base64.b64encode((folder / f"{picture.name}.png").read_bytes()).decode("ascii")
        image = tag("img", src=f"data:image/png;base64,{encoded}", alt=picture.title, style="max-width: 100%")
        parts.append(tag("figure", tag("h3", picture.title), image, tag("figcaption", picture.note)))
    for found in findings.tables:
        parts.append(tag("h3", found.title))
        rows = shown_rows(found)
        parts.append(table(found.columns, rows, style="numbers dense") if rows else tag("p", "none"))
        parts += [tag("p", note, class_="note") for note in (rest_of(found), found.note) if note]
    return tag("section", *parts)
