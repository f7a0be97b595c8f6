import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.evaluation import contrast
from topographic.runs import load
from topographic.sheets import permuted_grid
from topographic.stimuli import load_localizer


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load(tiny_model)


def test_the_set_with_the_conditions_is_shown(loaded):
    for sides, name in {("sentences", "words"): "language", ("noun", "verb"): "nouns_verbs"}.items():
        (one, *_) = contrast(*loaded, *sides, sites="transformer.h.0.mlp_sheet", n_draws=0).values()
        assert one.provenance["stimuli"]["name"] == name
        assert one.provenance["condition"] == [sides[0]]


def test_conditions_are_pooled(loaded):
    sides = ["sentences", "words"], ["jabberwocky", "nonwords"]
    (one, *_) = contrast(*loaded, *sides, sites="mlp", n_draws=0).values()
    assert (one.provenance["n_condition"], one.provenance["n_baseline"]) == (120, 120)


def test_a_model_without_sheets_is_laid_out(loaded):
    _, tokenizer = loaded
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=len(tokenizer), n_embd=12, n_layer=2, n_head=2, n_positions=64)
        config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
        plain = GPT2LMHeadModel(config).eval()
    maps = contrast(plain, tokenizer, "noun", "verb", n_draws=0)
    assert list(maps) == ["transformer.h.0.mlp", "transformer.h.1.mlp"]
    laid = contrast(plain, tokenizer, "noun", "verb", layout="permuted_grid", sites="resid", n_draws=0)
    for site, one in laid.items():
        assert np.array_equal(one.sheet.positions_mm, permuted_grid(12, site).positions_mm)


def test_stimuli_without_the_condition_are_refused(loaded):
    with pytest.raises(ValueError, match="has no condition 'cat'; it has"):
        contrast(*loaded, "cat", "sentences", stimuli=load_localizer("language"), n_draws=0)
