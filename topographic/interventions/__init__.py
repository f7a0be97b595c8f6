"""What happens if: lesions, stimulation and their controls."""

from topographic.interventions.controls import CONTROLS, connected_control, layer_control, model_control
from topographic.interventions.lesions import LesionEffect, lesion_effects
from topographic.interventions.perturb import ablate, drive

__all__ = [
    "CONTROLS",
    "LesionEffect",
    "ablate",
    "connected_control",
    "drive",
    "layer_control",
    "lesion_effects",
    "model_control",
]
