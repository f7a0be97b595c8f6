"""Many runs from one file: planned, run in processes of their own, measured alike, collected in one table.

Names are fetched when they are first used, so that a job that only starts a command imports neither torch nor models.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topographic.sweeps.choices import CellMaps, Mechanisms
    from topographic.sweeps.measure import Measures, run_cell
    from topographic.sweeps.series import series_of
    from topographic.sweeps.sweep import Sweep, collect_sweep, plan_sweep
    from topographic.sweeps.trajectory import measure_trajectories
    from topographic.sweeps.trajectory_parts import Watched

__all__ = [
    "CellMaps",
    "Measures",
    "Mechanisms",
    "Sweep",
    "Watched",
    "collect_sweep",
    "measure_trajectories",
    "plan_sweep",
    "run_cell",
    "series_of",
]

_FILES = {
    "CellMaps": "choices",
    "Measures": "measure",
    "Mechanisms": "choices",
    "Watched": "trajectory_parts",
    "measure_trajectories": "trajectory",
    "run_cell": "measure",
    "series_of": "series",
}


def __getattr__(name: str) -> Any:
    """Import the file that holds a name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FILES.get(name, 'sweep')}"), name)
