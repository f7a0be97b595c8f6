"""The language network by every rule and treatment of length, and whether two halves of the items agree on it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.contrast_maps import map_picture
from topographic.evaluation.published_numbers import published_columns
from topographic.evaluation.results import Findings, NotMeasurable, Table, under
from topographic.evaluation.subject import LanguageSubject
from topographic.maps import Selection
from topographic.maps.localizer import LENGTHS, LOCALIZER_RULES, localize, localizer_maps
from topographic.maps.stability import split_half_stability
from topographic.recording import Responses

__all__ = ["RULES", "language_network"]

RULES = {"q": "q < .05 and t > 0", "top": "top 1 % of all units", "effect_size": "Cohen's d > 0.8"}


def language_network(subject: LanguageSubject, choices: Choices) -> Findings:
    """Size and stability by rule, maps and networks."""
    responses, contrast = subject.recorded("localizer"), subject.contrast
    published = published_columns("topolm_language", "share of units")
    rows, notes, networks = [], [], {}
    sheets: dict[str, dict[str, Any]] = {site: {"sheet": name} for site, name in site_labels(list(responses)).items()}
    for rule in LOCALIZER_RULES:
        *by_site, stable = split_half_stability(
            responses, *contrast, rule=rule, n_draws=choices.n_draws, seed=choices.seed
        )
        for one in by_site:
            sheets[one.site][f"Dice ({rule})"] = one.dice.value
        for length in LENGTHS:
            try:
                found = localize(responses, *contrast, rule=rule, length=length, seed=choices.seed)
            except NotMeasurable as reason:
                notes.append(f"Length {length}: not possible. {reason}")
                continue
            networks |= under(f"{rule}_length_{length}", found)
            row = {"rule": RULES[rule], "length": length, **_size(found)}
            if length == "none":
                row |= stable.dice.to_columns("Dice", of="label", show=("mean", "p"))
                row |= stable.correlation.to_columns("r", of="label", show=("mean", "p"))
                row |= published if rule == "q" else {}
                for site, one in found.items():
                    sheets[site][f"units ({rule})"] = one.n_selected
            rows.append(row)
    name = "-".join(contrast)
    maps = {f"{fwhm_mm:g}": localizer_maps(responses, *contrast, fwhm_mm=fwhm_mm) for fwhm_mm in choices.fwhm_mm}
    q = LOCALIZER_RULES["q"]
    for width, one in maps.items():
        if width != "0":
            about = {"rule": f"{RULES['q']}, FWHM {width} mm", "length": "none"}
            rows.append({**about, **_size(q.choose(one, q.level)), **published})
    return Findings(
        "Language network",
        "Units that respond more to sentences than to nonword strings. Stability: localized on two halves of the runs; "
        "Dice is the overlap of both networks, r the correlation of both maps of t, each beside the same number with "
        "the labels of one half permuted within runs and its units chosen anew. Where the rows for matched or "
        "regressed length differ from those without, "
        f"length is part of what was localized. {_lengths(next(iter(responses.values())), contrast)}",
        [
            Table(
                "rules",
                "Size and stability by rule",
                rows,
                "Published share: q < .05 and t > 0 at FWHM 2 mm.",
                keys=("rule", "length"),
                headline=("share", "Dice", "Dice null", "p (Dice)", "r", "r null", "p (r)", *published),
            ),
            Table("sheets", "By sheet", list(sheets.values())),
        ],
        [
            map_picture(f"{name}_fwhm_{width}", f"{name}, FWHM {width} mm", one, headline=index == 0)
            for index, (width, one) in enumerate(maps.items())
        ],
        list(dict.fromkeys(notes)),
        {own: one for width, drawn in maps.items() for own, one in under(f"{name}_fwhm_{width}", drawn).items()},
        networks,
    )


def _size(found: Mapping[str, Selection]) -> dict[str, Any]:
    n_units, n_all = sum(one.n_selected for one in found.values()), sum(len(one.mask) for one in found.values())
    items = next(iter(found.values())).provenance
    row = {"sentences": items["n_condition"], "strings": items["n_baseline"], "units": n_units}
    return row | {"share": n_units / n_all, "sheets": sum(one.n_selected > 0 for one in found.values())}


def _lengths(responses: Responses, contrast: tuple[str, str]) -> str:
    if responses.n_tokens is None:
        return ""
    conditions = np.array(responses.stimuli.conditions)
    means = [f"{name} {responses.n_tokens[conditions == name].mean():.1f}" for name in contrast]
    return f"Mean number of tokens: {', '.join(means)}."
