"""Many runs from one file: planned, run in processes of their own, measured alike, collected in one table.

Names are fetched when they are first used, so that a job that only starts a command imports neither torch nor models.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topographic.sweeps.choices import CellMaps
    from topographic.sweeps.measure import Measures, run_cell
    from topographic.sweeps.sweep import Sweep, collect_sweep, plan_sweep

__all__ = ["CellMaps", "Measures", "Sweep", "collect_sweep", "plan_sweep", "run_cell"]


def __getattr__(name: str) -> Any:
    """Import the file that holds a name."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = {"CellMaps": "choices", "Measures": "measure", "run_cell": "measure"}.get(name, "sweep")
    return getattr(importlib.import_module(f"{__name__}.{file}"), name)
