"""
Sheets for a model that has none
================================

A model that nobody trained to be topographic can be *shown* on a sheet. A rotation of a site's units is found, not
trained into the model, so that places close together respond alike; the model computes what it always did. The rotation
is judged on items that it has not seen, beside a population whose units have nothing in common.
"""

from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from small_model import small_run

import topographic as tg
from topographic.layouts import Adaptor, fit_rotation, moments, rebased, shuffled_within_units
from topographic.maps import correlation_by_distance
from topographic.plots import draw_distance_curves
from topographic.recording import Responses, record_tokens

# %%
# A model trained without a spatial loss, the control of the other examples. One MLP speaks at every token of the even
# items, to which the rotation is fitted, and of the odd ones, on which it is shown.

model, tokenizer = tg.load(small_run(0.0))
site = "transformer.h.1.mlp"
stimuli = tg.load_localizer("language")
fitted, held_out = (
    record_tokens(model, tokenizer, stimuli.take(np.arange(first, len(stimuli), 2)), sites=site, layout=tg.grid)[site]
    for first in (0, 1)
)
held_out

# %%
# ``Z = ((X - m) / s) Q`` with an orthogonal ``Q`` lies on the sheet. The same is done to the control population, whose
# units keep their values and lose each other.


def laid_out(values: np.ndarray, others: np.ndarray) -> tuple[Adaptor, Responses]:
    """The change of basis found on some values, and what others look like on the sheet."""
    (mean, scale), rotation = moments(values), fit_rotation(values, fitted.sheet)
    adaptor = Adaptor(site, mean, scale, rotation, fitted.sheet, "rotation")
    return adaptor, replace(held_out, values=adaptor.to_sheet(torch.from_numpy(others)).numpy())


adaptor, on_sheet = laid_out(fitted.values, held_out.values)
_, control = laid_out(shuffled_within_units(fitted.values), shuffled_within_units(held_out.values, seed=1))

figure = Figure(figsize=(7, 4), layout="constrained")
found = {"as they come": held_out, "rotated": on_sheet, "control": control}
curves = {name: [correlation_by_distance(one, n_bins=12)] for name, one in found.items()}
draw_distance_curves(curves, figure.subplots())
figure

# %%
# Inside ``with rebased`` the site has a child ``sheet`` that shows ``Z``. Maps, lesions and steering find it as any
# other sheet, and what is done to it there returns to the model.

with rebased(model, adaptor):
    maps = tg.contrast(model, tokenizer, "sentences", "nonwords", sites=f"{site}.sheet")
plain = tg.contrast(model, tokenizer, "sentences", "nonwords", sites=site, layout=tg.grid)
figure = tg.Maps({"as the units come": plain[site], "rotated": maps[f"{site}.sheet"]}).plot()
figure

# %%
# The numbers of both maps beside their nulls.

tg.morans_i(tg.Maps({"as the units come": plain[site], "rotated": maps[f"{site}.sheet"]})).to_frame().round(3)
