"""`topo sweep`: many models from one file."""

import functools
import os
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from topographic.runs.recipe import Recipe
from topographic.sweeps.choices import CONTROL, CellMaps, Mechanisms
from topographic.sweeps.executors import SlurmConfig, run_here, run_in_processes, run_on_slurm

if TYPE_CHECKING:
    from topographic.sweeps import Sweep

__all__ = ["SweepCommand", "sweep"]


@dataclass(frozen=True)
class SweepCommand(Recipe):
    """Train and map every cell of a sweep; the same command goes on where it was interrupted."""

    overwrite: ClassVar[bool] = False  # finished cells stay; no word of a sweep
    run: str = "runs/sweep"
    """Folder of the sweep; every cell is a run folder in it. From model to training: what the cells have in common."""
    blocks: list[dict[str, Any]] = field(default_factory=list)
    """What varies: each block maps keys to lists of values and stands for all their combinations, for example
    - {spatial.weight: [0, 0.25], seed: [0, 1, 2]}. "seed" sets the seeds of weights, permutations and data order. A
    block with one value of everything but seed may have a name, by which its models go: {name: spatial loss, ...}."""
    maps: CellMaps = field(default_factory=CellMaps)
    """The maps that are made of every cell."""
    mechanisms: Mechanisms = field(default_factory=Mechanisms)
    """Where mechanisms of topography are compared: the order of responses and weights at places that all models have,
    what is left after lesions, pruning and downsampling, and what a step takes."""
    pairs: str | None = None
    """Minimal pairs for language models: "own", or a .jsonl file or a folder of them in BLiMP's layout; none by
    default."""
    workers: int = 1
    """Cells that run at the same time on this machine."""
    threads: int | None = None
    """Threads of each; the machine's cores shared equally by default."""
    processes: int = 1
    """Processes that train one cell, one accelerator each, started with torchrun."""
    executor: Literal["local", "here", "slurm"] = "local"
    """Run the cells on this machine in processes of their own, or one after another in this process, which spares small
    ones the start of a process each; or as jobs of a SLURM cluster (through submitit)."""
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    """What a job asks for; workers and threads say nothing there."""
    reference: dict[str, Any] = field(default_factory=CONTROL.copy)
    """What every cell is compared with: the cell of the same seed in which these keys have these values, or that of a
    named block, {name: control}."""
    dry_run: bool = False
    """List the cells and how far they are; do nothing."""
    collect: bool = False
    """Write tables, figures and page from the cells that are there; train none."""
    cell: str | None = None
    """Run this one cell in this process, as each worker does."""

    def __post_init__(self) -> None:
        """Refuse numbers no machine has, and many processes where there is one."""
        if min(self.workers, self.processes) < 1 or (self.threads is not None and self.threads < 1):
            raise ValueError(
                f"workers={self.workers}, threads={self.threads}, processes={self.processes}; expected at least 1 "
                "of each"
            )
        if self.executor == "here" and (self.workers > 1 or self.processes > 1 or self.threads is not None):
            raise ValueError(
                f"executor=here with workers={self.workers}, processes={self.processes}, threads={self.threads}; cells "
                "run one after another in this process: leave these out, or choose executor=local"
            )

    def plan(self) -> "Sweep":
        """What these words amount to."""
        from topographic.sweeps import Measures, plan_sweep

        base = Recipe(**{entry.name: getattr(self, entry.name) for entry in fields(Recipe)})
        return plan_sweep(base, self.blocks, Measures(self.maps, self.pairs, self.mechanisms), self.reference)


def sweep(command: SweepCommand) -> Path:
    """Run every cell that is not finished."""
    from topographic.pages.findings import write_findings
    from topographic.sweeps import collect_sweep, run_cell
    from topographic.sweeps.sweep import overview, run_cells

    planned = command.plan()
    folder, n_cells, failed = planned.folder, len(planned.cells), {}
    if command.cell is not None:
        run_cell(planned.cell(command.cell), planned.measures)
        return folder
    planned.rehearse()
    if command.dry_run:
        print(overview(planned))
        return folder
    if not command.collect:
        if command.executor == "here":
            executor = functools.partial(run_here, run=lambda name: run_cell(planned.cell(name), planned.measures))
        elif command.executor == "slurm":
            executor = functools.partial(run_on_slurm, config=command.slurm, folder=folder / "submitit")
        else:
            threads = command.threads or max(1, (os.cpu_count() or 1) // (command.workers * command.processes))
            executor = functools.partial(run_in_processes, workers=command.workers, threads=threads)
        missing = planned.missing()
        if command.executor == "here":  # a replicate of everything before the next
            missing.sort(key=lambda cell: cell.seed or 0)
        print(f"{folder}: {n_cells} cells, {n_cells - len(missing)} of them finished", file=sys.stderr)
        failed = run_cells(planned, missing, command, executor, processes=command.processes)
    _, page = collect_sweep(planned, functools.partial(write_findings, name="sweep"))
    if failed:
        name, why = next(iter(failed.items()))
        raise ValueError(
            f"{len(failed)} of {n_cells} cells failed, the first: {name}: {why}; the same command tries them again"
        )
    if not command.collect:
        print(f"{folder}: all {n_cells} cells finished", file=sys.stderr)
    print(page)
    return folder
