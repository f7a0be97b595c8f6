"""What a run folder holds, read for a report. What a run has not made yet is empty here, never guessed."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from topographic.maps import MapSummary
from topographic.pages.evaluation import Evaluation, read_evaluations
from topographic.runs.folder import read_metrics
from topographic.stimuli import StimulusSet
from topographic.storage import load_json

__all__ = ["RunFolder", "read_runs"]


@dataclass(frozen=True, eq=False)
class RunFolder:
    """One run as a report reads it.

    Parameters
    ----------
    folder : Path
        Where it lies, as it was given.
    name : str
        What the report calls it, different for every run of a page.
    config : mapping
        ``config.yaml``.
    record : mapping
        ``run.json``: versions, seeds, corpus, times, status.
    metrics : sequence of mappings
        ``metrics.jsonl``, one mapping per line.
    summaries : mapping of str to MapSummary
        One per contrast that was mapped.
    stimuli : mapping of str to StimulusSet
        By checksum, the sets whose items lie beside the maps (``maps/<contrast>/stimuli.json``).
    evaluations : mapping of str to Evaluation
        By suite (``evaluation*/``).
    """

    folder: Path
    name: str
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    summaries: Mapping[str, MapSummary]
    stimuli: Mapping[str, StimulusSet]
    evaluations: Mapping[str, Evaluation]

    @property
    def word(self) -> str:
        """The folder as one word of a command line."""
        return shlex.quote(str(self.folder))


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
    return RunFolder(
        folder=folder,
        name=name,
        config=_mapping(config, _load_yaml(config)) if config.is_file() else {},
        record=_mapping(record, load_json(record)) if record.is_file() else {},
        metrics=read_metrics(metrics) if metrics.is_file() else [],
        summaries={summary.contrast: summary for summary in map(MapSummary.load, contrasts)},
        stimuli={shown.checksum: shown for shown in map(StimulusSet.load, folder.glob("maps/*/stimuli.json"))},
        evaluations=evaluations,
    )


def _load_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"{path} is not valid YAML ({problem}); it may be truncated: write it again") from error


def _mapping(path: Path, content: Any) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected keys and values: write it again")
    return content
