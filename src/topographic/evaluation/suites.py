"""Suites: which parts an evaluation has, by the kind of model, and what each of them depends on."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from topographic.evaluation.attention_sites import attention_sites
from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.aligned_components import aligned_components
from topographic.evaluation.parts.clusters import language_clusters
from topographic.evaluation.parts.compression import compression
from topographic.evaluation.parts.dimensionality import dimensionality
from topographic.evaluation.parts.found_regions import found_regions
from topographic.evaluation.parts.layout_worth import layout_order, layout_reliability
from topographic.evaluation.parts.lesions import lesions
from topographic.evaluation.parts.minimal_pairs import grammar
from topographic.evaluation.parts.network import language_network
from topographic.evaluation.parts.patches import lesions_by_size, steering
from topographic.evaluation.parts.profiles import language_profiles
from topographic.evaluation.parts.response_assemblies import response_assemblies
from topographic.evaluation.parts.selectivity import category_selectivity, language_selectivity
from topographic.evaluation.parts.sentence_averages import sentence_averages
from topographic.evaluation.parts.smoothness import smooth_responses
from topographic.evaluation.parts.syntaxgym import syntax
from topographic.evaluation.parts.topography import components, linguistic_suites, statistic_of_topography
from topographic.evaluation.parts.weights import smooth_weights
from topographic.evaluation.parts.windows import windows
from topographic.evaluation.parts.word_classes import word_classes
from topographic.evaluation.parts.word_encoding import word_encoding
from topographic.evaluation.parts.word_maps import word_maps
from topographic.evaluation.parts.word_surprisal import word_surprisal_gain
from topographic.evaluation.results import Findings
from topographic.evaluation.word_readings import read_layers
from topographic.recording import first_mlp_layers, vision_layers

__all__ = ["SUITES", "Part", "Suite", "suite_for"]


class Part(NamedTuple):
    """One part of a suite: what it does, and on which choices and which material its numbers depend.

    A part with an ``option`` is measured only where what is shown has this (`Shown`).
    """

    measure: Callable[[Any, Choices], Findings]
    choices: tuple[str, ...]
    material: tuple[str, ...]
    option: str | None = None


class Suite(NamedTuple):
    """What is measured of one kind of model, and whose numbers stand beside ours.

    ``sites`` finds the modules it looks at where nobody names any; without, it takes the sheets that a model carries.
    """

    parts: Mapping[str, Part]
    paper: str
    sites: Callable[[nn.Module], str | list[str]] | None = None


_CONTRASTS = ("fwhm_mm", "n_draws", "cluster_threshold", "seed")
_WEIGHTS = Part(smooth_weights, ("n_draws", "seed"), ("weight_sheets",))

SUITES: dict[str, dict[str, Suite]] = {
    "topolm": {
        "language": Suite(
            {
                "network": Part(language_network, ("fwhm_mm", "n_draws", "seed"), ("localizer", "published")),
                "clusters": Part(language_clusters, _CONTRASTS, ("localizer", "published")),
                "profiles": Part(language_profiles, ("fwhm_mm", "seed"), ("localizer", "profiles", "published")),
                "word_classes": Part(word_classes, _CONTRASTS, ("words", "phrases", "published")),
                "minimal_pairs": Part(grammar, (), ("pairs", "text", "published")),
                "syntaxgym": Part(syntax, (), ("syntaxgym",), option="syntaxgym"),
                "lesions": Part(
                    lesions,
                    ("lesion_fractions", "lesion_draws", "lesion_mode", "lesion_pairs", "seed"),
                    ("localizer", "pairs", "text"),
                ),
            },
            "Rathi, Mehrer et al. (ICLR 2025), for models of 24 sheets of 784 units",
        ),
    },
    "toponets": {
        "language": Suite(
            {
                "weights": _WEIGHTS,
                "smoothness": Part(smooth_responses, ("n_draws", "seed"), ("localizer", "published")),
                "dimensionality": Part(dimensionality, ("seed",), ("localizer", "text", "published")),
                "compression": Part(
                    compression, ("removed", "permuted_draws", "lesion_pairs", "seed"), ("pairs", "text", "published")
                ),
                "selectivity": Part(language_selectivity, _CONTRASTS, ("localizer", "words", "phrases")),
                "windows": Part(
                    windows, ("window_words", "window_sequences", "n_draws", "seed"), ("localizer", "text")
                ),
            },
            "Deb et al. (TopoNets, ICLR 2025), for GPT-Neo-125M and NanoGPT, whose first MLP layers are sheets of "
            "48 x 64 units",
            first_mlp_layers,
        ),
        "vision": Suite(
            {
                "weights": _WEIGHTS,
                "smoothness": Part(smooth_responses, ("n_draws", "seed"), ("categories", "published")),
                "dimensionality": Part(dimensionality, ("seed",), ("categories", "test", "published")),
                "compression": Part(
                    compression, ("removed", "permuted_draws", "lesion_pairs", "seed"), ("test", "published")
                ),
                "selectivity": Part(category_selectivity, _CONTRASTS, ("categories",)),
            },
            "Deb et al. (TopoNets, ICLR 2025), for ResNet-18, ResNet-50 and ViT-B/32 trained on ImageNet",
            vision_layers,
        ),
    },
    "topoformer": {
        "language": Suite(
            {
                "topography": Part(statistic_of_topography, ("n_draws", "seed"), ("suites",)),
                "suites": Part(linguistic_suites, _CONTRASTS, ("suites",)),
                "components": Part(components, ("n_draws", "seed"), ("suites",)),
                "aligned_components": Part(
                    aligned_components, ("word_folds", "n_draws", "seed"), ("corpora",), option="data"
                ),
            },
            "Topoformer (Re-Align workshop at ICLR 2024), for queries, keys, values and outputs of a classifier of 1 x "
            "400 units and a BERT of 16 x 784",
            attention_sites,
        ),
    },
    "brain": {
        "language": Suite(
            {
                "word_surprisal": Part(
                    word_surprisal_gain,
                    ("word_folds", "spill_over", "n_draws", "seed"),
                    ("corpora",),
                    option="data",
                ),
                "word_encoding": Part(word_encoding, ("word_folds", "n_draws", "seed"), ("corpora",), option="data"),
                "word_maps": Part(word_maps, ("n_draws", "seed"), ("corpora",), option="data"),
                "sentence_averages": Part(
                    sentence_averages, ("word_folds", "n_draws", "seed"), ("corpora", "published"), option="data"
                ),
                "response_assemblies": Part(
                    response_assemblies, ("word_folds", "n_draws", "seed"), ("assemblies", "published"), option="data"
                ),
            },
            "Brain-Score Language (scores of GPT2-XL and of features without content), on voxels, not averages",
            read_layers,
        ),
    },
    "layout": {
        "language": Suite(
            {
                "layout_order": Part(layout_order, ("n_draws", "seed"), ("localizer",)),
                "layout_reliability": Part(
                    layout_reliability, ("n_draws", "seed"), ("localizer", "other_layout"), option="other_layout"
                ),
                "found_regions": Part(
                    found_regions, ("cluster_threshold", "n_draws", "seed"), ("text",), option="text"
                ),
                "patch_lesions": Part(
                    lesions_by_size,
                    ("lesion_fractions", "lesion_draws", "lesion_pairs", "seed"),
                    ("localizer", "words", "pairs", "text"),
                ),
                "patch_steering": Part(steering, ("lesion_draws", "lesion_pairs", "seed"), ("words", "pairs", "text")),
            },
            "TopoTransform (Rathi et al. 2026) and Topo-Omni (arXiv:2606.09770), for sheets that a model was given",
        ),
        "vision": Suite(
            {"layout_order": Part(layout_order, ("n_draws", "seed"), ("categories",))},
            "TopoTransform (Rathi et al. 2026), for sheets that a model was given",
        ),
    },
}


def suite_for(kind: str, name: str, source: str = "") -> Suite:
    """The suite of this name for a kind of model."""
    if name not in SUITES:
        raise ValueError(f"suite={name!r}; expected one of {', '.join(SUITES)}")
    if kind not in SUITES[name]:
        known = [other for other, kinds in SUITES.items() if kind in kinds]
        raise ValueError(
            f"{source or 'this'} is a {kind} model and suite={name!r} for others; use suite={' or '.join(known)}"
        )
    return SUITES[name][kind]
