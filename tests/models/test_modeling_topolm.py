"""The decoder against GPT-2, the authors' checkpoint and hand calculation; its sheets against their layouts."""

import math
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
)

from topographic.models import (
    SheetPoint,
    TopoLMForCausalLM,
    TopoLMForSequenceClassification,
    TopoLMModel,
    preset,
    register,
)
from topographic.sheets import Sheet, grid, head_tiles, permuted_grid

SITES = [f"transformer.h.{block}.{branch}_sheet" for block in (0, 1) for branch in ("attn", "mlp")]


def tiny(seed: int = 0, **changes) -> TopoLMForCausalLM:
    """Seeded model of two blocks, with weights large enough that every part of it matters."""
    torch.manual_seed(seed)
    return TopoLMForCausalLM(preset("tiny", initializer_range=0.3, **changes)).eval()


def tokens(*shape: int, seed: int = 1) -> torch.Tensor:
    """Random tokens."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))


def outputs_of(model: torch.nn.Module, names: list[str]) -> tuple[dict, list]:
    """Dictionary that fills with the named modules' outputs at each forward, and the hooks' handles."""
    heard = {}
    modules = dict(model.named_modules())
    handles = [
        modules[name].register_forward_hook(lambda _, __, output, name=name: heard.__setitem__(name, output))
        for name in names
    ]
    return heard, handles


def twin_gpt2(model: TopoLMForCausalLM) -> GPT2LMHeadModel:
    """Hugging Face's GPT-2 with the same weights."""
    config = model.config
    gpt2 = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.n_positions,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            activation_function="gelu",
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
        )
    ).to(model.dtype)
    weights = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("_um")}
    for name, tensor in weights.items():
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            weights[name] = tensor.T.contiguous()  # GPT-2 keeps (in, out)
    gpt2.load_state_dict(weights)
    return gpt2.train(model.training)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_equals_gpt2(dtype, tolerance, attention) -> None:
    """Sheets ignored, logits, loss and every gradient are GPT-2's."""
    model = tiny(bias=True).to(dtype)
    for name, parameter in model.named_parameters():  # biases are born zero; make them matter
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.set_attn_implementation(attention)
    gpt2 = twin_gpt2(model)
    ids = tokens(3, 20)
    labels = ids.masked_fill(tokens(3, 20, seed=5) < 64, -100)

    both = []
    for network in (model, gpt2):
        output = network(ids, labels=labels)
        # the library's loss is float32, which would hide digits in float64
        loss = functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        loss.backward()
        assert output.loss.item() == pytest.approx(loss.item(), abs=1e-5)
        both.append((output, {name: parameter.grad for name, parameter in network.named_parameters()}))

    (ours, our_gradients), (theirs, their_gradients) = both
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=tolerance, atol=tolerance)
    assert ours.loss.item() == pytest.approx(theirs.loss.item(), abs=1e-6)
    assert our_gradients.keys() == their_gradients.keys()
    for name, gradient in their_gradients.items():
        expected = gradient.T if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) else gradient
        torch.testing.assert_close(our_gradients[name], expected, rtol=tolerance, atol=tolerance, msg=name)


def test_dropout_falls_where_gpt2_lets_it_fall() -> None:
    """With one seed both drop the same units, in training only."""
    model = tiny(bias=True, dropout=0.2).train()
    gpt2 = twin_gpt2(model)
    ids = tokens(2, 12)
    logits = []
    for network in (model, gpt2):
        torch.manual_seed(3)
        logits.append(network(ids).logits)
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits[0], model.eval()(ids).logits, atol=1e-2)


def test_loss_is_divided_by_the_items_it_is_told() -> None:
    """Gradient accumulation: summed cross-entropy over the items of all micro-batches."""
    model, ids = tiny(), tokens(2, 9)
    mean, shared = model(ids, labels=ids).loss, model(ids, labels=ids, num_items_in_batch=torch.tensor(64)).loss
    assert shared.item() == pytest.approx(mean.item() * 16 / 64, rel=1e-6)


