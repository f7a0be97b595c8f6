"""Findings: tables, pictures and maps of one analysis; results: those of all analyses of a suite, kept under keys."""

import csv
import html
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
import pandas as pd

from topographic.evaluation.wording import NOTHING, counted, number, p_value
from topographic.maps import NotMeasurable, Selection, UnitMap
from topographic.storage import digest, load_json, locked, save_json, write_atomically, write_folder_atomically

__all__ = [
    "Findings",
    "NotMeasurable",
    "Picture",
    "Results",
    "Table",
    "cell_text",
    "kept_key",
    "load_findings",
    "markdown_table",
    "plain",
    "rest_of",
    "save_findings",
    "save_table",
    "shown_rows",
    "under",
    "without_sd",
]

Rows = Sequence[Mapping[str, Any]]
Noun = TypeVar("Noun", UnitMap, Selection)

_MOST_ROWS = 300  # of a table on a page; the CSV file has all
_FORMATS = (2, 3)  # that can be read; before 3 the key stood for itself, and no such key is made any more


@dataclass(frozen=True, eq=False, repr=False)
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

    Examples
    --------
    >>> Table("means", "Means over sheets", [{"contrast": "noun - verb", "I": 0.25}]).to_frame()
          contrast     I
    0  noun - verb  0.25
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

    def to_frame(self) -> pd.DataFrame:
        """The table as a DataFrame: a row per row, what a row does not have is missing."""
        return pd.DataFrame([plain(row) for row in self.rows], columns=self.columns)

    def __repr__(self) -> str:
        """One line."""
        return f"Table({self.name!r}, {counted(len(self.rows), 'row')}: {', '.join(self.columns)})"


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of an analysis: a figure to be drawn or, once it is on disk, a file; the title stands for it unseen."""

    name: str
    title: str
    figure: Any = field(repr=False)
    note: str = ""
    headline: bool = False
    file: Path | None = None

    def write(self, path: Path) -> None:
        """Draw it into a file, or copy the file that is there."""
        if self.file is not None:
            shutil.copyfile(self.file, path)
        else:
            self.figure.savefig(path, format="png", dpi=150, facecolor="white", metadata={"Software": None})


@dataclass(frozen=True, eq=False, repr=False)
class Findings:
    """What one analysis found; ``findings["means"]`` is its table of that name.

    Parameters
    ----------
    title : str
        Heading.
    text : str
        What was done, in plain words.
    tables : sequence of Table
        Its tables, the main one first.
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

    def __getitem__(self, name: str) -> Table:
        """The table of this name."""
        for one in self.tables:
            if one.name == name:
                return one
        raise KeyError(f"no table {name!r}; {self.title!r} has {', '.join(one.name for one in self.tables) or 'none'}")

    def to_frame(self) -> pd.DataFrame:
        """The main table as a DataFrame; `NotMeasurable` where there is none, and the notes say why."""
        if not self.tables:
            raise NotMeasurable(f"{self.title!r} has no table. {' '.join(self.notes)}")
        return self.tables[0].to_frame()

    def _repr_html_(self) -> str:
        shown = "".join(
            f"<h4>{html.escape(one.title)}</h4>{one.to_frame().to_html(index=False)}" for one in self.tables
        )
        return (
            f"<h3>{html.escape(self.title)}</h3>{shown}{''.join(f'<p>{html.escape(note)}</p>' for note in self.notes)}"
        )

    def __repr__(self) -> str:
        """One line."""
        told = [f"tables {', '.join(one.name for one in self.tables)}"] if self.tables else []
        sizes = {"picture": self.pictures, "map": self.maps, "selection": self.selections, "note": self.notes}
        told += [counted(len(some), name) for name, some in sizes.items() if some]
        return f"Findings({self.title!r}: {', '.join(told) or 'nothing'})"


