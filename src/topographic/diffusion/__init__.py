"""Images of a class from noise: class prototypes as the condition of a diffusion model (ProtoDiffusion)."""

from topographic.diffusion.callbacks import AverageWeights, SampleGrids
from topographic.diffusion.classes import class_responses
from topographic.diffusion.condition import (
    PROTOTYPES_AS,
    ClassCondition,
    matched_random_prototypes,
    scaled_prototypes,
    shuffled_prototypes,
)
from topographic.diffusion.distances import (
    KernelDistance,
    Manifold,
    frechet_distance,
    image_features,
    kernel_distance,
    load_mobilenet,
    manifold,
)
from topographic.diffusion.modeling import CONDITIONS, DiffusionConfig, DiffusionModel
from topographic.diffusion.sampling import read_grid, sample, save_grid, to_pixels

__all__ = [
    "CONDITIONS",
    "PROTOTYPES_AS",
    "AverageWeights",
    "ClassCondition",
    "DiffusionConfig",
    "DiffusionModel",
    "KernelDistance",
    "Manifold",
    "SampleGrids",
    "class_responses",
    "frechet_distance",
    "image_features",
    "kernel_distance",
    "load_mobilenet",
    "manifold",
    "matched_random_prototypes",
    "read_grid",
    "sample",
    "save_grid",
    "scaled_prototypes",
    "shuffled_prototypes",
    "to_pixels",
]
