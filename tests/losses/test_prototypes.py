"""The loss of prototypes against its equations, written down once more."""

import math

import numpy as np
import pytest
import torch

from topographic.losses import prototype_loss, squared_distances


def transcribed(features, prototypes, labels, scale, pull):
    total = 0.0
    for feature, label in zip(features, labels, strict=True):
        distances = [sum((a - b) ** 2 for a, b in zip(feature, prototype, strict=True)) for prototype in prototypes]
        weights = [math.exp(-scale * distance) for distance in distances]
        total += -math.log(weights[label] / sum(weights)) + pull * distances[label]
    return total / len(labels)


@pytest.mark.parametrize(("scale", "pull"), [(2.0, 0.0), (0.5, 0.1)])
@pytest.mark.parametrize("n_classes", [2, 10, 13])
def test_it_is_the_equation(scale, pull, n_classes):
    draw = np.random.default_rng(n_classes)
    features, prototypes = draw.normal(size=(7, 5)), draw.normal(size=(n_classes, 5))
    labels = draw.integers(0, n_classes, 7)
    tensors = [torch.tensor(one) for one in (features, prototypes, labels)]
    loss, logits = prototype_loss(*tensors, scale=scale, pull=pull)
    assert loss.item() == pytest.approx(transcribed(features, prototypes, labels, scale, pull), rel=1e-12)
    torch.testing.assert_close(logits, -scale * torch.cdist(tensors[0], tensors[1]) ** 2)


def test_its_gradient_is_right_for_features_and_every_prototype():
    draw = torch.Generator().manual_seed(0)
    features, prototypes = (torch.randn(4, 3, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(2))
    labels = torch.tensor([0, 1, 2, 3])
    assert torch.autograd.gradcheck(lambda f, m: prototype_loss(f, m, labels, pull=0.3)[0], (features, prototypes))
    prototype_loss(features, prototypes, labels)[0].backward()
    assert (prototypes.grad.abs().sum(1) > 0).all()  # the first class too, which the published table leaves out


def test_half_precision_is_computed_in_single():
    features, prototypes = torch.randn(4, 3).bfloat16(), torch.randn(2, 3).bfloat16()
    loss, logits = prototype_loss(features, prototypes, torch.tensor([0, 1, 0, 1]))
    assert loss.dtype == logits.dtype == torch.float32


def test_distances_are_never_negative():
    points = torch.full((3, 64), 1e3) + torch.rand(3, 64)
    assert (squared_distances(points, points) >= 0).all()


@pytest.mark.parametrize(
    ("labels", "others", "options", "words"),
    [
        ([0, 2], 3, {}, "number the classes from 0 to 1"),
        ([-1, 0], 3, {}, "labels from -1 to 0"),
        ([0, 1], 4, {}, "features of 3 numbers and prototypes of 4"),
        ([0, 1], 3, {"scale": 0.0}, "a scale above 0"),
        ([0, 1], 3, {"pull": -1.0}, "a pull of 0 or more"),
    ],
)
def test_what_does_not_fit_is_refused(labels, others, options, words):
    with pytest.raises(ValueError, match=words):
        prototype_loss(torch.zeros(2, 3), torch.zeros(2, others), torch.tensor(labels), **options)
