"""What happens beside the training loop: the log, early stopping, the progress bar."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState

from topographic.storage import write_atomically

__all__ = ["EarlyStopping", "EpochsTold", "MetricsLog", "ProgressBar", "rises_in_a_row"]


class MetricsLog(TrainerCallback):
    """Write one JSON object per logged step to ``metrics.jsonl``, and the same to TensorBoard if asked for."""

    def __init__(self, run_folder: Path, *, tensorboard: bool) -> None:
        self.path = run_folder / "metrics.jsonl"
        self._folder = run_folder / "tensorboard" if tensorboard else None
        self._writer: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ImportError(
                    "training.report_to=tensorboard needs tensorboard; run `pip install 'topographic[train]'`, "
                    "or set training.report_to to 'none'"
                ) from error
            self._make_writer = SummaryWriter

    def on_train_begin(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Drop what a killed run logged after the checkpoint it goes on from."""
        if not state.is_world_process_zero:
            return
        kept = [line for line in self._lines() if line["step"] <= state.global_step]
        with write_atomically(self.path) as temporary:
            temporary.write_text("".join(_strict(line) for line in kept), encoding="utf-8")
        if self._folder is not None:
            self._writer = self._make_writer(str(self._folder), purge_step=state.global_step + 1)

    def on_log(
        self,
        _args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Append what was measured; speeds, which no two runs share, are left out."""
        logs = logs or {}
        if not state.is_world_process_zero or not {"loss", "eval_loss"} & set(logs):
            return
        measured = {key: entry for key, entry in logs.items() if not key.endswith(("_runtime", "_per_second", "_time"))}
        with open(self.path, "a", encoding="utf-8") as opened:
            opened.write(_strict({"step": state.global_step, **measured}))
        if self._writer is not None:
            for key, entry in measured.items():
                self._writer.add_scalar(key, entry, state.global_step)
            self._writer.flush()

    def on_train_end(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _lines(self) -> list[dict[str, Any]]:
        """Complete lines; a kill may have cut the last."""
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]


def _strict(line: Mapping[str, Any]) -> str:
    """A line of JSON: what was measured and is no finite number is null, since NaN is not JSON."""
    lost = {key: None for key, entry in line.items() if isinstance(entry, float) and not math.isfinite(entry)}
    return json.dumps({**line, **lost}, allow_nan=False) + "\n"


class EarlyStopping(TrainerCallback):
    """Stop after the validation loss has risen ``patience`` times in a row (TopoLM, appendix).

    It reads the logged history, so it needs no state of its own and survives a resume. transformers'
    `EarlyStoppingCallback` counts evaluations that do not beat the best one so far; a loss that falls again without
    reaching a new best goes on counting there and starts anew here.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask for the end."""
        if rises_in_a_row(state.log_history) >= self.patience:
            control.should_training_stop = True


def rises_in_a_row(history: list[dict[str, float]]) -> int:
    """How often in a row the validation loss has risen up to now."""
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    rises = 0
    while len(losses) > rises + 1 and losses[-1 - rises] > losses[-2 - rises]:
        rises += 1
    return rises


class ProgressBar(TrainerCallback):
    """Steps done, and the losses of the last log line, on the standard error stream."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def on_train_begin(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the bar where the run begins or goes on."""
        if state.is_world_process_zero:
            self._bar = tqdm(desc="training", total=state.max_steps, initial=state.global_step, unit=" steps")

    def on_step_end(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count."""
        if self._bar is not None:
            self._bar.update(1)

    def on_log(
        self,
        _args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show the losses."""
        shown = {key: f"{entry:.4g}" for key, entry in (logs or {}).items() if key in _SHOWN}
        if self._bar is not None and shown:
            self._bar.set_postfix(shown, refresh=False)

    def on_train_end(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Leave the line, so that what is said next stands on one of its own."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class EpochsTold(TrainerCallback):
    """Tell whatever draws anew in every epoch which one it is; read from the state, which a resumed run takes up."""

    def __init__(self, told: Any) -> None:
        self._told = told

    def on_epoch_begin(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Whole epochs done."""
        self._told.epoch = int(state.epoch or 0)


_SHOWN = ("task_loss", "spatial_loss", "eval_loss")
