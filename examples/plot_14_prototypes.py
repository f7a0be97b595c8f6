"""
Prototypes guide a diffusion model
==================================

In ProtoDiffusion a classifier learns a point for each class, a prototype, and these points then tell a diffusion model
which class to make. Here both are small and read digits of 8 x 8 pixels, and the prototypes lie on a sheet: nearby
numbers of a prototype are alike over classes, so that a patch can be silenced like one of cortex.
"""

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from small_model import STEPS
from torch import nn

import topographic as tg
from topographic.diffusion import DiffusionConfig, DiffusionModel, class_responses, sample, to_pixels
from topographic.drawing import draw_outline, draw_sheet
from topographic.losses import prototype_loss
from topographic.maps import distance_decay
from topographic.objectives import Objective, WeightSmoothness
from topographic.plots import draw_sample_grids
from topographic.sheets import distances

data = load_digits()
images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1
labels = torch.tensor(data.target)
judge = KNeighborsClassifier(3).fit(data.images.reshape(len(labels), -1), data.target)  # knows no prototypes

# %%
# A classifier whose features are pulled to the prototype of their class. With a weight, the last layer is smooth: its
# 64 units lie on a sheet of 8 x 8, and so do the 64 numbers of each prototype.


def prototypes(weight: float) -> torch.Tensor:
    """Prototypes of the ten digits, shape (10, 64)."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
    points = nn.Parameter(torch.zeros(10, 64))
    objective = Objective(network, [WeightSmoothness("3", weight=weight)])
    optimizer = torch.optim.Adam([*network.parameters(), points], lr=5e-3)
    for _ in range(2 * STEPS):
        drawn = torch.randint(len(labels), (64,))
        task_loss, _ = prototype_loss(network(images[drawn]), points, labels[drawn], pull=0.1)
        loss, _ = objective(task_loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return points.detach()


smooth, plain = prototypes(3.0), prototypes(0.0)

# %%
# Two diffusion models from the same weights, noise and images: one with a table that starts at random, which is the
# baseline, and one that is given the prototypes and keeps them.


def train(condition: str) -> tuple[DiffusionModel, dict[int, np.ndarray]]:
    """The model, and samples of every class at some steps."""
    torch.manual_seed(0)
    shape = {"image_size": 8, "block_out_channels": [16, 32], "num_labels": 10, "width": 64}
    shape |= {"condition": condition, "beta_schedule": "squaredcos_cap_v2"}
    model = DiffusionModel(DiffusionConfig(**shape)).train()
    if condition == "frozen":
        model.set_prototypes(smooth)
    made, n_steps = {}, STEPS
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=n_steps, pct_start=0.1)
    for step in range(1, n_steps + 1):
        drawn = torch.randint(len(labels), (32,))
        loss = model(images[drawn], labels[drawn]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step in (n_steps // 4, n_steps // 2, n_steps):
            made[step] = to_pixels(sample(model, digits, steps=10, progress=False)).reshape(10, 3, 8, 8, 1)
    return model.eval(), made


digits = [digit for digit in range(10) for _ in range(3)]
(regular, of_regular), (guided, of_guided) = train("regular"), train("frozen")
draw_sample_grids({"random table": of_regular, "prototypes": of_guided})

# %%
# The same noise everywhere, so that one sees what each has learned. One pair of models decides nothing: the results
# hold seeds and controls beside each other.
#
# The prototypes on their sheet. Each class is one item, each number of a prototype one unit; the p are those of
# permuted units.

site = "denoiser.condition.table"
heard = class_responses(guided, site)[site]
regular.set_prototypes(plain)  # to lay those without smoothness out likewise
found = {"smooth": heard, "plain": class_responses(regular, site)[site]}
near = {name: distance_decay(one, block=3, n_draws=99).near for name, one in found.items()}
pd.DataFrame({name: one.to_columns("near") for name, one in near.items()}).T.round(3)

# %%
# What is silenced is a quarter of the sheet around the peak of the zero, and as many units from anywhere.

maps = heard.values - heard.values.mean(0)
peak = heard.sheet.positions_mm[int(maps[0].argmax())]
nearest = distances(heard.sheet.positions_mm, peak[None])[:, 0].argsort()[:16]
patch = tg.Selection(site, np.isin(np.arange(64), nearest), heard.sheet, "around a peak")
elsewhere = np.random.default_rng(0).permutation(patch.mask)
scattered = tg.Selection(site, elsewhere, heard.sheet, "from anywhere")


def seen(model: DiffusionModel) -> tuple[np.ndarray, np.ndarray]:
    """Samples of every digit, and the share of each that the judge takes for it."""
    made = sample(model, [digit for digit in range(10) for _ in range(6)], steps=10, progress=False)
    named = judge.predict(((made + 1) * 8).flatten(1).numpy()).reshape(10, 6)
    return to_pixels(made).reshape(10, 6, 8, 8, 1), (named == np.arange(10)[:, None]).mean(1)


results = {"intact": seen(guided)}
for name, lesion in {"patch": patch, "scattered": scattered}.items():
    with tg.ablate(guided, lesion):
        results[name] = seen(guided)
pd.DataFrame({name: share for name, (_, share) in results.items()}, index=pd.Index(range(10), name="digit")).round(2)

# %%
# The maps of all digits with the patch outlined, and what is made without it.

figure = Figure(figsize=(9.2, 3.4), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1, 1.3])
for number, ax in enumerate(above.subplots(1, 10)):
    draw_sheet(heard.sheet, maps[number], ax, limit=float(np.abs(maps).max()), title=str(number))
    draw_outline(heard.sheet, patch.mask, ax)
for ax, (name, (made, _)) in zip(below.subplots(3, 1), results.items(), strict=True):
    apart = np.pad(made[:, 0, ..., 0], ((0, 0), (0, 0), (0, 1)), constant_values=255)
    ax.imshow(np.hstack(apart), cmap="gray", vmin=0, vmax=255)
    ax.set_axis_off()
    ax.set_title(name, fontsize=8, loc="left", pad=2)
figure
