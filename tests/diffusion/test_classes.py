"""The units of a condition on a sheet: what they say to classes, and what a lesion of them does to samples."""

import numpy as np
import pytest
import torch

from topographic.diffusion import DiffusionConfig, DiffusionModel, class_responses, sample
from topographic.interventions import ablate
from topographic.maps import Selection, distance_decay
from topographic.sheets import grid

SMALL = {"image_size": 8, "block_out_channels": [8, 8], "num_labels": 4, "width": 36, "num_train_timesteps": 20}
TABLE, LAYER = "denoiser.condition.table", "denoiser.condition.linear_1"


@pytest.fixture
def model() -> DiffusionModel:
    torch.manual_seed(0)
    return DiffusionModel(DiffusionConfig(**SMALL))


def test_units_say_what_the_condition_computes(model):
    heard = class_responses(model, [TABLE, LAYER], names=["a", "b", "c", "d"])
    condition = model.denoiser.condition
    np.testing.assert_array_equal(heard[TABLE].values, condition.table.weight.detach().numpy())
    expected = condition.linear_1(condition.table.weight).detach()
    np.testing.assert_allclose(heard[LAYER].values, expected.numpy(), rtol=1e-6, atol=1e-6)
    assert heard[LAYER].stimuli.conditions == ("a", "b", "c", "d")
    assert heard[TABLE].sheet == grid(36, TABLE)
    assert class_responses(model, TABLE)[TABLE].stimuli.items == ("0", "1", "2", "3")


def test_what_samples_can_be_heard_beside_what_is_trained():
    torch.manual_seed(0)
    model = DiffusionModel(DiffusionConfig(**SMALL, ema_decay=0.9))
    with torch.no_grad():
        model.denoiser.condition.table.weight.add_(1)
    heard = class_responses(model, "*condition.table")
    np.testing.assert_allclose(heard[TABLE].values, heard["averaged.module.condition.table"].values + 1, atol=1e-6)


def test_planted_order_is_found_on_the_sheet_and_chance_is_not(model):
    places = grid(36, TABLE).positions_mm
    slopes = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)) @ (places.T.float() + 0.5)
    assert distance_decay(class_responses(model, TABLE)[TABLE], block=2, n_draws=99).near.nulls["unit"].p > 0.05
    model.set_prototypes(slopes)
    found = distance_decay(class_responses(model, TABLE)[TABLE], block=2, n_draws=99)
    assert found.near.nulls["unit"].p == 0.01


def test_a_lesion_of_the_condition_changes_samples_and_not_those_of_no_class(model):
    heard = class_responses(model, LAYER)[LAYER]
    lesion = Selection(LAYER, np.ones(heard.sheet.n_units, bool), heard.sheet, "all")
    settings = {"steps": 2, "progress": False, "guidance": 0.0}
    intact = sample(model, [0, 1], **settings)
    told_apart = model.denoiser.condition(torch.tensor([0, 1]))
    with ablate(model, lesion):
        lesioned = sample(model, [0, 1], **settings)
        silenced = model.denoiser.condition(torch.tensor([0, 1, 4]))
    assert not torch.equal(intact, lesioned)
    assert torch.equal(silenced[0], silenced[1]), "nothing tells the classes apart"
    assert not torch.equal(told_apart[0], told_apart[1])
    assert not silenced[2].any(), "no class stays no class"
    assert torch.equal(sample(model, [0, 1], **settings), intact)


def test_what_is_no_condition_is_refused(model):
    with pytest.raises(ValueError, match="2 names and 4 classes; give one for each class"):
        class_responses(model, LAYER, names=["a", "b"])
    with pytest.raises(ValueError, match=r"'denoiser\.unet\.conv_in' has no vector for each class"):
        class_responses(model, "denoiser.unet.conv_in")