@dataclass(frozen=True, eq=False, repr=False)
class Results(Mapping[str, Findings]):
    """What an evaluation found: its parts by name, as in ``results["lesions"]["lesions"].to_frame()``.

    Parameters
    ----------
    suite : str
        What was measured.
    lead : str
        Of which model, with which stimuli, in one paragraph.
    parts : mapping of str to Findings
        The parts in their order.
    keys : mapping of str to mapping
        What decided each part.
    record : mapping
        Checksums of the model and of what it was shown, and the choices.
    replaced : mapping of str to str
        Parts that had been kept and were measured again, and why.

    Examples
    --------
    >>> Results("topolm", "A model.", {"lesions": Findings("Lesions", "", [Table("lesions", "Effects", [])])})
    Results('topolm': lesions)
    """

    suite: str
    lead: str
    parts: Mapping[str, Findings]
    keys: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    replaced: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Findings:
        """The part of this name."""
        if name not in self.parts:
            raise KeyError(f"no part {name!r}; these results have {', '.join(self.parts) or 'none'}")
        return self.parts[name]

    def __iter__(self) -> Iterator[str]:
        """Names of the parts."""
        return iter(self.parts)

    def __len__(self) -> int:
        """Number of parts."""
        return len(self.parts)

    def to_frame(self) -> pd.DataFrame:
        """A row per table of every part; ``results[part][table].to_frame()`` is the table itself."""
        return pd.DataFrame(
            [
                {"part": name, "table": table.name, "title": table.title, "rows": len(table.rows)}
                for name, part in self.parts.items()
                for table in part.tables
            ]
            or [{"part": name, "table": "", "title": part.title, "rows": 0} for name, part in self.parts.items()]
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.lead)}</p>{self.to_frame().to_html(index=False)}"

    def __repr__(self) -> str:
        """One line."""
        return f"Results({self.suite!r}: {', '.join(self.parts) or 'nothing'})"

    def save(self, folder: str | Path) -> None:
        """Write every part to a folder of its own, in place of what is there, then ``evaluation.json``; locked."""
        with locked(folder):
            for name, findings in self.items():
                save_findings(Path(folder) / name, findings, self.keys.get(name, {}))
            self.save_record(folder)

    def save_record(self, folder: str | Path) -> None:
        """Write ``evaluation.json``, which says which parts there are and what they were made with."""
        keys = {name: digest(plain(key)) for name, key in self.keys.items()}
        made = {"suite": self.suite, "lead": self.lead, "parts": list(self), "keys": keys}
        save_json(Path(folder) / "evaluation.json", {**plain(self.record), **made})

    @classmethod
    def load(cls, folder: str | Path) -> "Results":
        """Read what `save` wrote, or an evaluation has kept, without figures and null maps.

        Maps and selections are read when they are asked for. It is an error if a part is gone, unfinished, or made with
        other settings than the others.
        """
        file = Path(folder) / "evaluation.json"
        if not file.is_file():
            raise FileNotFoundError(f"no evaluation at {folder} (it has no evaluation.json); expected a folder of one")
        record = load_json(file)
        parts: dict[str, Findings] = {}
        for name in record["parts"]:
            found = load_findings(file.parent / name, record.get("keys", {}).get(name))
            if found is None:
                raise ValueError(
                    f"{file.parent / name} is gone or of another evaluation; evaluate again to complete it"
                )
            parts[name] = found
        keys = {name: kept_key(file.parent / name) or {} for name in parts}
        rest = {key: one for key, one in record.items() if key not in ("suite", "lead", "parts", "keys")}
        return cls(record["suite"], record["lead"], parts, keys, rest)


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
    """Write an analysis to a folder of its own: tables, pictures, maps and selections, and what decided them.

    What an earlier analysis left there goes when everything is written, and not before. Of a map value, p, q and sheet
    are kept, its null maps are not: with 200 draws of three nulls they are 98 % of the file (1.9 MB of a sheet of 784
    units), half a gigabyte for one evaluation of 24 such sheets. What was tested on them is in the tables, the seed in
    the maps' provenance draws them again, and `topo map` keeps them.
    """
    with write_folder_atomically(folder) as staging:
        for kind, nouns in (("maps", findings.maps), ("selections", findings.selections)):
            for name, noun in nouns.items():
                kept = replace(noun, nulls={}) if isinstance(noun, UnitMap) else noun
                kept.save(_noun_file(staging / kind, name))
        for found in findings.tables:
            save_table(staging, found)
        for picture in findings.pictures:
            picture.write(staging / f"{picture.name}.png")
        # a row is written as a list of pairs, because JSON objects are sorted by key here
        tables = [{**vars(one), "rows": [list(plain(row).items()) for row in one.rows]} for one in findings.tables]
        drawn = ("name", "title", "note", "headline")
        pictures = [{entry: getattr(one, entry) for entry in drawn} for one in findings.pictures]
        content = {"format": _FORMATS[-1], "key": digest(plain(key)), "made_of": plain(key), "title": findings.title}
        content |= {"text": findings.text, "notes": list(findings.notes), "tables": tables, "pictures": pictures}
        content |= {"maps": list(findings.maps), "selections": list(findings.selections)}
        save_json(staging / "findings.json", content)


def load_findings(folder: str | Path, key: Mapping[str, Any] | str | None = None) -> Findings | None:
    """What a folder holds, or None: if nothing is there or finished, or it was made with another key or its digest."""
    folder = Path(folder)
    if not (folder / "findings.json").is_file():
        return None
    content = load_json(folder / "findings.json")
    wanted = digest(plain(key)) if isinstance(key, Mapping) else key
    if content.get("format") not in _FORMATS or (wanted is not None and content["key"] != wanted):
        return None
    tables = [Table(**{**one, "rows": [dict(row) for row in one["rows"]]}) for one in content["tables"]]
    pictures = [Picture(**one, figure=None, file=folder / f"{one['name']}.png") for one in content["pictures"]]
    maps = {name: _noun_file(folder / "maps", name) for name in content["maps"]}
    selections = {name: _noun_file(folder / "selections", name) for name in content["selections"]}
    files = [folder / f"{one.name}.csv" for one in tables] + [folder / f"{one.name}.png" for one in pictures]
    if not all(file.is_file() for file in (*files, *maps.values(), *selections.values())):
        return None
    nouns = _OnDisk(maps, UnitMap.load), _OnDisk(selections, Selection.load)
    return Findings(content["title"], content["text"], tables, pictures, content["notes"], *nouns)


def kept_key(folder: str | Path) -> dict[str, Any] | None:
    """What decided the analysis that a folder holds; None where it holds none, nothing where it does not say."""
    file = Path(folder) / "findings.json"
    return load_json(file).get("made_of", {}) if file.is_file() else None


def under(name: str, nouns: Mapping[str, Any]) -> dict[str, Any]:
    """Nouns by a common name and their own, as `Findings` keeps them: without null maps, which are large."""
    lean = {own: replace(one, nulls={}) if isinstance(one, UnitMap) else one for own, one in nouns.items()}
    return {f"{name}/{own}": noun for own, noun in lean.items()}


def without_sd(rows: Rows, *others: str) -> list[str]:
    """Columns that a report shows: all but standard deviations and these."""
    columns = dict.fromkeys(column for row in rows for column in row)
    return [column for column in columns if column not in others and not column.startswith("sd (")]


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
    cell = plain(cell)
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
    cell = plain(cell)
    return "" if cell is None else cell


def plain(value: Any) -> Any:
    """The value as JSON can hold it; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(entry) for entry in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
