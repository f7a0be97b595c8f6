"""What happens if: lesions, stimulation and their controls."""

from topographic.interventions.compress import (
    SCOPES,
    CompressionEffect,
    DownsampledLinear,
    downsample,
    downsampling_curve,
    prune,
    pruning_curve,
)
from topographic.interventions.controls import CONTROLS, connected_control, layer_control, model_control
from topographic.interventions.lesions import LesionEffect, lesion_effects
from topographic.interventions.perturb import ablate, drive

__all__ = [
    "CONTROLS",
    "SCOPES",
    "CompressionEffect",
    "DownsampledLinear",
    "LesionEffect",
    "ablate",
    "connected_control",
    "downsample",
    "downsampling_curve",
    "drive",
    "layer_control",
    "lesion_effects",
    "model_control",
    "prune",
    "pruning_curve",
]