def test_equals_the_authors_checkpoint(shared) -> None:
    """Logits, loss and every sheet of the golden checkpoint, computed by the published code."""
    folder = shared / "golden" / "topolm_checkpoint_tiny"
    checkpoint = torch.load(folder / "ckpt.pt", map_location="cpu", weights_only=True)
    expected = np.load(folder / "expected.npz")
    sizes, weights = checkpoint["model_args"], checkpoint["model"]
    model = TopoLMForCausalLM(
        preset(
            "tiny",
            vocab_size=weights["lm_head.weight"].shape[0],
            n_positions=sizes["block_size"],
            n_embd=sizes["n_embed"],
            n_layer=sizes["n_layer"],
            n_head=sizes["n_head"],
            bias=sizes["bias"],
        )
    ).eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert all(name.endswith("_um") for name in missing)
    assert not unexpected
    names = {f"layer_{i}_{branch}": f"transformer.h.{i}.{branch}_sheet" for i in (0, 1) for branch in ("attn", "mlp")}
    heard, _ = outputs_of(model, list(names.values()))
    with torch.no_grad():
        logits = model(torch.from_numpy(expected["input_ids"])).logits
    rounding = 5e-6  # of golden values in float32: in float64 the same weights give logits 3.7e-6 away from them
    np.testing.assert_allclose(logits.numpy(), expected["logits"], atol=rounding)
    loss = functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(expected["targets"]).flatten())
    assert loss.item() == pytest.approx(float(expected["cross_entropy"]), abs=1e-6)
    for name, site in names.items():
        np.testing.assert_allclose(heard[site].numpy(), expected[name], atol=rounding, err_msg=site)


# cache, pads, generation


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_pads_on_either_side_change_nothing(attention) -> None:
    """Real tokens see the same words at the same positions, whatever was put around them."""
    model = tiny()
    model.set_attn_implementation(attention)
    heard, _ = outputs_of(model, SITES)
    rows = [tokens(1, length, seed=length) for length in (5, 9, 12)]
    alone = []
    for row in rows:
        logits = model(row).logits
        alone.append((logits, dict(heard)))
    for side in ("left", "right"):
        ids, mask = torch.zeros(3, 12, dtype=torch.long), torch.zeros(3, 12, dtype=torch.long)
        places = [slice(12 - row.shape[1], 12) if side == "left" else slice(0, row.shape[1]) for row in rows]
        for i, (row, place) in enumerate(zip(rows, places, strict=True)):
            ids[i, place], mask[i, place] = row[0], 1
        logits = model(ids, attention_mask=mask).logits
        for i, place in enumerate(places):
            torch.testing.assert_close(logits[i, place], alone[i][0][0], rtol=1e-5, atol=1e-5)
            for site in SITES:
                torch.testing.assert_close(heard[site][i, place], alone[i][1][site][0], rtol=1e-5, atol=1e-5)


def test_cache_gives_what_the_whole_input_gives() -> None:
    """In steps of 4, 1, 1 and 3 tokens, with a left-padded row."""
    model, ids = tiny(), tokens(2, 9)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    whole = model(ids, attention_mask=mask).logits
    cache, start = None, 0
    for step in (4, 1, 1, 3):
        stop = start + step
        output = model(ids[:, start:stop], attention_mask=mask[:, :stop], past_key_values=cache, use_cache=True)
        cache, new = output.past_key_values, mask[:, start:stop].bool()
        torch.testing.assert_close(output.logits[new], whole[:, start:stop][new], rtol=1e-5, atol=1e-5)
        start = stop
    assert cache.get_seq_length() == 9


def test_no_cache_is_kept_in_training() -> None:
    """Keys and values of a training step would only cost memory."""
    model, ids = tiny(), tokens(1, 4)
    assert model(ids).past_key_values.get_seq_length() == 4
    assert model(ids, use_cache=False).past_key_values is None
    assert model.train()(ids).past_key_values is None


def test_generate_is_greedy_step_by_step() -> None:
    """Cached, uncached, batched with left pads, with a static cache: the words of the plain loop."""
    model = tiny()
    prompts = [tokens(1, 4, seed=3), tokens(1, 7, seed=4)]
    expected = []
    for prompt in prompts:
        ids = prompt
        for _ in range(8):
            ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        expected.append(ids[0, prompt.shape[1] :])
    generate = partial(model.generate, max_new_tokens=8, do_sample=False, pad_token_id=0)
    for options in ({}, {"use_cache": False}, {"cache_implementation": "static"}):
        for prompt, words in zip(prompts, expected, strict=True):
            assert generate(prompt, **options)[0, prompt.shape[1] :].tolist() == words.tolist(), options
    ids = torch.cat([functional.pad(prompts[0], (3, 0)), prompts[1]])
    mask = torch.tensor([[0] * 3 + [1] * 4, [1] * 7])
    batched = generate(ids, attention_mask=mask)[:, 7:]
    assert batched.tolist() == [words.tolist() for words in expected]


