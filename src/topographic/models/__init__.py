"""Models from configuration: our own decoder in Hugging Face form, and any architecture that transformers knows."""

from topographic.models.architectures import architecture, fresh_model
from topographic.models.configuration_mlp import PixelMLPConfig
from topographic.models.configuration_topoformer import TopoformerConfig
from topographic.models.configuration_topolm import TopoLMConfig
from topographic.models.ctranslate2 import load_whisper
from topographic.models.modeling_mlp import PixelMLPForImageClassification, register_pixel_mlp
from topographic.models.modeling_prototypes import (
    PrototypeClassifierConfig,
    PrototypeClassifierForImageClassification,
    register_prototypes,
)
from topographic.models.modeling_topoformer import (
    TopoformerForCausalLM,
    TopoformerForMaskedLM,
    TopoformerForSequenceClassification,
    TopoformerModel,
)
from topographic.models.modeling_topolm import (
    SheetPoint,
    TopoLMForCausalLM,
    TopoLMForSequenceClassification,
    TopoLMModel,
)
from topographic.models.presets import PRESETS, preset
from topographic.models.registration import register
from topographic.models.vision import VISION_PRESETS, fresh_vision_model, register_vision, vision_config

__all__ = [
    "PRESETS",
    "VISION_PRESETS",
    "PixelMLPConfig",
    "PixelMLPForImageClassification",
    "PrototypeClassifierConfig",
    "PrototypeClassifierForImageClassification",
    "SheetPoint",
    "TopoLMConfig",
    "TopoLMForCausalLM",
    "TopoLMForSequenceClassification",
    "TopoLMModel",
    "TopoformerConfig",
    "TopoformerForCausalLM",
    "TopoformerForMaskedLM",
    "TopoformerForSequenceClassification",
    "TopoformerModel",
    "architecture",
    "fresh_model",
    "fresh_vision_model",
    "load_whisper",
    "preset",
    "register",
    "register_pixel_mlp",
    "register_prototypes",
    "register_vision",
    "vision_config",
]
