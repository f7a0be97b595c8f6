"""What a sweep measured: one long table of its cells, and every number over seeds beside its reference."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from topographic.maps.summary import MapSummary
from topographic.runs.folder import read_metrics
from topographic.runs.recipe import Recipe
from topographic.storage import load_json
from topographic.sweeps.measure import (
    Measures,
    is_trained,
    load_mechanisms,
    load_pairs,
    load_summary,
    load_weights,
)
from topographic.sweeps.plan import Cell, short_name

__all__ = [
    "CellNumbers",
    "Measure",
    "PairedDifference",
    "Replicates",
    "Setting",
    "grouped_rows",
    "level_word",
    "long_rows",
    "over_replicates",
    "paired_difference",
    "read_cell",
    "settings_of",
]

_CONFIDENCE = 0.95
_MOST_FLIPS = 2**16  # up to 16 pairs every choice of signs is tried


class Measure(NamedTuple):
    """A number of a cell: its name, and the maps it was measured on, if any."""

    name: str
    contrast: str | None = None
    fwhm_mm: float | None = None


# what the loss of weights is measured with
_RULER = ("kind", "factor", "blur", "sheets")


@dataclass(frozen=True, eq=False)
class CellNumbers:
    """What was measured on one cell."""

    cell: Cell
    record: Mapping[str, Any]
    """Its ``run.json``."""
    about: Mapping[str, Any]
    """Numbers of the cell as a whole, by column; None where there is none."""
    maps: Mapping[tuple[str, float], Mapping[str, Any]]
    """Numbers of its maps, by contrast and readout, then by column."""
    laid_out: Mapping[str, float] = field(default_factory=dict)
    """Numbers of mechanisms of the same model with its units laid out after training, where that was done."""

    def number(self, measure: Measure) -> float | None:
        """One number."""
        if measure.contrast is None or measure.fwhm_mm is None:
            return self.about.get(measure.name)
        return self.maps.get((measure.contrast, measure.fwhm_mm), {}).get(measure.name)


@dataclass(frozen=True, eq=False)
class Setting:
    """Cells that differ in their seed only."""

    name: str
    """Name of the cells without the seed."""
    levels: Mapping[str, Any]
    """By key: what the sweep varies."""
    cells: Sequence[CellNumbers]
    """One per seed."""
    reference: "Setting | None" = None
    """What it is compared with."""

    @property
    def recipe(self) -> Recipe:
        """What trains one of its cells."""
        return self.cells[0].cell.recipe

    def numbers(self, measure: Measure) -> dict[int | None, float]:
        """One number of every replicate."""
        found = {one.cell.seed: one.number(measure) for one in self.cells}
        return {seed: value for seed, value in found.items() if value is not None}


def read_cell(cell: Cell, measures: Measures) -> CellNumbers | None:
    """Read what a cell left on disk and can be vouched for."""
    if not is_trained(cell):
        return None
    record = load_json(cell.folder / "run.json")
    found = {}
    for name, contrast in measures.contrasts(cell.recipe).items():
        for fwhm_mm in measures.maps.fwhm_mm:
            summary = load_summary(cell, measures, contrast, fwhm_mm)
            if summary is not None:
                found[name, fwhm_mm] = _map_numbers(summary)
    lines = read_metrics(cell.folder / "metrics.jsonl")
    scores = load_pairs(cell, measures)
    counted = cell.recipe.counted
    about = {
        counted: record[f"{counted}_seen"],
        "parameters": record["n_parameters"],
        "validation loss": record.get("eval_loss"),
        "test accuracy": _last(lines, "eval_accuracy"),
        "spatial loss": _spatial_loss(lines, cell.recipe.spatial.weight),
        "loss of weights": load_weights(cell),
        "accuracy": None if scores is None else scores["overall"]["accuracy"],
        "time (s)": record["wall_time_s"],
    }
    compared = (load_mechanisms(cell, measures) if measures.mechanisms.is_on else None) or {}
    about |= compared.get("trained", {})
    return CellNumbers(cell, record, about, found, compared.get("laid out", {}))


def _spatial_loss(lines: Sequence[Mapping[str, Any]], weight: float) -> float | None:
    """Mean over sheets of the unweighted loss at the last validation; None for a control, where none is computed."""
    sheets = {name for line in lines for name in line if name.startswith("spatial/")}
    logged = _last(lines, "eval_spatial_loss")
    return logged / (weight * len(sheets)) if logged is not None and sheets and weight else None


def _last(lines: Sequence[Mapping[str, Any]], name: str) -> float | None:
    return next((line[name] for line in reversed(lines) if line.get(name) is not None), None)


def _map_numbers(summary: MapSummary) -> dict[str, Any]:
    """Means over sheets."""
    index, contrast = summary.morans_i, summary.mean_abs_t
    row: dict[str, Any] = dict(index.to_columns("I", show=("mean", "z", "p")))
    for unused in ("z (floor)", "p (floor)"):
        row.pop(unused, None)
    row["mean |t|"] = contrast.value
    row["p (mean |t|)"] = contrast.label_null.p if contrast.label_null is not None else None
    row["dimensions"] = sum(one.effective_dimensionality for one in summary.rows) / len(summary.rows)
    return {key: value for key, value in row.items() if value is not None and value == value}


class Replicates(NamedTuple):
    """A number over replicates: mean, sd (ddof 1) and 95 % interval of Student's t, NaN for a single one."""

    n: int
    mean: float
    sd: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    """A number of one model less that of another, replicate by replicate, with two-sided p; NaN for a single pair.

    The t test supposes normal differences (no p where all are equal), the sign flips only symmetric ones (Fisher's
    randomization of a paired design): the share of all choices of signs with a mean at least as far from zero, which
    cannot be below 2 / 2^n. Of more than 16 pairs 65536 choices are drawn.
    """

    difference: Replicates
    p_t: float
    p_sign_flip: float


