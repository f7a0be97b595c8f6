import inspect

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.models import TopoLMForCausalLM, preset
from topographic.recording import record, record_tokens, tap
from topographic.sheets import permuted_grid
from topographic.stimuli import StimulusSet, load_localizer
from topographic.training.text.tokenizer import train_tokenizer

SITES = ["transformer.h.0.mlp.c_fc", "transformer.h.1.attn"]


def other_grid(n_units, name):
    return permuted_grid(n_units, name, seed=9)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(load_localizer("language").items, 300)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    shape = {"n_embd": 12, "n_layer": 2, "n_head": 2, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape))


@pytest.fixture
def stimuli():
    return load_localizer("language").take([0, 70, 7, 200, 33])


def test_every_token_has_the_response_it_has_alone(model, tokenizer, stimuli):
    found = record_tokens(model, tokenizer, stimuli, SITES, batch_size=2)
    model.eval()
    ids = [tokenizer(item)["input_ids"] for item in stimuli.items]
    for site in SITES:
        alone = []
        for sequence in ids:
            with torch.no_grad(), tap(model, site) as heard:
                model(torch.tensor([[tokenizer.bos_token_id, *sequence]]))
            alone.append(heard[site][0, 1:].numpy())
        np.testing.assert_allclose(found[site].values, np.concatenate(alone), atol=1e-5)
    shown = found[SITES[0]].stimuli
    assert shown.items == tuple(tokenizer.convert_ids_to_tokens([token for sequence in ids for token in sequence]))
    assert shown.labels["item"] == tuple(str(item) for item, one in enumerate(ids) for _ in one)
    assert shown.labels["place"] == tuple(str(place) for one in ids for place in range(len(one)))
    assert shown.sampled_by == "item"
    first_of_item = [shown.labels["item"].index(str(item)) for item in range(5)]
    assert [shown.conditions[row] for row in first_of_item] == list(stimuli.conditions)
    assert [shown.runs[row] for row in first_of_item] == list(stimuli.runs)
    assert [shown.labels["match"][row] for row in first_of_item] == list(stimuli.labels["match"])


def test_their_means_are_what_record_pools(model, tokenizer, stimuli):
    sheet = permuted_grid(48, SITES[0])
    tokens = record_tokens(model, tokenizer, stimuli, SITES[0], {SITES[0]: sheet})[SITES[0]]
    pooled = record(model, tokenizer, stimuli, SITES[0])[SITES[0]]
    of_item = np.array(tokens.stimuli.labels["item"]).astype(int)
    means = np.stack([tokens.values[of_item == item].mean(axis=0) for item in range(5)])
    np.testing.assert_allclose(means, pooled.values, atol=1e-5)
    assert tokens.sheet == sheet
    assert np.bincount(of_item).tolist() == pooled.n_tokens.tolist()


def test_a_sample_keeps_the_order_and_follows_the_seed(model, tokenizer, stimuli):
    whole = record_tokens(model, tokenizer, stimuli, SITES[0])[SITES[0]]
    some, again, other = (
        record_tokens(model, tokenizer, stimuli, SITES[0], max_tokens=9, batch_size=2, seed=seed)[SITES[0]]
        for seed in (0, 0, 1)
    )
    assert some.values.shape == (9, 48)
    np.testing.assert_array_equal(some.values, again.values)
    assert (
        some.stimuli.labels["item"] + some.stimuli.labels["place"]
        != other.stimuli.labels["item"] + (other.stimuli.labels["place"])
    )
    places = list(zip(whole.stimuli.labels["item"], whole.stimuli.labels["place"], strict=True))
    rows = [places.index(place) for place in zip(*(some.stimuli.labels[key] for key in ("item", "place")), strict=True)]
    assert rows == sorted(rows)
    np.testing.assert_allclose(some.values, whole.values[rows], atol=1e-5)
    assert some.stimuli.items == tuple(whole.stimuli.items[row] for row in rows)


def test_a_token_without_a_letter_still_has_a_name(model, tokenizer):
    found = record_tokens(model, tokenizer, StimulusSet("x", ["a \n b"], ["c"]), SITES[0])[SITES[0]]
    assert all(item.strip() for item in found.stimuli.items)


def test_the_model_is_given_back_as_it_was(model, tokenizer, stimuli):
    model.train()
    record_tokens(model, tokenizer, stimuli, SITES[0])
    assert all(module.training for module in model.modules())


def test_a_model_that_carries_sheets_uses_them(tokenizer, stimuli):
    model = TopoLMForCausalLM(preset("tiny", vocab_size=len(tokenizer), n_positions=64))
    found = record_tokens(model, tokenizer, stimuli)
    assert {site: one.sheet for site, one in found.items()} == model.sheets()
    with pytest.raises(ValueError, match="the layout puts the units of site"):
        record_tokens(model, tokenizer, stimuli, None, other_grid)
    assert record_tokens(model, tokenizer, stimuli, None, other_grid, relayout=True).keys() == found.keys()


def test_what_is_refused(model, tokenizer, stimuli):
    with pytest.raises(ValueError, match="max_tokens=1; expected at least 2"):
        record_tokens(model, tokenizer, stimuli, SITES[0], max_tokens=1)
    with pytest.raises(ValueError, match="batch_size=0; expected at least 1"):
        record_tokens(model, tokenizer, stimuli, SITES[0], batch_size=0)
    with pytest.raises(ValueError, match="seed=-1; expected at least 0"):
        record_tokens(model, tokenizer, stimuli, SITES[0], seed=-1)
    with pytest.raises(TypeError, match="stimuli is a list of 1 str; expected a StimulusSet"):
        inspect.unwrap(record_tokens)(model, tokenizer, ["a b"], SITES[0])
    with pytest.raises(ValueError, match=r"gives shape .* choose a module that gives one vector per token"):
        record_tokens(model, tokenizer, stimuli, "transformer.wpe")
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="gives NaN or infinity for item"):
        record_tokens(model, tokenizer, stimuli, SITES[0])
