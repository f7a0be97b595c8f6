import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from transformers import AutoModelForImageClassification

from topographic.models import PixelMLPConfig, PixelMLPForImageClassification, register_pixel_mlp


@pytest.fixture
def model():
    torch.manual_seed(0)
    return PixelMLPForImageClassification(PixelMLPConfig(image_size=6, num_channels=2, hidden_size=12, num_labels=4))


def test_by_hand(model):
    pixels = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 1, 1, 2])
    found = model(pixel_values=pixels, labels=labels)
    first, second = (layer.weight.detach().double().numpy() for layer in (model.fc1, model.fc2))
    logits = np.maximum(pixels.double().numpy().reshape(5, -1) @ first.T, 0) @ second.T
    np.testing.assert_allclose(found.logits.detach().numpy(), logits, atol=1e-5)
    expected = -log_softmax(logits, axis=1)[np.arange(5), labels.numpy()].mean()
    assert found.loss.item() == pytest.approx(expected, abs=1e-5)
    assert model(pixels).loss is None
    assert model(pixels, labels, return_dict=False)[1].shape == (5, 4)


def test_no_biases_and_the_weights_of_a_linear_layer(model):
    assert [name for name, _ in model.named_parameters()] == ["fc1.weight", "fc2.weight"]
    torch.manual_seed(1)
    wide = PixelMLPForImageClassification(PixelMLPConfig()).fc1.weight
    plain = torch.nn.Linear(784, 256).weight
    for weight in (wide, plain):  # uniform up to 1 / sqrt(784)
        assert weight.abs().max().item() == pytest.approx(1 / 28, rel=1e-3)
        assert weight.std().item() == pytest.approx(1 / 28 / 3**0.5, rel=0.01)


def test_round_trip(model, tmp_path):
    register_pixel_mlp()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert isinstance(loaded, PixelMLPForImageClassification)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), loaded.parameters(), strict=True))


def test_refuses(model):
    with pytest.raises(ValueError, match=r"images of shape \(2, 5, 6\); this network takes \(2, 6, 6\)"):
        model(torch.zeros(1, 2, 5, 6))
