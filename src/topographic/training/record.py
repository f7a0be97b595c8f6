"""`run.json`: what was run, with which versions and seeds, on which text, how long, and whether it is finished."""

import datetime
import importlib.metadata
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

import topographic
from topographic.storage import load_json, save_json

__all__ = ["RunRecord", "device_name", "git_commit", "versions"]


class RunRecord(TrainerCallback):
    """Keep ``run.json`` up to date; "finished" is written last, when everything else is there."""

    def __init__(self, path: Path, about: Mapping[str, Any], seen_per_step: Mapping[str, int]) -> None:
        """Take up the record of an interrupted run, whose time counts on; say what a step sees on all processes."""
        self.path = path
        self._seen_per_step = seen_per_step
        self._began = time.monotonic()
        earlier = load_json(path) if path.is_file() else {}
        self._earlier_s = earlier.get("wall_time_s", 0.0)
        self.content: dict[str, Any] = {"started": _now(), "resumed": []} | earlier | dict(about)

    def write(self, status: str, **known: Any) -> None:
        """Write the file anew."""
        self.content |= {"status": status, "wall_time_s": self._earlier_s + time.monotonic() - self._began, **known}
        if status != "failed":
            self.content.pop("failure", None)
        save_json(self.path, self.content)

    def on_train_begin(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Note where an interrupted run goes on."""
        if state.is_world_process_zero:
            if state.global_step:
                self.content["resumed"] = [*self.content["resumed"], {"at": _now(), "step": state.global_step}]
            self._update(state)

    def on_save(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Note how far the checkpoints are."""
        if state.is_world_process_zero:
            self._update(state)

    def end_badly(self, error: BaseException, step: int) -> None:
        """Note why a training ended before its time: it was asked to, or something failed in a step."""
        if isinstance(error, Exception):
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
            self.write("failed", failure={"step": getattr(error, "step", step), "reason": reason})
        else:
            self.write("interrupted")

    def finish(self, state: TrainerState, *, stopped_early: bool) -> None:
        """Write the last word."""
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        self._update(state)
        ended = {"finished": _now(), "stopped_early": stopped_early}
        self.write("finished", **ended, eval_loss=losses[-1] if losses else None)

    def _update(self, state: TrainerState) -> None:
        seen = {f"{what}_seen": state.global_step * each for what, each in self._seen_per_step.items()}
        self.write("running", steps=state.global_step, **seen)


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers."""
    names = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "safetensors")
    found = {"topographic": topographic.__version__, "python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in names}


def git_commit() -> str | None:
    """Commit of the library, if it runs from a checkout."""
    above = Path(topographic.__file__).resolve().parents[1:3]  # the package may lie in src/
    root = next((folder for folder in above if (folder / ".git").exists()), None)
    if root is None:
        return None
    try:
        git = ["git", "-C", str(root)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed.strip() else "")


def device_name(device: torch.device) -> str:
    """Name of the accelerator, or of the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
