"""Components that a sheet and event-related potentials share (PLS-SVD), and how smoothly they lie on the sheet."""

from typing import Any

import numpy as np
from tqdm.auto import tqdm

from topographic.brain.folds import run_folds
from topographic.brain.pls import pls_alignment, pls_svd
from topographic.brain.word_corpora import ERP_COMPONENTS
from topographic.brain.word_scores import without_controls
from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.word_encoding import states_of
from topographic.evaluation.results import Findings, Picture, Table, under
from topographic.evaluation.subject import LanguageSubject
from topographic.maps import UnitMap
from topographic.maps.autocorrelation import each_morans_i
from topographic.maps.nulls import stream
from topographic.maps.references import compare
from topographic.plots.figures import draw_maps, symmetric_limit

__all__ = ["aligned_components"]

_N_COMPONENTS = 3


def aligned_components(subject: LanguageSubject, choices: Choices) -> Findings:
    """PLS-SVD of the states after every word and the six potentials at it, sentences held out."""
    corpus, sites = subject.erp_corpus, list(subject.sheets)
    potentials = np.column_stack([corpus.measures[name] for name in ERP_COMPONENTS])
    usable = np.isfinite(potentials).all(1)
    controls = np.column_stack(list(corpus.controls(tokenizer=subject.tokenizer).values()))[usable]
    shifts = stream(choices.seed, "aligned components").integers(1, usable.sum(), max(choices.n_draws, 2))
    orders = np.stack([np.roll(np.arange(usable.sum()), shift) for shift in shifts])
    text = corpus.text[usable]
    folds = run_folds(text, min(choices.word_folds, len(np.unique(text))))
    brain = without_controls(controls, potentials[usable])
    states, titles = states_of(subject, corpus, sites), site_labels(sites)
    rows: list[dict[str, Any]] = []
    weights: list[dict[str, Any]] = []
    maps: dict[str, dict[str, UnitMap]] = {}
    for site in tqdm(sites, desc="components shared with potentials", unit="site", disable=not subject.progress):
        units, sheet = without_controls(controls, states[site][usable].astype(np.float64)), subject.sheets[site]
        found = pls_alignment(units, brain, n_components=_N_COMPONENTS, folds=folds, orders=orders)
        drawn = np.stack([pls_svd(units, brain[order], _N_COMPONENTS)[0].T for order in orders])
        covariance = np.square(pls_svd(units, brain, len(ERP_COMPONENTS))[1])
        for number in range(_N_COMPONENTS):
            own = each_morans_i(found.first_weights.T[number : number + 1], sheet)
            smooth = compare(float(own[0]), each_morans_i(drawn[:, number], sheet))
            row = {"component": number + 1, "sheet": titles[site], "r": float(found.alignment[number])}
            row |= {"r null": float(found.nulls[:, number].mean()), "p": float(found.p[number])}
            row |= {"share of covariance": float(covariance[number] / covariance.sum())}
            rows.append(row | {"I": float(own[0]), "I null": smooth.mean, "p (I)": smooth.p})
            named = dict(zip(ERP_COMPONENTS, found.second_weights[:, number].tolist(), strict=True))
            weights.append({"component": number + 1, "sheet": titles[site], **named})
            unit_map = UnitMap(site, found.first_weights[:, number], sheet, "weight", provenance={"of": corpus.name})
            maps.setdefault(f"shared_{number + 1}", {})[site] = unit_map
    first = maps["shared_1"]
    limit = symmetric_limit(list(first.values()))
    drawn_maps = draw_maps(first, limit=limit, colour_label="weight")
    return Findings(
        "Components shared with potentials",
        "PLS-SVD of the states after the last token of every word and six event-related potentials at it, length, "
        "number of tokens, log frequency, position and punctuation taken out of both. r: correlation of the scores of "
        f"both sides in sentences that were not fitted to, mean over {len(folds)} folds. I: how smoothly the weights "
        "of the units lie on the sheet. Both beside the same with the potentials moved around the words, all fitted "
        "again, which keeps what units and what neighbouring words have in common; p is one-sided and not corrected "
        "over components and sheets. A model that sees what comes after a word has that in its states too.",
        [
            Table("alignment", "Held-out alignment", rows, "", ("component", "sheet"), ("r", "p", "I", "p (I)")),
            Table("potentials", "Weights of the potentials", weights, "Each component has length 1."),
        ],
        [Picture("shared_1", "First shared component", drawn_maps, headline=True)],
        maps={key: one for name, some in maps.items() for key, one in under(name, some).items()},
    )
