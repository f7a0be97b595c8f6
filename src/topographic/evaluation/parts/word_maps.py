"""Which units follow which potential: maps of every measure of a corpus on every sheet, beside their nulls."""

import numpy as np

from topographic.brain.sheets_and_cortex import prediction_map
from topographic.brain.word_corpora import ERP_COMPONENTS
from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.word_encoding import states_of
from topographic.evaluation.results import Findings, NotMeasurable, Picture, Table, under
from topographic.evaluation.subject import LanguageSubject
from topographic.maps import morans_i, spectral_surrogates
from topographic.maps.references import compare
from topographic.plots.figures import draw_maps, symmetric_limit

__all__ = ["word_maps"]

_SHOWN = ("mean", "p")


def word_maps(subject: LanguageSubject, choices: Choices) -> Findings:
    """Maps of the six components, their smoothness, and how alike the maps of two components are."""
    corpora = [one for one in subject.corpora.values() if set(ERP_COMPONENTS) <= set(one.measures)]
    if not corpora:
        raise NotMeasurable(f"no corpus with event-related potentials lies below {subject.shown.data}")
    corpus = corpora[0]
    sites = list(subject.sheets)
    states = states_of(subject, corpus, sites)
    controls = np.column_stack(list(corpus.controls().values()))
    titles, rows, pictures, kept = site_labels(sites), [], [], {}
    draws = {"n_draws": max(choices.n_draws, 2), "seed": choices.seed}
    for component in ERP_COMPONENTS:
        target = corpus.measures[component]
        usable = np.isfinite(target)
        maps = {
            site: prediction_map(
                states[site][usable],
                target[usable],
                subject.sheets[site],
                site,
                controls=controls[usable],
                name=component,
                **draws,
            )
            for site in sites
        }
        for site, one in maps.items():
            row = {"component": component, "sheet": titles[site], "largest |r|": float(np.nanmax(np.abs(one.values)))}
            largest = np.nanmax(np.abs(one.nulls["shift"]), axis=1)
            row |= {"p (largest |r|)": compare(row["largest |r|"], largest).p}
            rows.append(row | morans_i(one).to_columns("I", show=_SHOWN))
        kept |= under(component, maps)
        limit = symmetric_limit(list(maps.values()))
        drawn = draw_maps(maps, limit=limit, colour_label="r beyond controls")
        pictures.append(
            Picture(f"{component}", f"{component}: which units follow it", drawn, headline=component == "N400")
        )
    compared = []
    for component in ERP_COMPONENTS:
        if component == "N400":
            continue
        for site in sites:
            first, second = kept[f"{component}/{site}"], kept[f"N400/{site}"]
            value = float(np.corrcoef(first.values, second.values)[0, 1])
            drawn = spectral_surrogates(second, draws["n_draws"], seed=choices.seed)
            reference = compare(
                value, np.array([np.corrcoef(first.values, one)[0, 1] for one in drawn]), two_sided=True
            )
            compared.append({
                "component": component,
                "sheet": titles[site],
                "r with N400": value,
                "p (spectral)": reference.p,
            })
    return Findings(
        "Units that follow potentials",
        "Correlation of every unit's state after a word with the potential at it, length, log frequency, position "
        "and punctuation taken out of both, on the sheet. Largest |r| and Moran's I stand beside those of the same "
        "maps with the potential moved around the words (shift null), which keeps what units have in common. "
        "Whether two maps are "
        "alike is held against maps as smooth as the second (spectral surrogates).",
        [
            Table(
                "maps", "By component and sheet", rows, "", ("component", "sheet"), ("largest |r|", "I", "p (shift)")
            ),
            Table("alike", "Maps beside that of N400", compared, "r of two maps of one sheet, p two-sided."),
        ],
        pictures,
        maps=kept,
    )
