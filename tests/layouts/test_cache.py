import numpy as np
import pytest
import torch

from topographic.layouts import cache as module
from topographic.layouts import cached_activations, fit_rotations
from topographic.recording import tap
from topographic.runs import load_model
from topographic.sheets import grid

SITES = ["transformer.h.0.attn", "transformer.h.1.mlp"]


@pytest.fixture
def loaded(tiny_model):
    model, tokenizer = load_model(tiny_model, device="cpu")
    return model.eval(), tokenizer


@pytest.fixture
def words(text):
    return text.read_text(encoding="utf-8")


def test_every_token_has_what_the_model_does_at_it(loaded, words, tmp_path):
    model, tokenizer = loaded
    found = cached_activations(
        model, tokenizer, words, SITES, tmp_path, n_tokens=150, context=40, batch_size=2, progress=False
    )
    ids = tokenizer(words, add_special_tokens=False)["input_ids"][:150]
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    for site in SITES:
        assert isinstance(found[site], np.memmap)
        assert found[site].shape == (150, 36)
        assert not found[site].flags.writeable
        for first in range(0, 150, 40):
            with torch.no_grad(), tap(model, site) as heard:
                model(torch.tensor([bos + ids[first : first + 40]]))
            own = heard[site][0, len(bos) :].numpy()
            np.testing.assert_allclose(found[site][first : first + 40], own, atol=1e-5)
    assert fit_rotations(found, grid(36), steps=20).keys() == set(SITES)


def test_it_is_recorded_once_for_each_thing_that_decides_it(loaded, words, tmp_path, monkeypatch):
    model, tokenizer = loaded
    recorded = []
    inner = module._record
    monkeypatch.setattr(module, "_record", lambda *a, **k: (recorded.append(1), inner(*a, **k)))
    choices = {"n_tokens": 60, "context": 20, "progress": False}
    for more in ({}, {}, {"n_tokens": 50}, {"context": 30}, {"dtype": "float16"}, {}):
        cached_activations(model, tokenizer, words, SITES, tmp_path, **{**choices, **more})
    assert len(recorded) == 4
    cached_activations(model, tokenizer, words[100:], SITES, tmp_path, **choices)
    cached_activations(model, tokenizer, words, SITES[:1], tmp_path, **choices)
    with torch.no_grad():
        next(model.parameters()).mul_(1.01)
    cached_activations(model, tokenizer, words, SITES, tmp_path, **choices)
    assert len(recorded) == 7


def test_an_interrupted_recording_goes_on_where_it_was(loaded, words, tmp_path, monkeypatch):
    model, tokenizer = loaded
    choices = {"n_tokens": 100, "context": 10, "batch_size": 2, "progress": False}
    whole = cached_activations(model, tokenizer, words, SITES, tmp_path / "whole", **choices)
    n_batches = []
    inner = module.text_batches

    def interrupted(*arguments):
        if len(n_batches) == 3:
            raise KeyboardInterrupt
        n_batches.append(1)
        return inner(*arguments)

    monkeypatch.setattr(module, "text_batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached_activations(model, tokenizer, words, SITES, tmp_path / "part", **choices)
    (left,) = [folder for folder in (tmp_path / "part").iterdir() if folder.is_dir()]
    assert left.name.endswith(".partial")
    monkeypatch.setattr(module, "text_batches", lambda *a: (n_batches.append(1), inner(*a))[1])
    resumed = cached_activations(model, tokenizer, words, SITES, tmp_path / "part", **choices)
    assert len(n_batches) == 5
    for site in SITES:
        np.testing.assert_array_equal(resumed[site], whole[site])
    (left,) = [folder for folder in (tmp_path / "part").iterdir() if folder.is_dir()]
    assert sorted(file.name for file in left.iterdir()) == sorted([
        *(f"{site}.npy" for site in SITES),
        "recording.json",
    ])


def test_what_cannot_be_kept_leaves_nothing(loaded, words, tmp_path):
    model, tokenizer = loaded
    with pytest.raises(ValueError, match=r"the text has \d+ tokens, n_tokens=5000; give a longer one"):
        cached_activations(model, tokenizer, words[:200], SITES, tmp_path, n_tokens=5000)
    with pytest.raises(ValueError, match="dtype='int8'; expected 'float16' or 'float32'"):
        cached_activations(model, tokenizer, words, SITES, tmp_path, dtype="int8")
    for factor, dtype, message in ((1e9, "float16", "more than float16 holds"), (np.nan, "float32", "NaN or infinity")):
        with torch.no_grad():
            model.get_submodule(SITES[0]).c_proj.weight.mul_(factor)
        with pytest.raises(ValueError, match=message):
            cached_activations(model, tokenizer, words, SITES, tmp_path, n_tokens=40, dtype=dtype, progress=False)
        assert not [folder for folder in tmp_path.iterdir() if folder.is_dir()]
