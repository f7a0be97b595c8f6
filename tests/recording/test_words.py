import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from topographic.behaviour.surprisal import token_log_probabilities
from topographic.recording import align_words, context_starts, predict_words, record_words, sees_ahead, tap, words
from topographic.stimuli import StimulusSet, load_localizer
from topographic.training.text.tokenizer import train_tokenizer

SITES = ["transformer.wte", "transformer.h.0", "transformer.h.1"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(load_localizer("language").items, 300)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    shape = {"n_embd": 12, "n_layer": 2, "n_head": 2, "n_positions": 64}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), initializer_range=0.5, **shape)).eval()


def story(n_words=60, runs=("a",)):
    spoken = " ".join(load_localizer("language").items).split()[: n_words * len(runs)]
    onsets = np.tile(np.arange(n_words) * 0.4, len(runs))
    return StimulusSet("story", spoken, ["word"] * len(spoken), np.repeat(runs, n_words), onset_s=onsets)


def one_pass_a_word(model, tokenizer, shown, context, n_tokens, pooling="last"):
    found = align_words(tokenizer, shown.items)
    first = context_starts(found.starts, found.ends, context, n_tokens)
    rows = {site: [] for site in SITES}
    for word in range(len(shown)):
        ids = [tokenizer.bos_token_id, *found.ids[first[word] : found.ends[word]].tolist()]
        n_own = int(found.ends[word] - found.starts[word])
        with torch.no_grad(), tap(model, SITES) as heard:
            model(torch.tensor([ids]))
        for site in SITES:
            own = heard[site][0, -n_own:]
            rows[site].append((own[-1] if pooling == "last" else own.mean(0)).numpy())
    return {site: np.stack(some) for site, some in rows.items()}


@pytest.mark.parametrize("context", ["half", "sliding", "restart", "word"])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_one_pass_a_window_gives_what_one_pass_a_word_gives(model, tokenizer, context, pooling):
    shown = story(50)
    settings = {"context": context, "n_tokens": 24, "pooling": pooling}
    found = record_words(model, tokenizer, shown, SITES, batch_size=3, progress=False, **settings)
    alone = one_pass_a_word(model, tokenizer, shown, context, 24, pooling)
    for site in SITES:
        np.testing.assert_allclose(found[site].values, alone[site], atol=1e-4)
    assert found[SITES[0]].stimuli == shown
    assert found[SITES[0]].n_tokens.sum() == len(align_words(tokenizer, shown.items).ids)


def test_runs_are_stories_of_their_own_in_any_order(model, tokenizer):
    shown = story(20, ("b", "a"))
    both = record_words(model, tokenizer, shown, SITES[2], n_tokens=32, progress=False)[SITES[2]].values
    second = shown.select(run="a")
    alone = record_words(model, tokenizer, second, SITES[2], n_tokens=32, progress=False)[SITES[2]].values
    np.testing.assert_allclose(both[20:], alone, atol=1e-5)
    mixed = np.argsort(np.tile(np.arange(20), 2), kind="stable")
    taken = record_words(model, tokenizer, shown.take(mixed), SITES[2], n_tokens=32, progress=False)[SITES[2]].values
    np.testing.assert_allclose(taken, both[mixed], atol=1e-5)


def test_texts_lend_punctuation(model, tokenizer):
    shown = StimulusSet("story", ["the", "dog", "ran"], ["word"] * 3)
    plain = record_words(model, tokenizer, shown, SITES[2], progress=False)[SITES[2]].values
    texts = {"1": "The dog, it ran."}
    found = record_words(model, tokenizer, shown, SITES[2], texts=texts, progress=False)[SITES[2]].values
    assert np.abs(found - plain).max() > 0.01
    with pytest.raises(ValueError, match="texts has none for run '1'"):
        record_words(model, tokenizer, shown, SITES[2], texts={"2": ""}, progress=False)


def test_a_model_that_sees_ahead_reads_each_word_alone(tokenizer, model):
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    bert = BertModel(BertConfig(vocab_size=len(tokenizer), initializer_range=0.5, **shape)).eval()
    assert sees_ahead(bert, tokenizer, ["encoder.layer.0"])
    assert not sees_ahead(bert, tokenizer, ["embeddings.word_embeddings"])
    assert not sees_ahead(model, tokenizer, SITES)
    shown = story(12)
    found = record_words(bert, tokenizer, shown, "encoder.layer.0", n_tokens=16, progress=False)
    aligned = align_words(tokenizer, shown.items)
    first = context_starts(aligned.starts, aligned.ends, "half", 16)
    ids = [tokenizer.bos_token_id, *aligned.ids[first[5] : aligned.ends[5]].tolist()]
    with torch.no_grad():
        alone = bert(torch.tensor([ids])).last_hidden_state[0, -1].numpy()
    np.testing.assert_allclose(found["encoder.layer.0"].values[5], alone, atol=1e-5)
    assert found["encoder.layer.0"].provenance["sees_ahead"]


