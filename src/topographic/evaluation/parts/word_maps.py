"""Which units follow which potential: maps of every measure of a corpus on every sheet, beside their nulls."""

import numpy as np

from topographic.brain.sheets_and_cortex import prediction_map
from topographic.brain.word_corpora import ERP_COMPONENTS
from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.word_encoding import states_of
from topographic.evaluation.results import Findings, Picture, Table, under
from topographic.evaluation.subject import LanguageSubject
from topographic.maps import morans_i, spectral_surrogates
from topographic.maps.references import compare
from topographic.plots.figures import draw_maps, symmetric_limit

__all__ = ["word_maps"]

_SHOWN = ("mean", "p")


def word_maps(subject: LanguageSubject, choices: Choices) -> Findings:
    """Maps of the six components, their smoothness, and how alike the maps of two components are."""
    corpus = subject.erp_corpus
    sites = list(subject.sheets)
    states = states_of(subject, corpus, sites)
    controls = np.column_stack(list(corpus.controls(tokenizer=subject.tokenizer).values()))
    titles, rows, pictures, kept, n400 = site_labels(sites), [], [], {}, {}
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
        n400 = maps if component == "N400" else n400
        limit = symmetric_limit(list(maps.values()))
        drawn = draw_maps(maps, limit=limit, colour_label="r beyond controls")
        pictures.append(
            Picture(f"{component}", f"{component}: which units follow it", drawn, headline=component == "N400")
        )
    compared = []
    for component in ERP_COMPONENTS:
        for site in sites if component != "N400" else ():
            first, second = kept[f"{component}/{site}"].values, n400[site]
            value = float(np.corrcoef(first, second.values)[0, 1])
            row = {"component": component, "sheet": titles[site], "r with N400": value}
            # maps of one population of few dimensions are alike by chance more than smooth maps are: see the shift null
            nulls = {"shift": second.nulls["shift"], "spectral": spectral_surrogates(second, **draws)}
            for name, drawn in nulls.items():
                found = np.array([np.corrcoef(first, one)[0, 1] for one in drawn])
                row[f"p ({name})"] = compare(value, found, two_sided=True).p
            compared.append(row)
    return Findings(
        "Units that follow potentials",
        "Correlation of every unit's state after a word with the potential at it, length, number of tokens, "
        "log frequency, position and punctuation taken out of both, on the sheet. Largest |r| and Moran's I stand "
        "beside those of the same maps with the potential moved around the words (shift null), which keeps what units "
        "have in common. Whether two maps are alike is held against the second with its potential moved (shift) and "
        "against maps as smooth (spectral).",
        [
            Table(
                "maps", "By component and sheet", rows, "", ("component", "sheet"), ("largest |r|", "I", "p (shift)")
            ),
            Table("alike", "Maps beside that of N400", compared, "r of two maps of one sheet, p two-sided."),
        ],
        pictures,
        maps=kept,
    )
