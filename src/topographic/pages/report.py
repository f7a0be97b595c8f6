"""Run folders -> one self-contained page; each section draws what its template in ``templates/sections`` asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from topographic.diffusion import read_grid
from topographic.drawing.site_names import site_labels
from topographic.evaluation.wording import MINUS
from topographic.maps import DistanceCurve, MapSummary, verdicts
from topographic.pages.evaluation import pictured, side_by_side
from topographic.pages.facts import examples, files, repeat_commands, trained, versions_and_seeds, what_was_run
from topographic.pages.pictures import common_limit, embedded, flat_maps, map_picture, one_null_draw
from topographic.pages.render import anchor, render, write_rendered
from topographic.pages.run_folder import RunFolder, read_runs
from topographic.pages.tables import headline_table, named_nulls, settings_table, statistics_table
from topographic.plots import (
    draw_distance_curves,
    draw_null_distribution,
    draw_sample_grids,
    draw_spatial_curves,
    draw_training_curves,
)
from topographic.plots.figures import spatial_names

__all__ = ["SECTIONS", "Comparison", "lead", "section", "write_page"]

Made = dict[str, Any]
_OF_MAPS = {"Maps", "In numbers", "Statistics", "Correlation against distance", "Evaluation", "Stimuli and caveats"}
_SAMPLED_STEPS = 6


@dataclass(frozen=True, eq=False)
class Comparison:
    """The runs of a page in the order of their columns, and the folder it lies in, from which its links start."""

    runs: Sequence[RunFolder]
    place: Path

    @property
    def headings(self) -> list[str]:
        """Of the sections that say something of these runs: models that make images have samples, others maps."""
        samples = any(run.makes_images for run in self.runs)
        maps = any(not run.makes_images or run.summaries or run.evaluations for run in self.runs)
        return [name for name in SECTIONS if (maps or name not in _OF_MAPS) and (samples or name != "Samples")]

    @property
    def contrasts(self) -> dict[str, dict[str, MapSummary]]:
        """For each contrast the summaries of the runs that have it; the one that units separate best comes first."""
        names = dict.fromkeys(name for run in self.runs for name in run.summaries)
        found = {name: {run.name: run.summaries[name] for run in self.runs if name in run.summaries} for name in names}
        return dict(sorted(found.items(), key=lambda one: -max(each.mean_abs_t.value for each in one[1].values())))

    @cached_property
    def limit(self) -> float:
        """Of the one colour scale of all maps that the page shows."""
        own = [summary.maps for run in self.runs for summary in run.summaries.values()]
        return common_limit([*own, *pictured(self.runs)])

    def each(self, make: Callable[[dict[str, MapSummary]], Made]) -> Made:
        """What a section makes of each contrast."""
        return {"each": {name: {"contrast": name} | make(found) for name, found in self.contrasts.items()}}


def write_page(run_folders: Sequence[Path], out: Path, *, title: str | None = None) -> Path:
    """Write one page about one or more runs, side by side.

    Parameters
    ----------
    run_folders : sequence of Path
        Folders that `topo train` and `topo map` wrote.
    out : Path
        File to write. It carries its style and its pictures and loads nothing; only its links to the
        files of the runs are relative to where it lies.
    title : str, optional
        Heading; the names of the runs by default.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    ValueError
        If no folder is given, one is given twice, or one is no run.
    ImportError
        If matplotlib or jinja2 is missing.
    OSError
        If the page cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> from topographic.pages import write_page
    >>> write_page([Path("runs/a"), Path("runs/b")], Path("compared.html"))  # doctest: +SKIP
    PosixPath('compared.html')
    """
    out = Path(out)
    comparison = Comparison(read_runs(run_folders), out.parent)
    *names, last = (run.name for run in comparison.runs)
    title = title or f"Report on {', '.join(names)}{' and ' if names else ''}{last}"
    sections = [(anchor(heading), heading, section(heading, comparison)) for heading in comparison.headings]
    above = headline(comparison) + lead(comparison.runs)
    return write_rendered(out, "report.html", title=title, lead=above, sections=sections)


def headline(comparison: Comparison) -> str:
    """What the maps of the first contrast say, in one sentence."""
    contrast, summaries = next(iter(comparison.contrasts.items()), ("", {}))
    first = {run: verdicts(summary)[0] for run, summary in summaries.items()}
    return render("headline.html", contrast=contrast, summaries=summaries, first=first)


def lead(runs: Sequence[RunFolder]) -> str:
    """What was trained, in one sentence per run."""
    return render("lead.html", leads=[(run, trained(run)) for run in runs])


def section(heading: str, comparison: Comparison) -> str:
    """One section of the page."""
    template, make = SECTIONS[heading]
    return render(f"sections/{template}", comparison=comparison, **make(comparison))


def _numbers_in_short(comparison: Comparison) -> Made:
    metrics = {run.name: run.metrics for run in comparison.runs}
    return comparison.each(lambda summaries: {"headline": headline_table(summaries, metrics)})


def _runs(comparison: Comparison) -> Made:
    runs = comparison.runs
    # without the name of the folder, which always differs
    compared = {
        run.name: {key: run.config[key] for key in run.config if key not in ("run", "overwrite")} for run in runs
    }
    return {
        "facts": what_was_run(runs),
        "differing": settings_table(compared, differing=True),
        "commands": repeat_commands(runs),
    }


def _training(comparison: Comparison) -> Made:
    logged = {run.name: run.metrics for run in comparison.runs if run.metrics}
    spatial = {run: lines for run, lines in logged.items() if spatial_names(lines)}
    only_images_made = all(run.makes_images for run in comparison.runs)
    label = f"task loss ({'squared error of the noise' if only_images_made else 'nats'})"
    return {
        "logged": list(logged),
        "only_images_made": only_images_made,
        "spatial": list(spatial),
        "without": [run for run in logged if run not in spatial],
        "task_loss": embedded(draw_training_curves(logged, label=label).figure) if logged else None,
        "spatial_loss": embedded(draw_spatial_curves(spatial).figure) if spatial else None,
    }


def _samples(comparison: Comparison) -> Made:
    making = [run for run in comparison.runs if run.makes_images]
    steps = sorted({step for run in making for step in run.samples})
    wanted = np.geomspace(steps[0], steps[-1], _SAMPLED_STEPS) if steps else []
    shown = {min(steps, key=lambda step, one=one: abs(step - one)) for one in wanted}
    found = {
        run.name: {
            step: read_grid(path, run.config["diffusion"]["samples_per_class"])
            for step, path in run.samples.items()
            if step in shown
        }
        for run in making
        if run.samples
    }
    return {"making": making, "found": found, "picture": embedded(draw_sample_grids(found), "png") if found else None}


def _maps(comparison: Comparison) -> Made:
    def make(summaries: dict[str, MapSummary]) -> Made:
        flat = {run: flat_maps(summary.maps) for run, summary in summaries.items()}
        drawn = {run: maps for run, maps in flat.items() if maps}
        given = next(iter(summaries.values())).provenance
        compared = f" {MINUS} ".join(" and ".join(given[side]) for side in ("condition", "baseline"))
        options = {"limit": comparison.limit, "label": f"{compared} (Welch's t)"}
        nulls = {run: one_null_draw(maps) for run, maps in drawn.items()}
        return {
            "flat": flat,
            "limit": comparison.limit,
            "pictures": {run: map_picture(maps, **options) for run, maps in drawn.items()},
            "nulls": {run: map_picture(maps, **options) for run, maps in nulls.items() if maps},
            "verdicts": {run: verdicts(summary, f"the {run} model") for run, summary in summaries.items()},
        }

    return comparison.each(make)


def _distance(comparison: Comparison) -> Made:
    def make(summaries: dict[str, MapSummary]) -> Made:
        curves = {run: [row.curve for row in summary.rows] for run, summary in summaries.items()}
        pairs = [n for of_run in curves.values() for curve in of_run for n in curve.n_pairs.tolist() if n]
        return {
            "curves": embedded(draw_distance_curves(curves).figure),
            "pairs": (min(pairs), max(pairs)),
            "overall": {run: _mean_over_pairs(of_run) for run, of_run in curves.items()},
        }

    return comparison.each(make)


def _mean_over_pairs(curves: Sequence[DistanceCurve]) -> float:
    """Mean correlation of all pairs at any distance, over sheets."""
    means = [np.average(curve.values[curve.n_pairs > 0], weights=curve.n_pairs[curve.n_pairs > 0]) for curve in curves]
    return float(np.mean(means))


def _statistics(comparison: Comparison) -> Made:
    def make(summaries: dict[str, MapSummary]) -> Made:
        axes = {run: draw_null_distribution(_numbers(summary)) for run, summary in summaries.items()}
        ends = [end for ax in axes.values() for end in ax.get_xlim()]
        for run, ax in axes.items():
            ax.axhline(len(summaries[run].rows) - 0.5, color="#888888", linewidth=0.8)  # the mean stands apart
            ax.set_xlim(min(ends), max(ends))
        return {
            "pictures": {run: embedded(ax.figure) for run, ax in axes.items()},
            "tables": {run: statistics_table(summary) for run, summary in summaries.items()},
        }

    every = [summary for summaries in comparison.contrasts.values() for summary in summaries.values()]
    return {"nulls": named_nulls(every), **comparison.each(make)}


def _numbers(summary: MapSummary) -> dict[str, Any]:
    """Moran's I by short name of the sheet, and the mean."""
    labels = site_labels([row.site for row in summary.rows])
    return {labels[row.site]: row.morans_i for row in summary.rows} | {"mean": summary.morans_i}


