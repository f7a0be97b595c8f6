"""What a run folder holds, read for a report. What a run has not made yet is empty here, never guessed."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from topographic.evaluation.results import Findings, load_findings
from topographic.maps import MapSummary
from topographic.runs.folder import read_metrics
from topographic.runs.parsing import read_yaml
from topographic.stimuli import StimulusSet
from topographic.storage import HeldElsewhereError, load_json, locked

__all__ = ["Evaluation", "Failure", "RunFolder", "read_evaluations", "read_runs"]


class Evaluation(NamedTuple):
    """An evaluation on disk: of which model and stimuli, and its parts, None where one is gone or not finished."""

    folder: Path
    suite: str
    lead: str
    parts: Mapping[str, Findings | None]


class Failure(NamedTuple):
    """At which step training failed, and why; None and empty where run.json does not say."""

    step: int | None
    reason: str


@dataclass(frozen=True, eq=False)
class RunFolder:
    """One run as a report reads it."""

    folder: Path  # as it was given
    name: str  # what the report calls it, different for every run of a page
    config: Mapping[str, Any]  # config.yaml
    record: Mapping[str, Any]  # run.json: versions, seeds, corpus, times, status
    metrics: Sequence[Mapping[str, Any]]  # metrics.jsonl, one mapping per line
    summaries: Mapping[str, MapSummary]  # one per contrast that was mapped
    stimuli: Mapping[str, StimulusSet]  # by checksum, the sets whose items lie beside the maps
    evaluations: Mapping[str, Evaluation]  # by suite
    samples: Mapping[int, Path] = field(default_factory=dict)  # by training step, grids of what the model makes
    is_held: bool = False  # whether a process was writing to the folder when it was read

    @property
    def word(self) -> str:
        """The folder as one word of a command line."""
        return shlex.quote(str(self.folder))

    @property
    def makes_images(self) -> bool:
        """Whether it is a diffusion model, which has samples in place of maps."""
        return (self.config.get("diffusion") or {}).get("condition") is not None

    @property
    def status(self) -> Literal["finished", "failed", "training", "unfinished"]:
        """How far training has come; run.json says "running" of a process that was killed, too."""
        said = self.record.get("status")
        if said in ("finished", "failed"):
            return said
        return "training" if said == "running" and self.is_held else "unfinished"

    @property
    def failure(self) -> Failure:
        """Where and why training failed, whichever way run.json says it."""
        said = self.record.get("failure")
        told = said if isinstance(said, Mapping) else {"message": said}
        everything = {**self.record, **{key: value for key, value in told.items() if value is not None}}
        step = next((everything[key] for key in ("step", "steps") if everything.get(key) is not None), None)
        reasons = (everything.get(key) for key in ("message", "reason", "type"))
        return Failure(step, next((str(reason) for reason in reasons if reason), ""))


def read_runs(folders: Sequence[Path]) -> list[RunFolder]:
    """Read the run folders of one page."""
    resolved = [Path(folder).resolve() for folder in folders]
    if not resolved:
        raise ValueError("no run folder given; expected one or more, for example runs/demo/topographic")
    twice = [str(given) for given, folder in zip(folders, resolved, strict=True) if resolved.count(folder) > 1]
    if twice:
        raise ValueError(f"run folder {twice[0]} is given twice; name every run once")
    names = [folder.name for folder in resolved]
    return [
        _read_run(Path(given), name if names.count(name) == 1 else f"{folder.parent.name}/{name}")
        for given, folder, name in zip(folders, resolved, names, strict=True)
    ]


def _read_run(folder: Path, name: str) -> RunFolder:
    contrasts = sorted(path.parent for path in folder.glob("maps/*/summary.json"))
    evaluations = read_evaluations(folder)
    config, record, metrics = folder / "config.yaml", folder / "run.json", folder / "metrics.jsonl"
    if not (config.is_file() or record.is_file() or contrasts or evaluations):
        raise ValueError(
            f"{folder} is no run folder: it holds neither config.yaml, run.json, maps/*/summary.json nor "
            "evaluation/evaluation.json; give a folder that `topo train`, `topo map` or `topo evaluate` wrote"
        )
    known = _mapping(record, load_json(record)) if record.is_file() else {}
    return RunFolder(
        folder=folder,
        name=name,
        config=read_yaml(config) if config.is_file() else {},
        record=known,
        metrics=read_metrics(metrics) if metrics.is_file() else [],
        summaries={summary.contrast: summary for summary in map(MapSummary.load, contrasts)},
        stimuli={shown.checksum: shown for shown in map(StimulusSet.load, folder.glob("maps/*/stimuli.json"))},
        evaluations=evaluations,
        samples={int(path.stem.removeprefix("step-")): path for path in sorted(folder.glob("samples/step-*.png"))},
        is_held=known.get("status") == "running" and _is_held(folder),
    )


def read_evaluations(folder: Path) -> dict[str, Evaluation]:
    """Read every evaluation of a run, by suite."""
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


def _is_held(folder: Path) -> bool:
    """Whether another process writes to the folder: the lock of one that was killed is free."""
    try:
        with locked(folder):
            return False
    except HeldElsewhereError:
        return True
    except OSError:  # no lock can be had on a disk that is full or only read: nobody trains there either
        return False


def _mapping(path: Path, content: Any) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected keys and values: write it again")
    return content
