"""A run folder on the disk: whether it is one, how its run stands, who writes to it, and what becomes of an older run.

Nothing but runs is ever replaced. What is to be replaced is set aside, beside the folder under a hidden name, until
the new run is finished; files that are not a run's stay where they are.
"""

import contextlib
import glob
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from topographic.storage import disk_errors, load_json, locked
from topographic.training.config import plain

__all__ = [
    "FINETUNED",
    "PREDICTIONS",
    "RunState",
    "check_free",
    "difference",
    "forget_replaced",
    "is_first_process",
    "is_run",
    "put_back_if_refused",
    "replaced_runs",
    "run_state",
    "writing_to",
]

FINETUNED, PREDICTIONS = "finetune.json", "predictions.safetensors"
# what a run folder holds besides evaluations: of training, of fine-tuning, and of what was measured on its model
_OURS = ("run.json", "config.yaml", "metrics.jsonl", "tensorboard", "checkpoints", "model", FINETUNED, PREDICTIONS)
_OURS += ("trajectory", "maps", "report.html", "samples", "weights.json", "minimal_pairs.json", "identity.json")
_BESIDE = ("log.txt", "job.json")  # a sweep writes them before its cell begins


class RunState(NamedTuple):
    """How a run stands; a run that was killed says "running" for ever."""

    status: str
    """running, interrupted (asked to leave, it wrote a checkpoint first), failed or finished."""
    step: int
    """Optimiser steps that were taken, or the step at which it failed."""
    reason: str | None = None
    """Why it failed, in one line."""


def run_state(folder: str | Path) -> RunState | None:
    """How the run in a folder stands; None where no run was begun.

    Parameters
    ----------
    folder : str or Path
        A run folder, or any other place.

    Returns
    -------
    RunState or None
        Status, step and, where it failed, the reason.

    Raises
    ------
    ValueError
        If ``run.json`` is damaged.

    Examples
    --------
    >>> run_state("runs/of/nobody") is None
    True
    """
    file = Path(folder) / "run.json"
    record = load_json(file) if file.is_file() else None
    if not isinstance(record, dict) or not {"status", "wall_time_s"} <= set(record):
        return None
    failure = record.get("failure") or {}
    return RunState(record["status"], failure.get("step", record.get("steps", 0)), failure.get("reason"))


def is_run(folder: str | Path) -> bool:
    """Whether a folder holds a run, which alone is gone on with or replaced.

    That is a ``run.json`` of ours, or our ``config.yaml`` beside checkpoints or metrics.
    """
    folder = Path(folder)
    with contextlib.suppress(ValueError):
        if run_state(folder) is not None:
            return True
    begun = (folder / "checkpoints").is_dir() or (folder / "metrics.jsonl").is_file()
    return begun and {"spatial", "training"} <= set(_written(folder))


