"""Topoformer's own measures: the topographic statistic, eight linguistic suites, principal components on the sheet."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from topographic.drawing.site_names import arrange_sites, site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.contrast_maps import Contrast, contrasts_explained, measure_contrasts
from topographic.evaluation.results import Findings, NotMeasurable, Picture, Table, under
from topographic.evaluation.subject import LanguageSubject
from topographic.maps import (
    UnitMap,
    mean_over_sheets,
    morans_i,
    principal_components,
    topographic_statistic,
)
from topographic.plots.figures import draw_maps, symmetric_limit
from topographic.plots.layer_figures import draw_by_depth
from topographic.recording import Responses

__all__ = ["SUITE_CONTRASTS", "components", "linguistic_suites", "statistic_of_topography"]

# the name of each suite and its two sides
SUITE_CONTRASTS: dict[str, tuple[str, str]] = {
    "intactness": ("intact", "scrambled"),
    "animacy": ("animate", "inanimate"),
    "concreteness": ("concrete", "abstract"),
    "visuomotor": ("visual", "motor"),
    "semantic acceptability": ("plausible", "implausible"),
    "agreement": ("agreeing", "disagreeing"),
    "licensing": ("licensed", "unlicensed"),
    "garden path": ("ambiguous", "unambiguous"),
}
_N_COMPONENTS = 3
_PARTS = {"query": "queries", "q": "queries", "key": "keys", "k": "keys", "value": "values", "v": "values"}


def statistic_of_topography(subject: LanguageSubject, choices: Choices) -> Findings:
    """The topographic statistic of every sheet beside permuted units, by what the sheet holds."""
    responses = subject.recorded("suites")
    labels = site_labels(list(responses))
    found, notes = {}, []
    for site, one in tqdm(responses.items(), desc="t_g", unit="site", disable=None):
        options = {"torus": one.sheet.wrap, "cutoffs": _cutoffs(one), "seed": choices.seed}
        found[site] = topographic_statistic(one, n_draws=choices.n_draws, **options)
        if len(options["cutoffs"]) < len(_ALL_CUTOFFS):
            notes.append(
                f"{labels[site]}: no pair of units within {_ALL_CUTOFFS[0]:g} of a side; larger cut-offs only."
            )
    kinds = {kind: [one for site, one in found.items() if kind_of_site(site) == kind] for kind in _kinds(found)}
    means = [
        {"of": kind, "sheets": len(some), **mean_over_sheets(some).to_columns("t_g")} for kind, some in kinds.items()
    ]
    rows = [{"sheet": labels[site], "of": kind_of_site(site), **one.to_columns("t_g")} for site, one in found.items()]
    figure = _draw_statistic({site: (one.value, one.nulls["unit"].mean) for site, one in found.items()})
    return Findings(
        "Topographic statistic",
        "Minus the rank correlation between how alike two units respond and how far they lie apart, over the pairs "
        "within a tenth of the side of the sheet, two tenths, and so on to eight tenths, and the mean of these eight: "
        "0 where place says nothing. Beside it the same with the units permuted; p is one-sided. Distances go round "
        "the sheet where its edges are joined.",
        [
            Table("means", "Means over sheets", means, keys=("of",), headline=("t_g", "unit null", "p (unit)")),
            Table("sheets", "By sheet", rows),
        ],
        [Picture("depth", "Topographic statistic by depth", figure, headline=True)],
        notes=sorted(set(notes)),
    )


def _draw_statistic(found: Mapping[str, tuple[float, float]]) -> Any:
    """The statistic by layer, a line for each kind of module, and the mean of its null."""
    layers, kinds, places = arrange_sites(list(found))
    if not layers:  # names tell no layers: sheet by sheet
        lines = {"t_g": [one for one, _ in found.values()], "units permuted": [null for _, null in found.values()]}
        return draw_by_depth(lines, list(site_labels(list(found)).values()), y_label="t_g").figure
    values, nulls = np.full((2, len(layers), len(kinds)), np.nan)
    for site, place in places.items():
        values[place], nulls[place] = found[site]
    lines = dict(zip(kinds, values.T.tolist(), strict=True)) | {"units permuted": np.nanmean(nulls, axis=1).tolist()}
    return draw_by_depth(lines, layers, y_label="t_g").figure


def linguistic_suites(subject: LanguageSubject, choices: Choices) -> Findings:
    """Maps of the eight contrasts, each of 60 pairs that are matched in length and frequency."""
    responses = subject.recorded("suites")
    contrasts = {
        name: Contrast({site: _of_suite(one, name) for site, one in responses.items()}, *sides)
        for name, sides in SUITE_CONTRASTS.items()
    }
    measured = measure_contrasts(contrasts, choices)
    return measured.findings(
        "Eight suites",
        f"{contrasts_explained(choices)} Labels are permuted within pairs. Words of a suite are matched in length and "
        "frequency; sentences share their words, except for the verbs of the garden paths, whose 12 verbs a side "
        "recur in five items each: what is said of them is said of these verbs.",
        "The items of the paper are not public; these are our own after the names of its suites.",
        headline=("mean |t|", "mean |t| null", "p (mean |t|)"),
    )


def components(subject: LanguageSubject, choices: Choices) -> Findings:
    """The first principal components of every sheet, how much they hold, and how smoothly they lie on it."""
    responses = subject.recorded("suites")
    labels = site_labels(list(responses))
    maps: dict[str, dict[str, UnitMap]] = {}
    rows: list[dict[str, Any]] = []
    for site, one in responses.items():
        found = principal_components(one, _N_COMPONENTS, n_draws=choices.n_draws, seed=choices.seed)
        for number, (unit_map, share) in enumerate(found, 1):
            maps.setdefault(f"component_{number}", {})[site] = unit_map
            row: dict[str, Any] = {"component": number, "sheet": labels[site], "share of variance": share}
            try:
                row |= morans_i(unit_map).to_columns("I")
            except NotMeasurable as reason:
                row |= {"note": str(reason)}
            rows.append(row)
    means = [
        {
            "component": number,
            **{
                key: float(np.mean([row[key] for row in rows if row["component"] == number and key in row]))
                for key in ("share of variance", "I")
            },
        }
        for number in range(1, _N_COMPONENTS + 1)
    ]
    pictures = []
    for name, some in maps.items():
        limit = symmetric_limit(list(some.values()))
        figure = draw_maps(some, limit=limit, colour_label="loading")
        pictures.append(Picture(name, f"{name.replace('_', ' ').capitalize()}", figure, headline=name == "component_1"))
    return Findings(
        "Principal components on the sheet",
        "Loadings of the units on the first principal components of the responses to all items of the eight suites, "
        "with their Moran's I beside permuted units. The sign of a component is chosen so that its loadings sum to a "
        "positive number. A smooth component says that near units vary together, nothing about what drives them.",
        [
            Table("means", "Means over sheets", means, keys=("component",), headline=("share of variance", "I")),
            Table("sheets", "By sheet", rows),
        ],
        pictures,
        maps={key: one for name, some in maps.items() for key, one in under(name, some).items()},
    )


def kind_of_site(site: str) -> str:
    """Queries, keys, values or outputs, by the last word of a name that says so; "other" where none does."""
    for part in reversed(site.replace("_", ".").split(".")):
        if part in _PARTS:
            return _PARTS[part]
        if part in ("output", "out", "o", "dense"):
            return "outputs"
    return "other"


_ALL_CUTOFFS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def _cutoffs(responses: Responses) -> tuple[float, ...]:
    """Those within which pairs of units lie: neighbours on a side of fewer than ten units are further apart."""
    side = np.asarray(responses.sheet.extent_mm)
    positions = np.asarray(responses.sheet.positions_mm) / side
    nearest = np.linalg.norm(positions[1:] - positions[0], axis=1).min()
    return tuple(cutoff for cutoff in _ALL_CUTOFFS if cutoff >= nearest - 1e-9)


def _kinds(found: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(kind_of_site(site) for site in found))


def _of_suite(responses: Responses, name: str) -> Responses:
    some = responses.take(np.flatnonzero(np.array(responses.stimuli.labels["suite"]) == name))
    return replace(some, stimuli=replace(some.stimuli, name=name))