def test_only_the_asked_logits_are_computed() -> None:
    """logits_to_keep counts from the end or picks."""
    model, ids = tiny(), tokens(2, 6)
    whole = model(ids).logits
    torch.testing.assert_close(model(ids, logits_to_keep=2).logits, whole[:, -2:])
    torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([1, 4])).logits, whole[:, [1, 4]])


def test_hidden_states_and_attentions_on_request() -> None:
    """Stream after every block; causal weights that sum to one."""
    model, ids = tiny(), tokens(2, 6)
    states = model(ids, output_hidden_states=True).hidden_states
    assert len(states) == 3
    torch.testing.assert_close(states[0], model.transformer.wte(ids) + model.transformer.wpe.weight[:6])
    torch.testing.assert_close(model.lm_head(states[-1]), model(ids).logits)
    model.set_attn_implementation("eager")
    weights = model(ids, output_attentions=True).attentions
    assert [tuple(one.shape) for one in weights] == [(2, 4, 6, 6)] * 2
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, 4, 6))
    assert weights[0].triu(1).abs().max() == 0


def test_inputs_that_cannot_be_run_are_refused() -> None:
    """Too long, too many, or none."""
    model = tiny()
    with pytest.raises(ValueError, match="input of 33 tokens; this model was built for n_positions=32: shorten"):
        model(tokens(1, 33))
    with pytest.raises(ValueError, match="input of 33 tokens"):
        model.generate(tokens(1, 30), max_new_tokens=10, do_sample=False, pad_token_id=0)
    with pytest.raises(ValueError, match="expected either input_ids or inputs_embeds"):
        model(attention_mask=torch.ones(1, 3))


# what lies on the sheets


def test_without_its_sheets_the_paper_model_is_embeddings_only() -> None:
    """Everything a pre-residual block adds passes through its two sheets: silence them and the stream stays."""
    model, ids = tiny(), tokens(2, 6)
    for module in model.modules():
        if isinstance(module, SheetPoint):
            module.register_forward_hook(lambda _, __, output: torch.zeros_like(output))
    decoder = model.transformer
    expected = model.lm_head(decoder.ln_f(decoder.wte(ids) + decoder.wpe.weight[:6]))
    torch.testing.assert_close(model(ids).logits, expected)


@pytest.mark.parametrize("sheet_point", ["pre_residual", "post_residual"])
def test_sheets_carry_branch_outputs_or_the_stream(sheet_point) -> None:
    """Pre-residual sheets are what is added, post-residual sheets the sum."""
    model, ids = tiny(sheet_point=sheet_point, dropout=0.1), tokens(2, 6)
    stream = {}
    for i, block in enumerate(model.transformer.h):
        block.ln_1.register_forward_pre_hook(lambda _, args, i=i: stream.__setitem__((i, "before"), args[0]))
        block.ln_2.register_forward_pre_hook(lambda _, args, i=i: stream.__setitem__((i, "between"), args[0]))
        block.register_forward_hook(lambda _, __, output, i=i: stream.__setitem__((i, "after"), output))
    heard, _ = outputs_of(model, SITES)
    model.train()(ids)  # in training the dropped units are silent on the sheet too
    for i in (0, 1):
        attention, mlp = heard[f"transformer.h.{i}.attn_sheet"], heard[f"transformer.h.{i}.mlp_sheet"]
        before, between, after = (stream[i, when] for when in ("before", "between", "after"))
        if sheet_point == "pre_residual":
            assert torch.equal(between, before + attention)
            assert torch.equal(after, between + mlp)
            assert (attention == 0).any()
        else:
            assert torch.equal(attention, between)
            assert torch.equal(mlp, after)
            assert not torch.equal(between, before)


