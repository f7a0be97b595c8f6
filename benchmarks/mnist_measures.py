"""What smooth weights buy on MNIST: accuracy after downsampling and pruning, beside permuted sheets, and the maps.

    python benchmarks/mnist_measures.py runs/mnist_tau_0 runs/mnist_tau_1 ...

One row per run of recipes/toponets/vision/mnist.yaml, on the whole test set.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from transformers import AutoModelForImageClassification

from topographic.interventions import downsample, prune
from topographic.losses import laplacian_pyramid_loss
from topographic.maps import correlation_by_distance, correlation_range, effective_dimensionality
from topographic.models import register_pixel_mlp
from topographic.recording import Preparation, record_images
from topographic.sheets import grid, permuted_grid
from topographic.stimuli import load_images

KEPT, REMOVED = (0.8, 0.5, 0.2, 0.1), (0.5, 0.8, 0.9, 0.95)
PERMUTATIONS = 10


def main(folders):
    register_pixel_mlp()
    images = load_images("mnist", "test", progress=False)
    kinds = ("keep {:g}", "keep {:g}, permuted")
    columns = [kind.format(keep) for kind in kinds for keep in KEPT] + [f"prune {removed:g}" for removed in REMOVED]
    print(row("run", "tau", "accuracy", "loss", "dimensionality", "smoothness", *columns))
    for folder in map(Path, folders):
        model = AutoModelForImageClassification.from_pretrained(folder / "model").eval()
        prepare = Preparation.from_pretrained(folder / "model")
        smoothness = yaml.safe_load((folder / "config.yaml").read_text())["smoothness"]
        responses = record_images(model, images, "fc1", grid, prepare=prepare, progress=False)["fc1"]
        found = [
            accuracy(model, images, prepare),
            laplacian_pyramid_loss(model.fc1.weight, smoothness["factor"]).item(),
            effective_dimensionality(responses),
            correlation_range(correlation_by_distance(responses, n_bins=10)),
        ]
        found += [accuracy(downsample(model, "fc1", keep), images, prepare) for keep in KEPT]
        for keep in KEPT:
            permuted = [downsample(model, "fc1", keep, layout=Permuted(seed)) for seed in range(PERMUTATIONS)]
            found.append(np.mean([accuracy(one, images, prepare) for one in permuted]))
        found += [accuracy(prune(model, ["fc1", "fc2"], removed), images, prepare) for removed in REMOVED]
        print(row(folder.name, f"{smoothness['weight']:g}", *(f"{value:.3f}" for value in found)), flush=True)


class Permuted:
    """The layer's units in another order on the same sheet: the model does what it did, its topography is gone."""

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, n_units, name):
        """As every layout."""
        return permuted_grid(n_units, name, seed=self.seed)


@torch.no_grad()
def accuracy(model, images, prepare):
    parts = np.array_split(images.pixels, 20)
    guesses = torch.cat([model(pixel_values=prepare(part)).logits.argmax(-1) for part in parts]).tolist()
    names = [model.config.id2label[guess] for guess in guesses]
    return float((np.array(names) == np.array(images.stimuli.conditions)).mean())


def row(*cells):
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main(sys.argv[1:])
