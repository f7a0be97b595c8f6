"""Commands as jobs of a SLURM cluster, through submitit."""

import contextlib
import importlib
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from topographic.storage import load_json, save_json
from topographic.sweeps.workers import SweepBar, Work, last_words, start, stop

__all__ = ["CellJob", "SlurmConfig", "run_on_slurm"]

# states in which a job is not over; what sacct has not heard of, or has forgotten, is submitted again
_ALIVE = ("READY", "PENDING", "RUNNING", "REQUEUED", "COMPLETING", "PREEMPTED", "SUSPENDED", "CONFIGURING")


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
    """A command as submitit runs it: where a job runs out of time, it is queued again.

    Parameters
    ----------
    work : Work
        The command.
    threads : int
        Its threads.
    """

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
    print(
        f"{len(new)} jobs submitted, {len(work) - len(new)} found; scancel {' '.join(ids)} stops them", file=sys.stderr
    )
    return _wait(work, jobs, every_s)


def _wait(work: Sequence[Work], jobs: dict[str, Any], every_s: float) -> dict[str, str]:
    failed: dict[str, str] = {}
    left = list(work)
    with SweepBar(work) as bar:
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