def test_head_tiles_put_the_heads_themselves_on_the_sheet() -> None:
    """No output projection: unit 9 h + j of the sheet is output j of head h, worked out by hand."""
    model, ids = tiny(head_tiles=True).double(), tokens(1, 5)
    assert not [name for name, _ in model.named_parameters() if "attn.c_proj" in name]
    heard, _ = outputs_of(model, SITES)
    model(ids)
    decoder = model.transformer
    block = decoder.h[0]
    stream = (decoder.wte(ids) + decoder.wpe.weight[:5])[0]
    mixed = block.attn.c_attn(block.ln_1(stream))
    for head in range(4):
        query, key, value = (mixed[:, part * 36 + head * 9 :][:, :9] for part in range(3))
        for token in range(5):
            scores = torch.stack([query[token] @ key[seen] / 3 for seen in range(token + 1)]).exp()
            expected = sum(scores[seen] / scores.sum() * value[seen] for seen in range(token + 1))
            torch.testing.assert_close(heard[SITES[0]][0, token, head * 9 : head * 9 + 9], expected)
    assert model.sheets()[SITES[0]] == head_tiles(36, SITES[0], n_heads=4)
    places = model.sheets()[SITES[0]].positions_mm
    assert places[9 * 2 + 5].tolist() == [4.0, 2.0]  # head 2: lower left tile; unit 5: its row 1, column 2


def test_extra_projection_stands_between_sheet_and_stream() -> None:
    """The attention sheet is what the projection reads; parameters grow by two squares."""
    model, plain, ids = tiny(extra_projection=True, head_tiles=True), tiny(head_tiles=True), tokens(2, 6)
    assert model.num_parameters() == plain.num_parameters() + 2 * 36**2
    stream = {}
    block = model.transformer.h[0]
    block.ln_1.register_forward_pre_hook(lambda _, args: stream.__setitem__("before", args[0]))
    block.ln_2.register_forward_pre_hook(lambda _, args: stream.__setitem__("between", args[0]))
    heard, _ = outputs_of(model, SITES)
    model(ids)
    expected = stream["before"] + heard[SITES[0]] @ block.attn_proj.weight.T
    torch.testing.assert_close(stream["between"], expected)


# birth


def test_initial_weights() -> None:
    """Normal(0, 0.02), branch outputs 0.02 / sqrt(2 x blocks), norms one, biases zero."""
    torch.manual_seed(0)
    model = TopoLMForCausalLM(preset("demo", bias=True, extra_projection=True))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif ".ln_" in name:
            assert (parameter == 1).all(), name
        else:
            expected = 0.02 / math.sqrt(8) if name.endswith("c_proj.weight") else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.03), name
            assert abs(parameter.mean().item()) < 5 * expected / math.sqrt(parameter.numel()), name
    assert model.lm_head.weight is model.transformer.wte.weight
    untied = TopoLMForCausalLM(preset("tiny", tie_word_embeddings=False))
    assert not torch.equal(untied.lm_head.weight, untied.transformer.wte.weight)


def test_layout_neither_uses_nor_disturbs_the_global_generator() -> None:
    """Weights depend on the global seed alone, positions on the layout seed alone."""
    permuted, regular, other = tiny(0), tiny(0, layout="grid"), tiny(1)
    assert torch.equal(permuted.lm_head.weight, regular.lm_head.weight)
    assert not torch.equal(permuted.lm_head.weight, other.lm_head.weight)
    assert permuted.sheets() == other.sheets()
    assert permuted.sheets() != regular.sheets()
    assert permuted.sheets() != tiny(0, layout_seed=1).sheets()


def test_sheets_are_those_of_the_layout_and_all_differ() -> None:
    """Sites in order, one permutation each, every place taken once."""
    sheets = tiny(layout_seed=4).sheets()
    assert list(sheets) == SITES
    assert sheets == {site: permuted_grid(36, site, seed=4) for site in SITES}
    assert all(sheet.is_bijective for sheet in sheets.values())
    assert len({sheet.checksum for sheet in sheets.values()}) == 4
    fine = tiny(spacing_mm=0.125, wrap=True, sheet_shape=(4, 9)).sheets()[SITES[3]]
    assert fine == permuted_grid(36, SITES[3], spacing_mm=0.125, wrap=True, shape=(4, 9))
    assert fine.period_mm == (0.5, 1.125)


# keeping


def test_checkpoint_brings_its_positions(tmp_path) -> None:
    """Loading gives the same logits and the same sheets, whatever layout the configuration now names."""
    model, ids = tiny(layout_seed=3, pad_token_id=0), tokens(2, 6)
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "topographic_model.py",
    ]
    for changes in ({}, {"layout_seed": 8}, {"layout": "grid"}):
        loaded = TopoLMForCausalLM.from_pretrained(tmp_path, **changes)
        assert loaded.sheets() == model.sheets()
        assert torch.equal(loaded(ids).logits, model(ids).logits)
        assert loaded.lm_head.weight is loaded.transformer.wte.weight
    body = TopoLMModel.from_pretrained(tmp_path, layout="grid")
    assert {f"transformer.{site}": sheet.checksum for site, sheet in body.sheets().items()} == {
        site: sheet.checksum for site, sheet in model.sheets().items()
    }


