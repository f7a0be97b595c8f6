"""
A lesion, with control lesions beside it
========================================

Silence a patch, and measure what is lost. The loss alone says nothing: silencing *any* units costs something, and a
patch costs more or less than scattered units whatever it was chosen by. So the controls stand in the same table.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from small_model import small_run

import topographic as tg
from topographic.behaviour import token_log_probabilities
from topographic.drawing import draw_outline
from topographic.plots import draw_map

model, tokenizer = tg.load(small_run())
maps = tg.contrast(model, tokenizer, "sentences", "nonwords", n_draws=0)
unit_map = maps["transformer.h.2.mlp_sheet"]
lesion = tg.select_top({unit_map.site: unit_map}, 0.15)[unit_map.site]
lesion

# %%
# Inside ``with tg.ablate`` the units say nothing; afterwards the model is bit for bit what it was.

texts = tg.load_localizer("language").select(condition="sentences").items[:16]


def surprisal(model) -> dict[str, float]:
    """Mean surprisal of sentences, in bits a token."""
    each = token_log_probabilities(model, tokenizer, texts, progress=False)
    return {"surprisal (bits a token)": float(-np.concatenate(each).mean() / np.log(2))}


intact = surprisal(model)
with tg.ablate(model, lesion):
    lesioned = surprisal(model)
{"intact": intact, "lesion": lesioned, "afterwards the same": surprisal(model) == intact}

# %%
# `tg.lesion_effects` measures the intact model, the lesion, and as many control lesions of each kind as one asks for:
# random units of the model, random units of the same layer, and *connected* ones, patches as large and as compact. A
# lesion that is itself a patch has a p against patches only; the other two rows describe.

effects = tg.lesion_effects(model, lesion, model.sheets(), surprisal, n_draws=39)
table = pd.DataFrame([vars(effect) for effect in effects]).drop(columns=["measure", "changes", "tolerance"])
table.round(3)

# %%
# The picture of it: the map with the lesion outlined, and what each control lesion would have cost.

figure = Figure(figsize=(8.6, 3.2), layout="constrained")
sheet_ax, cost_ax = figure.subplots(1, 2, width_ratios=[1, 1.7])
draw_map(unit_map, sheet_ax, title="sentences - nonwords", colour_label="t")
draw_outline(unit_map.sheet, lesion.mask, sheet_ax, width=1.8)
controls = [effect for effect in effects if effect.kind not in ("intact", "lesion")]
for row, effect in enumerate(controls):
    jitter = np.random.default_rng(0).uniform(-0.22, 0.22, len(effect.changes) - 1)
    cost_ax.scatter(effect.changes[1:], row + jitter, s=14, color="#0072b2", alpha=0.5, linewidths=0)
cost_ax.axvline(controls[0].changes[0], color="#d55e00", linewidth=2)
cost_ax.annotate("the lesion", (controls[0].changes[0], -0.62), color="#d55e00", ha="center", annotation_clip=False)
cost_ax.set_yticks(range(len(controls)), [f"{effect.kind} controls" for effect in controls])
cost_ax.set(ylim=(len(controls) - 0.5, -0.5), xlabel="change of surprisal (bits a token)")
cost_ax.spines[["top", "right"]].set_visible(False)
figure
