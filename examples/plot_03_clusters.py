"""
Clusters, and a test of them
============================

A patch of the sheet that prefers sentences is more than its units one by one. Clusters are drawn around it, and the
cluster-mass test asks how often shuffled labels make a cluster as massive anywhere on any sheet.
"""

import pandas as pd
from small_model import small_run

import topographic as tg

model, tokenizer = tg.load(small_run())
maps = tg.contrast(model, tokenizer, "sentences", "nonwords", n_draws=199)

# %%
# Connected units with q < .05 are clusters, `Selection` objects that know their site and how they were chosen. Those of
# all sites come in one list, the most massive first.

found = tg.clusters(maps)
found[0]

# %%
# Thin lines go around all units that pass, thick ones around the three largest clusters.

passing = {site: selected.mask for site, selected in tg.select(maps).items()}
largest = {}
for cluster in found[:3]:
    largest[cluster.site] = largest.get(cluster.site, False) | cluster.mask
figure = tg.draw_maps(maps, outlines=[passing, largest])
figure

# %%
# A harder question: sentences against lists of the same words. The test needs a threshold chosen before looking, and
# counts clusters of either sign. Its null is the largest cluster anywhere of each shuffling of the labels, so that
# ``p`` is corrected over all sheets: of many small clusters it keeps few, or none.

harder = tg.contrast(model, tokenizer, "sentences", "words", n_draws=999)
tests = tg.cluster_mass_test(harder, threshold=2.5)
pd.DataFrame([
    {"site": test.selection.site, "units": test.n_units, "mass": test.mass, "peak t": test.peak_value, "p": test.p_mass}
    for test in tests[:6]
]).round(3)

# %%
# The most massive of them, whatever its p, on the maps it was found in.

figure = tg.draw_maps(harder, outlines=[{}, {tests[0].selection.site: tests[0].selection.mask}])
figure
