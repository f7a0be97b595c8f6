"""`topo sweep`: many models from one file."""

import os
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from topographic.objectives.config import SmoothnessConfig, SpatialConfig
from topographic.pages.findings import write_findings
from topographic.runs.recipe import ModelConfig, Recipe
from topographic.sweeps.cell_run import check_measures, is_finished, is_trained, run_cell
from topographic.sweeps.collect import read_cell, settings_of
from topographic.sweeps.measure import CellMaps
from topographic.sweeps.plan import Cell, check_folder, find_reference, level_of, plan_cells, short_name
from topographic.sweeps.rehearsal import rehearse_cells
from topographic.sweeps.slurm import SlurmConfig, run_on_slurm
from topographic.sweeps.tables import write_sweep
from topographic.sweeps.workers import Work, run_in_processes
from topographic.training.config import DataConfig, ImageConfig, TrainingConfig, save_config

__all__ = ["SweepCommand", "sweep"]


@dataclass(frozen=True)
class SweepCommand:
    """Train and map every cell of a sweep; the same command goes on where it was interrupted."""

    run: str = "runs/sweep"
    """Folder of the sweep; every cell is a run folder in it."""
    blocks: list[dict[str, Any]] = field(default_factory=list)
    """What varies: each block maps keys to lists of values and stands for all their combinations, for example
    - {spatial.weight: [0, 0.25], seed: [0, 1, 2]}. "seed" sets the seeds of weights, permutations and data order."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model, as for topo train; so are the sections below down to training: what the cells have in common."""
    data: DataConfig = field(default_factory=DataConfig)
    """The text and its tokens, equal in all cells."""
    images: ImageConfig = field(default_factory=ImageConfig)
    """The images, for vision models, equal in all cells; with images.name there is no text."""
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    """The spatial loss."""
    smoothness: SmoothnessConfig = field(default_factory=SmoothnessConfig)
    """The smoothness of weights (TopoNets)."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """The optimisation."""
    maps: CellMaps = field(default_factory=CellMaps)
    """The maps that are made of every cell."""
    pairs: str | None = None
    """Minimal pairs for language models: "own", or a .jsonl file or a folder of them in BLiMP's layout; none by
    default."""
    workers: int = 1
    """Cells that run at the same time on this machine."""
    threads: int | None = None
    """Threads of each; the machine's cores shared equally by default."""
    processes: int = 1
    """Processes that train one cell, one accelerator each, started with torchrun."""
    executor: Literal["local", "slurm"] = "local"
    """Run the cells on this machine, or as jobs of a SLURM cluster (through submitit)."""
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    """What a job asks for; workers and threads say nothing there."""
    reference: dict[str, Any] = field(default_factory=lambda: {"spatial.weight": 0, "smoothness.weight": 0})
    """What every cell is compared with: the cell of the same seed in which these keys have these values."""
    dry_run: bool = False
    """List the cells and how far they are; do nothing."""
    collect: bool = False
    """Write tables, figures and page from the cells that are there; train none."""
    cell: str | None = None
    """Run this one cell in this process, as each worker does."""

    def __post_init__(self) -> None:
        """Refuse numbers no machine has."""
        if min(self.workers, self.processes) < 1 or (self.threads is not None and self.threads < 1):
            raise ValueError(
                f"workers={self.workers}, threads={self.threads}, processes={self.processes}; expected at least 1 "
                "of each"
            )

    def cells(self) -> list[Cell]:
        """All cells, validated."""
        return plan_cells(self.base(), self.blocks)

    def base(self) -> Recipe:
        """What the cells have in common, as a recipe of `topo train`."""
        sections = {entry.name: getattr(self, entry.name) for entry in fields(Recipe) if hasattr(self, entry.name)}
        return Recipe(**sections)


def sweep(command: SweepCommand) -> Path:
    """Run every cell that is not finished."""
    cells = command.cells()
    folder = Path(command.run)
    for cell in cells:
        check_folder(cell)
    check_measures(cells[0], command.maps, command.pairs)
    if command.cell is not None:
        run_cell(_named(cells, command.cell), command.maps, command.pairs)
        return folder
    references = {cell.name: find_reference(cell, command.base(), command.reference, cells) for cell in cells}
    rehearse_cells(cells)
    finished = [cell for cell in cells if is_finished(cell, command.maps, command.pairs)]
    if command.dry_run:
        print(_overview(cells, finished))
        return folder
    failed: dict[str, str] = {}
    if not command.collect:
        save_config(folder / "sweep.yaml", command)
        print(f"{folder}: {len(cells)} cells, {len(finished)} of them finished", file=sys.stderr)
        failed = _run(command, [cell for cell in cells if cell not in finished])
    page = _collect(command, cells, references)
    if failed:
        name, why = next(iter(failed.items()))
        raise ValueError(
            f"{len(failed)} of {len(cells)} cells failed, the first: {name}: {why}; the same command tries them again"
        )
    if not command.collect:
        print(f"{folder}: all {len(cells)} cells finished", file=sys.stderr)
    print(page)
    return folder


def _run(command: SweepCommand, missing: list[Cell]) -> dict[str, str]:
    """Start every missing cell as a command of its own; what failed, and why."""
    python = [sys.executable, "-m"]
    if command.processes > 1:
        python += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(command.processes), "-m"]
    words = [*python, "topographic", "sweep", str(Path(command.run) / "sweep.yaml")]
    work = [
        Work(
            cell.name,
            [*words, f"cell={cell.name}"],
            cell.folder,
            cell.recipe.training.max_steps,
            processes=command.processes,
        )
        for cell in missing
    ]
    if command.executor == "slurm":
        return run_on_slurm(work, command.slurm, folder=Path(command.run) / "submitit")
    threads = command.threads or max(1, (os.cpu_count() or 1) // (command.workers * command.processes))
    return run_in_processes(work, workers=command.workers, threads=threads)


def _collect(command: SweepCommand, cells: list[Cell], references: dict[str, str | None]) -> Path:
    """Tables, figures and page of whatever is trained."""
    read = {cell.name: read_cell(cell, command.maps, command.pairs) for cell in cells}
    found = [one for one in read.values() if one is not None]
    if not found:
        raise ValueError(f"{command.run} holds no trained cell; train them first, without collect=true")
    missing = [name for name, one in read.items() if one is None]
    unmapped = [one.cell.name for one in found if not is_finished(one.cell, command.maps, command.pairs)]
    notes = [f"Not trained yet: {', '.join(missing)}."] if missing else []
    notes += [f"Not mapped or measured in full yet: {', '.join(unmapped)}."] if unmapped else []
    settings = settings_of(found, lambda cell: references[cell.name])
    levels = {key: level_of(command.base(), key) for key in cells[0].levels}
    folder = Path(command.run)
    lead, parts = write_sweep(folder, found, settings, base=levels, notes=notes)
    return write_findings(folder, f"Sweep {folder.resolve().name}", lead, parts, name="sweep")[1]


def _named(cells: list[Cell], name: str) -> Cell:
    for cell in cells:
        if cell.name == name:
            return cell
    raise ValueError(f"cell={name}; expected one of {', '.join(cell.name for cell in cells)}")


def _overview(cells: list[Cell], finished: list[Cell]) -> str:
    varied = [short_name(key) for key in cells[0].levels]
    rows = [["cell", "seed", *varied, ""]]
    for cell in cells:
        state = "finished" if cell in finished else "trained" if is_trained(cell) else ""
        rows.append([cell.name, "" if cell.seed is None else str(cell.seed), *map(str, cell.levels.values()), state])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, f"{len(cells)} cells, {len(finished)} finished"])
