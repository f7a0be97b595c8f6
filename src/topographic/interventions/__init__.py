"""What happens if: lesions, stimulation and their controls."""

from topographic.interventions.compress import SCOPES, DownsampledLinear, downsample, prune
from topographic.interventions.compression_curves import (
    CompressionEffect,
    downsampling_curve,
    matched_fractions,
    pruning_curve,
)
from topographic.interventions.controls import CONTROLS, connected_control, layer_control, model_control
from topographic.interventions.lesions import LesionEffect, corrected_p, lesion_effects
from topographic.interventions.perturb import ablate, drive

__all__ = [
    "CONTROLS",
    "SCOPES",
    "CompressionEffect",
    "DownsampledLinear",
    "LesionEffect",
    "ablate",
    "connected_control",
    "corrected_p",
    "downsample",
    "downsampling_curve",
    "drive",
    "layer_control",
    "lesion_effects",
    "matched_fractions",
    "model_control",
    "prune",
    "pruning_curve",
]
