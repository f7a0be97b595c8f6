"""
A Topoformer: receptive fields, and attention
=============================================

In a Topoformer no loss asks for topography: attention itself is local on a sheet. A unit's query is pooled over its
receptive field, and every output is made of the units around it.
"""

import pydoc_data.topics

import pandas as pd
import torch
from matplotlib.figure import Figure

import topographic as tg
from topographic.drawing import draw_sheet
from topographic.layers import receptive_fields
from topographic.maps import topographic_statistic
from topographic.models import TopoformerConfig, TopoformerForCausalLM
from topographic.training import train_tokenizer

# %%
# The field of one unit, on a torus of 20 x 20 units: a disc of a tenth or a third of the sheet, a random field that
# thins out with distance, and all units, which is the control without locality.

sheet = tg.grid(400, wrap=True)
shown = {"circular, 0.1": (0.1, "circular"), "circular, 0.3": (0.3, "circular"), "gaussian, 0.1": (0.1, "gaussian")}
shown["full"] = (1.0, "full")
figure = Figure(figsize=(9, 2.6), layout="constrained")
for ax, (name, (fraction, kind)) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
    field = receptive_fields(sheet, fraction, kind)[7 * 20 + 4]
    draw_sheet(sheet, field.float().numpy(), ax, limit=1.6, is_signed=False, title=name)
figure

# %%
# A small causal Topoformer of 100 units, and one with full fields, in an ordinary loop on a small text.

text = "\n".join(pydoc_data.topics.topics.values())[:120_000]
tokenizer = train_tokenizer([text], 512)
tokens = torch.tensor(tokenizer(text, verbose=False)["input_ids"])


def train(fields: str, steps: int = 50) -> TopoformerForCausalLM:
    """One block; the same weights and text every time."""
    torch.manual_seed(0)
    shape = {"n_positions": 64, "n_embd": 100, "n_layer": 1, "n_inner": 200, "dropout": 0.0}
    fractions = {"querying_fraction": 0.1, "reweighting_fraction": 0.1, "fields": fields}
    model = TopoformerForCausalLM(TopoformerConfig(vocab_size=len(tokenizer), **shape, **fractions))
    optimizer, generator = torch.optim.AdamW(model.parameters(), lr=3e-3), torch.Generator().manual_seed(0)
    for _ in range(steps):
        starts = torch.randint(len(tokens) - 48, (12,), generator=generator)
        batch = torch.stack([tokens[start : start + 48] for start in starts])
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


models = {fields: train(fields) for fields in ("circular", "full")}

# %%
# Every block has four sheets: queries, keys, values and outputs. The statistic says how much the correlation of two
# units falls with their distance; beside it stand sheets whose units are permuted.

stimuli = tg.load_localizer("language")
rows = []
for fields, model in models.items():
    responses = tg.record(model, tokenizer, stimuli, progress=False)
    for site, one in responses.items():
        found = topographic_statistic(one, n_draws=49)
        rows.append({"fields": fields, "site": site, **found.to_columns("t_g")})
pd.DataFrame(rows).round(3)

# %%
# And what its attention does: who attends to whom in a sentence.

words = tokenizer("the value of an object can be changed", return_tensors="pt")["input_ids"]
models["circular"].set_attn_implementation("eager")
with torch.no_grad():
    attention = models["circular"](words, output_attentions=True).attentions[0][0].squeeze()
labels = [tokenizer.decode([token]).strip() or "_" for token in words[0]]
figure = Figure(figsize=(4.6, 4.2), layout="constrained")
ax = figure.subplots()
drawn = ax.imshow(attention, cmap="OrRd", vmin=0, vmax=float(attention[2:].max()))
ax.set_xticks(range(len(labels)), labels, rotation=90)
ax.set_yticks(range(len(labels)), labels)
ax.set(xlabel="attended to", ylabel="token")
figure.colorbar(drawn, ax=ax, label="share of the attention", shrink=0.8).outline.set_visible(False)
figure
