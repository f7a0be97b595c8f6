"""Two lines make a plain PyTorch loop topographic: python examples/toponet_in_two_lines.py [OUT.png].

The same small network learns scikit-learn's digits without and with the smoothness of its first layer's weights.
Printed: accuracy, roughness of the weights, and accuracy once a fifth of the sheet's units answers for all of them,
beside the same with the units permuted. Drawn: the digit that each unit of the sheet prefers, its response to zeros,
and how alike two units respond by the distance between them.
"""

import sys

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from topographic.interventions import downsampling_curve
from topographic.losses import laplacian_pyramid_loss
from topographic.maps import correlation_by_distance, t_map
from topographic.objectives import Objective, WeightSmoothness
from topographic.plots import draw_map, symmetric_limit
from topographic.recording import Responses, tap
from topographic.sheets import grid, to_grid
from topographic.stimuli import StimulusSet

SIDE, SEED, EPOCHS = 24, 0, 25
SHEET = grid((SIDE, SIDE), "fc1")
COLOURS = ["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#bab0ac"]


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of 8 x 8 pixels from -1 to 1 in one row each, and what they show, in random order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(SEED))
    return torch.tensor(data.data, dtype=torch.float32)[order] / 8 - 1, torch.tensor(data.target)[order]


def train(images: torch.Tensor, labels: torch.Tensor, weight: float) -> nn.Module:
    """An ordinary loop but for two lines; a weight of 0 is the control."""
    torch.manual_seed(SEED)
    model = nn.Sequential()
    model.add_module("fc1", nn.Linear(64, SIDE * SIDE))
    model.add_module("act", nn.ReLU())
    model.add_module("fc2", nn.Linear(SIDE * SIDE, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    objective = Objective(model, [WeightSmoothness("fc1", weight=weight)])  # the first line
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(64):
            task_loss = functional.cross_entropy(model(images[batch]), labels[batch])
            loss, _ = objective(task_loss)  # the second
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def responses_of(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Responses:
    """What the units of the sheet do when they see the images."""
    with torch.no_grad(), tap(model, "fc1") as heard:
        model(images)
    names = [f"image {number}" for number in range(len(images))]
    return Responses("fc1", heard["fc1"].numpy(), SHEET, StimulusSet("digits", names, labels.tolist()))


def main(out: str = "toponet_in_two_lines.png") -> None:
    """Train both, print the table, draw the picture."""
    images, labels = digits()
    seen, test = slice(500, None), slice(500)

    def accuracy(model: nn.Module) -> dict[str, float]:
        return {"accuracy": (model(images[test]).argmax(1) == labels[test]).float().mean().item()}

    models = {name: train(images[seen], labels[seen], weight) for name, weight in (("without", 0.0), ("with", 5.0))}
    print(f"{'':10}{'accuracy':>10}{'roughness':>11}{'a fifth of the units':>22}{'permuted first':>16}")
    for name, model in models.items():
        whole, small = downsampling_curve(model, "fc1", [0.0, 0.8], accuracy, layout={"fc1": SHEET}, n_draws=20)
        rough = laplacian_pyramid_loss(model.fc1.weight).item()
        print(f"{name:10}{whole.value:10.3f}{rough:11.3f}{small.value:22.3f}{small.unit_null.mean:16.3f}")
    responses = {name: responses_of(model, images[test], labels[test]) for name, model in models.items()}
    draw(responses).savefig(out)
    print(f"wrote {out}")


def draw(responses: dict[str, Responses]) -> Figure:
    """A row of maps for each model, and the curves of both."""
    figure = Figure(figsize=(11, 6.6), dpi=150, layout="constrained")
    rows = [[f"{name} digits", f"{name} zeros", "curves"] for name in responses]
    panels = figure.subplot_mosaic(rows, width_ratios=[1, 1, 1.4])
    maps = {name: t_map(each, "0", [str(digit) for digit in range(1, 10)]) for name, each in responses.items()}
    limit = symmetric_limit(list(maps.values()))
    for name, each in responses.items():
        shown = np.array(each.stimuli.conditions)
        means = np.stack([each.values[shown == str(digit)].mean(0) for digit in range(10)])
        preferred = to_grid(SHEET, means.argmax(0).astype(float))
        panels[f"{name} digits"].imshow(preferred, cmap=ListedColormap(COLOURS), vmin=-0.5, vmax=9.5)
        panels[f"{name} digits"].set(xticks=[], yticks=[])
        panels[f"{name} digits"].set_ylabel(f"{name} the two lines", fontsize=13, weight="bold", labelpad=8)
        draw_map(maps[name], panels[f"{name} zeros"], limit=limit)
        curve = correlation_by_distance(each, n_bins=SIDE, max_distance_mm=float(SIDE))
        look = {"color": {"without": "#8c8c8c", "with": "#e15759"}[name], "linewidth": 2.5}
        panels["curves"].plot(curve.centres_mm, curve.values, label=f"{name} the two lines", **look)
    for kind, title in {"digits": "the digit each unit prefers", "zeros": "zeros against the rest (t)"}.items():
        panels[f"without {kind}"].set_title(title, fontsize=12)
        for name in responses:
            panels[f"{name} {kind}"].spines[:].set_visible(False)
    patches = [Patch(color=colour, label=str(digit)) for digit, colour in enumerate(COLOURS)]
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.01), "frameon": False, "handlelength": 1}
    panels["with digits"].legend(handles=patches, ncols=5, columnspacing=1.2, **below)
    bar = {"location": "bottom", "shrink": 0.7, "aspect": 25, "pad": 0.01}
    figure.colorbar(panels["with zeros"].images[0], ax=panels["with zeros"], **bar).outline.set_visible(False)
    curves = panels["curves"]
    curves.set_title("how alike two units respond", fontsize=12)
    curves.set(xlabel="their distance on the sheet (mm)", ylabel="correlation over test images", xlim=(0, SIDE))
    curves.axhline(0, color="#d9d9d9", zorder=0)
    curves.spines[["top", "right"]].set_visible(False)
    curves.legend(frameon=False, fontsize=11)
    return figure


if __name__ == "__main__":
    main(*sys.argv[1:])
