"""Leaving a training that is asked to end: the step is finished and a checkpoint written first."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState

from topographic.training.folder import is_first_process

__all__ = ["Interruption"]

_SAID = b"\ninterrupted: the step is finished and a checkpoint written first; Ctrl-C again leaves at once\n"


class Interruption(TrainerCallback):
    """SIGINT (Ctrl-C) and SIGTERM (a batch system's preemption), heard between the steps of a training."""

    def __init__(self) -> None:
        self.asked: int | None = None  # the first signal that came

    @contextlib.contextmanager
    def heard(self, device: torch.device) -> Iterator[None]:
        """Note signals while the block trains, and leave after it as the signal would have."""
        if threading.current_thread() is not threading.main_thread():  # no signal arrives elsewhere
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        asked = self._agreed(device)
        if asked == signal.SIGINT:
            raise KeyboardInterrupt
        if asked is not None:
            raise SystemExit(128 + asked)

    def on_step_end(self, args: Any, _state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask for a checkpoint and the end."""
        if self._agreed(args.device) is not None:
            control.should_save = control.should_training_stop = True

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked = number
            if is_first_process() and number == signal.SIGINT:
                os.write(2, _SAID)  # print is not safe in here
        elif number == signal.SIGINT and "RANK" not in os.environ:  # torchrun passes on what the terminal sent already
            raise KeyboardInterrupt

    def _agreed(self, device: torch.device) -> int | None:
        """What all processes leave for, since a checkpoint needs all of them after the same step."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return self.asked
        signals = torch.tensor(self.asked or 0, device=device)
        distributed.all_reduce(signals, distributed.ReduceOp.MAX)
        return int(signals) or None
