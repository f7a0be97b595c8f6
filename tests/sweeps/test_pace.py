import dataclasses

import torch

from topographic.models import fresh_model, preset
from topographic.objectives import NeighborActivationsConfig, SpatialConfig
from topographic.runs.recipe import Recipe
from topographic.sweeps.pace import measure_pace
from topographic.training.config import DataConfig, TrainingConfig


def test_a_step_is_timed_beside_the_reference_and_changes_no_weight():
    plain = Recipe(
        data=DataConfig(sequence_length=16), training=TrainingConfig(batch_size=2), spatial=SpatialConfig(weight=0.0)
    )
    section = NeighborActivationsConfig(1.0, "transformer.h.*.mlp", metric="correlation")
    with_term = dataclasses.replace(plain, neighbor_activations=section)
    shape = preset("topoformer_tiny", querying_fraction=None, reweighting_fraction=None)
    models = [fresh_model(shape, seed=0, objective="next_token") for _ in range(2)]
    before = {name: entry.clone() for name, entry in models[1].state_dict().items()}
    found = measure_pace({"none": (models[0], plain), "alike": (models[1], with_term)}, "none", n_rounds=2)
    assert found["none"].ratio == 1.0
    assert found["alike"].ratio > 0 < found["alike"].seconds
    assert found["alike"].kept_mib > found["none"].kept_mib > 0
    assert all(torch.equal(before[name], entry) for name, entry in models[1].state_dict().items())
    assert measure_pace({"none": (models[0], plain)}, "none", n_rounds=2)["none"].kept_mib == found["none"].kept_mib
