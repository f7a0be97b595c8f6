"""
Surprisal and the N400
======================

Does a model's surprisal say more about the brain's response to a word than length and frequency do? And what of its
states? The reader of these sentences does not exist: the N400 follows the surprisal of every word, reading times follow
the length of words and nothing else, and the P600 is noise. So the answers are known.
"""

import numpy as np
import pandas as pd
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.brain import (
    WordCorpus,
    grouped_correlation,
    grouped_gain,
    held_out_words,
    likelihood_gain,
    prediction_map,
    run_folds,
    sentence_and_type_folds,
    usable_words,
)
from topographic.sheets import grid

# %%
# 120 sentences of eight words, written by a table of which word follows which, and a model of two layers of 10 x 10
# units that learns them for a few seconds.

rng = np.random.default_rng(0)
words = np.array([
    f"{start}{end}" for start in ("ba", "do", "ki", "lum") for end in ("t", "nel", "rimo", "sa", "vunti")
])
follows = rng.dirichlet(np.full(len(words), 0.15), size=len(words))
sentences = np.empty((120, 8), dtype=int)
sentences[:, 0] = rng.integers(len(words), size=120)
for place in range(1, 8):
    sentences[:, place] = [rng.choice(len(words), p=follows[before]) for before in sentences[:, place - 1]]

torch.manual_seed(0)
model = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=len(words), n_embd=100, n_layer=2, n_head=2, n_positions=8, bos_token_id=None, eos_token_id=None
    )
)
ids = torch.tensor(sentences)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(40):
    optimizer.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()

# %%
# Its surprisal at every word but the first, and its states after the word before and after the word.

model.eval()
with torch.no_grad():
    heard = model(input_ids=ids, output_hidden_states=True)
scores = torch.log_softmax(heard.logits[:, :-1], dim=-1).gather(-1, ids[:, 1:, None])[..., 0]
surprisal = -scores.numpy().astype(float).ravel()
states = heard.hidden_states[-1][:, 1:].reshape(len(surprisal), -1).numpy()

# %%
# What is measured of this reader; words of one sentence share a mood, so that they are no independent samples.

length = np.array([len(word) for word in words])[sentences[:, 1:]].ravel()
mood = np.repeat(rng.normal(size=120), 7)
corpus = WordCorpus(
    "nobody",
    tuple(" ".join(words[one]) for one in sentences),
    text=np.repeat(np.arange(120), 7),
    position=np.tile(np.arange(1, 8), 120),
    measures={
        "N400": -0.5 * surprisal + mood + rng.normal(size=len(surprisal)),
        "P600": mood + rng.normal(size=len(surprisal)),
        "reading time (ms)": 250 + 12 * length + 10 * mood + 15 * rng.normal(size=len(surprisal)),
    },
    log_frequencies=np.log(np.bincount(sentences.ravel(), minlength=len(words)) + 1)[sentences[:, 1:]].ravel(),
)
corpus

# %%
# The gain of surprisal over length, frequency and position, also of the word before, in nats per word on sentences that
# were held out; intervals and p are over sentences. A word is one token here; where a model cuts words into several,
# ``corpus.controls(1, tokenizer)`` counts them too, because surprisal is summed over them.

controls = {name: one for name, one in corpus.controls(1).items() if np.ptp(one[np.isfinite(one)]) > 0}
usable = usable_words(controls)
sentence = corpus.text[usable]
folds = run_folds(sentence, 10)
kept = {control: one[usable] for control, one in controls.items()}
gains = {}
for name, measure in corpus.measures.items():
    gain = grouped_gain(likelihood_gain(measure[usable], kept, {"surprisal": surprisal[usable]}, folds), sentence)
    gains[name] = {"gain": gain.value, "low": gain.low, "high": gain.high, "p": gain.p}
pd.DataFrame(gains).T.round(3)

# %%
# Ridge regression from the states after the word. They tell the word, so that they predict reading times, which are its
# length; where no test word has its type among the training words, nothing is left of that. Of the N400 they say
# nothing: how expected a word was is no linear function of the state that it leaves behind.

kinds = {"other sentences": run_folds(corpus.text, 10)}
kinds["and other words"] = sentence_and_type_folds(corpus.text, np.array(corpus.types), 4)
targets = np.column_stack(list(corpus.measures.values()))
found = []
for kind, those in kinds.items():
    predicted = held_out_words(states, targets, those)
    for column, name in enumerate(corpus.measures):
        one = grouped_correlation(targets[:, column], predicted[:, column], corpus.text)
        found.append({"trained on": kind, "measure": name, "r": one.value, "low": one.low, "high": one.high})
pd.DataFrame(found).round(2)

# %%
# Which units follow the N400, length, frequency and position taken out.

table = np.column_stack([one for name, one in controls.items() if "before" not in name])
n400 = prediction_map(states, corpus.measures["N400"], grid((10, 10)), "h.1", controls=table, name="N400", n_draws=99)
figure = n400.plot(title="r with the N400").figure
figure
