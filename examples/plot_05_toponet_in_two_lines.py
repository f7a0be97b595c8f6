"""
Two lines make a plain PyTorch loop topographic
===============================================

TopoNets make the *weights* of neighbouring units alike. Nothing of the model changes and no activations are needed, so
any loop becomes topographic by two lines. Here a small network learns to read digits without and with them.
"""

import numpy as np
import pandas as pd
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

SIDE = 24
sheet = grid((SIDE, SIDE), "fc1")
data = load_digits()
order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
images = torch.tensor(data.data, dtype=torch.float32)[order] / 8 - 1
labels = torch.tensor(data.target)[order]
seen, test = slice(500, None), slice(500)

# %%
# An ordinary loop, but for the two lines. A weight of 0 is the control.


def train(weight: float) -> nn.Module:
    """A network of one hidden layer of 24 x 24 units."""
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("fc1", nn.Linear(64, SIDE * SIDE))
    model.add_module("act", nn.ReLU())
    model.add_module("fc2", nn.Linear(SIDE * SIDE, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    objective = Objective(model, [WeightSmoothness("fc1", weight=weight)])  # the first line
    for _ in range(25):
        for batch in torch.randperm(len(images[seen])).split(64):
            task_loss = functional.cross_entropy(model(images[seen][batch]), labels[seen][batch])
            loss, _ = objective(task_loss)  # the second
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


models = {"without": train(0.0), "with": train(5.0)}

# %%
# What it costs and what it brings: accuracy, roughness of the weights, and accuracy once a fifth of the sheet's units
# answers for all of them. Beside it stands the same with the units permuted first, which is what no topography gives.


def accuracy(model: nn.Module) -> dict[str, float]:
    """Share of test images that are recognised."""
    return {"accuracy": (model(images[test]).argmax(1) == labels[test]).float().mean().item()}


rows = {}
for name, model in models.items():
    whole, small = downsampling_curve(model, "fc1", [0.0, 0.8], accuracy, layout={"fc1": sheet}, n_draws=20)
    rows[name] = {
        "accuracy": whole.value,
        "roughness": laplacian_pyramid_loss(model.fc1.weight).item(),
        "a fifth of the units": small.value,
        "permuted first": small.unit_null.mean,
    }
table = pd.DataFrame(rows).T
table.round(3)

# %%
# What the units of the sheet do when they see the test images.

responses = {}
for name, model in models.items():
    with torch.no_grad(), tap(model, "fc1") as heard:
        model(images[test])
    shown = StimulusSet("digits", [f"image {number}" for number in range(500)], labels[test].tolist())
    responses[name] = Responses("fc1", heard["fc1"].numpy(), sheet, shown)
maps = {name: t_map(each, "0", [str(digit) for digit in range(1, 10)]) for name, each in responses.items()}

# %%
# The digit that each unit prefers, its response to zeros, and how alike two units respond by the distance between them.

COLOURS = ["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#bab0ac"]
figure = Figure(figsize=(11, 6.6), dpi=150, layout="constrained")
panels = figure.subplot_mosaic(
    [[f"{name} digits", f"{name} zeros", "curves"] for name in models], width_ratios=[1, 1, 1.4]
)
limit = symmetric_limit(list(maps.values()))
for name, each in responses.items():
    digits, zeros = panels[f"{name} digits"], panels[f"{name} zeros"]
    means = np.stack([each.values[np.array(each.stimuli.conditions) == str(digit)].mean(0) for digit in range(10)])
    preferred = to_grid(sheet, means.argmax(0).astype(float))
    digits.imshow(preferred, cmap=ListedColormap(COLOURS), vmin=-0.5, vmax=9.5)
    digits.set(xticks=[], yticks=[])
    digits.set_ylabel(f"{name} the two lines", fontsize=13, weight="bold", labelpad=8)
    draw_map(maps[name], zeros, limit=limit)
    for ax in (digits, zeros):
        ax.spines[:].set_visible(False)
    curve = correlation_by_distance(each, n_bins=SIDE, max_distance_mm=float(SIDE))
    colour = {"without": "#8c8c8c", "with": "#e15759"}[name]
    panels["curves"].plot(curve.centres_mm, curve.values, label=f"{name} the two lines", color=colour, linewidth=2.5)
panels["without digits"].set_title("the digit each unit prefers", fontsize=12)
panels["without zeros"].set_title("zeros against the rest (t)", fontsize=12)
panels["with digits"].legend(
    handles=[Patch(color=colour, label=str(digit)) for digit, colour in enumerate(COLOURS)],
    ncols=5, columnspacing=1.2, loc="upper center", bbox_to_anchor=(0.5, -0.01), frameon=False, handlelength=1,
)  # fmt: skip
bar = {"location": "bottom", "shrink": 0.7, "aspect": 25, "pad": 0.01}
figure.colorbar(panels["with zeros"].images[0], ax=panels["with zeros"], **bar).outline.set_visible(False)
panels["curves"].set_title("how alike two units respond", fontsize=12)
panels["curves"].set(xlabel="their distance on the sheet (mm)", ylabel="correlation over test images", xlim=(0, SIDE))
panels["curves"].axhline(0, color="#d9d9d9", zorder=0)
panels["curves"].spines[["top", "right"]].set_visible(False)
panels["curves"].legend(frameon=False, fontsize=11)
figure