def is_first_process() -> bool:
    """Whether this process writes for all that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def writing_to(run_folder: str | Path) -> Iterator[Path]:
    """Be the only one that writes to a run folder, from here to the end of the block."""
    folder = _named(run_folder)
    if not is_first_process():
        yield folder
        return
    with locked(folder):
        if _moving(folder).is_dir():  # killed while it moved a run
            _move_back(folder)
        yield folder


def _named(run_folder: str | Path) -> Path:
    if not str(run_folder):
        raise ValueError("run='' names no folder; expected a new or empty one: say run=runs/NAME")
    return Path(run_folder)


def check_free(
    run_folder: str | Path, config: Any, *, resume: str = "auto", overwrite: bool = False
) -> Literal["new", "resumed", "replaced"]:
    """Say what becomes of what a folder holds, or refuse it; nothing is touched. The first process looks for all."""
    folder = _named(run_folder)
    if not is_first_process() or _moving(folder).is_dir():  # killed while it moved a run: `writing_to` moves it back
        return "resumed"
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; expected a new or empty folder: choose another name")
    if not is_run(folder):
        held = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        if strangers := [name for name in held if name not in _BESIDE]:
            raise FileExistsError(
                f"{folder} holds {strangers[0]} and no run; expected a new or empty folder, or that of a run "
                "(overwrite=true replaces runs only): choose another name"
            )
        return "new"
    status = _status(folder)
    if status == "finished" or resume == "never":
        if not overwrite:
            raise FileExistsError(
                f"{folder} holds a run that is {status}; expected a new folder: choose another name, or say "
                "overwrite=true"
            )
        return "replaced"
    differs = difference(folder, config)
    if overwrite and (differs or status == "failed"):
        return "replaced"
    if differs:
        kind = "a failed" if status == "failed" else "an interrupted"
        raise FileExistsError(
            f"{folder} holds {kind} run with another configuration ({differs}); go on with the same one, choose "
            "another name, or say overwrite=true"
        )
    return "resumed"


def _status(folder: Path) -> str:
    with contextlib.suppress(ValueError):  # a damaged run.json says nothing; the checkpoints do
        if (state := run_state(folder)) is not None:
            return state.status
    return "interrupted"


def difference(folder: Path, config: Any) -> str | None:
    """First key in which the configuration of a run is not this one; None if they are the same."""
    if not (written := _written(folder)):
        return "its config.yaml is missing or damaged"
    now = _sections(plain(config))
    for section in fields(config):
        value = getattr(config, section.name)
        if is_dataclass(value):  # fields that the file is too old to have had their defaults then
            known = {
                entry.name: entry.default if entry.default_factory is MISSING else entry.default_factory()
                for entry in fields(value)
                if (entry.default, entry.default_factory) != (MISSING, MISSING)
            }
            written[section.name] = {**json.loads(json.dumps(known, default=asdict)), **written.get(section.name, {})}
    return None if written == now else _first_difference(written, now)


def _written(folder: Path) -> dict[str, Any]:
    """Sections of a run's ``config.yaml``; none if it is no such file."""
    try:
        content = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return _sections(content) if isinstance(content, dict) else {}


def _sections(config: dict[str, Any]) -> dict[str, Any]:
    """What decides the numbers: not the words beside the sections, such as the folder's name or "overwrite"."""
    return {key: entry for key, entry in config.items() if isinstance(entry, dict)}


def _first_difference(earlier: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> str:
    for key in [*earlier, *now]:
        old, new = earlier.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict) and old != new:
            return _first_difference(old, new, f"{prefix}{key}.")
        if old != new:
            return f"{prefix}{key} was {old} and is {new}"
    return "nothing"


@contextlib.contextmanager
def put_back_if_refused(folder: Path, fate: str) -> Iterator[None]:
    """Set a run that is to be replaced aside; if the block fails, the folder is left as it was found."""
    existed = folder.is_dir()
    if fate == "replaced":
        _set_aside(folder)
    try:
        yield
    except BaseException:
        if fate != "resumed":
            for path in _ours(folder):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if fate == "replaced":
            replaced_runs(folder)[-1].rename(_moving(folder))
            _move_back(folder)
        if not existed and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def replaced_runs(folder: Path) -> list[Path]:
    """Where the runs lie that the run in a folder replaces once it is finished, the latest last."""
    real = folder.resolve()
    found = real.parent.glob(f".{glob.escape(real.name)}.replaced-*")
    return sorted((path for path in found if path.suffix[10:].isdecimal()), key=lambda path: int(path.suffix[10:]))


def forget_replaced(folder: Path, names: Collection[str]) -> None:
    """Remove the runs of these names, which a finished one has replaced."""
    for path in replaced_runs(folder):
        if path.name in names:
            shutil.rmtree(path)


def _moving(folder: Path) -> Path:
    real = folder.resolve()
    return real.with_name(f".{real.name}.moving")


def _set_aside(folder: Path) -> None:
    earlier = replaced_runs(folder)
    number = 1 + int(earlier[-1].suffix[10:]) if earlier else 1
    with disk_errors(folder):
        _moving(folder).mkdir()
        try:
            for path in _ours(folder):
                path.rename(_moving(folder) / path.name)
        except BaseException:
            _move_back(folder)
            raise
        _moving(folder).rename(_moving(folder).with_suffix(f".replaced-{number}"))


def _move_back(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in _moving(folder).iterdir():
        path.rename(folder / path.name)
    _moving(folder).rmdir()


def _ours(folder: Path) -> list[Path]:
    """What belongs to the run in a folder: all that is ever moved or removed."""
    named = [path for name in _OURS if (path := folder / name).exists()]
    return [*named, *(file.parent for file in folder.glob("evaluation*/evaluation.json"))]
