"""The language parts of a suite: network, clusters and response profiles, beside the published numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from topographic.evaluation.results import Findings, Picture, Table
from topographic.evaluation.subject import Bench, Choices
from topographic.maps import ClusterTest, Selection, UnitMap, cluster_mass_test, clusters, t_map
from topographic.maps.localizer import LENGTHS, LOCALIZER_RULES, localize, localizer_maps
from topographic.maps.profiles import Profile, held_out, ordering_counts, response_profile
from topographic.maps.stability import split_half, split_half_stability
from topographic.plots.figures import draw_maps, symmetric_limit
from topographic.plots.layer_figures import draw_profiles
from topographic.plots.site_names import site_labels
from topographic.recording import Responses, readout

__all__ = [
    "language_clusters",
    "language_network",
    "language_profiles",
    "map_picture",
    "significant_clusters",
    "under",
]

_CONTRAST = ("sentences", "nonwords")
_NAME = "-".join(_CONTRAST)
_SWJN = ("sentences", "words", "jabberwocky", "nonwords")
_RULES = {"q": "q < .05 and t > 0", "top": "top 1 % of all units", "effect_size": "Cohen's d > 0.8"}
_MIN_UNITS = {"components": 10, "watershed": 10, "published": 25}

# Rathi, Mehrer et al. (ICLR 2025, arXiv:2410.11516) and the files released with it
_PUBLISHED_SHARE = {"TopoLM (published)": 0.474, "control (published)": 0.432}
_PUBLISHED_CLUSTERS = {"clusters (published)": 53, "median size (published)": 111, "largest (published)": 425}
_PUBLISHED_ORDERINGS = {"S>W>N>J": 37, "S>W>J>N": 9, "W>S>N>J": 5}
_PUBLISHED_RESPONSES = {
    "sentences": {"TopoLM (published)": 0.3462, "control (published)": 0.2595},
    "words": {"TopoLM (published)": 0.3346, "control (published)": 0.2604},
    "jabberwocky": {"TopoLM (published)": 0.2500, "control (published)": 0.2394},
    "nonwords": {"TopoLM (published)": 0.2600, "control (published)": 0.2464},
}


def language_network(bench: Bench, choices: Choices) -> Findings:
    """The language network by every rule and treatment of length, and whether two halves of the items agree on it."""
    responses = bench.recorded("localizer")
    rows, notes, networks = [], [], {}
    sheets: dict[str, dict[str, Any]] = {site: {"sheet": name} for site, name in site_labels(list(responses)).items()}
    for rule in LOCALIZER_RULES:
        stable = split_half_stability(responses, *_CONTRAST, rule=rule, n_draws=choices.n_draws, seed=choices.seed)
        for one in stable[:-1]:
            sheets[one.site][f"Dice ({rule})"] = one.dice.value
        for length in LENGTHS:
            try:
                found = localize(responses, *_CONTRAST, rule=rule, length=length, seed=choices.seed)
            except ValueError as error:  # lengths that do not overlap cannot be matched; the page has to say so
                notes.append(f"Length {length}: not possible. {error}")
                continue
            networks |= under(f"{rule}_length_{length}", found)
            row = {"rule": _RULES[rule], "length": length, **_size(found)}
            if length == "none":
                row |= _stability(stable[-1].to_row()) | (_PUBLISHED_SHARE if rule == "q" else {})
                for site, one in found.items():
                    sheets[site][f"units ({rule})"] = one.n_selected
            rows.append(row)
    maps = {f"{fwhm_mm:g}": localizer_maps(responses, *_CONTRAST, fwhm_mm=fwhm_mm) for fwhm_mm in choices.fwhm_mm}
    q = LOCALIZER_RULES["q"]
    rows += [
        {
            "rule": f"{_RULES['q']}, FWHM {width} mm",
            "length": "none",
            **_size(q.choose(one, q.level)),
            **_PUBLISHED_SHARE,
        }
        for width, one in maps.items()
        if width != "0"
    ]
    return Findings(
        "Language network",
        "Units that respond more to sentences than to nonword strings. Stability: localized on two halves of the runs; "
        "Dice is the overlap of both networks, r the correlation of both maps of t, each beside the same number with "
        "the units of one half permuted. Where the rows for matched or regressed length differ from those without, "
        f"length is part of what was localized. {_lengths(next(iter(responses.values())))}",
        [
            Table(
                "rules",
                "Size and stability by rule",
                rows,
                "Published share: q < .05 and t > 0 at FWHM 2 mm.",
                keys=("rule", "length"),
                headline=("share", "Dice", "Dice null", "p (Dice)", "r", "r null", "p (r)", *_PUBLISHED_SHARE),
            ),
            Table("sheets", "By sheet", list(sheets.values())),
        ],
        [
            map_picture(f"maps_fwhm_{width}", f"Sentences - nonwords, FWHM {width} mm", one, headline=index == 0)
            for index, (width, one) in enumerate(maps.items())
        ],
        list(dict.fromkeys(notes)),
        {name: one for width, drawn in maps.items() for name, one in under(f"{_NAME}_fwhm_{width}", drawn).items()},
        networks,
    )


def language_clusters(bench: Bench, choices: Choices) -> Findings:
    """Clusters of the language network by three definitions, and which are larger than chance makes them."""
    responses = bench.recorded("localizer")
    labels = site_labels(list(responses))
    counts, significant, kept = [], [], {}
    for fwhm_mm in choices.fwhm_mm:
        maps = localizer_maps(responses, *_CONTRAST, fwhm_mm=fwhm_mm)
        for method, at_least in _MIN_UNITS.items():
            found = [each for one in maps.values() for each in clusters(one, method=method, min_units=at_least)]
            kept |= under(f"clusters_{method}_fwhm_{fwhm_mm:g}", _numbered(maps, found))
            row = {"FWHM (mm)": fwhm_mm, "method": method, "at least": at_least, **_sizes(found)}
            counts.append(row | (_PUBLISHED_CLUSTERS if method == "published" and fwhm_mm == 2 else {}))
        options = {"fwhm_mm": fwhm_mm, "n_draws": choices.n_draws, "seed": choices.seed}
        drawn = {site: t_map(one, *_CONTRAST, **options) for site, one in responses.items()}
        passed = significant_clusters(drawn, choices.cluster_threshold)
        chance = {"FWHM (mm)": fwhm_mm, "method": "family-wise p <= .05", "at least": None}
        counts.append(chance | _sizes([one.selection for one in passed]))
        kept |= under(f"{_NAME}_fwhm_{fwhm_mm:g}", drawn)
        kept |= under(f"clusters_significant_fwhm_{fwhm_mm:g}", _numbered(maps, [one.selection for one in passed]))
        for one in passed:
            row = {"FWHM (mm)": fwhm_mm, "sheet": labels[one.selection.site], "units": one.n_units, "mass": one.mass}
            significant.append(row | {"peak t": one.peak_value, "p (mass)": one.p_mass, "p (size)": one.p_size})
    return Findings(
        "Clusters",
        "Pieces of neighbouring units that respond more to sentences. components: connected units with q < .05, the "
        "rule in the paper; watershed: the same, divided at saddles; published: the rule in the released code, which "
        "also absorbs units that fail. Those counts say nothing about chance. The test does: clusters of "
        f"t > {choices.cluster_threshold:g}, each compared with the largest cluster over all sheets under relabellings "
        "of the items within runs, so that the family-wise error over all sheets is kept.",
        [
            Table(
                "counts",
                "Clusters by definition",
                counts,
                "Published: code and counts of the paper do not agree.",
                keys=("FWHM (mm)", "method"),
                headline=("clusters", "units", "median size", "largest", *_PUBLISHED_CLUSTERS),
            ),
            Table("test", f"{len(significant)} clusters with family-wise p <= .05", significant),
        ],
        maps=kept,
    )


def language_profiles(bench: Bench, choices: Choices) -> Findings:
    """Responses of network and clusters to sentences, words, Jabberwocky and nonwords, on items of their own."""
    localizer, shown = bench.recorded("localizer"), bench.recorded("profiles")
    if bench.stimuli("localizer").checksum == bench.stimuli("profiles").checksum:
        localizer, _ = split_half(localizer)
    labels = site_labels(list(shown))
    rows, orderings, pictures, notes = [], [], [], []
    for fwhm_mm in choices.fwhm_mm:
        seen = {site: readout(one, fwhm_mm) for site, one in shown.items()}
        drawn = []
        for rule, words in _RULES.items():
            chosen = list(localize(localizer, *_CONTRAST, rule=rule, fwhm_mm=fwhm_mm).values())
            if not any(one.n_selected for one in chosen):
                notes.append(f"{words}, FWHM {fwhm_mm:g} mm: no unit, so no profile.")
                continue
            drawn.append(_profile(seen, chosen, words, choices.seed))
            rows += _profile_rows(drawn[-1], fwhm_mm)
            if rule == "q":
                magnitudes = _profile(seen, chosen, f"{words}, |response|", choices.seed, absolute=True)
                rows += _profile_rows(magnitudes, fwhm_mm, _PUBLISHED_RESPONSES)
        if drawn:
            title = f"Network, FWHM {fwhm_mm:g} mm"
            figure = draw_profiles(drawn).figure
            note = "Lines: 95 % intervals over items."
            pictures.append(Picture(f"network_fwhm_{fwhm_mm:g}", title, figure, note, headline=not pictures))
        maps = localizer_maps(localizer, *_CONTRAST, fwhm_mm=fwhm_mm)
        pieces = {
            f"{labels[site]}, cluster {index}": cluster
            for site, one in maps.items()
            for index, cluster in enumerate(clusters(one, min_units=_MIN_UNITS["components"]), start=1)
        }
        found = [_profile(seen, [cluster], name, choices.seed) for name, cluster in pieces.items()]
        rows += [row for one in found for row in _profile_rows(one, fwhm_mm)]
        counts = ordering_counts(found)
        orderings += [
            {"FWHM (mm)": fwhm_mm, "order": order, "clusters": counts.get(order, 0)}
            | {"clusters of 53 (published)": _PUBLISHED_ORDERINGS.get(order)}
            for order in dict.fromkeys([*counts, *_PUBLISHED_ORDERINGS])
        ]
    return Findings(
        "Response profiles",
        "Mean response to sentences (S), word lists (W), Jabberwocky (J) and nonword strings (N), over units and then "
        "items, with bootstrap intervals over items. The items that are profiled did not choose the units. A model "
        "has no rest: zero is no baseline, only differences between conditions mean something. The human language "
        "network responds S > W and S > J, and to N least; S > W > N > J is a lexical effect alone.",
        [
            Table(
                "orderings",
                "Clusters by the order of their means",
                orderings,
                "Published: two more have N highest.",
                keys=("FWHM (mm)", "order"),
                headline=("clusters", "clusters of 53 (published)"),
            ),
            Table(
                "profiles", "Network and clusters", rows, "Published: mean |response| of all selective units, FWHM 2."
            ),
        ],
        pictures,
        notes,
    )


def map_picture(name: str, title: str, maps: Mapping[str, UnitMap], *, headline: bool = False) -> Picture:
    """All maps of one contrast in one picture."""
    limit = symmetric_limit(list(maps.values()))
    note = f"One picture per sheet, one colour scale: the darkest colours are t = ±{limit:.1f} and beyond."
    return Picture(name, title, draw_maps(maps, limit=limit, colour_label="Welch's t"), note, headline)


def significant_clusters(
    maps: Mapping[str, UnitMap], threshold: float, *, sign: str = "positive", alpha: float = 0.05
) -> list[ClusterTest]:
    """Clusters whose mass chance reaches seldom on any sheet."""
    return [test for test in cluster_mass_test(maps, threshold=threshold, sign=sign) if test.p_mass <= alpha]


def under(name: str, nouns: Mapping[str, Any]) -> dict[str, Any]:
    """Nouns by a common name and their own, as `Findings` keeps them: without null maps, which are large."""
    lean = {own: replace(one, nulls={}) if isinstance(one, UnitMap) else one for own, one in nouns.items()}
    return {f"{name}/{own}": noun for own, noun in lean.items()}


def _numbered(maps: Mapping[str, UnitMap], found: Sequence[Selection]) -> dict[str, UnitMap]:
    """The number of each unit's cluster, 0 for none: a file per sheet, because of clusters there may be thousands."""
    numbered = {}
    for site, one in maps.items():
        number = np.zeros(one.sheet.n_units)
        here = [cluster for cluster in found if cluster.site == site]
        for index, cluster in enumerate(here, start=1):
            number[cluster.mask] = index
        provenance = {"rules": sorted({cluster.rule for cluster in here}), "n_clusters": len(here)}
        numbered[site] = UnitMap(site, number, one.sheet, "cluster_number", provenance=provenance)
    return numbered


