"""What smooth weights buy on MNIST: accuracy after downsampling and pruning, beside permuted sheets, and the maps.

    python benchmarks/mnist_measures.py runs/mnist_tau_0 runs/mnist_tau_1 ...

One row per run of recipes/toponets/vision/mnist.yaml, on the whole test set; with --quick two shares and two
permutations, to see that it runs.
"""

import argparse
from functools import partial
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
from topographic.sheets import permuted_grid
from topographic.stimuli import load_images

KEPT, REMOVED = (0.8, 0.5, 0.2, 0.1), (0.5, 0.8, 0.9, 0.95)
PERMUTATIONS = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="run folders")
    parser.add_argument("--images", help="folder of MNIST's files, in place of the package")
    parser.add_argument("--quick", action="store_true", help="to see that it runs")
    options = parser.parse_args()
    measure(options.folders, options.images, *((1, 2) if options.quick else (len(KEPT), PERMUTATIONS)))


def measure(folders, images, n_shares, n_permutations):
    register_pixel_mlp()
    images = load_images("mnist", "test", folder=images, progress=False)
    kept, gone = KEPT[:n_shares], REMOVED[:n_shares]
    kinds = ("keep {:g}", "keep {:g}, permuted")
    columns = [kind.format(keep) for kind in kinds for keep in kept] + [f"prune {removed:g}" for removed in gone]
    print(row("run", "tau", "accuracy", "loss", "dimensionality", "smoothness", *columns))
    for folder in folders:
        model = AutoModelForImageClassification.from_pretrained(folder / "model").eval()
        prepare = Preparation.from_pretrained(folder / "model")
        smoothness = yaml.safe_load((folder / "config.yaml").read_text())["smoothness"]
        responses = record_images(model, images, "fc1", prepare=prepare, progress=False)["fc1"]
        found = [
            accuracy(model, images, prepare),
            laplacian_pyramid_loss(model.fc1.weight, smoothness["factor"]).item(),
            effective_dimensionality(responses),
            correlation_range(correlation_by_distance(responses, n_bins=10)),
        ]
        found += [accuracy(downsample(model, "fc1", keep), images, prepare) for keep in kept]
        for keep in kept:
            layouts = [partial(permuted_grid, seed=seed) for seed in range(n_permutations)]
            permuted = [downsample(model, "fc1", keep, layout=layout, relayout=True) for layout in layouts]
            found.append(np.mean([accuracy(one, images, prepare) for one in permuted]))
        found += [accuracy(prune(model, ["fc1", "fc2"], removed), images, prepare) for removed in gone]
        print(row(folder.name, f"{smoothness['weight']:g}", *(f"{value:.3f}" for value in found)), flush=True)


@torch.no_grad()
def accuracy(model, images, prepare):
    parts = np.array_split(images.pixels, 20)
    guesses = torch.cat([model(pixel_values=prepare(part)).logits.argmax(-1) for part in parts]).tolist()
    names = [model.config.id2label[guess] for guess in guesses]
    return float((np.array(names) == np.array(images.stimuli.conditions)).mean())


def row(*cells):
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