def test_low_precision_leaves_positions_alone(tmp_path) -> None:
    """0.123 mm steps up to 4.3 mm are not bfloat16 numbers; positions survive casting, saving and loading."""
    build = partial(tiny, sheet_shape=(1, 36), spacing_mm=0.123)
    expected = build().sheets()
    positions = expected[SITES[0]].positions_mm
    assert not torch.equal(positions.bfloat16().double(), positions)
    assert build().bfloat16().sheets() == expected
    assert build().half().sheets() == expected
    assert build().to(torch.bfloat16).sheets() == expected
    build().bfloat16().save_pretrained(tmp_path)
    loaded = TopoLMForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    assert loaded.sheets() == expected
    register()
    assert AutoModelForCausalLM.from_config(loaded.config, dtype=torch.bfloat16).sheets() == expected


def test_positions_absent_from_a_checkpoint_come_from_the_layout(tmp_path) -> None:
    """Weights from elsewhere have no positions; they must not be left as zeros."""
    model = tiny(layout_seed=2)
    weights = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("_um")}
    model.save_pretrained(tmp_path, state_dict=weights)
    assert TopoLMForCausalLM.from_pretrained(tmp_path).sheets() == model.sheets()


def test_auto_classes_after_register(tmp_path) -> None:
    """Twice registered, saved, moved to another folder, found by all three Auto classes."""
    register()
    register()
    model, ids = tiny(), tokens(1, 5)
    model.save_pretrained(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "there")
    assert type(loaded) is TopoLMForCausalLM
    assert loaded.sheets() == model.sheets()
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert type(AutoModel.from_pretrained(tmp_path / "there")) is TopoLMModel
    assert AutoConfig.from_pretrained(tmp_path / "there").to_dict() == loaded.config.to_dict()


@pytest.mark.parametrize("kept", [0, 20, -1000])
def test_truncated_weights_are_named(tmp_path, kept) -> None:
    """A file cut anywhere is one line, not a model."""
    tiny().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"the weights in .* are truncated or not safetensors") as raised:
        TopoLMForCausalLM.from_pretrained(tmp_path)
    assert "\n" not in str(raised.value)


# placing units anew


def test_set_sheets_takes_any_plane_positions(tmp_path) -> None:
    """Positions need not be a bijection; the other sheets stay; the checkpoint keeps them."""
    model = tiny()
    crowded = Sheet(name="anything", positions_mm=torch.arange(72).reshape(36, 2).div(5, rounding_mode="floor") / 8)
    before = model.sheets()
    model.set_sheets({SITES[1]: crowded})
    after = model.sheets()
    assert torch.equal(after[SITES[1]].positions_mm, crowded.positions_mm)
    assert after[SITES[1]].extent_mm == crowded.extent_mm
    assert not after[SITES[1]].is_bijective
    assert all(after[site] == before[site] for site in SITES if site != SITES[1])
    model.save_pretrained(tmp_path)
    assert TopoLMForCausalLM.from_pretrained(tmp_path).sheets() == after


@pytest.mark.parametrize(
    ("site", "sheet", "message"),
    [
        ("h.9", grid(36), r"no site 'h.9' in this model; expected some of \['transformer.h.0.attn_sheet'"),
        (SITES[1], grid(35), r"mlp_sheet' has 36 units and the sheet 35; give one per unit"),
        (SITES[1], grid(36, wrap=True), r"the sheet has wrap=True and the model wrap=False; build the model"),
        (SITES[1], Sheet(name="mesh", positions_mm=torch.zeros(36, 3)), r"is a mesh or a readout; expected units on"),
        (SITES[1], Sheet(name="r", positions_mm=torch.zeros(36, 2), is_readout=True), r"is a mesh or a readout"),
        (SITES[1], grid(36, spacing_mm=1e6), r"reaches beyond 2 m; positions_mm are millimetres"),
    ],
)
def test_set_sheets_changes_all_or_nothing(site, sheet, message) -> None:
    """A misfit is refused before anything moved."""
    model = tiny()
    before = model.sheets()
    with pytest.raises(ValueError, match=message):
        model.set_sheets({SITES[0]: grid(36), site: sheet})
    assert model.sheets() == before


