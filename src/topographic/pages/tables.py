"""Tables: what was measured on the maps, and in what the runs differ."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from topographic.evaluation.wording import NOTHING, number, p_value
from topographic.maps import MapSummary, MoransI, NullReference, Referenced
from topographic.pages.markup import Html, table
from topographic.plots.figures import series

JOIN = "\N{NO-BREAK SPACE}"  # a number keeps its unit beside it where a cell is broken

__all__ = ["headline_table", "last_value", "settings_table", "statistics_table"]


def headline_table(summaries: Mapping[str, MapSummary], metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> Html:
    """The few numbers that matter, one column per run."""
    rows = [
        (name, *(cell(summaries[run]) if run in summaries else NOTHING for run in metrics))
        for name, cell in HEADLINE.items()
    ]
    rows.append(("last validation loss (nats)", *(last_value(metrics[run], "eval_loss") for run in metrics)))
    if any("eval_accuracy" in line for lines in metrics.values() for line in lines):
        rows.append(("last validation accuracy", *(last_value(metrics[run], "eval_accuracy") for run in metrics)))
    return table(["mean over sheets", *metrics], rows, style="numbers")


def last_value(lines: Sequence[Mapping[str, Any]], quantity: str) -> str:
    """The last logged value of a quantity."""
    _, values = series(lines, quantity)
    return number(float(values[-1]), 3) if values.size else NOTHING


def statistics_table(summary: MapSummary, *, run: str) -> Html:
    """Every measurement of one run, a row per sheet and one for their mean."""
    groups = [("", 1), ("Moran's I", 2), ("unit null", 3), ("label null", 3), ("responses", 2), ("t map", 4)]
    header = ["sheet", "I", "kernel floor", "mean", "z", "p", "mean", "z", "p", "dimensions", "range"]
    header += ["rise", "q < .05", "mean |t|", "max |d|"]
    rows = [
        (
            row.site,
            *_index_cells(row.morans_i),
            number(row.effective_dimensionality, 1),
            number(row.correlation_range),
            number(row.difference_rise),
            _percent(row.fraction_significant),
            number(row.mean_abs_t.value),
            number(row.max_abs_d),
        )
        for row in summary.rows
    ]
    mean = (
        f"mean over {len(summary.rows)} sheets",
        *_index_cells(summary.morans_i),
        number(_mean(summary, "effective_dimensionality"), 1),
        number(_mean(summary, "correlation_range")),
        number(_mean(summary, "difference_rise")),
        _percent(_mean(summary, "fraction_significant")),
        number(summary.mean_abs_t.value),
        number(_mean(summary, "max_abs_d")),
    )
    caption = f"{run}, contrast {summary.contrast}"
    return table(header, [*rows, mean], groups=groups, caption=caption, style="numbers dense")


def settings_table(settings: Mapping[str, Mapping[str, Any]], *, caption: str, differing: bool = False) -> Html | None:
    """Nested settings of several runs side by side."""
    flat = {run: _flatten(nested) for run, nested in settings.items()}
    keys = list(dict.fromkeys(key for entries in flat.values() for key in entries))
    rows = [(key, *(entries.get(key, NOTHING) for entries in flat.values())) for key in keys]
    rows = [row for row in rows if not differing or len(set(row[1:])) > 1]
    return table(["", *settings], rows, caption=caption) if rows else None


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested keys joined by dots, values as text."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _index_cells(index: MoransI | Referenced) -> tuple[str, ...]:
    """I, floor, and mean, z and p of both nulls."""
    cells = [number(index.value), _mean_sd(index.floor)]
    for null in (index.unit_null, index.label_null):
        cells += [NOTHING] * 3 if null is None else [number(null.mean), number(null.z, 1, signed=True), p_value(null.p)]
    return tuple(cells)


def _mean_sd(null: NullReference | None, digits: int = 2) -> str:
    return NOTHING if null is None else f"{number(null.mean, digits)}{JOIN}±{JOIN}{number(null.sd, digits)}"


def _z_and_p(null: NullReference | None) -> str:
    """Both in one cell: "z = +12.3, p = .005"."""
    if null is None:
        return NOTHING
    p = p_value(null.p, sign=True)
    z = f"z = {number(null.z, 1, signed=True)},"
    return f"{z.replace(' ', JOIN)} {f'p {p}'.replace(' ', JOIN)}"


def _percent(share: float) -> str:
    return NOTHING if np.isnan(share) else f"{number(100 * share, 1)} %"


def _mean(summary: MapSummary, key: str) -> float:
    return float(np.mean([getattr(row, key) for row in summary.rows]))


def _dimensionality(summary: MapSummary) -> str:
    values = [row.effective_dimensionality for row in summary.rows]
    return f"{number(float(np.mean(values)), 1)} ({number(min(values), 1)}{JOIN}to{JOIN}{number(max(values), 1)})"


HEADLINE: dict[str, Callable[[MapSummary], str]] = {
    "Moran's I of the maps": lambda summary: number(summary.morans_i.value, 3),
    "its kernel floor": lambda summary: _mean_sd(summary.morans_i.floor, 3),
    "its unit null": lambda summary: _mean_sd(summary.morans_i.unit_null, 3),
    "I against the unit null": lambda summary: _z_and_p(summary.morans_i.unit_null),
    "its label null": lambda summary: _mean_sd(summary.morans_i.label_null, 3),
    "I against the label null": lambda summary: _z_and_p(summary.morans_i.label_null),
    "mean |t| of the units": lambda summary: number(summary.mean_abs_t.value),
    "mean |t| against its label null": lambda summary: _z_and_p(summary.mean_abs_t.label_null),
    "effective dimensionality": _dimensionality,
}
