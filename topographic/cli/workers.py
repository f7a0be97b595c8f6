"""Several commands at a time, each in a process of its own, under one progress bar."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

__all__ = ["Work", "last_words", "run_in_processes", "steps_done"]

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
    """

    name: str
    words: Sequence[str]
    run_folder: Path
    n_steps: int

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.run_folder / "log.txt"


def run_in_processes(work: Sequence[Work], *, workers: int, threads: int) -> dict[str, str]:
    """Run commands, a few at a time; one that fails does not stop the others.

    Parameters
    ----------
    work : sequence of Work
        The commands, in this order.
    workers : int
        How many at a time.
    threads : int
        Threads of each.

    Returns
    -------
    dict of str to str
        By name of those that failed: their last words.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C or SIGTERM, after the commands were stopped.
    """
    waiting, running, failed = list(work), {}, {}
    done_steps = 0
    bar = tqdm(total=sum(one.n_steps for one in work), desc="sweep", unit=" steps", disable=None, smoothing=0.05)
    with bar, _sigterm_is_ctrl_c():
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    one = waiting.pop(0)
                    running[one.name] = one, _start(one, threads)
                time.sleep(_EVERY_S)
                for name, (one, process) in list(running.items()):
                    status = process.poll()
                    if status is None:
                        continue
                    del running[name]
                    done_steps += one.n_steps
                    if status:
                        failed[name] = last_words(one.log) or f"ended with status {status}"
                        bar.write(f"{name} failed: {failed[name]}")
                under_way = sum(min(steps_done(one.run_folder), one.n_steps) for one, _ in running.values())
                bar.n = done_steps + under_way
                bar.set_postfix_str(
                    f"{len(work) - len(waiting) - len(running)} of {len(work)} cells, {', '.join(running)}"
                )
        finally:
            _stop([process for _, process in running.values()])
    return failed


def steps_done(run_folder: Path) -> int:
    """Steps that a run has logged.

    Parameters
    ----------
    run_folder : Path
        The run.

    Returns
    -------
    int
        0 before the first line of its ``metrics.jsonl``.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        with open(run_folder / "metrics.jsonl", "rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - 4096))
            whole = opened.read().decode("utf-8", "replace").split("\n")[:-1]
        return int(json.loads(whole[-1])["step"])
    return 0


def last_words(log: Path) -> str:
    """Last line of a log that says something.

    Parameters
    ----------
    log : Path
        File a process wrote to.

    Returns
    -------
    str
        Without the name of the command before it; empty if there is none.
    """
    if not log.is_file():
        return ""
    lines = [line.strip() for line in re.split(r"[\r\n]", log.read_text(encoding="utf-8", errors="replace"))]
    return next((line for line in reversed(lines) if line), "").removeprefix("topo sweep: ")


def _start(one: Work, threads: int) -> "subprocess.Popen[bytes]":
    one.run_folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_MININTERVAL": "30",  # a log needs no moving bar
    }
    with open(one.log, "ab") as log:
        return subprocess.Popen(
            one.words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )


def _stop(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
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
