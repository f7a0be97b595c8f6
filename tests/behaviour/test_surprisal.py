import copy
import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    XLNetConfig,
)

from topographic.behaviour import minimal_pairs, next_word_preference
from topographic.behaviour.surprisal import PROTOCOLS, expect_causal, perplexity, token_log_probabilities
from topographic.maps import NotMeasurable
from topographic.stimuli import StimulusSet

TEXTS = [
    "The dog runs to the gate.",
    "No.",
    "The girls washed themselves in the cold stream behind the mill, then slept.",
    "Örs",
]


def prefix_by_prefix(model, sequence):
    """Second opinion: one forward per prefix, softmax in float64, no batch, no mask."""
    scores = []
    with torch.no_grad():
        for end in range(1, len(sequence)):
            logits = model(input_ids=torch.tensor([sequence[:end]])).logits[0, -1].double()
            scores.append(math.log(torch.softmax(logits, 0)[sequence[end]].item()))
    return np.array(scores)


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_batches_are_of_like_length_and_no_larger_than_asked(gpt2, tokenizer, own_pairs):
    shapes = []
    handle = gpt2.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append((kwargs["input_ids"].shape, kwargs["attention_mask"].sum().item())),
        with_kwargs=True,
    )
    scores = token_log_probabilities(gpt2, tokenizer, own_pairs.items, batch_size=20)
    handle.remove()
    assert max(shape[0] for shape, _ in shapes) == 20
    assert all(inside >= 0.85 * shape.numel() for shape, inside in shapes)
    # a batch is cut for its size or for its lengths, not for nothing
    assert len(shapes) <= len(own_pairs) / 20 + len({len(tokens) for tokens in scores})


@pytest.mark.parametrize("batch_size", [1, 2, 48])
def test_one_batched_forward_equals_one_forward_per_prefix(gpt2, tokenizer, batch_size):
    end = [tokenizer.eos_token_id]
    for protocol, front, space in (("bos", end, ""), ("harness", end, " "), ("no_bos", [], "")):
        scores = token_log_probabilities(gpt2, tokenizer, TEXTS, protocol=protocol, batch_size=batch_size)
        for text, found in zip(TEXTS, scores, strict=True):
            expected = prefix_by_prefix(gpt2, front + ids(tokenizer, space + text))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_context_matters(gpt2, tokenizer):
    """Guards the test above: a model blind to its context would hide a wrong alignment."""
    alone, after = token_log_probabilities(gpt2, tokenizer, ["gate", "the gate"])
    assert abs(alone[-1] - after[-1]) > 0.1


def test_a_text_scores_the_same_in_any_company(gpt2, tokenizer, own_pairs):
    texts = list(own_pairs.items[:30])
    together = token_log_probabilities(gpt2, tokenizer, texts, batch_size=7)
    turned = token_log_probabilities(gpt2, tokenizer, texts[::-1], batch_size=30)[::-1]
    alone = [token_log_probabilities(gpt2, tokenizer, [text])[0] for text in texts]
    for scores in zip(together, turned, alone, strict=True):
        np.testing.assert_allclose(scores[1], scores[0], atol=1e-5)
        np.testing.assert_allclose(scores[2], scores[0], atol=1e-5)


def test_padding_side_of_the_tokenizer_does_not_matter(gpt2, tokenizer, monkeypatch):
    right = token_log_probabilities(gpt2, tokenizer, TEXTS)
    monkeypatch.setattr(tokenizer, "padding_side", "left")
    for left, expected in zip(token_log_probabilities(gpt2, tokenizer, TEXTS), right, strict=True):
        np.testing.assert_array_equal(left, expected)


def test_pads_are_masked_and_on_the_right(tokenizer):
    """A model that looks at nothing but the mask: pads seen would change what it says."""
    seen = []

    class Watcher(nn.Module):
        def forward(self, input_ids, attention_mask):
            seen.append(attention_mask)
            return type("Output", (), {"logits": torch.zeros(*input_ids.shape, len(tokenizer))})

    nine, ten = ("the" + " the" * 8, "the" + " the" * 9)
    lengths = [len(ids(tokenizer, text)) for text in (nine, ten)]
    assert lengths[0] == lengths[1] - 1 > 8
    scores = token_log_probabilities(Watcher(), tokenizer, [nine, ten, "The dog"])
    del seen[0]  # the try whether it looks ahead
    assert [mask.sum(1).tolist() for mask in seen] == [lengths[::-1], [len(ids(tokenizer, "The dog"))]]
    assert (seen[0].diff(dim=1) <= 0).all()
    assert [len(tokens) for tokens in scores] == [*lengths, seen[1].shape[1]]
    for tokens in scores:
        np.testing.assert_allclose(tokens, -math.log(len(tokenizer)), rtol=1e-6)


