"""
Record any model, and see whether neighbours respond alike
==========================================================

Topography says: units that lie close together respond alike. The first thing to look at is therefore not a map but a
curve, the correlation of two units' responses by the distance between them.
"""

from matplotlib.figure import Figure
from small_model import small_run
from transformers import GPT2Config, GPT2LMHeadModel

import topographic as tg
from topographic.maps import correlation_by_distance
from topographic.plots import draw_distance_curves

# %%
# A model comes with what reads for it: `tg.load` takes a run folder, a name on the hub, a folder or a .gguf file. This
# one is a TopoLM of three blocks, trained for a few seconds with a spatial loss on each of its six sheets.

model, tokenizer = tg.load(small_run())
stimuli = tg.load_localizer("language")  # sentences, word lists, Jabberwocky sentences and nonword lists
stimuli

# %%
# `tg.record` shows every item to the model and keeps one response per unit: a mapping of site to `Responses`, each with
# its sheet and its stimuli.

responses = tg.record(model, tokenizer, stimuli, progress=False)
responses["transformer.h.2.mlp_sheet"]

# %%
# A model without sheets is given some: here a GPT-2 that nobody trained, its units on a grid in the order they come in.
# `tg.sites` lists where a model can be heard.

shape = {"n_positions": 64, "n_embd": 144, "n_layer": 3, "n_head": 4}
ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
plain = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape, **ends)).eval()
tg.sites(plain, "mlp")

# %%

others = tg.record(plain, tokenizer, stimuli, sites="mlp", layout=tg.grid, progress=False)

# %%
# The curve of the trained model falls with distance, that of the other is flat. The grey bars count the pairs behind
# each point: there are few at the largest distances, so the ends of the curves say little. Correlations are of one
# sheet's units with one another, so where near ones are positive, far ones tend to lie below zero.

found = {"TopoLM": responses, "untrained GPT-2": others}
curves = {name: [correlation_by_distance(one) for one in each.values()] for name, each in found.items()}
figure = Figure(figsize=(7, 4), layout="constrained")
draw_distance_curves(curves, figure.subplots())
figure
