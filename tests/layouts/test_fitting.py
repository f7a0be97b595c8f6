import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from topographic.layouts import Adaptors, contiguous_sheet, fit_layout, rebased
from topographic.layouts import fitting as module
from topographic.layouts.adaptors import to_sheet
from topographic.layouts.blocks import fitting_neighborhoods
from topographic.layouts.cache import cached_activations
from topographic.losses import spatial_correlation_loss
from topographic.recording import tap, weights_checksum
from topographic.runs import load_model
from topographic.sheets import grid

FAST = {"steps": 20, "progress": False, "context": 60}
N_UNITS = 36
OBLONG = grid(36, shape=(4, 9))


@pytest.fixture
def words(text):
    return text.read_text(encoding="utf-8")


@pytest.fixture
def tokenizer(tiny_model):
    return load_model(tiny_model, device="cpu")[1]


def gpt2(n_tokens, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=N_UNITS, n_head=2, vocab_size=n_tokens)).eval()


def llama(n_tokens):
    sizes = {"hidden_size": N_UNITS, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(vocab_size=n_tokens, num_key_value_heads=1, **sizes)).eval()


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("method", ["rotation", "assigned", "linear"])
def test_two_architectures_compute_what_they_did_and_lie_on_sheets(make, method, words, tokenizer):
    model = make(len(tokenizer))
    ids = torch.tensor([tokenizer(words, verbose=False)["input_ids"][:50]])
    before = model(ids).logits
    adaptors = fit_layout(model, tokenizer, words, method=method, **FAST)
    assert [one.kind for one in adaptors.values()] == [method, method]
    with rebased(model, adaptors) as shown, tap(shown, [one.sheet_site for one in adaptors.values()]) as heard:
        torch.testing.assert_close(shown(ids).logits, before, atol=1e-4, rtol=0)
    assert len(heard) == 2
    for site, one in adaptors.items():
        told = one.provenance
        assert told["weights"] == weights_checksum(model)
        assert (told["n_tokens"], told["n_held_out"]) == (14 * N_UNITS, 14 * N_UNITS // 4), site
        assert told["loss"] < told["loss_before"] - 0.02, site


def test_a_hidden_map_is_found_where_there_is_one_and_none_in_noise(planted, words, tokenizer, monkeypatch):
    """On held-out samples; the recording is replaced by populations whose map is known."""
    hidden = planted((6, 6), 700, mixed_by="rotation")
    noise = np.random.default_rng(0).normal(size=(1400, N_UNITS))
    samples = {"transformer.h.0": np.concatenate([hidden.fitted, hidden.judged]), "transformer.h.1": noise}
    monkeypatch.setattr(
        module, "cached_activations", lambda *a, n_tokens, **k: {site: one[:n_tokens] for site, one in samples.items()}
    )
    monkeypatch.setattr(module, "recording_of", lambda _: "planted")
    model = gpt2(len(tokenizer))
    found = fit_layout(model, tokenizer, words, n_tokens=700, steps=60, progress=False)
    assert found["transformer.h.0"].provenance["loss"] < 0.3
    assert found["transformer.h.1"].provenance["loss"] == pytest.approx(0.5, abs=0.05)


def test_layers_do_not_share_a_start_and_a_seed_decides(words, tokenizer):
    model = gpt2(len(tokenizer))
    first, again, other = (fit_layout(model, tokenizer, words, seed=seed, **FAST) for seed in (0, 0, 1))
    a, b = (one.matrix for one in first.values())
    assert not torch.allclose(a, b, atol=0.1)
    assert torch.equal(a, again["transformer.h.0"].matrix)
    assert not torch.allclose(a, other["transformer.h.0"].matrix, atol=0.1)


def test_what_is_finished_is_kept_and_read_again(words, tokenizer, tmp_path, monkeypatch):
    model = gpt2(len(tokenizer))
    calls, inner = [], module.METHODS["rotation"]

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return inner(*arguments, **options)

    monkeypatch.setitem(module.METHODS, "rotation", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_layout(model, tokenizer, words, folder=tmp_path, **FAST)
    resumed = fit_layout(model, tokenizer, words, folder=tmp_path, **FAST)
    assert len(calls) == 3
    fit_layout(model, tokenizer, words, folder=tmp_path, **FAST)
    assert len(calls) == 3
    fit_layout(model, tokenizer, words, folder=tmp_path, scale="overall", **FAST)
    fit_layout(model, tokenizer, words[500:], folder=tmp_path, **FAST)
    assert len(calls) == 7
    fresh = fit_layout(model, tokenizer, words, **FAST)
    assert all(torch.equal(fresh[site].matrix, one.matrix) for site, one in resumed.items())


def test_all_layers_on_one_sheet(words, tokenizer, tmp_path, monkeypatch):
    model = gpt2(len(tokenizer))
    ids = torch.tensor([tokenizer(words, verbose=False)["input_ids"][:50]])
    before = model(ids).logits
    alone = fit_layout(model, tokenizer, words, folder=tmp_path, **FAST)
    found = fit_layout(model, tokenizer, words, method="contiguous", folder=tmp_path, **FAST)
    with rebased(model, found) as shown:
        torch.testing.assert_close(shown(ids).logits, before, atol=1e-4, rtol=0)
    recorded = cached_activations(
        model, tokenizer, words, list(found), tmp_path, n_tokens=630, context=60, batch_size=8, progress=False
    )
    joint = contiguous_sheet(grid(36), 2)
    held_out = {site: torch.from_numpy(np.array(values[14 * N_UNITS :])) for site, values in recorded.items()}

    def loss(adaptors):
        shown = [to_sheet(held_out[site], one.mean, one.scale, one.matrix) for site, one in adaptors.items()]
        return float(spatial_correlation_loss(torch.cat(shown, 1), joint.positions_mm, fitting_neighborhoods(joint)))

    told = [one.provenance["loss_side_by_side"] for one in found.values()]
    assert told == [pytest.approx(loss(found), abs=1e-5)] * 2
    assert told[0] < loss(alone), "side by side, those fitted one by one do not meet"
    assert all(one.provenance["loss"] < one.provenance["loss_before"] - 0.02 for one in found.values())
    monkeypatch.setattr(module, "fit_contiguous", None)
    again = fit_layout(model, tokenizer, words, method="contiguous", folder=tmp_path, **FAST)
    assert all(torch.equal(again[site].matrix, one.matrix) for site, one in found.items())


def test_saved_with_its_model_it_is_a_folder_that_loads(words, tiny_model, tmp_path):
    model, tokenizer = load_model(tiny_model, device="cpu")
    sheets = {"transformer.h.0": grid(36, "long", shape=(4, 9))}
    found = fit_layout(model, tokenizer, words, sites="transformer.h.0", layout=sheets, source=str(tiny_model), **FAST)
    found.save(tmp_path / "layout")
    shown, _ = load_model(tmp_path / "layout", device="cpu")
    assert shown.sheets()["transformer.h.0.sheet"] == sheets["transformer.h.0"]
    assert Adaptors.load(tmp_path / "layout")["transformer.h.0"].provenance["method"] == "rotation"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"method": "tsne"}, "method='tsne'; expected one of rotation, assigned, linear, contiguous"),
        (
            {
                "method": "contiguous",
                "layout": {"transformer.h.0": grid(36), "transformer.h.1": grid(36, shape=(4, 9))},
            },
            "the sheets .* differ; on one contiguous sheet all sites need the same width and layout",
        ),
        ({"n_tokens": 71}, r"n_tokens=71 and site 'transformer.h.0' has 36 units; expected at least 72 tokens"),
        ({"sites": "transformer.x"}, "transformer.x"),
        ({"n_tokens": 10_000_000}, r"the text has \d+ tokens, n_tokens=\d+; give a longer one"),
        ({"scale": "whitened"}, "site 'transformer.h.0': scale='whitened'; expected 'unit' or 'overall'"),
        ({"layout": {"transformer.h.0": grid(25), "transformer.h.1": grid(36)}}, "has 36 units and its sheet .* 25"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(choices, message, words, tokenizer):
    with pytest.raises(ValueError, match=message):
        fit_layout(gpt2(len(tokenizer)), tokenizer, words, **{**FAST, **choices})


def test_a_dead_unit_is_named_with_its_site(words, tokenizer):
    model = gpt2(len(tokenizer))
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.weight[:, 3] = 0
        model.transformer.h[1].mlp.c_proj.bias[3] = 0
    with pytest.raises(ValueError, match=r"site 'transformer.h.1.mlp': unit 3 is constant"):
        fit_layout(model, tokenizer, words, sites="mlp", **FAST)
