"""Tables of a report: what was measured on the maps, and in what the runs differ."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from topographic.evaluation.wording import NO_BREAK, NOTHING, number, p_value, percent, plus_minus
from topographic.maps import MapSummary, NullReference
from topographic.plots.figures import series
from topographic.plots.nulls import TITLES, null_names, null_title

__all__ = ["Cells", "headline_table", "last_value", "named_nulls", "settings_table", "statistics_table"]

Cell = Callable[[Any], str]


@dataclass(frozen=True, eq=False)
class Cells:
    """A table as text; the first ``n_names`` cells of a row name it, groups (name, columns) stand above the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    groups: Sequence[tuple[str, int]] = ()
    n_names: int = 1

    @property
    def is_sparse(self) -> bool:
        """Whether most cells say nothing."""
        cells = [cell for row in self.rows for cell in row[self.n_names :]]
        return 2 * sum(cell in (NOTHING, "") for cell in cells) > len(cells)


def named_nulls(summaries: Sequence[MapSummary]) -> list[str]:
    """The nulls that `topo map` draws, with a dash where a map has none, and any other that some map has."""
    found = null_names(row.morans_i for summary in summaries for row in summary.rows)
    return list(dict.fromkeys([*TITLES, *found]))


def headline_table(summaries: Mapping[str, MapSummary], metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> Cells:
    """The few numbers that matter, one column per run."""
    means = {run: _mean_row(summary) for run, summary in summaries.items()}
    cells: dict[str, Cell] = {"Moran's I of the maps": lambda row: number(row.morans_i.value, 3)}
    for name in named_nulls(list(summaries.values())):
        cells[f"its {null_title(name)}"] = _beside(name, lambda null: plus_minus(null.mean, null.sd, 3))
        if name != "floor":
            cells[f"I against the {null_title(name)}"] = _beside(name, _z_and_p)
    cells["mean |t| of the units"] = lambda row: number(row.mean_abs_t.value)
    # only other labels change it: nulls that move units leave their t as they are
    cells["mean |t| against its label null"] = _beside("label", _z_and_p, of="mean_abs_t")
    cells["effective dimensionality"] = _dimensions
    rows = [(name, *(cell(means[run]) if run in means else NOTHING for run in metrics)) for name, cell in cells.items()]
    rows.append(("last validation loss (nats)", *(last_value(metrics[run], "eval_loss") for run in metrics)))
    if any("eval_accuracy" in line for lines in metrics.values() for line in lines):
        rows.append(("last validation accuracy", *(last_value(metrics[run], "eval_accuracy") for run in metrics)))
    return Cells(["mean over sheets", *metrics], rows)


def statistics_table(summary: MapSummary) -> Cells:
    """Every measurement of one run, a row per sheet and one for their mean."""
    columns: list[tuple[str, str, Cell]] = [
        ("", "sheet", lambda row: row.site),
        ("Moran's I", "I", lambda row: number(row.morans_i.value)),
    ]
    for name in named_nulls([summary]):
        if name == "floor":
            columns.append(("Moran's I", null_title(name), _beside(name, lambda null: plus_minus(null.mean, null.sd))))
            continue
        columns += [
            (null_title(name), "mean", _beside(name, lambda null: number(null.mean))),
            (null_title(name), "z", _beside(name, lambda null: number(null.z, 1, signed=True))),
            (null_title(name), "p", _beside(name, lambda null: p_value(null.p))),
        ]
    columns += [
        ("responses", "dimensions", lambda row: number(row.effective_dimensionality, 1)),
        ("responses", "range", lambda row: number(row.correlation_range)),
        ("t map", "rise", lambda row: number(row.difference_rise)),
        ("t map", "q < .05", lambda row: percent(row.fraction_significant)),
        ("t map", "mean |t|", lambda row: number(row.mean_abs_t.value)),
        ("t map", "max |d|", lambda row: number(row.max_abs_d)),
    ]
    groups = [(name, len(list(some))) for name, some in itertools.groupby(columns, key=lambda column: column[0])]
    rows = [[cell(row) for *_, cell in columns] for row in (*summary.rows, _mean_row(summary))]
    return Cells([name for _, name, _ in columns], rows, groups)


def settings_table(settings: Mapping[str, Mapping[str, Any]], *, differing: bool = False) -> Cells | None:
    """Nested settings of several runs side by side."""
    flat = {run: _flatten(nested) for run, nested in settings.items()}
    keys = list(dict.fromkeys(key for entries in flat.values() for key in entries))
    rows = [(key, *(entries.get(key, NOTHING) for entries in flat.values())) for key in keys]
    rows = [row for row in rows if not differing or len(set(row[1:])) > 1]
    return Cells(["", *settings], rows) if rows else None


def last_value(lines: Sequence[Mapping[str, Any]], quantity: str) -> str:
    """The last logged value of a quantity."""
    _, values = series(lines, quantity)
    return number(float(values[-1]), 3) if values.size else NOTHING


def _mean_row(summary: MapSummary) -> SimpleNamespace:
    """The mean over sheets, to be read like the row of one."""
    numbers = ("effective_dimensionality", "correlation_range", "difference_rise", "fraction_significant", "max_abs_d")
    means = {name: float(np.mean([getattr(row, name) for row in summary.rows])) for name in numbers}
    about = {"morans_i": summary.morans_i, "mean_abs_t": summary.mean_abs_t, "rows": summary.rows}
    return SimpleNamespace(site=f"mean over {len(summary.rows)} sheets", **about, **means)


def _beside(name: str, say: Callable[[NullReference], str], of: str = "morans_i") -> Cell:
    """What to say of a number under one null; a dash where it was not drawn."""

    def cell(row: Any) -> str:
        null = getattr(row, of).nulls.get(name)
        return NOTHING if null is None else say(null)

    return cell


def _z_and_p(null: NullReference) -> str:
    """Both in one cell: "z = +12.3, p = .005"."""
    z, p = f"z = {number(null.z, 1, signed=True)},", f"p {p_value(null.p, sign=True)}"
    return f"{z.replace(' ', NO_BREAK)} {p.replace(' ', NO_BREAK)}"


def _dimensions(row: Any) -> str:
    """Mean and span over the sheets."""
    every = [one.effective_dimensionality for one in row.rows]
    span = f"{number(min(every), 1)}{NO_BREAK}to{NO_BREAK}{number(max(every), 1)}"
    return f"{number(row.effective_dimensionality, 1)} ({span})"


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys joined by dots, values as text."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat
