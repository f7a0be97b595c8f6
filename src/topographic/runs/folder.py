"""A run folder: whether it is finished, and what its files say."""

import json
from pathlib import Path
from typing import Any

__all__ = ["read_metrics", "require_finished"]


def require_finished(run: Path) -> None:
    """Refuse a run that has been started and has no model yet."""
    if (run / "config.yaml").is_file() and not (run / "model").is_dir():
        raise ValueError(
            f"{run} holds a run whose training is not finished, so that it has no model yet; the same command goes "
            f"on with it: topo train {run / 'config.yaml'}"
        )


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Read a ``metrics.jsonl``."""
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
            records.append({**record, "step": int(record["step"])})
        except (json.JSONDecodeError, TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r} is no JSON object with a step ({type(error).__name__}); "
                "remove the line or train again"
            ) from error
    return records