def test_bos_is_the_beginning_token_where_there_is_one_and_never_doubled(gpt2, tokenizer, monkeypatch):
    by_end = token_log_probabilities(gpt2, tokenizer, ["The dog runs."])[0]
    brought = token_log_probabilities(gpt2, tokenizer, [f"{tokenizer.eos_token}The dog runs."])[0]
    np.testing.assert_allclose(brought, by_end, atol=1e-6)
    monkeypatch.setattr(type(tokenizer), "bos_token_id", 65, raising=False)
    by_beginning = token_log_probabilities(gpt2, tokenizer, ["The dog runs."])[0]
    np.testing.assert_allclose(by_beginning, prefix_by_prefix(gpt2, [65, *ids(tokenizer, "The dog runs.")]), atol=2e-5)
    assert abs(by_beginning[0] - by_end[0]) > 1e-3


def published_surprisals(model, tokenizer, texts, batch_size):
    """The released script, written down from its description: pads are text, one forward per prefix."""
    surprisals = []
    for start in range(0, len(texts), batch_size):
        batch = [ids(tokenizer, text) for text in texts[start : start + batch_size]]
        width = max(map(len, batch))
        tokens = torch.tensor([row + [tokenizer.eos_token_id] * (width - len(row)) for row in batch])
        total = torch.zeros(len(batch))
        for position in range(width - 1):
            with torch.no_grad():
                logits = model(input_ids=tokens[:, : position + 1]).logits[:, -1]
            total -= torch.softmax(logits, -1)[torch.arange(len(batch)), tokens[:, position + 1]].log()
        surprisals += total.tolist()
    return np.array(surprisals)


@pytest.mark.parametrize("batch_size", [3, 4, 48])
def test_published_protocol_equals_a_transcription(gpt2, tokenizer, own_pairs, batch_size):
    texts = list(own_pairs.items[::9])
    found = token_log_probabilities(gpt2, tokenizer, texts, protocol="published", batch_size=batch_size)
    expected = published_surprisals(gpt2, tokenizer, texts, batch_size)
    np.testing.assert_allclose([-tokens.sum() for tokens in found], expected, rtol=1e-5)


def test_published_protocol_depends_on_the_neighbours_and_ours_does_not(gpt2, tokenizer):
    short, long = "The dog runs.", TEXTS[2]
    for protocol, differs in (("published", True), ("no_bos", False), ("bos", False)):
        alone = token_log_probabilities(gpt2, tokenizer, [short], protocol=protocol)[0].sum()
        beside = token_log_probabilities(gpt2, tokenizer, [short, long], protocol=protocol)[0].sum()
        assert (abs(alone - beside) > 1) == differs, protocol


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_low_precision_models_are_scored_in_float32(gpt2, tokenizer, protocol):
    half = GPT2LMHeadModel(gpt2.config).eval().bfloat16()
    half.load_state_dict(gpt2.state_dict())
    exact = token_log_probabilities(gpt2, tokenizer, TEXTS, protocol=protocol)
    found = token_log_probabilities(half, tokenizer, TEXTS, protocol=protocol)
    assert all(tokens.dtype == np.float32 for tokens in found)
    # bfloat16 log-probabilities would be multiples of 1/32 or coarser at these sizes
    assert any((np.abs(tokens * 32 - np.round(tokens * 32)) > 0.01).any() for tokens in found)
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(exact), atol=0.6)