def over_replicates(values: Iterable[float]) -> Replicates:
    """Mean, standard deviation and interval of a number over replicates."""
    found = np.array(list(values), dtype=np.float64)
    if not found.size or not np.isfinite(found).all():
        raise ValueError(
            f"{found.size} values, {int(np.isfinite(found).sum())} of them finite; expected at least one, all finite: "
            "leave out replicates that were not measured"
        )
    n, mean = len(found), float(found.mean())
    if n == 1:
        return Replicates(1, mean, math.nan, math.nan, math.nan)
    sd = float(found.std(ddof=1))
    half = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, n - 1)) * sd / math.sqrt(n)
    return Replicates(n, mean, sd, mean - half, mean + half)


def paired_difference(values: Mapping[Any, float], references: Mapping[Any, float]) -> PairedDifference | None:
    """Difference between two models over the replicates that both have.

    Null hypotheses: differences are normal around 0 (t), or as likely of either sign (flips).
    """
    shared = [key for key in values if key in references]
    if not shared:
        return None
    differences = np.array([values[key] - references[key] for key in shared], dtype=np.float64)
    summary = over_replicates(differences)
    if summary.n == 1:
        return PairedDifference(summary, math.nan, math.nan)
    varied = summary.sd > 1e-12 * max(1.0, abs(summary.mean))
    t = abs(summary.mean) / (summary.sd / math.sqrt(summary.n)) if varied else math.nan
    options: dict[str, Any] = {"n_resamples": _MOST_FLIPS, "random_state": 0}  # called rng since scipy 1.15
    flipped = stats.permutation_test((differences,), np.sum, permutation_type="samples", **options)
    return PairedDifference(summary, float(2 * stats.t.sf(t, summary.n - 1)), float(flipped.pvalue))


def long_rows(found: Sequence[CellNumbers]) -> list[dict[str, Any]]:
    """The table of a sweep: a row per cell, contrast and readout, numbers of the cell repeated in each."""
    rows = []
    known = {key for one in found for key, value in one.about.items() if value is not None}
    for one in found:
        about = {key: value for key, value in one.about.items() if key in known}
        cell = {"cell": one.cell.name, "seed": one.cell.seed, **_level_columns(one.cell.levels), **about}
        maps = [
            {"contrast": contrast, "FWHM (mm)": fwhm_mm, **numbers} for (contrast, fwhm_mm), numbers in one.maps.items()
        ]
        rows += [cell | numbers for numbers in maps or [{}]]
    return rows


def settings_of(found: Sequence[CellNumbers], reference_of: Callable[[Cell], str | None]) -> list[Setting]:
    """Bring the replicates of every setting together."""
    cells: dict[str, list[CellNumbers]] = {}
    for one in found:
        cells.setdefault(one.cell.setting, []).append(one)
    alone = {
        name: Setting(members[0].cell.label or name, members[0].cell.levels, members) for name, members in cells.items()
    }
    home = {one.cell.name: one.cell.setting for one in found}
    settings = []
    for name, one in alone.items():
        references = [reference_of(member.cell) for member in one.cells]
        homes = [home[reference] for reference in references if reference in home]
        reference = alone[homes[0]] if homes and homes[0] != name else None
        settings.append(replace(one, reference=reference))
    return settings


def grouped_rows(
    settings: Sequence[Setting], measures: Sequence[Measure], *, with_levels: bool = True
) -> list[dict[str, Any]]:
    """Every measure of every setting over its seeds, and its paired difference to the reference."""
    rows = []
    for measure in measures:
        for one in settings:
            values = one.numbers(measure)
            if not values:
                continue
            levels = _level_columns(one.levels) if with_levels else {}
            row: dict[str, Any] = {"setting": one.name, **levels, "measure": measure.name}
            if measure.contrast is not None:
                row |= {"contrast": measure.contrast, "FWHM (mm)": measure.fwhm_mm}
            row |= over_replicates(values.values())._asdict()
            if one.reference is not None and _is_comparable(one, one.reference, measure):
                row |= _difference(values, one.reference, measure)
            rows.append(row)
    return rows


def _is_comparable(one: Setting, reference: Setting, measure: Measure) -> bool:
    """Losses of weights on other sheets or by another blur are other numbers, whose differences say nothing."""
    if measure.name != "loss of weights":
        return True
    mine, theirs = one.recipe.smoothness, reference.recipe.smoothness
    named = (mine.sites or mine.watched) == (theirs.sites or theirs.watched)
    return named and all(getattr(mine, name) == getattr(theirs, name) for name in _RULER)


def _difference(values: Mapping[Any, float], reference: Setting, measure: Measure) -> dict[str, Any]:
    found = paired_difference(values, reference.numbers(measure))
    if found is None:
        return {}
    n, mean, sd, low, high = found.difference
    row = {"reference": reference.name, "pairs": n, "difference": mean, "sd (difference)": sd}
    row |= {"low (difference)": low, "high (difference)": high}
    return row | {"p (t)": found.p_t, "p (sign flip)": found.p_sign_flip}


def _level_columns(levels: Mapping[str, Any]) -> dict[str, str]:
    return {short_name(key): level_word(value) for key, value in levels.items()}


def level_word(value: Any) -> str:
    """A level as tables and figures say it."""
    if value is None:
        return "default"
    if isinstance(value, list):
        return ", ".join(map(level_word, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
