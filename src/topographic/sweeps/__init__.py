"""Many runs from one file: planned, run in processes of their own, measured alike, collected in one table.

Names are fetched when they are first used, so that a job that only starts a command imports neither torch nor models.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topographic.sweeps.executors import SlurmConfig, run_in_processes, run_on_slurm
    from topographic.sweeps.measure import CellMaps, Measures, run_cell
    from topographic.sweeps.sweep import CONTROL, Sweep, collect_sweep, overview, plan_sweep, run_cells

_FILES = {
    "executors": ("SlurmConfig", "run_in_processes", "run_on_slurm"),
    "measure": ("CellMaps", "Measures", "run_cell"),
    "sweep": ("CONTROL", "Sweep", "collect_sweep", "overview", "plan_sweep", "run_cells"),
}
__all__ = [
    "CONTROL",
    "CellMaps",
    "Measures",
    "SlurmConfig",
    "Sweep",
    "collect_sweep",
    "overview",
    "plan_sweep",
    "run_cell",
    "run_cells",
    "run_in_processes",
    "run_on_slurm",
]


def __getattr__(name: str) -> Any:
    """Import the file that holds a name."""
    for file, names in _FILES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
