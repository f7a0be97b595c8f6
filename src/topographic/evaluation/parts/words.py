"""The contrast parts of a suite: nouns, verbs and concreteness by depth, alone or with the language contrast."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from topographic.evaluation.parts.language import map_picture, significant_clusters, under
from topographic.evaluation.results import Findings, Picture, Table
from topographic.evaluation.subject import Bench, Choices
from topographic.maps import ClusterTest, MapSummary, MoransI, Referenced, UnitMap, summarize
from topographic.plots.layer_figures import draw_by_depth
from topographic.plots.site_names import site_labels
from topographic.recording import Responses
from topographic.stimuli import StimulusSet

__all__ = [
    "CLUSTER_TOTALS",
    "MeasuredContrasts",
    "WordContrast",
    "contrasts_explained",
    "measure_contrasts",
    "selectivity",
    "word_classes",
    "word_contrasts",
]

# Rathi, Mehrer et al. (ICLR 2025, arXiv:2410.11516): Moran's I, mean over 24 sheets, of TopoLM and its control.
# What is called unsmoothed there was read out at 1 mm.
_PUBLISHED = {
    ("noun - verb (phrases)", 1.0): (0.4815, 0.1146),
    ("noun - verb (phrases)", 2.0): (0.8149, 0.6043),
    ("concrete noun - concrete verb", 1.0): (0.8039, 0.1111),
    ("concrete noun - concrete verb", 2.0): (0.8940, 0.6004),
    ("abstract noun - abstract verb", 1.0): (0.2538, 0.1196),
    ("abstract noun - abstract verb", 2.0): (0.7039, 0.6020),
    ("noun - verb", 1.0): (0.7834, 0.1156),
    ("noun - verb", 2.0): (0.8943, 0.6032),
    ("abstract - concrete", 1.0): (0.7977, 0.1214),
    ("abstract - concrete", 2.0): (0.8999, 0.5973),
}
_HEADLINE = ("I", "floor", "unit null", "p (unit)", "label null", "p (label)")
_HEADLINE += ("TopoLM (published)", "control (published)", "mean |t|", "mean |t| null", "p (mean |t|)")
_NOTE = (
    "Published: means over 24 sheets, phrases of Elli et al. and words of Moseley and Pulvermueller. What the paper "
    "calls unsmoothed was read out at 1 mm, on a layout whose floor is .11 there and .61 at 2 mm; it stands beside "
    "FWHM 0. Phrases of nouns and of verbs also differ in their frame (the, to), which alone tells them apart."
)
CLUSTER_TOTALS = "Clusters and their mass are totals over all sheets, not means."


class WordContrast(NamedTuple):
    """Responses, and which of their conditions are compared."""

    responses: dict[str, Responses]
    condition: str | tuple[str, ...]
    baseline: str | tuple[str, ...]


def word_classes(bench: Bench, choices: Choices) -> Findings:
    """Maps of noun against verb and of abstract against concrete, before and after the readout, by depth."""
    measured = measure_contrasts(word_contrasts(bench), choices, beside_published=True)
    means = Table(
        "means",
        "Means over sheets",
        measured.means,
        f"{CLUSTER_TOTALS} {_NOTE}",
        keys=("contrast", "FWHM (mm)"),
        headline=_HEADLINE,
    )
    return Findings(
        "Nouns, verbs and concreteness",
        contrasts_explained(choices),
        [means, Table("depth", "By sheet", measured.by_depth)],
        measured.pictures,
        maps=measured.maps,
    )


def selectivity(bench: Bench, choices: Choices) -> Findings:
    """Maps of every contrast of our own: sentences against nonword strings, word classes and concreteness."""
    language = {"sentences - nonwords": WordContrast(bench.recorded("localizer"), "sentences", "nonwords")}
    measured = measure_contrasts({**language, **word_contrasts(bench)}, choices)
    means = Table(
        "means",
        "Means over sheets",
        measured.means,
        f"{CLUSTER_TOTALS} TopoNets shows selectivity maps of its vision models only, as units with t beyond 10.",
        keys=("contrast", "FWHM (mm)"),
        headline=[column for column in _HEADLINE if "published" not in column],
    )
    return Findings(
        "Selectivity",
        contrasts_explained(choices),
        [means, Table("depth", "By sheet", measured.by_depth)],
        measured.pictures,
        maps=measured.maps,
    )


class MeasuredContrasts(NamedTuple):
    """Rows, pictures and maps of several contrasts, for `Findings`."""

    means: list[dict[str, Any]]
    by_depth: list[dict[str, Any]]
    pictures: list[Picture]
    maps: dict[str, UnitMap]


def measure_contrasts(
    contrasts: Mapping[str, WordContrast], choices: Choices, *, beside_published: bool = False
) -> MeasuredContrasts:
    """Map every contrast at every width of the readout and measure the maps."""
    means, by_depth, pictures, maps = [], [], [], {}
    drawn = list(contrasts)[:5]  # and the floor: as many colours as there are
    for fwhm_mm in choices.fwhm_mm:
        curves, labels = {}, {}
        for name, (responses, condition, baseline) in contrasts.items():
            options = {"fwhm_mm": fwhm_mm, "n_draws": choices.n_draws, "seed": choices.seed}
            summary = summarize(responses, condition, baseline, **options)
            found = {
                sign: significant_clusters(summary.maps, choices.cluster_threshold, sign=sign)
                for sign in ("positive", "negative")
            }
            labels = site_labels(list(summary.maps))
            if name in drawn:
                curves[name] = [row.morans_i.value for row in summary.rows]
            published = _published(name, fwhm_mm) if beside_published else {}
            means.append(_mean_row(name, fwhm_mm, summary, found, published))
            for row in summary.rows:
                here = {side: [one for one in tests if one.selection.site == row.site] for side, tests in found.items()}
                line = {"contrast": name, "FWHM (mm)": fwhm_mm, "sheet": labels[row.site]}
                by_depth.append(line | _references(row.morans_i) | _cluster_cells(here))
            slug = name.replace(" - ", "-").replace(" ", "_").replace("(", "").replace(")", "")
            maps |= under(f"{slug}_fwhm_{fwhm_mm:g}", summary.maps)
            title = f"{name}, FWHM {fwhm_mm:g} mm"
            pictures.append(map_picture(f"{slug}_fwhm_{fwhm_mm:g}", title, summary.maps))
        # the floor depends on sheet and readout, hardly on the contrast: one line stands for all
        curves["floor"] = [row.morans_i.floor.mean for row in summary.rows if row.morans_i.floor is not None]
        figure = draw_by_depth(curves, list(labels.values()), y_label="Moran's I", at_least=(-0.1, 1.0)).figure
        note = "From the first layer to the last. Unit and label nulls of every sheet are in the table."
        title = f"Moran's I by depth, FWHM {fwhm_mm:g} mm"
        pictures.append(Picture(f"depth_fwhm_{fwhm_mm:g}", title, figure, note, headline=True))
    return MeasuredContrasts(means, by_depth, pictures, maps)


def contrasts_explained(choices: Choices) -> str:
    """What the columns of `measure_contrasts` mean."""
    return (
        "Moran's I of each map beside three references: the floor (white noise through the same readout), the unit "
        "null (units permuted before the readout: is there any organisation?) and the label null (labels of the items "
        "permuted: is it about this contrast?). p is one-sided. Clusters and their mass are those with family-wise "
        f"p <= .05 over all sheets, for t beyond {choices.cluster_threshold:g}: of units that prefer the first side of "
        "the contrast, and of units that prefer the second."
    )


def word_contrasts(bench: Bench) -> dict[str, WordContrast]:
    """The contrasts of the paper: phrases where they are at hand, and words by class and concreteness."""
    words = bench.recorded("words")
    found = (
        {"noun - verb (phrases)": WordContrast(bench.recorded("phrases"), "noun", "verb")} if bench.has_phrases else {}
    )
    found["noun - verb"] = WordContrast(words, "noun", "verb")
    for concreteness in ("concrete", "abstract"):
        some = {site: _only(one, concreteness) for site, one in words.items()}
        found[f"{concreteness} noun - {concreteness} verb"] = WordContrast(some, "noun", "verb")
    by_concreteness = {site: replace(one, stimuli=_by_concreteness(one.stimuli)) for site, one in words.items()}
    return {**found, "abstract - concrete": WordContrast(by_concreteness, "abstract", "concrete")}


def _only(responses: Responses, concreteness: str) -> Responses:
    return responses.take(np.flatnonzero(np.array(responses.stimuli.labels["concreteness"]) == concreteness))


def _by_concreteness(stimuli: StimulusSet) -> StimulusSet:
    """The same items with concreteness as their condition and the word class as a label."""
    labels = {key: column for key, column in stimuli.labels.items() if key != "concreteness"}
    return replace(stimuli, conditions=stimuli.labels["concreteness"], labels={**labels, "class": stimuli.conditions})


def _published(name: str, fwhm_mm: float) -> dict[str, float | None]:
    # the published maps without smoothing stand beside ours, although theirs had 1 mm; the note says so
    topolm, control = _PUBLISHED.get((name, fwhm_mm or 1.0), (None, None))
    return {"TopoLM (published)": topolm, "control (published)": control}


def _mean_row(
    name: str,
    fwhm_mm: float,
    summary: MapSummary,
    found: dict[str, list[ClusterTest]],
    published: dict[str, float | None],
) -> dict[str, Any]:
    strength = summary.mean_abs_t
    row = {"contrast": name, "FWHM (mm)": fwhm_mm, **_references(summary.morans_i), **published}
    row["mean |t|"] = strength.value
    if strength.label_null is not None:
        row |= {"mean |t| null": strength.label_null.mean, "p (mean |t|)": strength.label_null.p}
    return row | _cluster_cells(found)


def _references(index: MoransI | Referenced) -> dict[str, Any]:
    row: dict[str, Any] = {"I": index.value, "floor": None if index.floor is None else index.floor.mean}
    for name, null in (("unit", index.unit_null), ("label", index.label_null)):
        row |= {f"{name} null": None if null is None else null.mean, f"p ({name})": None if null is None else null.p}
    return row


def _cluster_cells(found: dict[str, list[ClusterTest]]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for (_, tests), side in zip(found.items(), ("first", "second"), strict=True):
        cells |= {f"clusters ({side})": len(tests), f"mass ({side})": sum(test.mass for test in tests)}
    return cells
