"""Published numbers: data with their source (``published/*.csv``), one file for a suite and a kind of model."""

import csv
import functools
from pathlib import Path
from typing import Any, NamedTuple

from topographic.storage import sha256_of_file

__all__ = [
    "Published",
    "as_number",
    "published",
    "published_checksum",
    "published_columns",
    "published_models",
    "published_note",
]

_SCORES = ("BLiMP", "ImageNet top-1")
_FOLDER = Path(__file__).parent / "published"


class Published(NamedTuple):
    """One number of a paper, where it stands there, and of what it is."""

    paper: str
    where: str
    model: str
    setting: dict[str, str]
    measure: str
    value: float | int
    note: str


@functools.cache
def published(name: str) -> tuple[Published, ...]:
    """The numbers of one file, in its order."""
    with open(_FOLDER / f"{name}.csv", encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    settings = [dict(pair.split("=", 1) for pair in row["setting"].split(";") if pair) for row in rows]
    return tuple(
        Published(**{**row, "setting": setting, "value": as_number(row["value"])})
        for row, setting in zip(rows, settings, strict=True)
    )


def published_columns(name: str, measure: str, **setting: str) -> dict[str, float | int | None]:
    """One measure of every model that has it, as columns; None where it is not published for this setting."""
    found = [one for one in published(name) if one.measure == measure and set(one.setting) == set(setting)]
    columns: dict[str, float | int | None] = {f"{one.model} (published)": None for one in found}
    return columns | {f"{one.model} (published)": one.value for one in found if one.setting == setting}


def published_models(name: str, measure: str) -> list[dict[str, Any]]:
    """A row per published model and tau: one measure, and how well the model does what it was trained for."""
    numbers, rows = published(name), []
    for one in (one for one in numbers if one.measure == measure):
        same = [other for other in numbers if (other.model, other.setting) == (one.model, one.setting)]
        about = {"model": one.model, "tau": as_number(one.setting["tau"]) if one.setting else None}
        rows.append(
            about | {measure: one.value} | {other.measure: other.value for other in same if other.measure in _SCORES}
        )
    return rows


def published_brain_scores() -> list[dict[str, Any]]:
    """A row per score of Brain-Score Language: its model, data and folds."""
    return [
        {"model": one.model, "data": one.setting["data"], "folds": one.setting["folds"], one.measure: one.value}
        for one in published("brain_language")
    ]


def published_note(kind: str) -> str:
    """How to read the published models of TopoNets."""
    material = {"language": "text", "vision": "images"}[kind]
    return (
        f"Read off the figures of Deb et al. (ICLR 2025): other models, trained on other {material}; their bins and "
        "their items are not stated."
    )


def published_checksum(name: str) -> str:
    """What numbers a kept table stood beside; nothing where none are published."""
    file = _FOLDER / f"{name}.csv"
    return sha256_of_file(file) if file.is_file() else ""


def as_number(text: str) -> float | int:
    """A whole number stays one."""
    return int(text) if text.lstrip("-").isdigit() else float(text)
