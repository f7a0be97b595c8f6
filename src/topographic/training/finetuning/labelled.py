"""Labelled texts: from .tsv, .csv and .jsonl files, or from a hub dataset."""

import csv
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from topographic.objectives.config import expect
from topographic.training.config import check_numbers
from topographic.training.finetuning.glue import Task, task_named
from topographic.training.text.corpus import json_lines, open_text

__all__ = ["LabelledDataConfig", "LabelledItems", "load_labelled", "read_labelled"]

TRAIN = "train"


@dataclass
class LabelledDataConfig:
    """Which labelled texts, and how they are read."""

    train: str | None = None
    """A .tsv, .csv or .jsonl file (also .gz); "{task}" in it stands for the task's name. A first line that names the
    columns is a header; without one the columns are the texts, then the label."""
    validation: str | None = None
    """The same for validation; "{split}" in it stands for "validation" (mnli: validation_matched and _mismatched)."""
    hub: str = "nyu-mll/glue"
    """Hub dataset with a configuration for every task, where no files are given."""
    hub_revision: str | None = None
    """Revision of the hub dataset; the newest by default."""
    text_columns: list[str] | None = None
    """Columns of the texts; by default named as GLUE names them on the hub, such as sentence1 and sentence2."""
    label_column: str = "label"
    """Column of the labels: numbers, or names such as "entailment"."""
    separator: str = " $ "
    """What stands between the two texts of a pair, in training and in evaluation ("$" in the published training)."""
    max_tokens: int | None = None
    """Cut longer items to so many tokens, the longer text of a pair first; by default they are refused."""
    train_items: int | None = None
    """Train on so many items, drawn with the seed; all by default."""
    stopping_fraction: float = 0.0
    """Share of the training items that decides about stopping; 0: the validation items do, as published."""
    seed: int = 42
    """Decides which items are drawn, and their order."""

    def __post_init__(self) -> None:
        """Refuse what no data can satisfy."""
        if (self.train is None) != (self.validation is None):
            raise ValueError(
                f"data.train={self.train} with data.validation={self.validation}; give both files, or neither for "
                f"the hub dataset {self.hub}"
            )
        check_numbers("data", self)
        if not self.separator:
            raise ValueError("data.separator is empty; expected something between the texts of a pair, such as ' $ '")
        for name, lowest in (("max_tokens", 8), ("train_items", 1)):
            value = getattr(self, name)
            expect(value is None or value >= lowest, f"data.{name}", value, f"at least {lowest}, or null")
        share = self.stopping_fraction
        expect(0 <= share < 1, "data.stopping_fraction", share, "0 to below 1")


