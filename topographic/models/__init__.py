"""Our own decoder, in Hugging Face form."""

from topographic.models.configuration_topolm import TopoLMConfig
from topographic.models.modeling_topolm import (
    SheetPoint,
    TopoLMForCausalLM,
    TopoLMForSequenceClassification,
    TopoLMModel,
    register,
)
from topographic.models.presets import PRESETS, preset

__all__ = [
    "PRESETS",
    "SheetPoint",
    "TopoLMConfig",
    "TopoLMForCausalLM",
    "TopoLMForSequenceClassification",
    "TopoLMModel",
    "preset",
    "register",
]
