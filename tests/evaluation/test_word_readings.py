import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.behaviour import token_log_probabilities
from topographic.evaluation.word_readings import (
    EMBEDDING,
    embedding_site,
    layers_and_controls,
    part_states,
    read_layers,
    word_states,
    word_surprisal,
)
from topographic.recording import RandomTokens, record, tap
from topographic.stimuli import StimulusSet

TEXTS = ["The dogs  barked loudly.", "A naïve cat's été", "Go"]


def test_words_add_up_to_their_text(tiny_subject):
    model, tokenizer = tiny_subject.model, tiny_subject.tokenizer
    found = word_surprisal(model, tokenizer, TEXTS, batch_size=2, progress=False)
    whole = token_log_probabilities(model, tokenizer, TEXTS, progress=False)
    for text, words, tokens in zip(TEXTS, found, whole, strict=True):
        assert len(words) == len(text.split())
        assert words.sum() == pytest.approx(-tokens.sum(), rel=1e-5)


def test_the_state_after_a_word_is_that_of_the_text_up_to_it(tiny_subject, monkeypatch):
    model, tokenizer, site = tiny_subject.model, tiny_subject.tokenizer, next(iter(tiny_subject.sheets))
    monkeypatch.setattr("topographic.evaluation.word_readings._TOKENS_AT_ONCE", 6)  # texts in several groups
    found = [one for _, states in word_states(model, tokenizer, TEXTS, [site], batch_size=2) for one in states[site]]
    for text, states in zip(TEXTS, found, strict=True):
        words = text.split()
        assert len(states) == len(words)
        until = StimulusSet("until", (text[: text.index(words[0]) + len(words[0])],), ("text",))
        one = record(model, tokenizer, until, [site], pooling="last", progress=False)[site]
        np.testing.assert_allclose(states[0], one.values[0], atol=1e-5)
        whole = StimulusSet("whole", (text,), ("text",))
        last = record(model, tokenizer, whole, [site], pooling="last", progress=False)[site]
        np.testing.assert_allclose(states[-1], last.values[0], atol=1e-5)


def test_sites_are_the_sheets_or_four_blocks(tiny_subject):
    assert read_layers(tiny_subject.model) == list(tiny_subject.model.sheets())
    model = GPT2LMHeadModel(GPT2Config(n_layer=8, n_embd=8, n_head=1, vocab_size=20, n_positions=8))
    assert read_layers(model) == [f"transformer.h.{layer}" for layer in (1, 3, 5, 7)]
    assert embedding_site(model) == "transformer.wte"


def test_a_tokenizer_without_offsets_is_refused(tiny_subject):
    slow = RandomTokens(tiny_subject.tokenizer, 0)
    slow.is_fast = False
    with pytest.raises(ValueError, match="no fast tokenizer and does not say where its tokens lie"):
        word_surprisal(tiny_subject.model, slow, TEXTS, batch_size=2, progress=False)


def test_a_part_is_read_after_those_before_it(tiny_subject):
    """In one pass what one pass per part gives; of a long document the last tokens that fit."""
    model, tokenizer, site = tiny_subject.model, tiny_subject.tokenizer, next(iter(tiny_subject.sheets))
    parts = ["Once upon", "a time.", "The cat", "sleeps", "and"]
    documents = ["b", "b", "a", "b", "a"]
    found = part_states(model, tokenizer, parts, documents, [site], batch_size=2)[site]
    for row, text in enumerate([
        "Once upon",
        "Once upon a time.",
        "The cat",
        "Once upon a time. sleeps",
        "The cat and",
    ]):
        shown = StimulusSet("until", (text,), ("text",))
        one = record(model, tokenizer, shown, [site], pooling="last", progress=False)[site]
        np.testing.assert_allclose(found[row], one.values[0], atol=1e-5)
    room = model.config.n_positions - 1  # a token that begins the text stands before it
    n_tokens = len(tokenizer("once upon a time")["input_ids"])
    long = ["once upon a time"] * (room // n_tokens + 3)
    states = part_states(model, tokenizer, long, ["x"] * len(long), [site], batch_size=8)[site]
    ids = tokenizer(" ".join(long))["input_ids"][-room:]
    with torch.no_grad(), tap(model.eval(), [site]) as heard:
        model(input_ids=torch.tensor([[tokenizer.bos_token_id, *ids]]))
    np.testing.assert_allclose(states[-1], heard[site][0, -1].numpy(), atol=1e-5)


def test_layers_stand_beside_an_untrained_model_and_random_tokens(tiny_subject):
    asked = []

    def read(model, tokenizer, sites):
        asked.append((model is tiny_subject.model, isinstance(tokenizer, RandomTokens), len(sites)))
        return {site: np.full((2, 1), float(len(asked))) for site in sites}

    sheets = list(tiny_subject.sheets)
    found = layers_and_controls(read, tiny_subject.model, tiny_subject.tokenizer, sheets, 0)
    assert asked == [(True, False, 1 + len(sheets)), (False, False, 1), (True, True, 1)]
    names = list(found)
    assert (names[0], len(names)) == (EMBEDDING, len(sheets) + 3)
    middle = names[1 + len(sheets) // 2]
    assert names[-2:] == [f"untrained, {middle}", f"random tokens, {middle}"]
    assert [found[name][0, 0] for name in names[-2:]] == [2.0, 3.0]
