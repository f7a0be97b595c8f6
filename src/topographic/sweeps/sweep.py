"""A sweep from its plan to its tables: what it consists of, how far it is, running what is missing, collecting."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from topographic.evaluation.results import Findings
from topographic.runs.loading import load_model
from topographic.runs.recipe import Recipe
from topographic.storage import code_version, digest, load_json, locked, save_json
from topographic.sweeps.choices import CONTROL
from topographic.sweeps.collect import Setting, read_cell, settings_of
from topographic.sweeps.executors import Executor, Work
from topographic.sweeps.measure import Measures, check_measures, is_finished, is_trained
from topographic.sweeps.mechanism_tables import mechanisms_part
from topographic.sweeps.pace import Pace, measure_pace
from topographic.sweeps.plan import (
    Cell,
    check_folder,
    find_reference,
    level_of,
    plan_cells,
    rehearse_cells,
    short_name,
)
from topographic.sweeps.tables import write_sweep
from topographic.training.config import plain, save_config

__all__ = ["Sweep", "collect_sweep", "overview", "plan_sweep", "run_cells"]


@dataclass(frozen=True, eq=False)
class Sweep:
    """Models that are trained alike but for what varies, measured alike, and compared with their references."""

    base: Recipe
    cells: Sequence[Cell]
    measures: Measures = field(default_factory=Measures)
    reference: Mapping[str, Any] = field(default_factory=CONTROL.copy)

    @property
    def folder(self) -> Path:
        """Every cell is a run folder in it."""
        return Path(self.base.run)

    @property
    def lock(self) -> Path:
        """What is locked while ``sweep.yaml`` or tables are written."""
        return self.folder / "sweep"

    @functools.cached_property
    def references(self) -> dict[str, str | None]:
        """By name of a cell, that of the cell it is compared with."""
        return {cell.name: find_reference(cell, self.base, self.reference, self.cells) for cell in self.cells}

    def cell(self, name: str) -> Cell:
        """One of the cells."""
        named = {cell.name: cell for cell in self.cells}
        if name not in named:
            raise ValueError(f"cell={name}; expected one of {', '.join(named)}")
        return named[name]

    def missing(self) -> list[Cell]:
        """Cells with something left to do."""
        return [cell for cell in self.cells if not is_finished(cell, self.measures)]

    def rehearse(self) -> None:
        """Refuse cells that cannot be built, and references that cannot be."""
        rehearse_cells(self.cells if self.references else ())


def plan_sweep(
    base: Recipe, blocks: Sequence[Mapping[str, Any]], measures: Measures, reference: Mapping[str, Any] = CONTROL
) -> Sweep:
    """All cells of some blocks, each checked against what lies in its folder; nothing is trained or written.

    Parameters
    ----------
    base : Recipe
        What the cells have in common; its folder is that of the sweep.
    blocks : sequence of mapping
        Each maps keys to lists of values and stands for all their combinations.
    measures : Measures
        What is measured on every cell.
    reference : mapping, optional
        Keys and values of the cell that the others of its seed are compared with.

    Returns
    -------
    Sweep
        The plan.

    Raises
    ------
    ValueError
        If a block makes no cells, or a cell no model, or a model cannot be measured so.
    FileExistsError
        If the folder of a cell holds a run with another configuration.

    Examples
    --------
    >>> from topographic.runs.recipe import ModelConfig
    >>> base = Recipe(run="runs/sweep", model=ModelConfig("tiny"))
    >>> [cell.name for cell in plan_sweep(base, [{"spatial.weight": [0, 1], "seed": [0]}], Measures()).cells]
    ['alpha_0-seed_0', 'alpha_1-seed_0']
    """
    cells = plan_cells(base, blocks)
    for cell in cells:
        check_folder(cell)
    check_measures(cells[0], measures)
    return Sweep(base, cells, measures, reference)


def overview(sweep: Sweep) -> str:
    """A line per cell with how far it is."""
    missing = {cell.name for cell in sweep.missing()}
    varied = [short_name(key) for key in sweep.cells[0].levels]
    rows = [["cell", "seed", *varied, ""]]
    for cell in sweep.cells:
        state = "finished" if cell.name not in missing else "trained" if is_trained(cell) else ""
        rows.append([cell.name, "" if cell.seed is None else str(cell.seed), *map(str, cell.levels.values()), state])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, f"{len(sweep.cells)} cells, {len(sweep.cells) - len(missing)} finished"])


def run_cells(
    sweep: Sweep, cells: Sequence[Cell], command: Any, executor: Executor, *, processes: int = 1
) -> dict[str, str]:
    """Start cells as commands of their own, which read ``command`` from ``sweep.yaml``; what failed, and why."""
    file = sweep.folder / "sweep.yaml"
    with locked(sweep.lock, wait=True):
        save_config(file, command)
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    words = [sys.executable, "-m", *(torchrun if processes > 1 else ()), "topographic", "sweep", str(file)]
    return executor([
        Work(cell.name, [*words, f"cell={cell.name}"], cell.folder, cell.recipe.training.max_steps, processes)
        for cell in cells
    ])


def collect_sweep(sweep: Sweep, write_page: Callable[[Path, str, str, Mapping[str, Findings]], Any]) -> Any:
    """Write tables, figures and page of whatever is trained; another sweep in the same folder waits meanwhile.

    Parameters
    ----------
    sweep : Sweep
        The plan.
    write_page : callable
        Takes folder, title, lead and parts.

    Returns
    -------
    object
        Whatever ``write_page`` returns.

    Raises
    ------
    ValueError
        If no cell is trained.
    FileExistsError
        If the folder of a cell holds a run with another configuration by now.
    """
    if not any(map(is_trained, sweep.cells)):
        raise ValueError(f"{sweep.folder} holds no trained cell; train them first, without collect=true")
    with locked(sweep.lock, wait=True):
        for cell in sweep.cells:
            check_folder(cell)
        read = {cell.name: read_cell(cell, sweep.measures) for cell in sweep.cells}
        found = [one for one in read.values() if one is not None]
        untrained = [name for name, one in read.items() if one is None]
        unmeasured = [cell.name for cell in sweep.missing() if cell.name not in untrained]
        notes = [f"Not trained yet: {', '.join(untrained)}."] if untrained else []
        notes += [f"Not mapped or measured in full yet: {', '.join(unmeasured)}."] if unmeasured else []
        settings = settings_of(found, lambda cell: sweep.references[cell.name])
        levels = {key: level_of(sweep.base, key) for key in sweep.cells[0].levels}
        compared = None
        if sweep.measures.mechanisms.is_on:
            compared = mechanisms_part(settings, sweep.measures.mechanisms, _pace(sweep, settings))
        lead, parts = write_sweep(sweep.folder, found, settings, base=levels, notes=notes, compared=compared)
        return write_page(sweep.folder, f"Sweep {sweep.folder.resolve().name}", lead, parts)


def _pace(sweep: Sweep, settings: Sequence[Setting]) -> dict[str, Pace]:
    """What a step of every setting takes, measured once for these recipes."""
    of = {one.name: one.cells[0].cell for one in settings}
    reference = next((one.reference.name for one in settings if one.reference is not None), settings[0].name)
    code = code_version("topographic.sweeps.pace")
    key = digest([code, reference, {name: plain(cell.recipe) for name, cell in of.items()}])
    file = sweep.folder / "pace.json"
    kept = load_json(file) if file.is_file() else {}
    if kept.get("key") != key:
        models = {name: (load_model(cell.folder, device="cpu")[0], cell.recipe) for name, cell in of.items()}
        kept = {"key": key, "steps": {name: list(pace) for name, pace in measure_pace(models, reference).items()}}
        save_json(file, kept)
    return {name: Pace(*numbers) for name, numbers in kept["steps"].items()}
