"""Planted truths for the parts that map language contrasts."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from topographic.brain.word_corpora import ERP_COMPONENTS, WordCorpus, load_word_corpora
from topographic.evaluation import Shown
from topographic.evaluation.parts.word_encoding import states_of
from topographic.recording import Responses, align_words
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


@pytest.fixture
def follows_a_corner(readers, word_data):
    """The same corpus, with potentials that follow what units in a corner of the first sheet say of a word."""
    (corpus,) = load_word_corpora(word_data).values()
    site, sheet = next(iter(readers.sheets.items()))
    states = states_of(readers, corpus, [site])[site]
    corner = (sheet.positions_mm.numpy() < 2).all(1)
    said = ((states - states.mean(0)) / states.std(0))[:, corner].mean(1)
    table = pd.read_csv(word_data / "all_measures.csv")
    noise = np.random.default_rng(1).normal(size=(len(table), 2))
    for column, name in enumerate(("N400", "P600")):
        table[name] = said / said.std() + 0.5 * noise[:, column]
    table.to_csv(word_data / "all_measures.csv", index=False)
    return dataclasses.replace(readers, sites=[site]), corner


@pytest.fixture
def told_by_tokens(readers, tmp_path):
    """A subject that reads words of three letters, the same at the end, and an N400 that follows their tokens alone."""
    rng, folder = np.random.default_rng(0), tmp_path / "tokens"
    folder.mkdir()
    texts = [" ".join(f"{a}{b}e" for a, b in rng.choice(list("etaoin"), (8, 2))) for _ in range(60)]
    tokens = np.concatenate([align_words(readers.tokenizer, text.split(), text).n_tokens for text in texts])
    assert set(tokens) == {2, 3, 4}
    words = [(index, place, word) for index, text in enumerate(texts) for place, word in enumerate(text.split())]
    table = pd.DataFrame(words, columns=["sent_id", "context_length", "word"]).assign(sentence=np.repeat(texts, 8))
    table[list(ERP_COMPONENTS)] = rng.normal(size=(len(table), 6))
    table["N400"] = (tokens - tokens.mean()) / tokens.std() + 0.3 * table["N400"]
    table.assign(Subtlex_log10=rng.normal(size=len(table))).to_csv(folder / "all_measures.csv", index=False)
    return dataclasses.replace(readers, shown=Shown(data=str(folder), batch_size=64))


@pytest.fixture
def uncounted(monkeypatch):
    """Function after which controls of words have no tokens, to see what would be said without them."""
    counted = WordCorpus.controls

    def without_tokens():
        monkeypatch.setattr(
            WordCorpus, "controls", lambda corpus, spill_over=0, _tokenizer=None, **_: counted(corpus, spill_over)
        )

    return without_tokens
