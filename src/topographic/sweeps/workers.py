"""Several commands at a time, each in a process of its own, under one progress bar."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

__all__ = ["SweepBar", "Work", "last_words", "run_in_processes", "start", "steps_done", "stop"]

_EVERY_S = 0.5
_PATIENCE_S = 15.0


@dataclass(frozen=True)
class Work:
    """A command to run.

    Parameters
    ----------
    name : str
        What the progress bar calls it.
    words : sequence of str
        The command line.
    run_folder : Path
        Where it leaves ``metrics.jsonl``; what it prints is added to ``log.txt`` there.
    n_steps : int
        Optimiser steps until its training ends.
    processes : int
        Processes that it starts itself, an accelerator for each.
    """

    name: str
    words: Sequence[str]
    run_folder: Path
    n_steps: int
    processes: int = 1

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.run_folder / "log.txt"


def run_in_processes(work: Sequence[Work], *, workers: int, threads: int) -> dict[str, str]:
    """Run commands, a few at a time; one that fails does not stop the others."""
    waiting, failed = list(work), {}
    running: dict[int, tuple[Work, subprocess.Popen[bytes]]] = {}
    with SweepBar(work) as bar, _sigterm_is_ctrl_c():
        try:
            while waiting or running:
                for place in range(workers):
                    if waiting and place not in running:
                        one = waiting.pop(0)
                        running[place] = one, start(one, threads, devices=_devices(place, one.processes))
                time.sleep(_EVERY_S)
                for place, (one, process) in list(running.items()):
                    status = process.poll()
                    if status is None:
                        continue
                    del running[place]
                    if status:
                        failed[one.name] = bar.failed(one, f"ended with status {status}")
                bar.show(waiting, [one for one, _ in running.values()])
        finally:
            stop([process for _, process in running.values()])
    return failed


class SweepBar:
    """One progress bar for many trainings, on the standard error stream; it counts their optimiser steps.

    Parameters
    ----------
    work : sequence of Work
        All of it.
    """

    def __init__(self, work: Sequence[Work]) -> None:
        self._work = work
        steps = sum(one.n_steps for one in work)
        self._bar = tqdm(total=steps, desc="sweep", unit=" steps", disable=None, smoothing=0.05)

    def __enter__(self) -> "SweepBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, waiting: Sequence[Work], running: Sequence[Work]) -> None:
        """Draw it anew."""
        to_do = sum(one.n_steps for one in waiting)
        to_do += sum(max(0, one.n_steps - steps_done(one.run_folder)) for one in running)
        self._bar.n = sum(one.n_steps for one in self._work) - to_do
        done = len(self._work) - len(waiting) - len(running)
        self._bar.set_postfix_str(f"{done} of {len(self._work)} cells, {', '.join(one.name for one in running)}")

    def failed(self, one: Work, otherwise: str) -> str:
        """Say that something failed."""
        why = last_words(one.log) or otherwise
        self._bar.write(f"{one.name} failed: {why}", file=sys.stderr)
        return why


def steps_done(run_folder: Path) -> int:
    """Steps that a run has logged."""
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        with open(run_folder / "metrics.jsonl", "rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - 4096))
            whole = opened.read().decode("utf-8", "replace").split("\n")[:-1]
        return int(json.loads(whole[-1])["step"])
    return 0


def last_words(log: Path) -> str:
    """Last line of a log that says something."""
    if not log.is_file():
        return ""
    lines = [line.strip() for line in re.split(r"[\r\n]", log.read_text(encoding="utf-8", errors="replace"))]
    return next((line for line in reversed(lines) if line), "").removeprefix("topo sweep: ")


def start(one: Work, threads: int, *, devices: str | None = None) -> "subprocess.Popen[bytes]":
    """Start a command; what it prints is added to its log."""
    one.run_folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_MININTERVAL": "30",  # a log needs no moving bar
    }
    if devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    with open(one.log, "ab") as log:
        return subprocess.Popen(
            one.words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )


def stop(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Ask politely, wait, then insist; what they were doing goes on from their last checkpoint."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + _PATIENCE_S
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _devices(place: int, n_processes: int) -> str | None:
    """Accelerators of one worker, where there are several: each gets its own as far as they reach."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        import torch

        given = ",".join(map(str, range(torch.cuda.device_count())))
    devices = [device for device in given.split(",") if device]
    if len(devices) < 2:
        return None
    return ",".join(devices[(place * n_processes + index) % len(devices)] for index in range(n_processes))


@contextlib.contextmanager
def _sigterm_is_ctrl_c() -> Iterator[None]:
    """Whoever ends us with SIGTERM (a batch system, a supervisor) must not leave our children running."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread, where no signal arrives
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
