"""Models from configuration: our own decoder in Hugging Face form, and any architecture that transformers knows."""

from topographic.models.architectures import architecture, fresh_model
from topographic.models.configuration_topolm import TopoLMConfig
from topographic.models.modeling_topolm import SheetPoint, TopoLMForCausalLM, TopoLMModel, register
from topographic.models.presets import PRESETS, preset

__all__ = [
    "PRESETS",
    "SheetPoint",
    "TopoLMConfig",
    "TopoLMForCausalLM",
    "TopoLMModel",
    "architecture",
    "fresh_model",
    "preset",
    "register",
]
