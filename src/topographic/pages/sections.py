"""The sections of a page: each turns the runs that are compared into HTML."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from topographic.evaluation.wording import MINUS, number
from topographic.maps import MapSummary, verdicts
from topographic.pages.evaluation import evaluation_blocks
from topographic.pages.facts import caveats, contrast_text, model_name, sides, stimuli_text, version_text, what_was_run
from topographic.pages.markup import Html, missing, tag
from topographic.pages.run_folder import RunFolder
from topographic.pages.tables import headline_table, statistics_table
from topographic.plots.figures import (
    data_uri,
    draw_distance_curves,
    draw_maps,
    draw_null_distribution,
    draw_spatial_curves,
    draw_training_curves,
    spatial_names,
    symmetric_limit,
)
from topographic.plots.site_names import site_labels

__all__ = ["SECTIONS", "Comparison", "lead"]

_PIXELS_PER_INCH = 112  # of the page, so that letters in figures are nearly as large as those of the text


@dataclass(frozen=True, eq=False)
class Comparison:
    """The runs of a page, and the folder it lies in.

    Parameters
    ----------
    runs : sequence of RunFolder
        The runs, in the order of their columns.
    place : Path
        Folder of the page; links to the files of the runs start from it.
    """

    runs: Sequence[RunFolder]
    place: Path

    @property
    def contrasts(self) -> dict[str, dict[str, MapSummary]]:
        """For each contrast the summaries of the runs that have it; the one that units separate best comes first."""
        names = dict.fromkeys(name for run in self.runs for name in run.summaries)
        found = {name: {run.name: run.summaries[name] for run in self.runs if name in run.summaries} for name in names}
        return dict(sorted(found.items(), key=lambda one: -max(each.mean_abs_t.value for each in one[1].values())))

    def each_contrast(self, body: Callable[[dict[str, MapSummary]], Sequence[Html]]) -> Html:
        """One block per contrast under its heading; a line for every run that lacks it."""
        if not self.contrasts:
            return Html("".join(missing(f"{run.name} has no maps yet:", f"topo map {run.word}") for run in self.runs))
        parts = []
        for contrast, summaries in self.contrasts.items():
            parts.append(tag("h3", sides(next(iter(summaries.values())), " against ")))
            parts += [
                missing(f"{run.name} has no maps of {contrast} yet:", f"topo map {run.word}")
                for run in self.runs
                if run.name not in summaries
            ]
            parts += body(summaries)
        return Html("".join(parts))


def lead(runs: Sequence[RunFolder]) -> Html:
    """What was trained, in one sentence per run."""
    sentences = []
    for run in runs:
        weight, tau = ((run.config.get(term) or {}).get("weight") for term in ("spatial", "smoothness"))
        seen = next((unit for unit in ("tokens", "images") if f"{unit}_seen" in run.record), None)
        if weight is None or seen is None:
            sentences.append(f"{run.name}: a model that was not trained here, or not yet.")
            continue
        terms = (("with the spatial loss", weight), ("with smooth weights", tau))
        kinds = [f"{term} (weight {value:g})" for term, value in terms if value]
        corpus = run.record.get("corpus") or {}
        source = corpus.get("text") or corpus.get("images") or "its text"
        model, kind = model_name(run) or "a model", " and ".join(kinds) or "without the spatial loss"
        sentences.append(f"{run.name}: {model} trained {kind} on {run.record[f'{seen}_seen']:,} {seen} of {source}.")
    return Html("".join(tag("p", sentence, class_="lead") for sentence in sentences))


def _in_short(comparison: Comparison) -> Html:
    metrics = {run.name: run.metrics for run in comparison.runs}

    def body(summaries: dict[str, MapSummary]) -> list[Html]:
        lists = [tag("div", tag("h4", run), _verdict_list(summary, run)) for run, summary in summaries.items()]
        return [tag("div", *lists, class_="panels"), headline_table(summaries, metrics)]

    return comparison.each_contrast(body)


def _verdict_list(summary: MapSummary, run: str) -> Html:
    """The question, yes or no, and the sentence with its numbers."""
    marks = {True: ("holds", "Yes."), False: ("fails", "No."), None: ("caution", "")}
    items = []
    for verdict in verdicts(summary, f"the {run} model"):
        mark, answer = marks[verdict.holds]
        question = tag("strong", f"{QUESTIONS[verdict.question]} {answer}")
        items.append(tag("li", question, verdict.sentence, class_=mark))
    return tag("ul", *items, class_="verdicts")


def _runs(comparison: Comparison) -> Html:
    return what_was_run(comparison.runs)


def _training(comparison: Comparison) -> Html:
    notes = [
        missing(f"{run.name} has logged nothing yet:", f"topo train {run.word}/config.yaml")
        for run in comparison.runs
        if not run.metrics
    ]
    records = {run.name: run.metrics for run in comparison.runs if run.metrics}
    spatial = {run: lines for run, lines in records.items() if spatial_names(lines)}
    panels = []
    if records:
        axes = draw_training_curves(records)
        panels.append(_picture(axes.figure, f"Task loss against optimizer step: {', '.join(records)}", TASK_TEXT))
    if spatial:
        axes = draw_spatial_curves(spatial)
        without = [run for run in records if run not in spatial]
        caption = SPATIAL_TEXT + (f" Trained without it: {', '.join(without)}." if without else "")
        panels.append(_picture(axes.figure, f"Spatial loss against optimizer step: {', '.join(spatial)}", caption))
    elif records:
        notes.append(tag("p", "No run was trained with the spatial loss.", class_="missing"))
    return Html("".join([*notes, tag("div", *panels, class_="panels") if panels else ""]))


def _picture(
    figure: Any, alt: str, caption: str | None, *, heading: str | None = None, kind: Literal["svg", "png"] = "svg"
) -> Html:
    return tag(
        "figure",
        None if heading is None else tag("h4", heading),
        tag("img", src=data_uri(figure, kind), alt=alt, width=round(_PIXELS_PER_INCH * figure.get_figwidth())),
        None if caption is None else tag("figcaption", caption),
    )


def _maps(comparison: Comparison) -> Html:
    def body(summaries: dict[str, MapSummary]) -> list[Html]:
        first = next(iter(summaries.values()))
        flat = {
            run: {site: one for site, one in summary.maps.items() if one.sheet.positions_mm.shape[1] == 2}
            for run, summary in summaries.items()
        }
        notes = [
            tag(
                "p",
                f"{run}: {len(summary.rows) - len(flat[run])} of {len(summary.rows)} maps are not drawn; their "
                "files are gone or their sheets are not flat.",
                class_="missing",
            )
            for run, summary in summaries.items()
            if len(flat[run]) < len(summary.rows)
        ]
        limit = symmetric_limit([one for maps in flat.values() for one in maps.values()])
        panels = [
            _picture(
                draw_maps(maps, limit=limit, colour_label=sides(first, f" {MINUS} ") + "  (Welch's t)"),
                f"Maps of {run}, contrast {first.contrast}, one picture per sheet: {', '.join(maps)}",
                None,
                heading=run,
                kind="png",
            )
            for run, maps in flat.items()
            if maps
        ]
        scale = MAP_TEXT.format(limit=number(limit, 1))
        return [contrast_text(first), *notes, tag("div", *panels, class_="panels"), tag("p", scale, class_="note")]

    return comparison.each_contrast(body)


def _distance(comparison: Comparison) -> Html:
    def body(summaries: dict[str, MapSummary]) -> list[Html]:
        curves = {run: [row.curve for row in summary.rows] for run, summary in summaries.items()}
        alt = f"Correlation of responses against distance on the sheet: {', '.join(curves)}"
        return [_picture(draw_distance_curves(curves).figure, alt, DISTANCE_TEXT)]

    return comparison.each_contrast(body)


def _statistics(comparison: Comparison) -> Html:
    def body(summaries: dict[str, MapSummary]) -> list[Html]:
        axes = {run: draw_null_distribution(_numbers(summary)) for run, summary in summaries.items()}
        ends = [end for ax in axes.values() for end in ax.get_xlim()]
        for run, ax in axes.items():
            ax.axhline(len(summaries[run].rows) - 0.5, color="#888888", linewidth=0.8)  # the mean stands apart
            ax.set_xlim(min(ends), max(ends))
        panels = [
            _picture(ax.figure, f"Moran's I of every sheet of {run} against its three nulls", None, heading=run)
            for run, ax in axes.items()
        ]
        tables = [statistics_table(summary, run=run) for run, summary in summaries.items()]
        return [tag("div", *panels, class_="panels"), tag("p", NULL_TEXT, class_="note"), *tables]

    if not comparison.contrasts:
        return comparison.each_contrast(body)
    return Html(REFERENCES_TEXT + comparison.each_contrast(body) + COLUMNS_TEXT)


def _numbers(summary: MapSummary) -> dict[str, Any]:
    """Moran's I by short name of the sheet, and the mean."""
    labels = site_labels([row.site for row in summary.rows])
    return {labels[row.site]: row.morans_i for row in summary.rows} | {"mean": summary.morans_i}


