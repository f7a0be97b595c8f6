"""Findings: tables, pictures and maps of one analysis, kept so that an interrupted evaluation goes on."""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np

from topographic.evaluation.wording import NOTHING, number, p_value
from topographic.maps import Selection, UnitMap
from topographic.storage import load_json, save_json, write_atomically

__all__ = [
    "Findings",
    "Picture",
    "Table",
    "cell_text",
    "load_findings",
    "markdown_table",
    "rest_of",
    "save_findings",
    "save_table",
    "shown_rows",
]

Rows = Sequence[Mapping[str, Any]]
Noun = TypeVar("Noun", UnitMap, Selection)

_MOST_ROWS = 300  # of a table on a page; the CSV file has all
_FORMAT = 2  # raised when more is kept, so that what was kept before is measured again


@dataclass(frozen=True, eq=False)
class Table:
    """A table of an analysis.

    Parameters
    ----------
    name : str
        Name of its files.
    title : str
        Heading.
    rows : sequence of mappings
        One mapping of column to cell per row: text, numbers, True or False, None where there is nothing. Cells
        of columns called "p" or "p (...)" are probabilities. A table without rows says "none".
    note : str
        What to know when reading it.
    keys : sequence of str
        Columns that say what a row is about, by which rows of several runs are put together.
    headline : sequence of str
        Columns that a report on several runs shows; none leaves the table to the page of the evaluation.
    """

    name: str
    title: str
    rows: Rows
    note: str = ""
    keys: Sequence[str] = ()
    headline: Sequence[str] = ()

    @property
    def columns(self) -> list[str]:
        """Columns of all rows, in order of first appearance."""
        return list(dict.fromkeys(column for row in self.rows for column in row))


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of an analysis.

    Parameters
    ----------
    name : str
        Name of its file.
    title : str
        Heading, which also stands for the picture where it cannot be seen.
    figure : matplotlib Figure or None
        What to draw; None once it is on disk.
    note : str
        What to look for.
    headline : bool
        Whether a report on several runs shows it.
    """

    name: str
    title: str
    figure: Any
    note: str = ""
    headline: bool = False


@dataclass(frozen=True, eq=False)
class Findings:
    """What one analysis found.

    Parameters
    ----------
    title : str
        Heading.
    text : str
        What was done, in plain words.
    tables : sequence of Table
        Its tables.
    pictures : sequence of Picture
        Its pictures.
    notes : sequence of str
        What could not be measured, and why.
    maps : mapping of str to UnitMap
        Its maps by name; a "/" in a name is a folder, as in "sentences-nonwords_fwhm_0/transformer.h.0.attn".
    selections : mapping of str to Selection
        Its selections by name, likewise.
    """

    title: str
    text: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    maps: Mapping[str, UnitMap] = field(default_factory=dict)
    selections: Mapping[str, Selection] = field(default_factory=dict)


def save_table(folder: str | Path, found: Table) -> tuple[Path, Path]:
    """Write a table as CSV, numbers in full, and as Markdown, numbers as one reads them."""
    folder = Path(folder)
    files = folder / f"{found.name}.csv", folder / f"{found.name}.md"
    with write_atomically(files[0]) as temporary, open(temporary, "w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, found.columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([{column: _full(cell) for column, cell in row.items()} for row in found.rows])
    with write_atomically(files[1]) as temporary:
        temporary.write_text(markdown_table(found) + "\n", encoding="utf-8")
    return files


def save_findings(folder: str | Path, findings: Findings, key: Mapping[str, Any]) -> None:
    """Write tables, pictures, maps and selections, then ``findings.json``, which says that all are there.

    Parameters
    ----------
    folder : str or Path
        Folder of this analysis. Maps go to ``maps/<name>.safetensors``, selections to ``selections/``; such files
        of an earlier analysis in the same folder are removed.
    findings : Findings
        Tables, and pictures with their figures.
    key : mapping
        Everything the findings depend on, as JSON can hold it.

    Notes
    -----
    Of a map value, p, q and sheet are kept, its null maps are not: with 200 draws of three nulls they are 98 % of the
    file (1.9 MB of a sheet of 784 units), half a gigabyte for one evaluation of 24 such sheets. What was tested on
    them is in the tables, the seed in the maps' provenance draws them again, and `topo map` keeps them.
    """
    folder = Path(folder)
    for kind, nouns in (("maps", findings.maps), ("selections", findings.selections)):
        _save_nouns(folder / kind, nouns)
    for found in findings.tables:
        save_table(folder, found)
    for picture in findings.pictures:
        with write_atomically(folder / f"{picture.name}.png") as temporary:
            picture.figure.savefig(temporary, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    # a row is written as a list of pairs, because JSON objects are sorted by key here
    tables = [{**vars(one), "rows": [list(_plain(row).items()) for row in one.rows]} for one in findings.tables]
    pictures = [{key: entry for key, entry in vars(one).items() if key != "figure"} for one in findings.pictures]
    content = {"format": _FORMAT, "title": findings.title, "text": findings.text, "notes": list(findings.notes)}
    content |= {"maps": list(findings.maps), "selections": list(findings.selections)}
    save_json(folder / "findings.json", {"key": _plain(key), **content, "tables": tables, "pictures": pictures})


def load_findings(folder: str | Path, key: Mapping[str, Any] | None = None) -> Findings | None:
    """Read findings that depend on just this key.

    Parameters
    ----------
    folder : str or Path
        Folder of the analysis.
    key : mapping, optional
        As for `save_findings`; whatever the folder holds without one.

    Returns
    -------
    Findings or None
        Without figures and null maps; maps and selections are read when they are asked for. None if they are not
        there, not finished, or were made with another key.
    """
    folder = Path(folder)
    if not (folder / "findings.json").is_file():
        return None
    content = load_json(folder / "findings.json")
    if content.get("format") != _FORMAT or (key is not None and content["key"] != _plain(key)):
        return None
    tables = [Table(**{**one, "rows": [dict(row) for row in one["rows"]]}) for one in content["tables"]]
    pictures = [Picture(**one, figure=None) for one in content["pictures"]]
    maps = {name: _noun_file(folder / "maps", name) for name in content["maps"]}
    selections = {name: _noun_file(folder / "selections", name) for name in content["selections"]}
    files = [folder / f"{one.name}.csv" for one in tables] + [folder / f"{one.name}.png" for one in pictures]
    if not all(file.is_file() for file in (*files, *maps.values(), *selections.values())):
        return None
    nouns = _OnDisk(maps, UnitMap.load), _OnDisk(selections, Selection.load)
    return Findings(content["title"], content["text"], tables, pictures, content["notes"], *nouns)


class _OnDisk(Mapping[str, Noun]):
    """Nouns by name, each read when it is asked for: an evaluation holds hundreds."""

    def __init__(self, files: Mapping[str, Path], load: Callable[[Path], Noun]) -> None:
        self._files, self._load = files, load

    def __getitem__(self, name: str) -> Noun:
        return self._load(self._files[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _save_nouns(folder: Path, nouns: Mapping[str, UnitMap | Selection]) -> None:
    """One file per noun; files of an earlier analysis go, because nothing would tell them from these."""
    files = {name: _noun_file(folder, name) for name in nouns}
    for old in set(folder.rglob("*.safetensors")) - set(files.values()):
        old.unlink()
    for name, noun in nouns.items():
        kept = replace(noun, nulls={}) if isinstance(noun, UnitMap) else noun
        kept.save(files[name])


def _noun_file(folder: Path, name: str) -> Path:
    """Where a noun of this name lies; characters that a file name cannot hold are percent-encoded."""
    *folders, last = (quote(part, safe=" +") for part in name.split("/"))
    if not {"", ".", ".."}.isdisjoint((*folders, last)):
        raise ValueError(f"{name!r} is no name of a map or selection; expected words with one / between them")
    return folder.joinpath(*folders, f"{last}.safetensors")


def markdown_table(found: Table) -> str:
    """Heading, table and note."""
    lines = [f"### {found.title}", ""]
    if found.rows:
        for row in (found.columns, ["---"] * len(found.columns), *shown_rows(found)):
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    else:
        lines.append("none")
    for note in (rest_of(found), found.note):
        lines += ["", note] if note else []
    return "\n".join(lines)


def shown_rows(found: Table) -> list[list[str]]:
    """Cells of the first rows."""
    return [[cell_text(column, row.get(column)) for column in found.columns] for row in found.rows[:_MOST_ROWS]]


def rest_of(found: Table) -> str:
    """Where the other rows are."""
    return f"{len(found.rows)} rows, the first {_MOST_ROWS} here, all in {found.name}.csv." * (
        len(found.rows) > _MOST_ROWS
    )


def cell_text(column: str, cell: Any) -> str:
    """A cell as one reads it."""
    cell = _plain(cell)
    if cell is None:
        return NOTHING
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        if column == "p" or column.startswith("p ("):
            return p_value(cell)
        if column.endswith("(mm)"):
            return f"{cell:g}"
        size = abs(cell)
        if size >= 1e6:
            return f"{cell:.2e}"
        return number(cell, 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 0.1 else 4)
    return str(cell)


def _full(cell: Any) -> Any:
    """A cell as a machine reads it: every digit, nothing where there is no value."""
    cell = _plain(cell)
    return "" if cell is None else cell


def _plain(value: Any) -> Any:
    """The value as JSON can hold it; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(entry) for entry in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
