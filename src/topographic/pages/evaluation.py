"""Evaluations as a report shows them: the headlines of several runs side by side, whatever the suite."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from topographic.evaluation.results import Findings, Picture, Table, cell_text
from topographic.maps import UnitMap
from topographic.pages.chance import chance_of_part, chance_of_table
from topographic.pages.pictures import drawn_clusters, map_picture, pictured_maps
from topographic.pages.render import link, png_source
from topographic.pages.run_folder import Evaluation, RunFolder
from topographic.pages.tables import Cells

__all__ = ["pictured", "shown_picture", "side_by_side"]


def side_by_side(runs: Sequence[RunFolder], place: Path, limit: float) -> list[dict[str, Any]]:
    """Every suite that some run was evaluated with, as ``evaluations.html`` shows it; its maps on one colour scale."""
    suites = dict.fromkeys(suite for run in runs for suite in run.evaluations)
    return [_suite(suite, runs, place, limit) for suite in suites]


def pictured(runs: Sequence[RunFolder]) -> Iterator[Mapping[str, UnitMap]]:
    """All maps of t that `side_by_side` draws."""
    for run in runs:
        for one in run.evaluations.values():
            for findings in filter(None, one.parts.values()):
                for picture in findings.pictures:
                    if _is_shown(run, picture):
                        yield pictured_maps(findings, picture.name)


def shown_picture(
    folder: Path, findings: Findings, picture: Picture, limit: float, others: Sequence[Findings]
) -> dict[str, Any]:
    """A picture of a part, which lies in this folder: maps of t drawn again on the page's scale, others as they are."""
    about = {"title": picture.title, "note": picture.note}
    maps = pictured_maps(findings, picture.name)
    if not maps:
        return {**about, "src": png_source(folder / f"{picture.name}.png")}
    clusters = drawn_clusters(others, picture.name)
    note = f"One colour scale on the whole page: the darkest colours are t = ±{limit:.1f} and beyond."
    if any(one.q is not None for one in maps.values()):
        note += " Thin lines: q < .05."
    if clusters:
        note += " Thick lines: clusters with family-wise p <= .05."
    return {**about, "note": note, **map_picture(maps, limit, "Welch's t", clusters)}


def _is_shown(run: RunFolder, picture: Picture) -> bool:
    """Whether a report shows it: a headline, unless the same maps stand in the report's own section."""
    contrast, _, width = picture.name.rpartition("_fwhm_")
    summary = run.summaries.get(contrast)
    there = summary is not None and bool(summary.maps) and f"{summary.provenance['fwhm_mm']:g}" == width
    return picture.headline and not there


def _suite(name: str, runs: Sequence[RunFolder], place: Path, limit: float) -> dict[str, Any]:
    have = {run: run.evaluations[name] for run in runs if name in run.evaluations}
    parts = dict.fromkeys(part for one in have.values() for part in one.parts)
    shown = [_part(part, have, limit) for part in parts]
    return {
        "name": name,
        "lacking": [run for run in runs if run not in have],
        "evaluations": {
            run.name: {"lead": one.lead, "link": link(one.folder / "index.html", place)} for run, one in have.items()
        },
        "parts": shown,
        "chance": [(one["title"], one["chance"]) for one in shown if one["chance"]],
    }


def _part(name: str, have: Mapping[RunFolder, Evaluation], limit: float) -> dict[str, Any]:
    """One part of a suite: what the runs that have it found, their pictures and tables."""
    parts = {run: one.parts.get(name) for run, one in have.items()}
    found = {run: findings for run, findings in parts.items() if findings is not None}
    pictures = dict.fromkeys(one.name for run, part in found.items() for one in part.pictures if _is_shown(run, one))
    by_name = {run.name: findings for run, findings in found.items()}
    tables = dict.fromkeys(one.name for findings in by_name.values() for one in findings.tables if one.headline)
    reasons = {run: chance_of_part(findings) for run, findings in by_name.items()}
    return {
        "name": name,
        "title": next((findings.title for findings in by_name.values()), name),
        "found": by_name,
        "lacking": [run for run in have if run not in found],
        "pictures": [
            {
                run.name: shown_picture(
                    have[run].folder / name, findings, one, limit, [each for each in have[run].parts.values() if each]
                )
                for run, findings in found.items()
                for one in findings.pictures
                if one.name == shown and _is_shown(run, one)
            }
            for shown in pictures
        ],
        "tables": [_joined(shown, by_name) for shown in tables],
        "chance": reasons if reasons and all(reasons.values()) else {},
    }


def _joined(shown: str, found: Mapping[str, Findings]) -> tuple[Table, Cells, bool]:
    """One table of all runs, one line per run of what has the same keys; and whether it tells nothing from chance."""
    tables = {run: one for run, findings in found.items() for one in findings.tables if one.name == shown}
    first, *_ = tables.values()
    every = [row for one in tables.values() for row in one.rows]
    columns = [column for column in first.headline if any(row.get(column) is not None for row in every)]
    groups: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for run, one in tables.items():
        for row in one.rows:
            groups.setdefault(tuple(row.get(key) for key in first.keys), {})[run] = row
    names, lines = [*first.keys, *(["run"] if len(tables) > 1 else [])], []
    for about, rows in groups.items():
        for index, (run, row) in enumerate(rows.items()):
            said = [cell_text(key, cell) if index == 0 else "" for key, cell in zip(first.keys, about, strict=True)]
            cells = [cell_text(column, row.get(column)) for column in columns]
            lines.append([*said, *([run] if len(tables) > 1 else []), *cells])
    is_chance = all(chance_of_table(one) for one in tables.values())
    return first, Cells([*names, *columns], lines, n_names=len(names)), is_chance
