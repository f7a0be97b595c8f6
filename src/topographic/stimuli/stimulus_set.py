"""`StimulusSet`: what was shown."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
import pandas as pd
from jaxtyping import Int

from topographic.storage import load_json, save_json

__all__ = ["StimulusSet"]

_SHOWN = 10  # conditions that a repr names


@no_type_check  # lists and arrays are welcome: __post_init__ converts and checks what the fields then hold
@dataclass(frozen=True, eq=False)
class StimulusSet:
    """Items with their conditions, runs and source.

    Parameters
    ----------
    name : str
        Name of the set.
    items : sequence of str
        The stimuli: texts, or identifiers of images.
    conditions : sequence of str
        Condition of each item.
    runs : sequence of str, optional
        Run of each item (for example "odd" and "even"); items are exchangeable under a label null
        only within a run. One run by default.
    onset_s : sequence of float, optional
        Onset of each item in seconds, for narratives.
    labels : mapping of str to sequence of str, optional
        Further columns with one entry per item (category, word class, ...).
    sampled_by : str, optional
        Label column (word, category, passage, speaker, pair) whose entries were sampled, where several items belong
        to one: tests then exchange the labels of whole entries, or within those that have items of both conditions.
        None: every item was sampled on its own.
    source : str
        Where the set comes from, with its reference.
    licence : str
        Under which terms it may be used.

    Raises
    ------
    ValueError
        If the set is empty, an item is blank, an entry is None or NaN, or a column has another length than the
        items.

    Examples
    --------
    >>> pets = StimulusSet("pets", ["dog", "cat", "to bark"], ["noun", "noun", "verb"])
    >>> pets, pets.select(condition="verb").items
    (StimulusSet('pets': 2 noun, 1 verb), ('to bark',))
    """

    name: str
    items: tuple[str, ...]
    conditions: tuple[str, ...]
    runs: tuple[str, ...] = ()
    onset_s: tuple[float, ...] | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = ""
    licence: str = ""
    sampled_by: str | None = None

    def __post_init__(self) -> None:
        """Convert to tuples and refuse ragged or blank sets."""
        object.__setattr__(self, "items", () if isinstance(self.items, str) else tuple(self.items))
        if not self.items:
            raise ValueError(f"stimulus set {self.name!r} has no items; expected a list of at least one")
        object.__setattr__(self, "items", self._column("items", self.items))
        blank = [index for index, item in enumerate(self.items) if not item.strip()]
        if blank:
            raise ValueError(f"stimulus set {self.name!r}: item {blank[0]} is blank; remove it or give it text")
        object.__setattr__(self, "conditions", self._column("conditions", self.conditions))
        runs = () if self.runs is None else tuple(self.runs)
        object.__setattr__(self, "runs", self._column("runs", runs or ("1",) * len(self)))
        object.__setattr__(self, "labels", {key: self._column(key, column) for key, column in self.labels.items()})
        if self.sampled_by is not None and self.sampled_by not in self.labels:
            raise ValueError(
                f"stimulus set {self.name!r}: sampled_by={self.sampled_by!r} is no label column; it has "
                f"{sorted(self.labels)}: name one of these, or None where every item was sampled on its own"
            )
        if self.onset_s is not None:
            onsets = tuple(float(onset) for onset in self.onset_s)
            if len(onsets) != len(self) or not np.isfinite(onsets).all():
                raise ValueError(f"stimulus set {self.name!r}: onset_s needs {len(self)} finite times, one per item")
            object.__setattr__(self, "onset_s", onsets)

    def _column(self, key: str, column: Sequence[Any]) -> tuple[str, ...]:
        if isinstance(column, str) or len(column) != len(self.items):
            raise ValueError(
                f"stimulus set {self.name!r}: {key} has length {len(column)} for {len(self.items)} items; give each one"
            )
        # a Series of objects, since an array would take entries of equal length for rows
        entries = pd.Series(list(column), dtype=object)
        missing = np.flatnonzero(entries.isna())
        if len(missing):
            raise ValueError(
                f"stimulus set {self.name!r}: {key}[{missing[0]}] is {entries[missing[0]]}; remove that item, or give "
                "it text"
            )
        return tuple(str(entry) for entry in entries)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.items)

    @property
    def checksum(self) -> str:
        """SHA-256 of items, conditions, runs, onsets and labels, and of what was sampled where that is declared."""
        content = [self.items, self.conditions, self.runs, self.onset_s, sorted(self.labels.items())]
        content += [] if self.sampled_by is None else [self.sampled_by]
        return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        """Equal name and equal content."""
        if not isinstance(other, StimulusSet):
            return NotImplemented
        return self.name == other.name and self.checksum == other.checksum

    def __hash__(self) -> int:
        """Hash of name and content."""
        return hash((self.name, self.checksum))

    def __repr__(self) -> str:
        """Short form with the size of every condition, of the first ten where there are more."""
        counts = Counter(self.conditions)
        shown = [f"{counts[condition]} {condition}" for condition in self.condition_names[:_SHOWN]]
        more = [f"... ({len(counts)} conditions)"] if len(counts) > _SHOWN else []
        return f"StimulusSet({self.name!r}: {', '.join(shown + more)})"

    @property
    def condition_names(self) -> tuple[str, ...]:
        """Conditions in order of first appearance."""
        return tuple(dict.fromkeys(self.conditions))

    def select(self, **columns: str | Sequence[str]) -> "StimulusSet":
        """Items whose columns have the given entries.

        Parameters
        ----------
        **columns : str or sequence of str
            ``condition``, ``run`` or the name of a label column, with the entry or entries to keep.

        Returns
        -------
        StimulusSet
            The kept items in their order.

        Raises
        ------
        ValueError
            If a column does not exist or nothing is left.
        """
        return self.take(self.find(**columns))

    def find(self, **columns: str | Sequence[str]) -> Int[np.ndarray, " kept"]:
        """Indices of the items that `select` keeps."""
        table = {"condition": self.conditions, "run": self.runs, **self.labels}
        keep = np.ones(len(self), bool)
        for key, wanted in columns.items():
            if key not in table:
                raise ValueError(f"stimulus set {self.name!r} has no column {key!r}; it has {sorted(table)}")
            keep &= np.isin(table[key], [wanted] if isinstance(wanted, str) else list(wanted))
        if not keep.any():
            raise ValueError(f"stimulus set {self.name!r}: no item matches {columns}; it holds {self!r}")
        return np.flatnonzero(keep)

    def take(self, indices: Sequence[int] | np.ndarray) -> "StimulusSet":
        """Items at the given indices."""

        def chosen(column: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(column[int(index)] for index in indices)

        return replace(
            self,
            items=chosen(self.items),
            conditions=chosen(self.conditions),
            runs=chosen(self.runs),
            onset_s=None if self.onset_s is None else chosen(self.onset_s),
            labels={key: chosen(column) for key, column in self.labels.items()},
        )

    def to_frame(self) -> pd.DataFrame:
        """The set as a table; `stimuli_from` reads it back.

        Returns
        -------
        DataFrame
            One row per item: ``text``, ``condition``, ``run``, ``onset_s`` where there are onsets, and the labels.
            Where it is known what was sampled, ``attrs["sampled_by"]`` names that column.
        """
        onsets = {} if self.onset_s is None else {"onset_s": self.onset_s}
        frame = pd.DataFrame({
            "text": self.items,
            "condition": self.conditions,
            "run": self.runs,
            **onsets,
            **self.labels,
        })
        if self.sampled_by is not None:
            frame.attrs["sampled_by"] = self.sampled_by
        return frame

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        return {
            "name": self.name,
            "items": list(self.items),
            "conditions": list(self.conditions),
            "runs": list(self.runs),
            "onset_s": None if self.onset_s is None else list(self.onset_s),
            "labels": {key: list(column) for key, column in self.labels.items()},
            "source": self.source,
            "licence": self.licence,
            "sampled_by": self.sampled_by,
            "checksum": self.checksum,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "StimulusSet":
        """Inverse of `to_json`."""
        fields = {key: entry for key, entry in content.items() if key != "checksum"}
        loaded = cls(**fields)
        if content.get("checksum", loaded.checksum) != loaded.checksum:
            raise ValueError(f"stimulus set {loaded.name!r}: content does not fit its checksum; fetch the set again")
        return loaded

    def save(self, path: str | Path) -> None:
        """Write the set as JSON."""
        save_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "StimulusSet":
        """Read a set written by `save`."""
        return cls.from_json(load_json(path))
