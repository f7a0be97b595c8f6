from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from topographic.layers import LateralSmoothing, SharedFields
from topographic.models import (
    TopoformerConfig,
    TopoformerForCausalLM,
    TopoformerForMaskedLM,
    TopoformerForSequenceClassification,
    fresh_model,
    modeling_topoformer,
    preset,
    register,
)
from topographic.models.convert import convert_checkpoint
from topographic.models.modeling_topoformer import TopoformerAttention
from topographic.recording import edit, find_sites, tap
from topographic.sheets import grid

HEADS = {
    "next_token": TopoformerForCausalLM,
    "masked_tokens": TopoformerForMaskedLM,
    "labels": TopoformerForSequenceClassification,
}
AUTO = {
    "next_token": AutoModelForCausalLM,
    "masked_tokens": AutoModelForMaskedLM,
    "labels": AutoModelForSequenceClassification,
}
VARIANTS = {
    "published": {},
    "classifier": {"norm": "post", "positions": "learned", "bias": True, "gated": False, "classifier_width": None},
    "tiles": {"n_head": 4},
    "own sheets": {"n_head": 4, "head_sheets": "own"},
    "local": {"querying": "local"},
    "gains": {"column_gains": True, "normalization": "row"},
    "free": {"non_negative": False, "fields": "gaussian", "rectified": True},
    "plain": {"querying_fraction": None, "reweighting_fraction": None},
    "no torus": {"wrap": False},
    "lateral": {"lateral_sigma_mm": 1.0, "lateral_strength": 0.5},
}


def built(objective="masked_tokens", seed=0, **changes):
    return fresh_model(preset("topoformer_tiny", **changes), seed=seed, objective=objective).eval()


