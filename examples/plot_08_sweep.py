"""
A sweep
=======

What does topography cost, and how much of the loss makes how much of a map? A sweep is one recipe and blocks of lists;
its cells are ordinary runs, each beside the control of the same seed. On the command line that is ``topo sweep
recipes/topolm/sweep.yaml``, which runs cells side by side or on a cluster; here in this process, for seconds.
"""

import dataclasses

import pandas as pd
from matplotlib.figure import Figure
from small_model import FOLDER, STEPS, small_recipe

import topographic as tg
from topographic.plots import draw_map, symmetric_limit
from topographic.sweeps import CellMaps, Measures, collect_sweep, plan_sweep, run_cell

# %%
# Two weights of the spatial loss. Nothing is trained by planning: the cells are checked first.

STEPS = max(STEPS // 3, 2)
base = dataclasses.replace(small_recipe(steps=STEPS), run=str(FOLDER / f"sweep-{STEPS}"))
measures = Measures(CellMaps(contrasts=["language"], fwhm_mm=[0.0], n_draws=19))
planned = plan_sweep(base, [{"spatial.weight": [0, 0.25], "seed": [0]}], measures)
[cell.name for cell in planned.cells]

# %%
# Train, map and measure. A cell that is finished is skipped, so that the same lines go on where they were interrupted.

for cell in planned.cells:
    run_cell(cell, measures)

# %%
# One table of all cells; `topo sweep` also writes a page with figures and, with several seeds, intervals.

folder = collect_sweep(planned, lambda folder, *page: folder)
table = pd.read_csv(folder / "table.csv")
table.T

# %%
# The same sheet of both models, on one scale.

maps = {}
for cell in planned.cells:
    every = tg.contrast(*tg.load(cell.folder), "sentences", "nonwords", n_draws=0)
    maps[f"alpha = {cell.levels['spatial.weight']:g}"] = every["transformer.h.2.mlp_sheet"]
figure = Figure(figsize=(6, 2.9), layout="constrained")
axes = figure.subplots(1, len(maps))
for ax, (name, unit_map) in zip(axes, maps.items(), strict=True):
    draw_map(unit_map, ax, limit=symmetric_limit(list(maps.values())), title=name)
figure.colorbar(axes[0].images[0], ax=axes, label="t, sentences - nonwords", shrink=0.7).outline.set_visible(False)
figure
