"""Responses of network and clusters to sentences, words, Jabberwocky and nonwords, on items of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.clusters import MIN_UNITS
from topographic.evaluation.parts.network import RULES
from topographic.evaluation.published_numbers import published, published_columns
from topographic.evaluation.results import Findings, Picture, Table
from topographic.evaluation.subject import LanguageSubject
from topographic.maps import Selection, clusters
from topographic.maps.localizer import localize, localizer_maps
from topographic.maps.profiles import Profile, held_out, ordering_counts, response_profile
from topographic.maps.stability import split_half
from topographic.plots.layer_figures import draw_profiles
from topographic.recording import Responses, readout

__all__ = ["language_profiles"]

_SWJN = ("sentences", "words", "jabberwocky", "nonwords")


def language_profiles(subject: LanguageSubject, choices: Choices) -> Findings:
    """Profiles of the network by every rule and of every cluster, and in which order their means come."""
    localizer, shown = subject.recorded("localizer"), subject.recorded("profiles")
    if subject.stimuli("localizer").checksum == subject.stimuli("profiles").checksum:
        localizer, _ = split_half(localizer)
    theirs = {
        one.setting["order"]: one.value for one in published("topolm_language") if one.measure == "clusters of 53"
    }
    labels = site_labels(list(shown))
    rows, orderings, pictures, notes = [], [], [], []
    for fwhm_mm in choices.fwhm_mm:
        seen = {site: readout(one, fwhm_mm) for site, one in shown.items()}
        drawn = []
        for rule, words in RULES.items():
            chosen = list(localize(localizer, *subject.contrast, rule=rule, fwhm_mm=fwhm_mm).values())
            if not any(one.n_selected for one in chosen):
                notes.append(f"{words}, FWHM {fwhm_mm:g} mm: no unit, so no profile.")
                continue
            drawn.append(_profile(seen, chosen, words, choices.seed))
            rows += _profile_rows(drawn[-1], fwhm_mm)
            if rule == "q":
                magnitudes = _profile(seen, chosen, f"{words}, |response|", choices.seed, absolute=True)
                rows += _profile_rows(magnitudes, fwhm_mm, beside_published=True)
        if drawn:
            title = f"Network, FWHM {fwhm_mm:g} mm"
            figure = draw_profiles(drawn).figure
            note = "Lines: 95 % intervals over items."
            pictures.append(Picture(f"network_fwhm_{fwhm_mm:g}", title, figure, note, headline=not pictures))
        maps = localizer_maps(localizer, *subject.contrast, fwhm_mm=fwhm_mm)
        pieces = {
            f"{labels[site]}, cluster {index}": cluster
            for site, one in maps.items()
            for index, cluster in enumerate(clusters(one, min_units=MIN_UNITS["components"]), start=1)
        }
        found = [_profile(seen, [cluster], name, choices.seed) for name, cluster in pieces.items()]
        rows += [row for one in found for row in _profile_rows(one, fwhm_mm)]
        counts = ordering_counts(found)
        orderings += [
            {"FWHM (mm)": fwhm_mm, "order": order, "clusters": counts.get(order, 0)}
            | {"clusters of 53 (published)": theirs.get(order)}
            for order in dict.fromkeys([*counts, *theirs])
        ]
    return Findings(
        "Response profiles",
        "Mean response to sentences (S), word lists (W), Jabberwocky (J) and nonword strings (N), over units and then "
        "items, with studentised bootstrap intervals over items. The items that are profiled did not choose the "
        "units. A model "
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


def _profile(
    seen: Mapping[str, Responses], chosen: Sequence[Selection], name: str, seed: int, *, absolute: bool = False
) -> Profile:
    return response_profile(held_out(seen, chosen), chosen, _SWJN, absolute=absolute, name=name, seed=seed)


def _profile_rows(profile: Profile, fwhm_mm: float, *, beside_published: bool = False) -> list[dict[str, Any]]:
    rows = [{"FWHM (mm)": fwhm_mm, **row, "order": profile.ordering} for row in profile.to_rows()]
    if not beside_published:
        return rows
    theirs = "topolm_language", "mean |response|"
    return [row | published_columns(*theirs, condition=row["condition"]) for row in rows]
