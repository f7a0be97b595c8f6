"""Suites: which parts an evaluation has, and what each of them depends on."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from topographic.evaluation.parts.behaviour import grammar, lesions, syntax
from topographic.evaluation.parts.compression import compression, image_compression
from topographic.evaluation.parts.images import image_selectivity
from topographic.evaluation.parts.language import language_clusters, language_network, language_profiles
from topographic.evaluation.parts.sheets import dimensionality, smooth_responses
from topographic.evaluation.parts.weights import smooth_weights
from topographic.evaluation.parts.windows import windows
from topographic.evaluation.parts.words import selectivity, word_classes
from topographic.evaluation.results import Findings
from topographic.evaluation.subject import Choices
from topographic.recording import first_mlp_layers, vision_layers

__all__ = ["IMAGE_PAPERS", "IMAGE_SITES", "IMAGE_SUITES", "PAPERS", "SITES", "SUITES", "Part"]


class Part(NamedTuple):
    """One part of a suite: what it does, and on which choices and which material its numbers depend.

    It takes a `Bench`, in `IMAGE_SUITES` an `ImageBench`. A part with an ``option`` is measured only where that option
    of `topo evaluate` names its material.
    """

    measure: Callable[[Any, Choices], Findings]
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
    },
    "toponets": {
        "weights": Part(smooth_weights, ("weight_sheets", "n_draws", "seed"), ()),
        "smoothness": Part(smooth_responses, ("n_draws", "seed"), ("localizer",)),
        "dimensionality": Part(dimensionality, ("seed",), ("localizer", "text")),
        "compression": Part(compression, ("removed", "permuted_draws", "lesion_pairs", "seed"), ("pairs", "text")),
        "selectivity": Part(
            selectivity,
            ("fwhm_mm", "n_draws", "cluster_threshold", "seed"),
            ("localizer", "words", "phrases"),
        ),
        "windows": Part(windows, ("window_words", "window_sequences", "n_draws", "seed"), ("localizer", "text")),
    },
}

# which modules a suite looks at where neither the command nor the run's section smoothness names any; other suites take
# the sheets that a model carries
SITES: dict[str, Callable[[nn.Module], str]] = {"toponets": first_mlp_layers}

# whose numbers stand beside ours
PAPERS = {
    "topolm": "Rathi, Mehrer et al. (ICLR 2025), for models of 24 sheets of 784 units",
    "toponets": "Deb et al. (TopoNets, ICLR 2025), for GPT-Neo-125M and NanoGPT, whose first MLP layers are sheets of "
    "48 x 64 units",
}

# the same for vision models
IMAGE_SUITES = {
    "toponets": {
        "weights": Part(smooth_weights, ("weight_sheets", "n_draws", "seed"), ()),
        "smoothness": Part(smooth_responses, ("n_draws", "seed"), ("categories",)),
        "dimensionality": Part(dimensionality, ("seed",), ("categories", "test")),
        "compression": Part(image_compression, ("removed", "permuted_draws", "seed"), ("test",)),
        "selectivity": Part(image_selectivity, ("fwhm_mm", "n_draws", "cluster_threshold", "seed"), ("categories",)),
    },
}
IMAGE_SITES: dict[str, Callable[[nn.Module], list[str]]] = {"toponets": vision_layers}
IMAGE_PAPERS = {
    "toponets": "Deb et al. (TopoNets, ICLR 2025), for ResNet-18, ResNet-50 and ViT-B/32 trained on ImageNet",
}