def _evaluation(comparison: Comparison) -> Html:
    blocks = evaluation_blocks({run.name: (run.folder, run.evaluations) for run in comparison.runs}, comparison.place)
    return Html(EVALUATION_TEXT + blocks)


def _stimuli(comparison: Comparison) -> Html:
    def body(summaries: dict[str, MapSummary]) -> list[Html]:
        runs = [run for run in comparison.runs if run.name in summaries]
        summary = summaries[runs[0].name]
        checksum = summary.provenance["stimuli"]["checksum"]
        shown = next((run.stimuli[checksum] for run in runs if checksum in run.stimuli), None)
        return [stimuli_text(summary, shown, run=runs[0])]

    every = [summary for summaries in comparison.contrasts.values() for summary in summaries.values()]
    parts = [comparison.each_contrast(body), tag("h3", "What this page cannot say"), caveats(comparison.runs, every)]
    return Html("".join(parts))


def _versions(comparison: Comparison) -> Html:
    return version_text(comparison.runs, comparison.place)


QUESTIONS = {
    "organised": "Is the map spatially organised?",
    "beyond readout": "More than smoothing alone would make it?",
    "separates": "Do the units tell the conditions apart?",
    "about the contrast": "Is the organisation about this contrast?",
    "caution": "A caution.",
}
TASK_TEXT = (
    "Task loss in training (line) and on what was held out (dots). Lower is better; what the spatial loss costs is "
    "the gap between the dots of the runs."
)
SPATIAL_TEXT = (
    "Spatial loss before it is weighted, each sheet thin, their mean thick: 0.5 means that the correlation of two "
    "units has nothing to do with their distance, 0 that it falls with distance exactly as asked."
)
MAP_TEXT = (
    "One picture per sheet, units where they lie on it, one colour scale for all pictures of this contrast: white is "
    "t = 0, the darkest colours are t = ±{limit} and beyond. Look for patches: on a topographic sheet neighbours have "
    "like colours. Whether the patches mean anything for this contrast is a question for the statistics below."
)
DISTANCE_TEXT = (
    "How alike two units of a sheet respond to all items of the stimulus set, by the distance between them: thin lines "
    "are sheets, the thick line their mean. On a topographic sheet the curve starts high and falls; without topography "
    "it is flat. No smoothing was applied."
)
NULL_TEXT = (
    "The dot is Moran's I of the map; each band reaches from 2 standard deviations below to 2 above the mean of a "
    "null. A dot to the right of the blue band: the sheet is organised. A dot inside the orange band: any other split "
    "of the same items would give a map as smooth, so the organisation is not about this contrast."
)
REFERENCES_TEXT = Html(
    "".join([
        tag(
            "p",
            "Moran's I says how alike neighbouring units are on a map: about 0 if neighbours are no more alike than "
            "any two units, near 1 if the map is smooth. ",
            tag("strong", "A high I alone is no evidence of anything. "),
            "Smoothing makes any map smooth, and where neighbours respond alike every map is smooth, whatever it "
            "contrasts. So each I stands beside three references, made by the same computation:",
        ),
        tag(
            "ul",
            tag(
                "li",
                tag("strong", "Kernel floor. "),
                "White noise on the same sheet, through the same readout. "
                "How smooth would the readout make a map of nothing?",
            ),
            tag(
                "li",
                tag("strong", "Unit null. "),
                "The same responses, with the units of each sheet shuffled "
                "before the readout. Is there any spatial organisation?",
            ),
            tag(
                "li",
                tag("strong", "Label null. "),
                "The same sheets and responses, with the labels of the items "
                "shuffled. Is the organisation about this contrast, or would any split of the items show it?",
            ),
        ),
        tag(
            "p",
            "z counts standard deviations from the mean of the null; p is the share of its draws that are at least "
            "as high, the map itself counted as one (one-sided).",
        ),
    ])
)
EVALUATION_TEXT = tag(
    "p",
    "What the papers measure, measured on each run: every number beside what chance gives and, where there is one, "
    "beside the published value. Published values come from larger models, longer training and often other stimuli.",
)
COLUMNS_TEXT = tag(
    "p",
    "Kernel floor: mean ± standard deviation. Dimensions: effective dimensionality of the responses (participation "
    "ratio). Range: highest minus lowest correlation on the curve against distance (smoothness as in TopoNets). Rise: "
    "by how much neighbours differ less in t than units far apart (smoothness as in TDANN). q < .05: share of units "
    "after Benjamini-Hochberg correction over all sheets. |d|: Cohen's d.",
    class_="note",
)

SECTIONS: dict[str, Callable[[Comparison], Html]] = {
    "In short": _in_short,
    "What was run": _runs,
    "Training": _training,
    "Maps": _maps,
    "Correlation against distance": _distance,
    "Statistics": _statistics,
    "Evaluation": _evaluation,
    "Stimuli and caveats": _stimuli,
    "Versions, seeds and files": _versions,
}