def test_the_cache_serves_other_sites_and_knows_other_choices(model, tokenizer, tmp_path, monkeypatch):
    shown, calls = story(20, ("a", "b")), []
    measured = words._responses

    def counted(model, tokenizer, story, sites, *rest):
        calls.append(list(sites))
        return measured(model, tokenizer, story, sites, *rest)

    monkeypatch.setattr(words, "_responses", counted)
    settings = {"folder": tmp_path, "n_tokens": 32, "progress": False}
    first = record_words(model, tokenizer, shown, SITES[:1], **settings)
    second = record_words(model, tokenizer, shown, SITES, **settings)
    assert calls == [SITES[:1]] * 2 + [SITES[1:]] * 2
    np.testing.assert_array_equal(first[SITES[0]].values, second[SITES[0]].values)
    record_words(model, tokenizer, shown, SITES, **settings)
    assert len(calls) == 4
    record_words(model, tokenizer, shown, SITES, pooling="mean", **settings)
    record_words(model, tokenizer, shown, SITES, context="sliding", **settings)
    assert len(calls) == 8
    torch.manual_seed(1)
    other = GPT2LMHeadModel(model.config)
    record_words(other, tokenizer, shown, SITES, **settings)
    assert len(calls) == 10


def test_one_story_stays_on_the_disk(model, tokenizer, tmp_path):
    found = record_words(model, tokenizer, story(20), SITES[1], folder=tmp_path, n_tokens=32, progress=False)
    values, base = found[SITES[1]].values, found[SITES[1]].values
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert values.dtype == np.float32


def test_surprisal_and_entropy_are_those_of_the_whole_text(model, tokenizer):
    shown = story(12)
    found = predict_words(model, tokenizer, shown, n_tokens=60, progress=False)
    aligned = align_words(tokenizer, shown.items)
    log_p = token_log_probabilities(model, tokenizer, [" ".join(shown.items)], progress=False)[0]
    sums = [-log_p[start:end].sum() for start, end in zip(aligned.starts, aligned.ends, strict=True)]
    np.testing.assert_allclose(found["surprisal_nats"], sums, rtol=1e-4)
    with torch.no_grad():
        logits = model(torch.tensor([[tokenizer.bos_token_id, *aligned.ids.tolist()]])).logits[0]
    p = torch.softmax(logits.double(), -1).numpy()
    np.testing.assert_allclose(found["entropy_nats"], -(p * np.log(p)).sum(1)[aligned.starts], rtol=1e-4)


def test_predictions_are_kept(model, tokenizer, tmp_path):
    shown = story(30, ("a", "b"))
    settings = {"folder": tmp_path, "context": "half", "n_tokens": 24, "progress": False}
    first = predict_words(model, tokenizer, shown, **settings)
    assert len(list(tmp_path.glob("*.npy"))) == 4
    second = predict_words(model, tokenizer, shown, **settings)
    np.testing.assert_array_equal(first["surprisal_nats"], second["surprisal_nats"])


def test_a_rotary_model_reads_any_window(tokenizer):
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 16}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **shape)).eval()
    found = record_words(llama, tokenizer, story(40), "resid", n_tokens=20, progress=False)
    assert found["model.layers.1"].values.shape == (40, 8)


def test_what_cannot_be_read(model, tokenizer):
    shown = story(60)
    with pytest.raises(ValueError, match="pooling='max'; expected 'last' or 'mean'"):
        record_words(model, tokenizer, shown, SITES, pooling="max")
    with pytest.raises(ValueError, match=r"run 'a': a window of 6[45] tokens, the model reads at most 64"):
        record_words(model, tokenizer, shown, SITES, n_tokens=64)
    with pytest.raises(TypeError, match="words"):
        record_words(model, tokenizer, ["a", "b"], SITES)
    torch.manual_seed(0)
    broken = GPT2LMHeadModel(model.config)
    broken.transformer.h[0].mlp.c_fc.bias.data[:] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        record_words(broken, tokenizer, shown, SITES[2], n_tokens=32, progress=False)