@dataclass(frozen=True, eq=False)
class LabelledItems:
    """Texts and their labels.

    Parameters
    ----------
    texts : tuple of tuples of str
        One or two texts per item.
    labels : ndarray, shape (items,)
        Numbers of labels (int64), or scores (float32).
    source : str
        Where they come from.
    """

    texts: tuple[tuple[str, ...], ...]
    labels: Shaped[np.ndarray, " items"]
    source: str

    def __len__(self) -> int:
        """Number of items."""
        return len(self.texts)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of texts and labels."""
        content = json.dumps([self.texts, self.labels.tolist()], ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    def take(self, indices: Sequence[int] | np.ndarray) -> "LabelledItems":
        """Some of the items, in the order of their indices."""
        return LabelledItems(tuple(self.texts[index] for index in indices), self.labels[indices], self.source)


class Columns(NamedTuple):
    """Names of the columns that are read."""

    texts: tuple[str, ...]
    label: str

    @property
    def all(self) -> tuple[str, ...]:
        """Texts, then the label."""
        return (*self.texts, self.label)


def load_labelled(name: str, config: LabelledDataConfig) -> dict[str, LabelledItems]:
    """Load the training items and every validation split of a task."""
    task = task_named(name)
    splits = {TRAIN: TRAIN, **{f"{name}{suffix}": split for suffix, split in task.splits.items()}}
    found = {}
    for key, split in splits.items():
        file = config.train if split == TRAIN else config.validation
        if file is None:
            found[key] = _hub_items(name, task, split, config)
        else:
            path = Path(file.replace("{task}", name).replace("{split}", split)).expanduser()
            found[key] = read_labelled(path, task, config.text_columns, config.label_column)
    return found


def read_labelled(
    path: str | Path, task: Task, text_columns: Sequence[str] | None = None, label_column: str = "label"
) -> LabelledItems:
    """Read a file of labelled texts.

    Parameters
    ----------
    path : str or Path
        A .tsv file (no quoting, as in GLUE), .csv file (quoted where needed) or .jsonl file, also .gz.
    task : Task
        Whose labels are expected.
    text_columns : sequence of str, optional
        Columns of the texts; the task's own names by default.
    label_column : str
        Column of the labels.

    Returns
    -------
    LabelledItems
        All items, in order, without blanks around their texts.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is of another kind, truncated or empty, a column is missing, a text is blank, or a label is
        none of the task's; the message names the line.
    """
    path = Path(path)
    columns = _columns(task, text_columns, label_column)
    reader = READERS.get(next((part for part in reversed(path.suffixes) if part != ".gz"), ""))
    if reader is None:
        raise ValueError(f"{path} is none of {', '.join(READERS)} (also .gz); convert it")
    if not path.is_file():
        raise FileNotFoundError(f"no labelled texts at {path}; correct data.train or data.validation")
    try:
        rows = [(f"{path}, line {number}", row) for number, row in reader(path, columns)]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}); convert it") from error
    except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}); fetch it again") from error
    return _items(rows, task, columns, str(path))


def _hub_items(name: str, task: Task, split: str, config: LabelledDataConfig) -> LabelledItems:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ImportError("hub datasets need datasets; run `pip install 'topographic[train]'`") from error
    columns = _columns(task, config.text_columns, config.label_column)
    source = f"{config.hub}, configuration {name}, split {split}"
    try:
        loaded: Any = load_dataset(config.hub, name, split=split, revision=config.hub_revision)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"could not load {source} ({reason}); check the name and the network, or give files: data.train=... "
            "data.validation=..."
        ) from error
    _check_columns(loaded.column_names, columns, source)
    return _items([(f"{source}, item {number}", row) for number, row in enumerate(loaded)], task, columns, source)


def _columns(task: Task, text_columns: Sequence[str] | None, label_column: str) -> Columns:
    texts = task.texts if text_columns is None else tuple(text_columns)
    if len(texts) != len(task.texts):
        raise ValueError(
            f"data.text_columns={list(texts)}; the task has {len(task.texts)} texts per item: name as many columns"
        )
    return Columns(texts, label_column)


def _items(rows: list[tuple[str, Mapping[str, Any]]], task: Task, columns: Columns, source: str) -> LabelledItems:
    if not rows:
        raise ValueError(f"{source} is empty; expected labelled texts")
    texts, labels = [], []
    for place, row in rows:
        _check_columns(row, columns, place)
        item = tuple(row[column] for column in columns.texts)
        if not all(isinstance(text, str) and text.strip() for text in item):
            raise ValueError(f"{place} holds {list(item)}; expected {len(item)} texts with words in them: correct it")
        texts.append(tuple(text.strip() for text in item))
        labels.append(_label(row[columns.label], task, place))
    return LabelledItems(tuple(texts), np.array(labels, np.float32 if task.is_regression else np.int64), source)


def _check_columns(held: Any, columns: Columns, place: str) -> None:
    missing = [column for column in columns.all if column not in held]
    if missing:
        raise ValueError(
            f"{place} has no column {missing[0]!r}, it has {list(held)}; set data.text_columns and data.label_column"
        )


def _label(value: Any, task: Task, place: str) -> int | float:
    """The label as a number; files hold numbers as text, and some hold names."""
    text = str(value).strip()
    if task.span is not None:
        low, high = task.span
        try:
            score = float(text)
        except ValueError:
            score = float("nan")
        if low <= score <= high:
            return score
        raise ValueError(f"{place} has the label {value!r}; expected a score of {low:g} to {high:g}: correct it")
    if text in task.labels:
        return task.labels.index(text)
    if text.isdecimal() and int(text) < len(task.labels):
        return int(text)
    names = " or ".join(f"{number} ({name})" for number, name in enumerate(task.labels))
    raise ValueError(
        f"{place} has the label {value!r}; expected {names}: correct it, or name the column in data.label_column"
    )


def _read_tsv(path: Path, columns: Columns) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with open_text(path, newline="") as opened:
        yield from _table(csv.reader(opened, delimiter="\t", quoting=csv.QUOTE_NONE), columns, path)


def _read_csv(path: Path, columns: Columns) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with open_text(path, newline="") as opened:
        yield from _table(csv.reader(opened), columns, path)


def _table(reader: Any, columns: Columns, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows by the names of their columns, which a header gives or the order does."""
    names: tuple[str, ...] | None = None
    for row in reader:
        if not any(row):
            continue
        if names is None:
            if set(columns.all) <= set(row):
                names = tuple(row)
                continue
            if len(row) != len(columns.all):
                raise ValueError(
                    f"{path} has {len(row)} columns and no header that names {', '.join(columns.all)}; set "
                    "data.text_columns and data.label_column, or leave just these columns"
                )
            names = columns.all
        if len(row) != len(names):
            raise ValueError(
                f"{path}, line {reader.line_num} has {len(row)} columns; expected {len(names)} ({', '.join(names)}): "
                "correct it"
            )
        yield reader.line_num, dict(zip(names, row, strict=True))


def _read_jsonl(path: Path, columns: Columns) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, row in json_lines(path):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number} holds a {type(row).__name__}; expected an object per line")
        yield number, row


READERS: dict[str, Callable[[Path, Columns], Iterator[tuple[int, Mapping[str, Any]]]]] = {
    ".tsv": _read_tsv,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
}
