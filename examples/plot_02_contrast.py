"""
A contrast, and three nulls beside it
=====================================

Which units prefer sentences to lists of nonwords, where do they lie, and is their map about *this* contrast? On a
topographic model every map is smooth, whatever it contrasts: smoothness alone shows nothing.
"""

from matplotlib.figure import Figure
from small_model import small_run

import topographic as tg
from topographic.plots import draw_null_distribution

# %%
# One call shows the stimuli, records every sheet, computes Welch's t of each unit, corrects over all units of all
# sheets and draws the nulls.

model, tokenizer = tg.load(small_run())
maps = tg.contrast(model, tokenizer, "sentences", "nonwords")
figure = maps.plot()
figure

# %%
# The table has a row per sheet. Beside the mean size of t stand the nulls, and the share of units that pass q < .05.

maps.to_frame().round(3)

# %%
# Moran's I says how smooth a map is. The *unit null* permutes the units (is there any structure on the sheet?), the
# *label null* permutes the labels of the stimuli (is the structure about this contrast?). The *kernel floor* is white
# noise through the readout that smoothed the responses; there was none here, so it is flat (``fwhm_mm=2`` would be
# one).

smoothness = tg.morans_i(maps)
smoothness.to_frame().round(3)

# %%
# Each dot is a map, each band two standard deviations of a null to either side. A map beyond the blue band and inside
# the orange one says: the sheet is topographic, and a contrast of shuffled labels would be about as smooth.

figure = Figure(figsize=(7, 3.8), layout="constrained")
named = {site.removeprefix("transformer."): one for site, one in smoothness.items()}
draw_null_distribution(named, figure.subplots())
figure

# %%
# Draws of the label null are maps too. One of them beside the real one, on the same scale: as smooth, but weaker.

real = maps["transformer.h.2.mlp_sheet"]
shuffled = tg.UnitMap(real.site, real.nulls["label"][0], real.sheet, real.statistic)
limit = abs(real.values).max()
figure = tg.Maps({"sentences - nonwords": real, "labels shuffled": shuffled}).plot(limit=float(limit))
figure
