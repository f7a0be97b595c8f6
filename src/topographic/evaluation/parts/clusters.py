"""Clusters of the language network by three definitions, and which are larger than chance makes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from topographic.drawing.site_names import site_labels
from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.contrast_maps import significant_clusters
from topographic.evaluation.published_numbers import published
from topographic.evaluation.results import Findings, Table, under
from topographic.evaluation.subject import LanguageSubject
from topographic.evaluation.wording import counted
from topographic.maps import Selection, UnitMap, clusters, t_map
from topographic.maps.localizer import localizer_maps

__all__ = ["MIN_UNITS", "language_clusters"]

MIN_UNITS = {"components": 10, "watershed": 10, "published": 25}
_MEASURES = ("clusters", "median size", "largest")


def language_clusters(subject: LanguageSubject, choices: Choices) -> Findings:
    """Clusters by definition and width of the readout, and those that pass the test."""
    responses = subject.recorded("localizer")
    theirs = {
        f"{one.measure} (published)": one.value for one in published("topolm_language") if one.measure in _MEASURES
    }
    labels, name = site_labels(list(responses)), "-".join(subject.contrast)
    counts, significant, kept = [], [], {}
    for fwhm_mm in choices.fwhm_mm:
        maps = localizer_maps(responses, *subject.contrast, fwhm_mm=fwhm_mm)
        for method, at_least in MIN_UNITS.items():
            found = [each for one in maps.values() for each in clusters(one, method=method, min_units=at_least)]
            kept |= under(f"clusters_{method}_fwhm_{fwhm_mm:g}", _numbered(maps, found))
            row = {"FWHM (mm)": fwhm_mm, "method": method, "at least": at_least, **_sizes(found)}
            counts.append(row | (theirs if method == "published" and fwhm_mm == 2 else {}))
        options = {"fwhm_mm": fwhm_mm, "n_draws": choices.n_draws, "seed": choices.seed}
        drawn = {site: t_map(one, *subject.contrast, **options) for site, one in responses.items()}
        passed = significant_clusters(drawn, choices.cluster_threshold)
        chance = {"FWHM (mm)": fwhm_mm, "method": "family-wise p <= .05", "at least": None}
        counts.append(chance | _sizes([one.selection for one in passed]))
        kept |= under(f"{name}_fwhm_{fwhm_mm:g}", drawn)
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
        "of the items within runs, so that the error is that of the whole family of clusters wherever both sides have "
        "the same distribution of responses.",
        [
            Table(
                "counts",
                "Clusters by definition",
                counts,
                "Published: code and counts of the paper do not agree.",
                keys=("FWHM (mm)", "method"),
                headline=("clusters", "units", "median size", "largest", *theirs),
            ),
            Table("test", f"{counted(len(significant), 'cluster')} with family-wise p <= .05", significant),
        ],
        maps=kept,
    )


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