def _sizes(found: Sequence[Selection]) -> dict[str, Any]:
    sizes = [cluster.n_selected for cluster in found]
    row = {"clusters": len(sizes), "units": sum(sizes), "median size": float(np.median(sizes)) if sizes else None}
    return row | {"largest": max(sizes, default=None)}


def _size(found: Mapping[str, Selection]) -> dict[str, Any]:
    n_units, n_all = sum(one.n_selected for one in found.values()), sum(len(one.mask) for one in found.values())
    items = next(iter(found.values())).provenance
    row = {"sentences": items["n_condition"], "strings": items["n_baseline"], "units": n_units}
    return row | {"share": n_units / n_all, "sheets": sum(one.n_selected > 0 for one in found.values())}


def _stability(row: Mapping[str, Any]) -> dict[str, Any]:
    columns = {"Dice": "dice", "Dice null": "dice_null", "p (Dice)": "dice_p"}
    columns |= {"r": "correlation", "r null": "correlation_null", "p (r)": "correlation_p"}
    return {title: row[key] for title, key in columns.items()}


def _lengths(responses: Responses) -> str:
    if responses.n_tokens is None:
        return ""
    conditions = np.array(responses.stimuli.conditions)
    means = [f"{name} {responses.n_tokens[conditions == name].mean():.1f}" for name in _CONTRAST]
    return f"Mean number of tokens: {', '.join(means)}."


def _profile(
    seen: Mapping[str, Responses], chosen: Sequence[Selection], name: str, seed: int, *, absolute: bool = False
) -> Profile:
    return response_profile(held_out(seen, chosen), chosen, _SWJN, absolute=absolute, name=name, seed=seed)


def _profile_rows(
    profile: Profile, fwhm_mm: float, published: Mapping[str, Mapping[str, float]] | None = None
) -> list[dict[str, Any]]:
    return [
        {"FWHM (mm)": fwhm_mm, **row, "order": profile.ordering, **(published or {}).get(row["condition"], {})}
        for row in profile.to_rows()
    ]
