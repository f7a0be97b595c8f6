"""What happens if: lesions, stimulation and their controls."""

from topographic.interventions.compress import SCOPES, DownsampledLinear, downsample, prune
from topographic.interventions.compression_curves import (
    CompressionEffect,
    downsampling_curve,
    matched_fractions,
    pruning_curve,
)
from topographic.interventions.controls import (
    CONTROLS,
    connected_control,
    layer_control,
    matched_controls,
    model_control,
)
from topographic.interventions.lesion_curves import LesionCurve, grown_patch, lesion_curve
from topographic.interventions.lesions import LesionEffect, corrected_p, lesion_effects
from topographic.interventions.perturb import ablate, drive
from topographic.interventions.replay import replayed
from topographic.interventions.steering import SteeringEffect, steering_curve
from topographic.interventions.stimulation import direction_controls, micro_stimulation

__all__ = [
    "CONTROLS",
    "SCOPES",
    "CompressionEffect",
    "DownsampledLinear",
    "LesionCurve",
    "LesionEffect",
    "SteeringEffect",
    "ablate",
    "connected_control",
    "corrected_p",
    "direction_controls",
    "downsample",
    "downsampling_curve",
    "drive",
    "grown_patch",
    "layer_control",
    "lesion_curve",
    "lesion_effects",
    "matched_controls",
    "matched_fractions",
    "micro_stimulation",
    "model_control",
    "prune",
    "pruning_curve",
    "replayed",
    "steering_curve",
]