def _evaluation(comparison: Comparison) -> Made:
    return {"runs": comparison.runs, "suites": side_by_side(comparison.runs, comparison.place, comparison.limit)}


def _stimuli(comparison: Comparison) -> Made:
    def make(summaries: dict[str, MapSummary]) -> Made:
        runs = [run for run in comparison.runs if run.name in summaries]
        summary = summaries[runs[0].name]
        checksum = summary.provenance["stimuli"]["checksum"]
        shown = next((run.stimuli[checksum] for run in runs if checksum in run.stimuli), None)
        return {"run": runs[0], "summary": summary, "shown": shown, "examples": examples(shown) if shown else {}}

    draws = {one.provenance["n_draws"] for found in comparison.contrasts.values() for one in found.values()}
    return {"fewest_draws": min(draws - {0}, default=0), **comparison.each(make)}


def _versions(comparison: Comparison) -> Made:
    return {
        "recorded": settings_table({run.name: versions_and_seeds(run) for run in comparison.runs}),
        "files": {run.name: files(run, comparison.place) for run in comparison.runs},
    }


SECTIONS: Mapping[str, tuple[str, Callable[[Comparison], Made]]] = {
    "Samples": ("samples.html", _samples),
    "Maps": ("maps.html", _maps),
    "In numbers": ("in_numbers.html", _numbers_in_short),
    "Statistics": ("statistics.html", _statistics),
    "Correlation against distance": ("distance.html", _distance),
    "Training": ("training.html", _training),
    "Evaluation": ("evaluation.html", _evaluation),
    "What was run": ("what_was_run.html", _runs),
    "Stimuli and caveats": ("stimuli.html", _stimuli),
    "Versions, seeds and files": ("versions.html", _versions),
}