def test_dropout_is_off_and_every_module_comes_back_as_it_was(tokenizer, gpt2):
    model = GPT2LMHeadModel(GPT2Config(**{**gpt2.config.to_dict(), "resid_pdrop": 0.5}))
    model.load_state_dict(gpt2.state_dict())
    model.train()
    model.transformer.h[0].eval()
    before = [module.training for module in model.modules()]
    first, second = (token_log_probabilities(model, tokenizer, TEXTS) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
    assert [module.training for module in model.modules()] == before


def test_no_graph_is_kept(gpt2, tokenizer):
    kept = []
    handle = gpt2.lm_head.register_forward_hook(lambda module, args, output: kept.append(output.requires_grad))
    token_log_probabilities(gpt2, tokenizer, TEXTS)
    handle.remove()
    assert set(kept) == {False}


def test_perplexity_of_closed_forms(tokenizer, gpt2):
    assert perplexity([np.log(np.array([0.5, 0.5], "f4")), np.log(np.array([0.125], "f4"))]) == pytest.approx(
        (2 * 2 * 8) ** (1 / 3)
    )
    ignorant = GPT2LMHeadModel(gpt2.config)
    with torch.no_grad():
        for weight in ignorant.parameters():
            weight.zero_()
    scores = token_log_probabilities(ignorant, tokenizer, TEXTS)
    assert perplexity(scores) == pytest.approx(len(tokenizer), rel=1e-5)
    with pytest.raises(ValueError, match="perplexity of no tokens"):
        perplexity([])


def test_long_texts_fit_to_the_last_position_and_not_beyond(gpt2, tokenizer):
    word = " the"
    assert len(ids(tokenizer, word)) == 1
    # 64 positions: the last token is predicted, never read
    full = token_log_probabilities(gpt2, tokenizer, [word * 64])[0]
    np.testing.assert_allclose(
        full, prefix_by_prefix(gpt2, [tokenizer.eos_token_id] + ids(tokenizer, word) * 64), atol=2e-5
    )
    with pytest.raises(ValueError, match=r"text 1 needs 65 positions under protocol 'bos', the model has 64"):
        token_log_probabilities(gpt2, tokenizer, ["No.", word * 65])
    token_log_probabilities(gpt2, tokenizer, [word * 65], protocol="no_bos")
    with pytest.raises(ValueError, match="shorten the text"):
        token_log_probabilities(gpt2, tokenizer, [word * 66], protocol="no_bos")


@pytest.mark.parametrize(
    ("texts", "options", "error", "match"),
    [
        ("one text", {}, TypeError, "single string 'one text'; expected a sequence: wrap it in a list"),
        ([], {}, ValueError, "no texts to score"),
        (["The dog", ""], {}, ValueError, r"text 1 \(''\) becomes no token"),
        (["The dog"], {"protocol": "mean"}, ValueError, "protocol 'mean' is unknown; choose one of"),
        (["The dog"], {"batch_size": 0}, ValueError, "batch_size=0; expected at least 1"),
        (["The dog", " the"], {"protocol": "no_bos"}, ValueError, "text 1 .* is one token"),
    ],
)
def test_bad_input(gpt2, tokenizer, texts, options, error, match):
    with pytest.raises(error, match=match):
        token_log_probabilities(gpt2, tokenizer, texts, **options)


def test_other_things_are_refused_in_one_line(gpt2, tokenizer):
    unchecked = inspect.unwrap(token_log_probabilities)
    stimuli = StimulusSet("s", ["The dog"], ["a"])
    with pytest.raises(TypeError, match=r"^texts is a StimulusSet; expected a Sequence: a list of strings, such as"):
        unchecked(gpt2, tokenizer, stimuli)
    with pytest.raises(TypeError, match=r"^texts\[0\] is a tuple of 1 str; expected a str"):
        unchecked(gpt2, tokenizer, [("The dog",)])
    with pytest.raises(TypeError, match=r"^tokenizer is the string 'gpt2'; expected a Callable: a loaded tokenizer"):
        unchecked(gpt2, "gpt2", ["The dog"])


def test_a_model_without_a_longest_context_reads_any(tokenizer):
    """XLNet says -1, Bloom nothing."""

    class Watcher(nn.Module):
        config = XLNetConfig(vocab_size=len(tokenizer))

        def forward(self, input_ids, attention_mask, use_cache=None):
            return type("Output", (), {"logits": torch.zeros(*input_ids.shape, len(tokenizer))})

    (tokens,) = token_log_probabilities(Watcher(), tokenizer, ["the" * 300])
    np.testing.assert_allclose(tokens, -math.log(len(tokenizer)), rtol=1e-6)


@pytest.mark.parametrize(
    ("protocol", "match"),
    [
        ("bos", "neither a beginning- nor"),
        ("harness", "neither a beginning- nor"),
        ("published", "no end-of-text token"),
    ],
)
def test_tokenizers_without_special_tokens(gpt2, tokenizer, monkeypatch, protocol, match):
    monkeypatch.setattr(type(tokenizer), "eos_token_id", None, raising=False)
    monkeypatch.setattr(type(tokenizer), "bos_token_id", None, raising=False)
    with pytest.raises(ValueError, match=match):
        token_log_probabilities(gpt2, tokenizer, ["The dog"], protocol=protocol)


def test_progress_goes_to_stderr_and_can_be_switched_off(gpt2, tokenizer, capfd):
    token_log_probabilities(gpt2, tokenizer, TEXTS, progress=False)
    assert capfd.readouterr() == ("", "")
    token_log_probabilities(gpt2, tokenizer, TEXTS)
    out, err = capfd.readouterr()
    assert out == ""
    assert "surprisal" in err
    assert "4/4" in err


def test_tokenizers_of_another_model_are_refused(gpt2, tokenizer):
    smaller = GPT2LMHeadModel(GPT2Config(**{**gpt2.config.to_dict(), "vocab_size": 200}))
    with pytest.raises(ValueError, match=r"text 1 has token \d+, the model knows tokens 0 to 199; use the tokenizer"):
        token_log_probabilities(smaller, tokenizer, ["!", "The girls washed themselves."])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_looks_ahead_is_refused(tokenizer, own_pairs, dtype):
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    masked = BertForMaskedLM(config).to(dtype)
    for measure in (
        lambda: token_log_probabilities(masked, tokenizer, TEXTS),
        lambda: minimal_pairs(masked, tokenizer, own_pairs),
        lambda: next_word_preference(masked, tokenizer, ["The dog"], ["runs"], ["cats"]),
    ):
        with pytest.raises(NotMeasurable, match=r"BertForMaskedLM looks at the tokens that follow.*causal"):
            measure()


def test_a_classifier_of_texts_is_refused(tokenizer):
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    with pytest.raises(NotMeasurable, match=r"logits of shape \(3, 2\) for \(3, \d\) tokens.*causal"):
        token_log_probabilities(BertForSequenceClassification(config), tokenizer, TEXTS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_causal_model_is_not(gpt2, tokenizer, dtype):
    assert expect_causal(copy.deepcopy(gpt2).to(dtype), [ids(tokenizer, text) for text in TEXTS]) is None
