import numpy as np
import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.behaviour import token_log_probabilities
from topographic.evaluation.word_readings import (
    embedding_site,
    read_layers,
    word_states,
    word_surprisal,
)
from topographic.recording import RandomTokens, record
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
