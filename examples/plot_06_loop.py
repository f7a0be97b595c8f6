"""
Train in a loop of one's own
============================

TopoLM's loss makes the *responses* of neighbouring units alike. It is a term of an `Objective`, which needs the model,
a loop, and nothing else: no trainer, no configuration.
"""

import pydoc_data.topics

import torch
from matplotlib.figure import Figure
from transformers import GPT2Config, GPT2LMHeadModel

import topographic as tg
from topographic.maps import correlation_by_distance
from topographic.plots import draw_distance_curves
from topographic.training import train_tokenizer

# %%
# A text (some of Python's own help), a tokenizer of 512 words, and a GPT-2 of two blocks and 100 units.

text = "\n".join(pydoc_data.topics.topics.values())[:120_000]
tokenizer = train_tokenizer([text], 512)
tokens = torch.tensor(tokenizer(text, verbose=False)["input_ids"])


def fresh() -> GPT2LMHeadModel:
    """The same weights every time."""
    torch.manual_seed(0)
    shape = {"n_positions": 64, "n_embd": 100, "n_layer": 2, "n_head": 4}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape, **ends))


# %%
# The loop. ``objective.listen()`` hears the MLP of every block while the model runs; the call of the objective adds the
# loss of their sheets to that of the task.


def train(weight: float, steps: int = 60) -> tuple[GPT2LMHeadModel, list[float]]:
    """A trained model, and what its task loss was."""
    model = fresh()
    spatial = tg.SpatialCorrelation("mlp", layout=tg.grid, weight=weight, radius=3)
    objective = tg.Objective(model, spatial)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator, log = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        starts = torch.randint(len(tokens) - 32, (16,), generator=generator)
        batch = torch.stack([tokens[start : start + 32] for start in starts])
        with objective.listen():
            task_loss = model(batch, labels=batch).loss
        loss, _ = objective(task_loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log.append(task_loss.item())
    return model.eval(), log


models = {name: train(weight) for name, weight in {"with the term": 0.5, "without": 0.0}.items()}

# %%
# Both learn the text, and only one of them lays its units out on the way.

figure = Figure(figsize=(9.5, 3.7), layout="constrained")
losses, curves = figure.subplots(1, 2)
for (name, (_, log)), colour in zip(models.items(), ("#0072b2", "#d55e00"), strict=True):
    losses.plot(log, color=colour, label=name, linewidth=2)
losses.set(xlabel="step", ylabel="loss of the task (nats a token)")
losses.legend(frameon=False)
losses.spines[["top", "right"]].set_visible(False)
shown = tg.load_localizer("language")
found = {}
for name, (model, _) in models.items():
    responses = tg.record(model, tokenizer, shown, sites="mlp", layout=tg.grid, progress=False)
    found[name] = [correlation_by_distance(one) for one in responses.values()]
draw_distance_curves(found, curves)
figure
