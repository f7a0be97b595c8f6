"""
How a model grows
=================

When in training does a model come to resemble a reader, and does topography grow with it? A run that keeps its
checkpoints in time is measured at every one of them, beside untrained weights, random units, random tokens, the
embedding layer and the words' own properties, with as many features of each. On the command line: ``topo train
recipes/trajectory/small.yaml training.save_at=log``, then ``topo trajectory runs/small-*``. The reader here does not
exist: the potential follows what the model says of every word after its last step, so the answer is known.
"""

import dataclasses

import numpy as np
import pandas as pd
from small_model import FOLDER, STEPS, small_recipe

import topographic as tg
from topographic.evaluation import Choices, Shown
from topographic.evaluation.word_readings import word_surprisal
from topographic.objectives import SpatialConfig
from topographic.runs import train_model
from topographic.sweeps import Watched, measure_trajectories, series_of

# %%
# Two runs that differ in the spatial loss alone, of 2 blocks x 64 units. Weights are kept before training and five
# times in its course, each time after twice as many tokens.

STEPS = max(2 * STEPS // 5, 8)
times = [0, *(1024 * STEPS // part for part in (16, 8, 4, 2, 1))]
runs = []
for kind, weight in (("topographic", 0.25), ("plain", 0.0)):
    recipe = small_recipe(weight, STEPS)
    recipe = dataclasses.replace(
        recipe,
        run=str(FOLDER / f"trajectory-{STEPS}" / f"{kind}-0"),
        model=dataclasses.replace(recipe.model, n_layer=2, n_embd=64),
        spatial=SpatialConfig(weight=weight, radius=3),
        training=dataclasses.replace(recipe.training, learning_rate=5e-3, save_at=times),
    )
    runs.append(recipe.run)
    if not (FOLDER / f"trajectory-{STEPS}" / f"{kind}-0" / "model").is_dir():
        train_model(recipe)

series = series_of(runs)
[checkpoint.tokens for checkpoint in series[0].checkpoints]

# %%
# Sixty sentences and a reader. A corpus of one's own is two files: texts, one a line, and a row for every word. Next
# words are told of lines of the help itself, which both models have seen.

words = np.array(["the", "value", "of", "a", "name", "is", "an", "object", "class", "method", "module", "returns"])
rng = np.random.default_rng(0)
sentences = [" ".join(rng.choice(words, 8)) for _ in range(60)]
model, tokenizer = tg.load(runs[0])
surprisal = np.concatenate(word_surprisal(model, tokenizer, sentences, batch_size=60, progress=False))
data = FOLDER / f"reader-{STEPS}"
data.mkdir(exist_ok=True)
(data / "reader_texts.txt").write_text("\n".join(sentences))
read = [(text, place, word) for text, sentence in enumerate(sentences) for place, word in enumerate(sentence.split())]
reader = pd.DataFrame(read, columns=["text_id", "position", "word"])
reader["log_freq"] = [float(np.flatnonzero(words == word)[0]) for word in reader["word"]]
reader["n400"] = surprisal + rng.normal(size=len(reader))
reader.to_csv(data / "reader.csv", index=False)
lines = [line for line in (FOLDER / "help.txt").read_text().splitlines() if len(line.split()) > 8]
(data / "help_lines.txt").write_text("\n".join(lines[:40]))

# %%
# Every checkpoint, measured once: the same lines go on where they were interrupted.

watched = Watched(
    Shown(data=str(data), text=str(data / "help_lines.txt"), batch_size=64),
    Choices(n_draws=19, word_folds=4),
    n_units=20,
)
_, parts = measure_trajectories(series, FOLDER / f"grown-{STEPS}", watched, n_bootstrap=99, progress=False)
found = parts["collected/trajectory"]
table = found["trajectory"].to_frame()
table[["series", "tokens", "potentials r", "potentials r, random units", "next-word accuracy", "I"]].round(3)

# %%
# Alignment with its controls, competence beside it, topography beside both. Most of what this reader does is which word
# it reads, and that the embedding layer says before any training: without the control, it would pass for the model's.

figure = found.pictures[0].figure
figure
