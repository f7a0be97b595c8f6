"""Planted truths for the parts that map language contrasts."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from topographic.evaluation import Shown
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
def readers(tiny_subject, word_data):
    """A subject of two sheets that reads these corpora."""
    shown = Shown(data=str(word_data), batch_size=64)
    return dataclasses.replace(tiny_subject, shown=shown, sites=list(tiny_subject.sheets)[:2], progress=False)
