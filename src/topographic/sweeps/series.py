"""Series of checkpoints: of runs with checkpoints in time, or revisions of models; one model in memory at a time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from topographic.brain.stories import untrained
from topographic.runs.loading import load_model
from topographic.runs.sources import is_path
from topographic.storage import digest, sha256_of_file
from topographic.training.trajectory import trajectory_checkpoints

__all__ = ["Checkpoint", "Series", "series_of"]


@dataclass(frozen=True)
class Checkpoint:
    """One point in time of a series; it is read when `load` is called, and not before."""

    source: str
    """A folder, or NAME@REVISION on the hub."""
    tokens: int | None
    """Tokens seen; None for untrained weights of the same architecture."""
    seed: int = 0
    """Of untrained weights."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return "untrained" if self.tokens is None else re.split(r"[/@]", self.source)[-1]

    def load(self) -> tuple[Any, Any]:
        """Model and tokenizer."""
        model, tokenizer = load_model(self.source)
        return (untrained(model, self.seed) if self.tokens is None else model), tokenizer

    def files(self) -> str | None:
        """Digest of all its files, by which it is known without being loaded; None of a revision on the hub."""
        folder = Path(self.source)
        if not folder.is_dir():
            return None
        sums = {file.name: sha256_of_file(file) for file in sorted(folder.iterdir()) if file.is_file()}
        return digest([sums, self.seed if self.tokens is None else None])


@dataclass(frozen=True)
class Series:
    """Checkpoints of one model by tokens seen."""

    name: str
    """Of the run or the model; those that differ in a last "-NUMBER" only are seeds of the same."""
    checkpoints: tuple[Checkpoint, ...]
    run: Path | None = None
    """The run folder, whose configuration says where units lie."""

    def __post_init__(self) -> None:
        """Refuse what is no series."""
        if len(self.checkpoints) < 2:
            raise ValueError(
                f"{self.name} has {len(self.checkpoints)} checkpoint; expected two or more, or there is no course"
            )
        tokens = [one.tokens if one.tokens is not None else -1 for one in self.checkpoints]
        for one, other in pairwise(tokens):
            if other <= one:
                raise ValueError(
                    f"{self.name} has a checkpoint of {other} tokens after one of {one}; expected more and more: "
                    "put them in order"
                )

    @property
    def group(self) -> str:
        """What its seeds have in common."""
        return re.sub(r"-\d+$", "", self.name)


def series_of(
    sources: Sequence[str], revisions: Sequence[str] | None = None, *, tokens_per_step: int | None = None
) -> list[Series]:
    """The series of several sources.

    Parameters
    ----------
    sources : sequence of str
        Run folders; with ``revisions`` names on the hub, or folders with a folder for each revision.
    revisions : sequence of str, optional
        Names that end with the number of optimiser steps, such as "step512".
    tokens_per_step : int, optional
        Tokens of a step, where there are revisions.

    Returns
    -------
    list of Series
        Nothing has been loaded.

    Raises
    ------
    ValueError, FileNotFoundError
        If a run has no checkpoints in time, a folder lacks a revision, a series has one checkpoint or none, tokens do
        not increase, or two sources have one name.

    Examples
    --------
    >>> (pythia,) = series_of(["EleutherAI/pythia-70m"], ["step0", "step1"], tokens_per_step=2097152)
    >>> pythia.checkpoints[1].source
    'EleutherAI/pythia-70m@step1'
    """
    if not sources:
        raise ValueError("no series given; expected runs with checkpoints in time: topo trajectory runs/small-*")
    made = [
        _run_series(source) if revisions is None else _revision_series(source, revisions, tokens_per_step)
        for source in sources
    ]
    names = [one.name for one in made]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two sources are called {twice[0]}; give them different names")
    return made


def _run_series(source: str) -> Series:
    run = Path(source)
    if not run.is_dir():
        raise FileNotFoundError(f"no folder at {source}; expected a run: correct its name, or give revisions=[...]")
    found = trajectory_checkpoints(run)
    return Series(run.name, tuple(Checkpoint(str(folder), tokens) for tokens, folder in found.items()), run)


def _revision_series(source: str, revisions: Sequence[str], tokens_per_step: int | None) -> Series:
    if tokens_per_step is None or tokens_per_step < 1:
        raise ValueError(
            f"tokens_per_step={tokens_per_step} with revisions; expected the tokens of a step, such as 2097152"
        )
    steps: Mapping[str, int] = {one: _step(one) for one in revisions}
    local = is_path(source)
    if local and (missing := [one for one in revisions if not (Path(source) / one).is_dir()]):
        raise FileNotFoundError(f"{source} has no revision {missing[0]}; expected a folder of that name: leave it out")
    joined = "/" if local else "@"
    points = tuple(Checkpoint(f"{source}{joined}{one}", step * tokens_per_step) for one, step in steps.items())
    return Series(source.rstrip("/").split("/")[-1], points)


def _step(revision: str) -> int:
    found = re.search(r"(\d+)$", revision)
    if found is None:
        raise ValueError(f"revisions has {revision!r}; expected names that end with a number of steps, such as step512")
    return int(found[1])
