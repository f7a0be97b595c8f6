"""
A map on the surface of a brain
===============================

What holds for a model's sheet holds for cortex: a map lies on a mesh, and is tested against maps as smooth as the
recording makes any map. Here somebody who does not exist reads sentences and nonwords, with a patch that prefers
sentences.
"""

import numpy as np
import pandas as pd

import topographic as tg
from topographic.brain import design_matrix, estimated_fwhm_mm, load_mesh, smooth_noise_nulls, subject_map
from topographic.plots.surface_figures import draw_surface_views
from topographic.sheets import adjacency

# %%
# The left hemisphere of fsaverage5, which nilearn brings along, and what was shown when: blocks of ten seconds in two
# runs. Any table with these columns is a stimulus set.

mesh = load_mesh("fsaverage5/infl_left")
onsets = np.arange(8) * 20.0
shown = pd.DataFrame({
    "text": [f"block {number}" for number in range(16)],
    "condition": ["sentences", "nonwords"] * 8,
    "run": np.repeat(["first", "second"], 8),
    "onset_s": np.tile(onsets, 2),
    "duration_s": "10.0",
})
events = tg.stimuli(shown)
events

# %%
# The recording: noise that is smooth along the cortex, and one patch that answers to sentences.

generator = np.random.default_rng(0)
neighbours = adjacency(mesh.sheet)
degree = neighbours.sum(axis=1)[:, None]
temporal = np.array([-52.0, -20.0, -5.0])
patch = np.exp(-np.square(np.linalg.norm(mesh.positions_mm - temporal, axis=1) / 20))


def recording(run: str, n_scans: int = 84) -> np.ndarray:
    """Scans of one run, every two seconds."""
    noise = generator.normal(size=(len(mesh.positions_mm), n_scans))
    for _ in range(8):
        noise = (noise + neighbours @ noise / degree) / 2
    matrix, names = design_matrix(events, run, n_scans)
    return (noise / noise.std()).T + np.outer(matrix[:, names.index("sentences")], 3 * patch)


series = {run: recording(run) for run in ("first", "second")}

# %%
# A general linear model in each run, t averaged over runs; the result is a `UnitMap` as any other.

unit_map = subject_map(series, events, mesh.sheet, {"sentences": 1, "nonwords": -1})
# red is where sentences win
figure = draw_surface_views(unit_map, mesh, colour_label="t, sentences - nonwords")
figure

# %%
# Moran's I of a mesh map is high whatever it shows, because the recording is smooth. Beside it stands the floor: noise
# of that smoothness (taken from the difference of two scans) on the same mesh. Where p is large, smoothness says
# nothing about the contrast, however plain the patch is.

rest = tg.UnitMap("rest", series["first"][0] - series["first"][1], mesh.sheet, "difference of two scans")
fwhm_mm = estimated_fwhm_mm(rest)
tested = smooth_noise_nulls(unit_map, fwhm_mm, n_draws=39)
tg.morans_i({"sentences - nonwords": tested}).to_frame().round(3)
