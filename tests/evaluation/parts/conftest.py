"""Planted truths for the parts that map language contrasts."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from topographic.brain.word_corpora import ERP_COMPONENTS
from topographic.evaluation import Shown
from topographic.evaluation.word_readings import word_surprisal
from topographic.recording import Responses
from topographic.sheets import permuted_grid
from topographic.stimuli import load_localizer

STRENGTH = {"sentences": 3.0, "words": 2.0, "jabberwocky": 1.0, "nonwords": 0.0}
SHEETS = {f"h.{layer}.attn": permuted_grid((10, 10), f"h.{layer}.attn") for layer in range(2)}
# a patch of 4 x 4 units on each sheet
PATCHES = {
    site: ((sheet.positions_mm[:, 0] < 4) & (sheet.positions_mm[:, 1] >= 6)).numpy() for site, sheet in SHEETS.items()
}


def planted(*, gap=2, strength=STRENGTH):
    """Responses of two sheets to our localizer: each patch responds S > W > J > N, the rest is noise."""
    rng, stimuli = np.random.default_rng(0), load_localizer("language")
    nonwords = np.isin(stimuli.conditions, ["jabberwocky", "nonwords"])
    n_tokens = rng.integers(8, 13, len(stimuli)) + gap * nonwords
    effect = np.array([strength[condition] for condition in stimuli.conditions])
    return {
        site: Responses(
            site, rng.standard_normal((240, 100)) + np.outer(effect, PATCHES[site]), sheet, stimuli, n_tokens
        )
        for site, sheet in SHEETS.items()
    }


@pytest.fixture
def language(tiny_subject, plant):
    """That population, and a subject that heard it."""

    def subject(responses):
        return plant(dataclasses.replace(tiny_subject, layout=SHEETS, sites=list(SHEETS)), localizer=responses)

    return SimpleNamespace(strength=STRENGTH, sheets=SHEETS, patches=PATCHES, planted=planted, subject=subject)


WORD_SHEETS = {f"h.{layer}.mlp": permuted_grid((9, 9), f"h.{layer}.mlp") for layer in range(2)}
CELLS = WORD_SHEETS["h.1.mlp"].positions_mm.numpy()


@pytest.fixture
def words(tiny_subject):
    """A subject of two sheets, and noise but for a patch in layer 1 that prefers concrete nouns to all other words."""
    rng, stimuli = np.random.default_rng(0), load_localizer("nouns_verbs")
    patch = (CELLS[:, 0] < 4) & (CELLS[:, 1] < 4)
    concrete_noun = (np.array(stimuli.conditions) == "noun") & (np.array(stimuli.labels["concreteness"]) == "concrete")
    responses = {}
    for site, sheet in WORD_SHEETS.items():
        values = rng.standard_normal((160, 81))
        if site == "h.1.mlp":
            values += 2.0 * np.outer(concrete_noun, patch)
        responses[site] = Responses(site, values, sheet, stimuli, rng.integers(1, 4, 160))
    subject = dataclasses.replace(tiny_subject, layout=WORD_SHEETS, sites=list(WORD_SHEETS))
    return SimpleNamespace(subject=subject, responses=responses, sheets=WORD_SHEETS, patch=patch)


@pytest.fixture
def readers(tiny_subject, tmp_path):
    """A subject of two sheets, and 40 sentences in which the N400 follows its surprisal and reading times length."""
    rng = np.random.default_rng(0)
    vocabulary = [f"{a}{b}" for a in ("ba", "do", "ki", "lum", "ra") for b in ("t", "nel", "rimo", "sa", "vun")]
    texts = [" ".join(rng.choice(vocabulary, 8)) + "." for _ in range(40)]
    surprisal = word_surprisal(tiny_subject.model, tiny_subject.tokenizer, texts, batch_size=64, progress=False)
    rows = []
    for index, text in enumerate(texts):
        for place, word in enumerate(text.split()):
            noise = rng.normal(size=8)
            row = {"sentence": text, "sent_id": index, "context_length": place, "word": word.strip(".")}
            row |= {name: noise[at] for at, name in enumerate(ERP_COMPONENTS)}
            row["N400"] = 0.5 * surprisal[index][place] + 0.5 * noise[2]
            row |= {"self_paced_reading_time": 250 + 10 * len(word) + 5 * noise[6], "Subtlex_log10": rng.normal()}
            row["s_GPT2"] = surprisal[index][place] + rng.normal()
            rows.append(row)
    folder = tmp_path / "data"
    folder.mkdir()
    pd.DataFrame(rows).to_csv(folder / "all_measures.csv", index=False)
    topics = [f"topic {index // 5}" for index in range(40)]
    pd.DataFrame({
        "experiment": "own", "story": topics, "sentence": texts, "effect_size": [len(text) for text in texts]
    }).to_csv(folder / "pereira2018_langnet_avg.csv", index=False)  # fmt: skip
    sites = list(tiny_subject.sheets)[:2]
    return dataclasses.replace(tiny_subject, shown=Shown(data=str(folder), batch_size=64), sites=sites, progress=False)
