"""Classifiers whose classes are prototypes: transformers' own backbones, saved and loaded like any classifier."""

import pytest
import torch
from transformers import AutoModelForImageClassification

from topographic.losses import prototype_loss
from topographic.models import PrototypeClassifierConfig, fresh_vision_model, register_prototypes, vision_config

CLASSES = ["a", "b", "c"]


def small(**changes):
    return vision_config("prototypes_demo", {"width": 16, **changes}, classes=CLASSES, image_size=28, num_channels=1)


def test_its_loss_is_that_of_its_features():
    model = fresh_vision_model(small(pull=0.2), seed=0).eval()
    images, labels = torch.randn(5, 1, 28, 28), torch.tensor([0, 1, 2, 0, 1])
    with torch.no_grad():
        made = model(images, labels=labels)
        features = model.backbone(images).logits.relu()
        loss, logits = prototype_loss(features, model.prototypes, labels, scale=2.0, pull=0.2)
    torch.testing.assert_close(made.loss, loss)
    torch.testing.assert_close(made.logits, logits)
    torch.testing.assert_close(model(images).logits, logits)


def test_any_backbone_of_transformers_will_do():
    backbone = {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    backbone |= {"patch_size": 7, "intermediate_size": 16}
    model = fresh_vision_model(small(backbone=backbone), seed=0)
    made = model(torch.randn(2, 1, 28, 28), labels=torch.tensor([0, 2]))
    made.loss.backward()
    assert made.logits.shape == (2, 3)
    assert model.prototypes.grad is not None


def test_it_is_saved_and_loaded(tmp_path):
    register_prototypes()
    model = fresh_vision_model(small(), seed=1).eval()
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(model(images).logits, again(images).logits)
    assert again.prototypes.shape == (3, 16)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 0}, "width=0; expected at least 1"),
        ({"scale": 0.0}, "a scale above 0"),
        ({"backbone": {"depths": [1]}}, "model_type of a classifier"),
    ],
)
def test_shapes_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        PrototypeClassifierConfig(**changes)