def test_a_model_without_memory_has_no_positions() -> None:
    """Asked on the meta device, it says so."""
    with torch.device("meta"):
        model = TopoLMForCausalLM(preset("tiny"))
    with pytest.raises(ValueError, match=r"positions of 'transformer.h.0.attn_sheet' are on the meta device; load"):
        model.sheets()


def test_fields_set_after_birth_are_checked_again() -> None:
    """A configuration can be spoilt after its own check; the model looks once more."""
    config = preset("tiny")
    config.n_head = 5
    with pytest.raises(ValueError, match="n_embd=36 is not a multiple of n_head=5"):
        TopoLMForCausalLM(config)


# how it is trained


def gradients_of_both_terms(model: torch.nn.Module, ids: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of the loss plus a cost on every sheet, as an objective would have them."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    heard, handles = outputs_of(inner, SITES)
    inner.zero_grad()
    loss = model(ids, labels=ids).loss
    (loss + sum(sheet.square().mean() for sheet in heard.values())).backward()
    for handle in handles:
        handle.remove()
    return [parameter.grad.clone() for parameter in inner.parameters()]


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable.:FutureWarning")  # its new name is newer than 5.4
def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    """Also through sheets heard outside the checkpointed block."""
    model, ids = tiny().train(), tokens(2, 10)
    plain = gradients_of_both_terms(model, ids)
    recomputed = []
    model.gradient_checkpointing_enable()
    model.transformer.h[0].attn.register_forward_hook(lambda *_: recomputed.append(1))
    for ours, expected in zip(gradients_of_both_terms(model, ids), plain, strict=True):
        torch.testing.assert_close(ours, expected)
    assert len(recomputed) == 2


def test_autocast_and_distributed_wrappers(process_group) -> None:
    """bfloat16 autocast stays near float32; DDP carries the integer buffers and leaves gradients alone."""
    model, ids = tiny().train(), tokens(2, 10)
    expected, sheets = gradients_of_both_terms(model, ids), model.sheets()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(ids, labels=ids).loss
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(model(ids, labels=ids).loss.item(), rel=0.02)
    for ours, plain in zip(gradients_of_both_terms(DistributedDataParallel(model), ids), expected, strict=True):
        torch.testing.assert_close(ours, plain)
    assert model.sheets() == sheets


COMPILED = """
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from topographic.models import TopoLMForCausalLM, preset

assert "topolm" not in CONFIG_MAPPING, "importing must register nothing"
torch.manual_seed(0)
model = TopoLMForCausalLM(preset("tiny"))
heard = {}
model.transformer.h[1].mlp_sheet.register_forward_hook(lambda _, __, output: heard.update(sheet=output))
compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
ids = torch.arange(12).reshape(2, 6)
results = []
for network in (model, compiled):
    model.zero_grad()
    loss = network(ids, labels=ids).loss
    (loss + heard.pop("sheet").square().mean()).backward()
    results.append((loss.detach(), model.transformer.h[1].mlp.c_proj.weight.grad.clone()))
torch.testing.assert_close(results[0], results[1])
"""


def test_compiles_to_one_graph_and_imports_without_side_effects() -> None:
    """In a process of its own: the suite's type checks would break the graph."""
    finished = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


# reading whole texts


def classifier(n_labels: int = 3, seed: int = 0, **changes) -> TopoLMForSequenceClassification:
    """Seeded classifier with the weights of `tiny`."""
    torch.manual_seed(seed)
    shape = preset("tiny", initializer_range=0.3, **changes)
    shape.num_labels = n_labels
    return TopoLMForSequenceClassification(shape).eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("n_labels", "labels"), [(3, torch.tensor([2, 0, 1])), (1, torch.tensor([0.5, 4.0, 2.5]))])
