"""
Predict a brain that listens to stories
=======================================

How much of a recording do a model's features explain, and how much of it is explained by the mere number of words? A
subject who does not exist listens to three stories: three parcels of the cortex follow the meaning of the words, two
follow nothing but their rate, the others are noise. So the answer is known.
"""

import numpy as np

import topographic as tg
from topographic.brain import beside_controls, delay, downsample, load_mesh, story_subject, word_controls
from topographic.plots.surface_figures import draw_surface_views

# %%
# The left hemisphere of fsaverage5, and 70 scans a story.

mesh = load_mesh("fsaverage5/infl_left")
subject = story_subject(mesh.positions_mm, n_runs=3, n_scans=70, n_features=4)
subject

# %%
# Words come at their own times, scans every two seconds. Features and controls are brought to the scans alike, and
# enter at delays of two to six seconds, because the blood is slow.

DELAYS = (1, 2, 3)
features, controls = [], []
for run, words in enumerate(subject.words):
    times, scans = words["onset_s"].to_numpy(), subject.scan_times_s(run)
    features.append(delay(downsample(subject.features[run], times, scans), DELAYS))
    controls.append(word_controls(words["word"].tolist(), times, scans))
features = np.concatenate(features)
controls = {"word rate": np.concatenate([delay(one["word rate"], DELAYS) for one in controls])}
recording = np.concatenate(subject.recordings)

# %%
# Ridge regression, each story predicted from the others: by the features, by the controls, and by both.

table, fits = beside_controls(
    features, controls, recording, runs=subject.runs, n_band_draws=4, n_inner_folds=2, progress=False
)
fits["model"]

# %%
# What the model adds to the controls, and the other way round.

roles = {"meaning": subject.meaning_parcels, "rate": subject.rate_parcels}
table["parcel follows"] = "nothing"
for role, parcels in roles.items():
    table.loc[np.isin(subject.parcels, parcels), "parcel follows"] = role
table.groupby("parcel follows")[["r model", "r controls", "added by model", "added by controls"]].mean().round(3)

# %%
# On the cortex: the patches found are those that were put there.

added = tg.UnitMap("added by the model", table["added by model"].to_numpy(), mesh.sheet, "R2")
figure = draw_surface_views(added, mesh, colour_label="R2 that the model adds")
figure
