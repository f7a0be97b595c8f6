"""Many commands, on this machine or on a SLURM cluster: an executor takes `Work` and says what failed, and why."""

import contextlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from topographic.storage import load_json, save_json

__all__ = ["CellJob", "Executor", "SlurmConfig", "Work", "run_here", "run_in_processes", "run_on_slurm"]

_EVERY_S = 0.5
_PATIENCE_S = 15.0
# states in which a job is not over; what sacct has not heard of, or has forgotten, is submitted again
_ALIVE = ("READY", "PENDING", "RUNNING", "REQUEUED", "COMPLETING", "PREEMPTED", "SUSPENDED", "CONFIGURING")


@dataclass(frozen=True)
class Work:
    """A command to run."""

    name: str
    """What the progress bar calls it."""
    words: Sequence[str]
    """The command line."""
    run_folder: Path
    """Where it leaves ``metrics.jsonl``; what it prints is added to ``log.txt`` there."""
    n_steps: int
    """Optimiser steps until its training ends."""
    processes: int = 1
    """Processes that it starts itself, an accelerator for each."""

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.run_folder / "log.txt"


# runs all of it, one that fails does not stop the others; by name, why something failed
Executor = Callable[[Sequence[Work]], dict[str, str]]


def run_here(work: Sequence[Work], *, run: Callable[[str], Any]) -> dict[str, str]:
    """Run cells by name one after another in this process; one that fails as it may does not stop the others."""
    failed = {}
    for one in tqdm(work, desc="sweep", unit="cell", disable=None):
        try:
            run(one.name)
        except (ValueError, OSError, FloatingPointError) as error:
            failed[one.name] = " ".join(str(error).split())
    return failed


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
    """One progress bar for many trainings, on the standard error stream; it counts their optimiser steps."""

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
        self.say(f"{one.name} failed: {why}")
        return why

    def say(self, sentence: str) -> None:
        """Write a line above the bar."""
        self._bar.write(sentence, file=sys.stderr)


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
        import torch  # a job that only starts a command has no use for it

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


@dataclass(frozen=True)
class SlurmConfig:
    """What every job asks for."""

    partition: str | None = None
    """Partition; the cluster's own choice by default."""
    account: str | None = None
    """Account the time is charged to."""
    time_min: int = 1440
    """Minutes after which a job is stopped. It is queued again, and its training goes on where it was."""
    cpus_per_task: int = 4
    """Cores, also the threads of a cell."""
    gpus_per_node: int | None = None
    """Accelerators; none are asked for by default, and a cell needs as many as it has processes."""
    mem_gb: float | None = None
    """Memory in gigabytes."""
    at_once: int = 16
    """Jobs of the sweep that may run at the same time."""
    requeues: int = 10
    """How often a job that ran out of time is queued again."""
    setup: list[str] = field(default_factory=list)
    """Shell lines before the command, such as "module load cuda"."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further options of sbatch, such as {constraint: a100, qos: long}."""

    def __post_init__(self) -> None:
        """Refuse what no scheduler accepts."""
        if min(self.time_min, self.cpus_per_task, self.at_once) < 1 or self.requeues < 0:
            raise ValueError(
                f"slurm.time_min={self.time_min}, cpus_per_task={self.cpus_per_task}, at_once={self.at_once}, "
                f"requeues={self.requeues}; expected at least 1 of the first three and 0 of the last"
            )

    def parameters(self) -> dict[str, Any]:
        """The same in submitit's words."""
        asked = {
            "timeout_min": self.time_min,
            "cpus_per_task": self.cpus_per_task,
            "gpus_per_node": self.gpus_per_node,
            "mem_gb": self.mem_gb,
            "name": "topo-sweep",
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_array_parallelism": self.at_once,
            "slurm_setup": self.setup or None,
            "slurm_additional_parameters": self.more or None,
        }
        return {name: value for name, value in asked.items() if value is not None}


class CellJob:
    """A command as submitit runs it: where a job runs out of time, it is queued again."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work = work
        self.threads = threads
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run the command to its end."""
        self._process = start(self.work, self.threads)
        try:
            status = self._process.wait()
        finally:
            stop([self._process])
        if status:
            raise RuntimeError(last_words(self.work.log) or f"ended with status {status}")

    def checkpoint(self) -> Any:
        """Stop the command before the scheduler does, and ask for another turn."""
        if self._process is not None:
            stop([self._process])
        return _submitit("helpers").DelayedSubmission(CellJob(self.work, self.threads))


def run_on_slurm(
    work: Sequence[Work], config: SlurmConfig, *, folder: Path, cluster: str = "slurm", every_s: float = 5.0
) -> dict[str, str]:
    """Run every command as a job of one array, and wait for all of them."""
    if not work:
        return {}
    jobs: dict[str, Any] = {}
    try:
        executor = _submitit().AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=config.requeues)
        executor.update_parameters(**config.parameters())
        if cluster == "slurm":  # only there do jobs outlive whoever submitted them
            jobs = {one.name: job for one in work if (job := _earlier_job(one, folder)) is not None}
        new = [one for one in work if one.name not in jobs]
        with executor.batch() if new else contextlib.nullcontext():
            submitted = [executor.submit(CellJob(one, config.cpus_per_task)) for one in new]
    except RuntimeError as error:  # submitit's own errors are of this kind
        raise OSError(f"{error}; run on a machine that can submit to SLURM, or with executor=local") from error
    for one, job in zip(new, submitted, strict=True):
        jobs[one.name] = job
        save_json(_job_file(one), {"job_id": job.job_id, "cluster": cluster})
    ids = sorted({job.job_id.split("_")[0] for job in jobs.values()})
    failed: dict[str, str] = {}
    left = list(work)
    with SweepBar(work) as bar:
        bar.say(f"{len(new)} jobs submitted, {len(work) - len(new)} found; scancel {' '.join(ids)} stops them")
        while left:
            time.sleep(every_s)
            for one in [one for one in left if jobs[one.name].done()]:
                left.remove(one)
                _job_file(one).unlink(missing_ok=True)
                error = jobs[one.name].exception()
                if error is not None:
                    failed[one.name] = bar.failed(one, " ".join(str(error).split())[:300])
            running = [one for one in left if one.log.is_file()]
            bar.show([one for one in left if one not in running], running)
    return failed


def _earlier_job(one: Work, folder: Path) -> Any:
    """Job of an earlier call that is not over yet."""
    if not _job_file(one).is_file():
        return None
    job = _submitit().SlurmJob(folder, load_json(_job_file(one))["job_id"])
    return job if job.state.split()[0].upper() in _ALIVE else None


def _job_file(one: Work) -> Path:
    return one.run_folder / "job.json"


def _submitit(module: str = "") -> Any:
    try:
        return importlib.import_module(f"submitit.{module}".rstrip("."))
    except ImportError as error:
        raise ImportError(
            f"executor=slurm needs submitit, which is not installed ({error}); run `pip install 'topographic[slurm]'`"
        ) from error