def test_a_classifier_equals_gpt2s(attention, n_labels, labels) -> None:
    """Logits, loss and gradients, for classes and for scores, on texts of several lengths."""
    model = classifier(n_labels, bias=True)
    model.set_attn_implementation(attention)
    shape = twin_gpt2(tiny(bias=True)).config
    shape.num_labels, shape.pad_token_id = n_labels, 255
    gpt2 = GPT2ForSequenceClassification(shape)
    weights = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith("_um")}
    for name, tensor in weights.items():
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            weights[name] = tensor.T.contiguous()
    gpt2.load_state_dict(weights)
    ids, mask = tokens(3, 12) % 255, torch.ones(3, 12, dtype=torch.long)
    for row, length in enumerate((12, 4, 9)):
        ids[row, length:], mask[row, length:] = 255, 0
    both = []
    for network in (model, gpt2.eval()):
        output = network(ids, attention_mask=mask, labels=labels)
        output.loss.backward()
        both.append((output, {name: parameter.grad for name, parameter in network.named_parameters()}))
    (ours, our_gradients), (theirs, their_gradients) = both
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-5, atol=1e-5)
    assert ours.loss.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    if n_labels == 1:
        assert ours.loss.item() == pytest.approx((ours.logits[:, 0] - labels).square().mean().item())
    assert our_gradients.keys() == their_gradients.keys()
    for name, gradient in their_gradients.items():
        expected = gradient.T if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")) else gradient
        torch.testing.assert_close(our_gradients[name], expected, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_classifier_reads_the_last_token_that_is_no_pad(side) -> None:
    """Also where pads look like the end-of-text token that closes every text."""
    model, end = classifier(pad_token_id=0, eos_token_id=0), 0
    rows = [torch.cat([1 + tokens(1, length, seed=length) % 255, torch.full((1, 1), end)], 1) for length in (3, 7, 10)]
    alone = torch.cat([model(row).logits for row in rows])
    state = model.transformer(rows[0]).last_hidden_state
    torch.testing.assert_close(alone[0], model.score.weight @ state[0, -1])
    for width in (11, 15, 20):
        ids, mask = torch.full((3, width), end), torch.zeros(3, width, dtype=torch.long)
        for i, row in enumerate(rows):
            place = slice(width - row.shape[1], width) if side == "left" else slice(0, row.shape[1])
            ids[i, place], mask[i, place] = row[0], 1
        torch.testing.assert_close(model(ids, attention_mask=mask).logits, alone, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model(ids, attention_mask=mask.bool()).logits, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_a_classifier_attends_backwards_only(padded) -> None:
    """Another later token leaves every earlier hidden state alone, with and without a mask of pads."""
    model, ids = classifier().train(), tokens(2, 10)
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0 if padded else 1
    changed = ids.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 256
    options = {"attention_mask": mask if padded else None, "output_hidden_states": True}
    one, other = (model(entry, **options).hidden_states for entry in (ids, changed))
    for before, after in zip(one, other, strict=True):
        torch.testing.assert_close(before[:, :6], after[:, :6], rtol=1e-6, atol=1e-6)
        assert not torch.allclose(before[:, 6], after[:, 6], atol=1e-3)


def test_a_classifier_starts_from_a_language_model_and_keeps_its_sheets(tmp_path) -> None:
    """Weights and moved units come along, only the head is new; saved and loaded it is the same model."""
    language = tiny()
    moved = {SITES[1]: permuted_grid(36, SITES[1], seed=99)}
    language.set_sheets(moved)
    language.save_pretrained(tmp_path / "language")
    register()
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "language", num_labels=3)
    assert type(loaded) is TopoLMForSequenceClassification
    assert loaded.sheets() == language.sheets()
    assert loaded.sheets()[SITES[1]].positions_mm.equal(moved[SITES[1]].positions_mm)
    ours = dict(loaded.named_parameters())
    assert ours.pop("score.weight").shape == (3, 36)
    assert ours.keys() == dict(language.named_parameters()).keys()
    assert all(torch.equal(parameter, ours[name]) for name, parameter in language.named_parameters())
    loaded.set_sheets({SITES[0]: permuted_grid(36, SITES[0], seed=5)})
    loaded.save_pretrained(tmp_path / "classifier")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "classifier")
    ids = tokens(2, 9)
    assert torch.equal(again(ids).logits, loaded(ids).logits)
    assert again.sheets() == loaded.sheets()
    assert again.num_labels == 3
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "classifier")
    assert torch.equal(back(ids).logits, language.eval()(ids).logits)
    assert back.sheets() == loaded.sheets()


def test_a_classifier_takes_more_tokens() -> None:
    """A new token, such as one for pads, leaves what was there alone."""
    model, ids = classifier(), tokens(2, 9)
    expected = model(ids).logits
    model.resize_token_embeddings(260, mean_resizing=False)
    assert model.config.vocab_size == 260
    torch.testing.assert_close(model(ids).logits, expected)
