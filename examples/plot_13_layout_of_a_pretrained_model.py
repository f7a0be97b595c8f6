"""
From a model without sheets to a lesion
=======================================

Any model can be laid out on sheets in one call. This is the whole path: a layout is fitted to running text, the model
is shown through it, a contrast is mapped beside the control that tells what a fit makes of spreads alone, and a patch
of the map is silenced, beside patches that remove as much. The model here is small and was trained without a spatial
loss; take one from the hub in its place.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from small_model import FOLDER, small_run

import topographic as tg
from topographic.behaviour import perplexity, token_log_probabilities
from topographic.drawing import draw_sheet
from topographic.interventions import lesion_curve
from topographic.layouts import Adaptor, cached_activations, fit_rotation, moments, shuffled_within_units
from topographic.maps import activity_smoothness, distance_decay
from topographic.recording import record_tokens
from topographic.stimuli import StimulusSet

# %%
# ``fit_layout`` reads the text once and finds a rotation for every site. The text is none of the stimuli that maps are
# made with. ``loss`` is the spatial loss on tokens that follow those of the fit, ``loss_before`` that of the units as
# they come.

model, tokenizer = tg.load(small_run(0.0))
text = Path(FOLDER / "help.txt").read_text(encoding="utf-8")
adaptors = tg.fit_layout(model, tokenizer, text, sites="resid", n_tokens=2000, context=64, progress=False)
site, own = list(adaptors.items())[1]
{name: {key: round(one.provenance[key], 3) for key in ("loss_before", "loss")} for name, one in adaptors.items()}

# %%
# The control is fitted to the same tokens in another order within each unit: the units keep their spreads and lose each
# other. What its map shows, a fit makes of anything.

heard = cached_activations(model, tokenizer, text, site, FOLDER / "tokens", n_tokens=2000, context=64, progress=False)[
    site
]
shuffled = shuffled_within_units(heard)
(mean, scale), rotation = moments(shuffled), fit_rotation(shuffled, own.sheet)
control = Adaptor(site, mean, scale, rotation, own.sheet)

# %%
# Inside ``with tg.rebased`` the site has a child ``sheet`` that every analysis finds. The same contrast on both sheets.


def seen_through(adaptor: Adaptor) -> tuple[tg.Responses, tg.UnitMap]:
    """Responses to the localizer and the map of the contrast, on the sheet of an adaptor."""
    with tg.rebased(model, adaptor):
        shown = tg.record(model, tokenizer, tg.load_localizer("language"), sites=adaptor.sheet_site, progress=False)
    responses = shown[adaptor.sheet_site]
    return responses, tg.t_map(responses, "sentences", "nonwords")


(responses, unit_map), (others, control_map) = seen_through(own), seen_through(control)
figure = Figure(figsize=(7.4, 3.4), layout="constrained")
left, right = figure.subplots(1, 2)
limit = float(np.abs(unit_map.values).max())
draw_sheet(
    unit_map.sheet, unit_map.values, left, limit=limit, title="fitted to the text", colour_label="t", has_scale=True
)
draw_sheet(
    control_map.sheet, control_map.values, right, limit=limit, title="fitted to shuffled tokens", colour_label="t"
)
figure

# %%
# How much order there is, near by and beyond patches, and how smooth is what each stimulus evokes; p against permuted
# units, and against the blocks of the sheet in another order. Pieces that are smooth may lie anywhere: the fit sees 5
# units far.

worth = {}
for name, one in {"fitted to the text": responses, "fitted to shuffled tokens": others}.items():
    decay, smoothness = distance_decay(one, block=4, n_draws=99), activity_smoothness(one, n_draws=99).mean
    worth[name] = {
        "near": decay.near.value,
        "p (near)": decay.near.nulls["unit"].p,
        "far": decay.far.value,
        "p (far)": decay.far.nulls["block"].p,
        "smoothness": smoothness.value,
        "p (smoothness)": smoothness.nulls["unit"].p,
    }
pd.DataFrame(worth).T.round(3)

# %%
# Patches around the peak of the map are silenced. What happens on the sheet returns to the model. Beside each patch
# stand others of the same sheet, as large, as compact, and within 30 % in the norm and the variance of what they take
# away. A result takes 99 of them; 19 are enough to see how it is done.

lists = tg.load_localizer("language").select(condition="words").items[:20]
sentences = tg.load_localizer("language").select(condition="sentences").items[:20]


def prediction(network: torch.nn.Module) -> dict[str, float]:
    """Perplexity of sentences and of lists of words."""
    shown = {"sentences": sentences, "word lists": lists}
    return {
        name: perplexity(token_log_probabilities(network, tokenizer, texts, progress=False))
        for name, texts in shown.items()
    }


with tg.rebased(model, own):
    tokens = record_tokens(model, tokenizer, StimulusSet("sentences", sentences, ("text",) * 20), sites=own.sheet_site)
    curve = lesion_curve(model, unit_map, [4, 10], prediction, removed=tokens, tolerance=0.3, n_draws=19)
curve.to_frame().drop(columns=["low", "high", "tolerance"]).round(3)
