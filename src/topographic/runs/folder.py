"""A run folder: whether it is finished, and what its files say."""

import json
from pathlib import Path
from typing import Any

from topographic.training.folder import RunState, is_run, replaced_runs, run_state

__all__ = ["RunState", "is_run", "read_metrics", "replaced_runs", "require_finished", "run_state"]


def require_finished(run: Path) -> None:
    """Refuse a run that has been started and has no model yet."""
    if not (run / "config.yaml").is_file() or (run / "model").is_dir():
        return
    state, again = run_state(run), f"topo train {run / 'config.yaml'}"
    kept = "".join(f"; the run that it was to replace is kept in {path}" for path in replaced_runs(run)[-1:])
    if state is not None and state.status == "failed":
        raise ValueError(
            f"{run} holds a run that failed at step {state.step} ({state.reason}), so that it has no model{kept}; mend "
            f"the cause and go on with it: {again}, or begin anew with other settings: overwrite=true"
        )
    raise ValueError(
        f"{run} holds a run whose training is not finished, so that it has no model yet{kept}; the same command goes "
        f"on with it: {again}"
    )


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Read a ``metrics.jsonl``; what was no finite number is None."""
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
            records.append({**record, "step": int(record["step"])})
        except (json.JSONDecodeError, AttributeError, TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r} is no JSON object with a step ({type(error).__name__}); "
                "remove the line or train again"
            ) from error
    return records
