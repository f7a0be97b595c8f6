from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForMaskedLM

from topographic.models import (
    TopoformerConfig,
    TopoformerForMaskedLM,
    TopoLMConfig,
    TopoLMForCausalLM,
    preset,
    register,
)


def test_both_model_types_are_known_and_registering_again_changes_nothing():
    for _ in range(2):
        register()
        assert CONFIG_MAPPING["topolm"] is TopoLMConfig
        assert CONFIG_MAPPING["topoformer"] is TopoformerConfig
    assert type(AutoModelForMaskedLM.from_config(preset("topoformer_tiny"))) is TopoformerForMaskedLM
    assert type(AutoModelForCausalLM.from_config(preset("tiny"))) is TopoLMForCausalLM
