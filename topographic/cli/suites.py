"""Suites: which parts an evaluation has, and what each of them depends on."""

from collections.abc import Callable
from typing import NamedTuple

from topographic.cli.behaviour_parts import grammar, lesions, syntax
from topographic.cli.bench import Bench, Choices
from topographic.cli.language_parts import language_clusters, language_network, language_profiles
from topographic.cli.word_parts import word_classes
from topographic.report.findings import Findings

__all__ = ["SUITES", "Part"]


class Part(NamedTuple):
    """One part of a suite: what it does, and on which choices and which material its numbers depend.

    A part with an ``option`` is measured only where that option of `topo evaluate` names its material.
    """

    measure: Callable[[Bench, Choices], Findings]
    choices: tuple[str, ...]
    material: tuple[str, ...]
    option: str | None = None


SUITES = {
    "topolm": {
        "network": Part(language_network, ("fwhm_mm", "n_draws", "seed"), ("localizer",)),
        "clusters": Part(language_clusters, ("fwhm_mm", "n_draws", "cluster_threshold", "seed"), ("localizer",)),
        "profiles": Part(language_profiles, ("fwhm_mm", "seed"), ("localizer", "profiles")),
        "word_classes": Part(word_classes, ("fwhm_mm", "n_draws", "cluster_threshold", "seed"), ("words", "phrases")),
        "minimal_pairs": Part(grammar, (), ("pairs", "text")),
        "syntaxgym": Part(syntax, (), ("syntaxgym",), option="syntaxgym"),
        "lesions": Part(
            lesions,
            ("lesion_fractions", "lesion_draws", "lesion_mode", "lesion_pairs", "seed"),
            ("localizer", "pairs", "text"),
        ),
    }
}