def tokens(n_texts=2, n_tokens=8, seed=0):
    return torch.randint(256, (n_texts, n_tokens), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_attention_is_that_of_the_published_code(shared, implementation):
    with np.load(shared / "golden" / "topoformer_attention_10x10.npz") as stored:
        golden = SimpleNamespace(**{name: torch.from_numpy(stored[name]) for name in stored.files})
    config = TopoformerConfig(
        n_embd=100,
        bias=True,
        dropout=0.0,
        querying_fraction=float(golden.spatial_querying_fraction),
        reweighting_fraction=float(golden.spatial_reweighting_fraction),
        attn_implementation=implementation,
    )
    attention = TopoformerAttention(config, 0)
    with torch.no_grad():
        for name in ("query", "key", "value"):
            linear = getattr(attention, name)
            linear.weight.copy_(getattr(golden, f"{name}_weight"))
            linear.bias.copy_(getattr(golden, f"{name}_bias"))
        attention.output.weight = golden.reweighting_weight_after_projection
        attention.output.bias.copy_(golden.reweighting_bias)
    with tap(attention, ["output"]):
        output, weights = attention(golden.x)
    torch.testing.assert_close(output, golden.projected_output, rtol=0, atol=1e-6)
    if implementation == "eager":
        torch.testing.assert_close(weights[:, 0], golden.attention_probs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pads", ["none", "left", "right"])
@pytest.mark.parametrize("objective", ["next_token", "masked_tokens"])
def test_wide_heads_on_a_cpu_see_what_narrow_ones_do(objective, pads, monkeypatch):
    model, ids, written = built(objective), tokens(), []
    assert model.config._attn_implementation == "sdpa"
    own = modeling_topoformer.attend_written_out
    monkeypatch.setattr(
        modeling_topoformer, "attend_written_out", lambda *args, **kwargs: written.append(1) or own(*args, **kwargs)
    )
    mask = torch.ones_like(ids)
    if pads != "none":
        mask[0, slice(0, 3) if pads == "left" else slice(-3, None)] = 0
    answers = []
    for width in (1, 1000):  # of a head, from which on it counts as wide
        monkeypatch.setattr("topographic.layers.attention._WIDE", width)
        model.zero_grad()
        logits = model(ids, attention_mask=mask).logits[mask.bool()]
        logits.square().sum().backward()
        answers.append((logits, *(one.grad for one in model.parameters())))
        assert len(written) == 2, "the two blocks of the first model"
    for wide, narrow in zip(*answers, strict=True):
        assert torch.isfinite(wide).all()
        torch.testing.assert_close(wide, narrow, rtol=1e-4, atol=1e-5)
    if objective == "next_token":
        monkeypatch.setattr("topographic.layers.attention._WIDE", 1)
        step, kept = [], None  # what was said, keys and values
        for token in ids.T[..., None]:
            said = model(token, past_key_values=kept, use_cache=True)
            step, kept = [*step, said.logits], said.past_key_values
        torch.testing.assert_close(torch.cat(step, 1), model(ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("objective", HEADS)
def test_every_variant_comes_back_from_its_file_to_the_bit(objective, variant, tmp_path):
    model, ids = built(objective, **VARIANTS[variant]), tokens()
    assert type(model) is HEADS[objective]
    with torch.no_grad():
        for parameter in model.parameters():  # so that nothing is what initialisation would make it again
            parameter.add_(0.01)
        expected = model(ids).logits
    model.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".py"}
    again = AUTO[objective].from_pretrained(tmp_path)
    assert torch.equal(again(ids).logits, expected)
    assert again.sheets() == model.sheets()
    assert not again.training
    register()
    bare = AutoModel.from_pretrained(tmp_path)
    assert bare(ids).last_hidden_state.shape == (2, 8, 36)


def test_sites_are_queries_keys_values_and_outputs_on_wrapped_grids():
    model = built()
    sheets = model.sheets()
    names = ["query_sheet", "key_sheet", "value_sheet", "output_sheet"]
    assert list(sheets) == [f"transformer.h.{block}.attn.{name}" for block in range(2) for name in names]
    assert sheets["transformer.h.0.attn.query_sheet"] == grid(36, "transformer.h.0.attn.query_sheet", wrap=True)
    with tap(model, list(sheets)) as heard:
        model(tokens())
    assert {tuple(one.shape) for one in heard.values()} == {(2, 8, 36)}
    own = built(n_head=4, head_sheets="own")
    assert len(own.sheets()) == 32
    with tap(own, find_sites(own, "transformer.h.1.attn.key_sheet.*")) as heard:
        own(tokens())
    assert [tuple(one.shape) for one in heard.values()] == [(2, 8, 9)] * 4


@pytest.mark.parametrize("name", ["query", "key", "value", "output"])
@pytest.mark.parametrize("changes", [{}, {"n_head": 4, "head_sheets": "own"}], ids=["one sheet", "own sheets"])
def test_what_is_edited_at_a_site_reaches_the_output(name, changes):
    model, ids = built(**changes), tokens()
    site = f"transformer.h.0.attn.{name}_sheet" + (".1" if changes else "")
    before = model(ids).logits
    with edit(model, {site: lambda activations: activations + torch.arange(activations.shape[-1])}):
        assert not torch.equal(model(ids).logits, before)
    assert torch.equal(model(ids).logits, before)


@pytest.mark.parametrize("objective", HEADS)
@pytest.mark.parametrize("variant", ["published", "classifier", "tiles"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_pads_change_nothing(objective, variant, side):
    model, ids = built(objective, **VARIANTS[variant]), tokens(1, 5)
    alone = model(ids).logits
    at = slice(3, None) if side == "left" else slice(0, 5)
    padded, mask = torch.full((2, 8), 7), torch.zeros(2, 8, dtype=torch.int64)
    padded[0, at], mask[0, at] = ids[0], 1
    padded[1], mask[1] = tokens(1, 8, seed=1)[0], 1
    logits = model(padded, attention_mask=mask).logits[:1]
    torch.testing.assert_close(logits if objective == "labels" else logits[:, at], alone, rtol=0, atol=1e-5)


def test_only_the_causal_model_is_blind_to_what_comes():
    ids = tokens(1, 8)
    changed = ids.clone()
    changed[0, -1] = (ids[0, -1] + 1) % 256
    for objective, blind in (("next_token", True), ("masked_tokens", False)):
        model = built(objective)
        same = torch.allclose(model(ids).logits[:, :-1], model(changed).logits[:, :-1], atol=1e-6)
        assert same is blind, objective
    config = preset("topoformer_tiny")
    assert TopoformerForCausalLM(config).config.is_causal
    assert not config.is_causal, "the given configuration is left as it is"
    assert not TopoformerForMaskedLM(TopoformerForCausalLM(config).config).config.is_causal


def test_generation_with_and_without_kept_keys_agrees():
    model, ids = built("next_token", n_head=4), tokens(1, 4)
    kept, fresh = (
        model.generate(ids, max_new_tokens=6, do_sample=False, use_cache=use, pad_token_id=0) for use in (True, False)
    )
    assert torch.equal(kept, fresh)
    whole = model(ids).logits
    first = model(ids[:, :3], use_cache=True)
    last = model(ids[:, 3:], past_key_values=first.past_key_values)
    torch.testing.assert_close(last.logits[:, 0], whole[:, 3])


@pytest.mark.parametrize("objective", HEADS)
def test_losses_are_cross_entropies(objective):
    model, ids = built(objective), tokens()
    if objective == "labels":
        labels = torch.tensor([0, 1])
        outputs = model(ids, labels=labels)
        expected = torch.nn.functional.cross_entropy(outputs.logits, labels)
    elif objective == "next_token":
        outputs = model(ids, labels=ids)
        expected = torch.nn.functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    else:
        labels = torch.where(torch.arange(8) % 3 == 0, ids, -100)
        outputs = model(ids, labels=labels)
        expected = torch.nn.functional.cross_entropy(outputs.logits[labels >= 0], labels[labels >= 0])
    torch.testing.assert_close(outputs.loss, expected)
    assert model(ids).loss is None


def test_a_batch_in_which_nothing_is_masked_has_no_loss_and_a_finite_gradient():
    model = built()
    loss = model(tokens(), labels=torch.full((2, 8), -100)).loss
    assert float(loss.detach()) == 0
    loss.backward()
    assert all(torch.isfinite(one.grad).all() for one in model.parameters() if one.grad is not None)


def test_attention_written_out_is_the_fused_one():
    fused, written = built(), built()
    written.set_attn_implementation("eager")
    torch.testing.assert_close(written(tokens()).logits, fused(tokens()).logits, rtol=0, atol=1e-5)
    weights = written(tokens(), output_attentions=True).attentions
    assert [tuple(one.shape) for one in weights] == [(2, 1, 8, 8)] * 2
    assert len(fused(tokens(), output_hidden_states=True).hidden_states) == 3


@pytest.mark.parametrize("variant", ["published", "local"])
def test_checkpointing_gradients_changes_none(variant):
    grads = []
    for checkpointing in (False, True):
        model = built(**VARIANTS[variant]).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(tokens(), labels=tokens()).loss.backward()
        grads.append({name: one.grad for name, one in model.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad)


def test_training_leaves_weights_in_their_fields_and_non_negative():
    model = built().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(3):
        model(tokens(), labels=tokens()).loss.backward()
        optimizer.step()
    fields = model.config.map_fields("reweighting")
    for block in model.transformer.h:
        assert (block.attn.output.weight[~fields] == 0).all()
        assert (block.attn.output.weight >= 0).all()


def test_initial_weights_are_ten_times_those_of_torch_without_signs():
    weight = built().transformer.h[0].attn.output.parametrizations.weight.original.detach()
    assert 0 <= float(weight.min()) < 0.05
    assert float(weight.max()) == pytest.approx(10 / 6, rel=0.02)
    free = built(non_negative=False).transformer.h[0].attn.output.parametrizations.weight.original.detach()
    assert float(free.std()) == pytest.approx(0.02, rel=0.1)
    assert built(positions="sinusoidal").transformer.wpe.scale.item() == pytest.approx(1 / 6)


def test_a_control_has_as_many_parameters_no_locality_and_no_negative_weights():
    topographic, control = built(), fresh_model(preset("topoformer_tiny_control"), seed=0, objective="masked_tokens")
    assert control.num_parameters() == topographic.num_parameters()
    output = control.transformer.h[0].attn.output
    assert (output.weight >= 0).all()
    assert (output.weight > 0).float().mean() > 0.99
    assert control.config.receptive_fields("querying") is None


def test_published_sizes():
    with torch.device("meta"):
        bert = TopoformerForMaskedLM(preset("topoformer_bert"))
        classifier = TopoformerForSequenceClassification(preset("topoformer_imdb"))
    per_block = 4 * 784**2 + 784 * 3072 + 1536 * 784 + 2 * 784
    assert bert.num_parameters() == 32768 * 784 + 16 * per_block + 784 + 1
    maps = 4 * (400**2 + 400) + 2 * 400 * 1600 + 1600 + 400 + 4 * 400
    assert classifier.num_parameters() == (30522 + 256) * 400 + maps + 400 * 2 + 2
    assert len(bert.sheets()) == 64


def test_too_long_an_input_and_both_kinds_of_inputs_are_refused():
    model = built()
    with pytest.raises(ValueError, match="input of 33 tokens; this model was built for n_positions=32"):
        model(tokens(1, 33))
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model()


def test_a_checkpoint_of_the_published_code_is_refused_in_one_line_and_nothing_in_it_is_run(tmp_path):
    weights = {"blocks.0.attention.querying.weight": torch.zeros(4, 4)}
    torch.save(weights, tmp_path / "topoformer.pt")
    with pytest.raises(ValueError, match="has no 'model'") as refusal:
        convert_checkpoint(tmp_path / "topoformer.pt")
    assert "\n" not in str(refusal.value)


def test_embeddings_are_tied_and_can_be_resized():
    model = built()
    assert model.lm_head.weight is model.transformer.wte.weight
    model.resize_token_embeddings(300)
    assert model(tokens()).logits.shape == (2, 8, 300)


def test_layers_share_their_fields_also_after_loading(tmp_path):
    built().save_pretrained(tmp_path)
    for model in (built(), TopoformerForMaskedLM.from_pretrained(tmp_path)):
        shared = {one.inside.data_ptr() for one in model.modules() if isinstance(one, SharedFields)}
        same = model.config.querying_fraction == model.config.reweighting_fraction
        assert len(shared) == (1 if same else 2)
        first = model.transformer.h[0].attn
        assert torch.equal(first.querying.fields, model.config.receptive_fields("querying"))
        assert first.querying.shared is model.transformer.h[1].attn.querying.shared


def test_lateral_connections_smooth_what_both_branches_add():
    plain = built(querying_fraction=None, reweighting_fraction=None)
    model = built(querying_fraction=None, reweighting_fraction=None, lateral_sigma_mm=0.8, lateral_strength=0.7)
    model.load_state_dict(plain.state_dict())  # they are no parameters
    lateral = LateralSmoothing(model.config.sheet("s"), sigma_mm=0.8, strength=0.7)
    sites = ["transformer.h.0.attn.output_sheet", "transformer.h.0.mlp"]
    with tap(plain, sites) as without, torch.no_grad():
        plain(tokens())
    with tap(model, [*sites, "transformer.h.0.mlp.dense_out"]) as heard, torch.no_grad():
        model(tokens())
    torch.testing.assert_close(heard[sites[0]], lateral(without[sites[0]]))
    torch.testing.assert_close(heard[sites[1]], lateral(heard["transformer.h.0.mlp.dense_out"]))
