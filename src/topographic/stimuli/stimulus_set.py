"""`StimulusSet`: what was shown."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, no_type_check

import numpy as np

from topographic.storage import load_json, save_json

__all__ = ["StimulusSet"]


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
    source : str
        Where the set comes from, with its reference.
    licence : str
        Under which terms it may be used.

    Raises
    ------
    ValueError
        If the set is empty, an item is blank, or a column has another length than the items.
    """

    name: str
    items: tuple[str, ...]
    conditions: tuple[str, ...]
    runs: tuple[str, ...] = ()
    onset_s: tuple[float, ...] | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        """Convert to tuples and refuse ragged or blank sets."""
        items = tuple(str(item) for item in self.items)
        if not items:
            raise ValueError(f"stimulus set {self.name!r} has no items; give at least one")
        blank = [index for index, item in enumerate(items) if not item.strip()]
        if blank:
            raise ValueError(f"stimulus set {self.name!r}: item {blank[0]} is blank; remove it or give it text")
        object.__setattr__(self, "items", items)
        object.__setattr__(self, "conditions", self._column("conditions", self.conditions))
        object.__setattr__(self, "runs", self._column("runs", self.runs or ("1",) * len(items)))
        object.__setattr__(self, "labels", {key: self._column(key, column) for key, column in self.labels.items()})
        if self.onset_s is not None:
            onsets = tuple(float(onset) for onset in self.onset_s)
            if len(onsets) != len(items) or not np.isfinite(onsets).all():
                raise ValueError(f"stimulus set {self.name!r}: onset_s needs {len(items)} finite times, one per item")
            object.__setattr__(self, "onset_s", onsets)

    def _column(self, key: str, column: Sequence[Any]) -> tuple[str, ...]:
        if isinstance(column, str) or len(column) != len(self.items):
            raise ValueError(
                f"stimulus set {self.name!r}: {key} has length {len(column)} for {len(self.items)} items; give each one"
            )
        return tuple(str(entry) for entry in column)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.items)

    @property
    def checksum(self) -> str:
        """SHA-256 of items, conditions, runs, onsets and labels."""
        content = [self.items, self.conditions, self.runs, self.onset_s, sorted(self.labels.items())]
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
        """Short form with the size of every condition."""
        counts = ", ".join(f"{self.conditions.count(condition)} {condition}" for condition in self.condition_names)
        return f"StimulusSet({self.name!r}: {counts})"

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
        table = {"condition": self.conditions, "run": self.runs, **self.labels}
        keep = np.ones(len(self), bool)
        for key, wanted in columns.items():
            if key not in table:
                raise ValueError(f"stimulus set {self.name!r} has no column {key!r}; it has {sorted(table)}")
            keep &= np.isin(table[key], [wanted] if isinstance(wanted, str) else list(wanted))
        if not keep.any():
            raise ValueError(f"stimulus set {self.name!r}: no item matches {columns}; it holds {self!r}")
        return self.take(np.flatnonzero(keep))

    def take(self, indices: Sequence[int] | np.ndarray) -> "StimulusSet":
        """Items at the given indices.

        Parameters
        ----------
        indices : sequence of int
            Which items, in which order.

        Returns
        -------
        StimulusSet
            The chosen items.
        """

        def chosen(column: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(column[int(index)] for index in indices)

        return StimulusSet(
            name=self.name,
            items=chosen(self.items),
            conditions=chosen(self.conditions),
            runs=chosen(self.runs),
            onset_s=None if self.onset_s is None else chosen(self.onset_s),
            labels={key: chosen(column) for key, column in self.labels.items()},
            source=self.source,
            licence=self.licence,
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON can hold it.

        Returns
        -------
        dict
            All fields and the checksum.
        """
        return {
            "name": self.name,
            "items": list(self.items),
            "conditions": list(self.conditions),
            "runs": list(self.runs),
            "onset_s": None if self.onset_s is None else list(self.onset_s),
            "labels": {key: list(column) for key, column in self.labels.items()},
            "source": self.source,
            "licence": self.licence,
            "checksum": self.checksum,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "StimulusSet":
        """Inverse of `to_json`.

        Parameters
        ----------
        content : mapping
            As `to_json` returns it.

        Returns
        -------
        StimulusSet
            The set.

        Raises
        ------
        ValueError
            If the checksum does not fit the content.
        """
        fields = {key: entry for key, entry in content.items() if key != "checksum"}
        loaded = cls(**fields)
        if content.get("checksum", loaded.checksum) != loaded.checksum:
            raise ValueError(f"stimulus set {loaded.name!r}: content does not fit its checksum; fetch the set again")
        return loaded

    def save(self, path: str | Path) -> None:
        """Write the set as JSON.

        Parameters
        ----------
        path : str or Path
            File to write.
        """
        save_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "StimulusSet":
        """Read a set written by `save`.

        Parameters
        ----------
        path : str or Path
            JSON file.

        Returns
        -------
        StimulusSet
            The set.
        """
        return cls.from_json(load_json(path))
