import contextlib
import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from topographic.interventions import (
    ablate,
    direction_controls,
    lesion_effects,
    lesions,
    micro_stimulation,
    replay,
    replayed,
    steering,
    steering_curve,
)
from topographic.layouts import Adaptor, rebased
from topographic.maps import Selection
from topographic.models import TopoLMConfig, TopoLMForCausalLM
from topographic.recording import Responses, edit, tap
from topographic.sheets import grid
from topographic.stimuli import StimulusSet

WIDTH = 36


class Counted(nn.Module):
    """A part of a block that counts how often it runs."""

    def __init__(self, part):
        super().__init__()
        self.part, self.calls = part, 0

    def forward(self, *args, **kwargs):
        self.calls += 1
        return self.part(*args, **kwargs)


def gpt2():
    tokens = {"bos_token_id": 1, "eos_token_id": 1}
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=WIDTH, n_head=2, n_layer=4, n_positions=32, **tokens))


def llama():
    sizes = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=WIDTH, intermediate_size=64, **sizes))


def topographic():
    return TopoLMForCausalLM(TopoLMConfig(vocab_size=50, n_embd=WIDTH, n_head=2, n_layer=4, bos_token_id=1))


FAMILIES = {
    "gpt2": (gpt2, "transformer.h"),
    "llama": (llama, "model.layers"),
    "topographic": (topographic, "transformer.h"),
}


def built(family):
    """A model that counts the runs of its first block, the counter, and the name of its blocks."""
    make, blocks = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make().eval()
    first = model.get_submodule(f"{blocks}.0")
    first.mlp = Counted(first.mlp).eval()
    return model, first.mlp, blocks


@pytest.fixture
def counted():
    return built("gpt2")


def batches():
    """Right-padded batches of several shapes, ids and masks."""
    draw = torch.Generator().manual_seed(0)
    for n_texts, n_tokens in ((3, 7), (2, 5), (1, 4)):
        ids = torch.randint(0, 50, (n_texts, n_tokens), generator=draw)
        mask = torch.ones_like(ids)
        mask[0, n_tokens - 2 :] = n_texts == 1
        yield ids, mask


BATCHES = list(batches())


@torch.no_grad()
def logits(model, batch=BATCHES[0]):
    ids, mask = batch
    return model(input_ids=ids, attention_mask=mask, use_cache=False).logits


def equal(one, other):
    return one.dtype == other.dtype and bool((one.view(torch.uint8) == other.view(torch.uint8)).all())


def differently(number):
    """An edit like no other."""
    return lambda activations: activations * (0.5 + number) + number


@pytest.mark.parametrize(
    ("family", "part"),
    [
        *((family, part) for family in FAMILIES for part in ("", ".mlp")),
        ("topographic", ".mlp_sheet"),
        ("topographic", ".attn_sheet"),
        ("llama", ".self_attn"),
    ],
)
@pytest.mark.parametrize("block", [1, 3])
def test_edits_give_the_same_bits_and_earlier_blocks_run_once_per_input(family, part, block):
    model, first, blocks = built(family)
    site = f"{blocks}.{block}{part}"

    def said():
        found = []
        for number in range(3):
            with edit(model, {site: differently(number)}):
                found += [logits(model, batch) for batch in BATCHES]
        return [*found, *(logits(model, batch) for batch in BATCHES)]

    plain, as_usual = said(), first.calls
    with replayed(model, site):
        again = said()
    assert all(map(equal, plain, again))
    assert len({tuple(one.flatten().tolist()) for one in plain}) == len(plain), "every edit changes what is said"
    assert (as_usual, first.calls - as_usual) == (12, 3)


def adaptors_at(*sites):
    draw = torch.Generator().manual_seed(1)
    for site in sites:
        rotation = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=draw))[0]
        scale = 0.5 + torch.rand(WIDTH, generator=draw)
        sheet = grid((6, 6), f"{site}.sheet")
        yield Adaptor(site, torch.randn(WIDTH, generator=draw), scale, rotation, sheet, "rotation")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rebased_model_is_replayed_with_all_its_adaptors(family):
    model, first, blocks = built(family)
    sites = [f"{blocks}.{number}" for number in (0, 1, 2, 3)] + [f"{blocks}.1.mlp"]
    with rebased(model, list(adaptors_at(*sites))):
        plain = {}
        for site in (f"{blocks}.2.sheet", f"{blocks}.3.sheet"):
            for number in range(2):
                with edit(model, {site: differently(number)}):
                    plain[site, number] = [logits(model, batch) for batch in BATCHES]
        before = first.calls
        with replayed(model, [f"{blocks}.2.sheet", f"{blocks}.3.sheet"]):
            for (site, number), expected in plain.items():
                with edit(model, {site: differently(number)}):
                    assert all(map(equal, expected, [logits(model, batch) for batch in BATCHES]))
        assert first.calls - before == 3
        with replayed(model, f"{blocks}.3.sheet"), edit(model, {f"{blocks}.1.sheet": differently(1)}):
            # an edit of an earlier sheet is heard all the same
            expected = logits(model)
            assert first.calls - before == 4
            assert equal(expected, logits(model))
            assert first.calls - before == 5
        assert not equal(expected, logits(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_are_not_confused(family):
    model, first, blocks = built(family)
    ids, mask = BATCHES[0]
    other = mask.clone()
    other[1, 3:] = 0
    several = [(ids, mask), (ids, other), (ids.flip(0), mask), (ids.T.contiguous(), mask.T.contiguous())]
    several += [(ids[:, :6], mask[:, :6])]
    plain = [logits(model, batch) for batch in several]
    with replayed(model, f"{blocks}.2"):
        for _ in range(2):
            assert all(map(equal, plain, [logits(model, batch) for batch in several]))
    assert first.calls == 10, "five of them without replay"


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_generated_as_usual(family):
    model, _, blocks = built(family)
    prompt = {"input_ids": BATCHES[0][0], "attention_mask": torch.ones_like(BATCHES[0][0]), "pad_token_id": 0}
    how = {"do_sample": False, "max_new_tokens": 6}
    plain, cached = model.generate(**prompt, **how), model(BATCHES[0][0], use_cache=True).past_key_values
    with replayed(model, f"{blocks}.3"):
        for _ in range(2):
            assert torch.equal(plain, model.generate(**prompt, **how))
            assert torch.equal(plain, model.generate(**prompt, **how, use_cache=False))
            with torch.no_grad():
                found = model(BATCHES[0][0], use_cache=True).past_key_values
            assert equal(found.layers[0].keys, cached.layers[0].keys)


def runs_as_usual(first, run, n_runs=2):
    """Whether the first block runs whenever the model does."""
    before = first.calls
    found = [run() for _ in range(n_runs)]
    return first.calls - before == n_runs, found


def test_training_gradients_and_inference_mode_run_as_usual(counted):
    model, first, blocks = counted
    ids, mask = BATCHES[0]

    def with_gradients():
        return model(input_ids=ids, attention_mask=mask, use_cache=False).logits

    def in_inference_mode():
        with torch.inference_mode():
            return with_gradients()

    plain = logits(model)
    with replayed(model, f"{blocks}.3"):
        assert equal(plain, logits(model))
        for run in (with_gradients, in_inference_mode):
            usual, found = runs_as_usual(first, run)
            assert usual
            assert all(equal(plain, one.detach()) for one in found)
        assert with_gradients().requires_grad
        model.train()
        usual, (one, other) = runs_as_usual(first, lambda: logits(model))
        assert usual
        assert not equal(one, other), "dropout"
        model.eval()
        before = first.calls
        assert equal(plain, logits(model))
        assert first.calls == before
        model.get_submodule(f"{blocks}.1").attn.train()
        assert runs_as_usual(first, lambda: logits(model))[0]


def test_who_listens_before_the_sites_hears_what_is_said(counted):
    model, first, blocks = counted
    early = f"{blocks}.1"
    with tap(model, early) as heard:
        logits(model)
    truth, heard_by_hook = heard[early].clone(), []
    with replayed(model, f"{blocks}.3"):
        logits(model)
        with tap(model, early) as heard:
            assert runs_as_usual(first, lambda: logits(model))[0]
        assert equal(truth, heard[early])
        hook = model.get_submodule(early).register_forward_hook(lambda *given: heard_by_hook.append(given[-1]))
        assert runs_as_usual(first, lambda: logits(model))[0]
        hook.remove()
        assert equal(truth, heard_by_hook[-1])
    with tap(model, early) as heard, replayed(model, f"{blocks}.3"):
        assert runs_as_usual(first, lambda: logits(model))[0]
        assert equal(truth, heard[early])


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_those_of_every_block_whenever_they_are_asked_for(family):
    model, first, blocks = built(family)
    ids, mask = BATCHES[0]

    @torch.no_grad()
    def states():
        return model(ids, attention_mask=mask, use_cache=False, output_hidden_states=True).hidden_states

    plain = states()
    with replayed(model, f"{blocks}.3"):
        logits(model)
        for _ in range(2):
            assert all(map(equal, plain, states()))
        before = first.calls
        logits(model)
        assert first.calls == before, "what transformers leaves behind for them does not listen"


def test_other_weights_and_other_models_say_something_else(counted):
    model, first, blocks = counted
    plain = logits(model)
    with replayed(model, f"{blocks}.3"):
        assert equal(plain, logits(model))
        twin = copy.deepcopy(model)
        with torch.no_grad():
            twin.get_submodule(f"{blocks}.0").ln_1.weight.mul_(2)
        # a copy has the first block's own count
        assert not equal(plain, logits(twin))
        with torch.no_grad():
            model.get_submodule(f"{blocks}.1").ln_1.weight.mul_(2)
        usual, found = runs_as_usual(first, lambda: logits(model))
        assert usual
    assert all(equal(logits(model), one) for one in found)
    assert not equal(plain, found[0])


def test_all_is_put_back_also_after_an_error(counted):
    model, _, blocks = counted

    def all_of_it():
        return {name: {**vars(module), "calls": 0} for name, module in model.named_modules()}

    before = all_of_it()
    with pytest.raises(ZeroDivisionError), replayed(model, f"{blocks}.3"):
        logits(model)
        assert "forward" in vars(model.get_submodule(f"{blocks}.0"))
        with pytest.raises(RuntimeError), edit(model, {f"{blocks}.3": failing}):
            logits(model)
        assert equal(logits(model), logits(model))
        _ = 1 / 0
    assert all_of_it() == before


def failing(activations):
    raise RuntimeError("of the edit")


def test_no_more_is_kept_than_the_limit(counted, monkeypatch):
    model, first, blocks = counted
    plain = [logits(model, batch) for batch in BATCHES]
    # the first and the last batch have room together, all three have not
    monkeypatch.setattr(replay, "_MOST_BYTES", 4 * WIDTH * (3 * 7 + 1 * 4))
    before = first.calls
    with replayed(model, f"{blocks}.3"):
        for _ in range(3):
            assert all(map(equal, plain, [logits(model, batch) for batch in BATCHES]))
    assert first.calls - before == 1 + 3 + 1


class Block(nn.Module):
    def __init__(self, way="plain"):
        super().__init__()
        self.linear, self.way, self.calls = nn.Linear(WIDTH, WIDTH), way, 0

    def forward(self, stream):
        self.calls += 1
        if self.way == "draws":
            return stream + torch.rand_like(stream)
        if self.way == "in place":
            return stream.add_(self.linear(stream))
        if self.way == "two":
            return self.linear(stream), stream.mean()
        if self.way == "tuple":
            return self.linear(stream), None
        return stream + self.linear(stream)


class Stack(nn.Module):
    def __init__(self, *ways, skip=False, between=False):
        super().__init__()
        self.parts = nn.ModuleDict({"blocks": nn.ModuleList(map(Block, ways))})  # as nanoGPT holds them
        self.skip, self.between, self.turned = skip, between, False

    def forward(self, stream):
        first = None
        for number, block in enumerate(reversed(self.parts.blocks) if self.turned else self.parts.blocks):
            said = block(stream)
            stream = said[0] if isinstance(said, tuple) else said
            first = stream if number == 0 and self.skip else first
            stream = stream * 2 if self.between else stream
        return stream if first is None else stream + first


STREAM = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("ways", "options", "n_runs"),
    [
        (("plain", "plain", "plain"), {}, 1),
        (("tuple", "tuple", "plain"), {}, 1),
        (("plain", "plain", "in place"), {}, 1),  # which would spoil what is kept
        (("plain", "in place", "plain"), {}, 3),
        (("draws", "plain", "plain"), {}, 3),
        (("plain", "draws", "plain"), {}, 3),
        (("two", "plain", "plain"), {}, 3),
        (("plain", "plain", "plain"), {"skip": True}, 3),
        (("plain", "plain", "plain"), {"between": True}, 3),
    ],
)
def test_blocks_of_ones_own(ways, options, n_runs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Stack(*ways, **options).eval()

        @torch.no_grad()
        def said():
            torch.manual_seed(1)
            return [model(STREAM.clone()) for _ in range(3)]

        plain, before = said(), model.parts.blocks[0].calls
        with replayed(model, "parts.blocks.2.linear"):
            assert all(map(equal, plain, said()))
    assert model.parts.blocks[0].calls - before == n_runs


def test_an_encoder_of_torch_that_fuses_only_while_nothing_is_edited():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 64, batch_first=True)
        model = nn.ModuleDict({"encoder": nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)}).eval()
    batch = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(3))

    @torch.no_grad()
    def said():
        found = [model["encoder"](batch) for _ in range(2)]
        with edit(model, {"encoder.layers.2": differently(1)}):
            found += [model["encoder"](batch) for _ in range(2)]
        return found

    plain = said()
    with replayed(model, "encoder.layers.2"):
        assert all(map(equal, plain, said()))


def test_a_model_that_goes_another_way_with_the_same_input_is_an_error():
    model = Stack("plain", "plain", "plain", "plain").eval()
    with torch.no_grad(), replayed(model, "parts.blocks.3"):
        model(STREAM)
        assert torch.isfinite(model(STREAM)).all()
        model.parts.blocks[1], model.parts.blocks[2] = model.parts.blocks[2], model.parts.blocks[1]
        calls = model.parts.blocks[0].calls
        model(STREAM)
        assert model.parts.blocks[0].calls == calls + 1, "other modules at these places are seen"
    with torch.no_grad(), replayed(model, "parts.blocks.3"):
        model(STREAM)
        model.between = True
        with pytest.raises(RuntimeError, match=r"^Stack called its blocks in another way than before, given the same;"):
            model(STREAM)


def test_where_there_are_no_blocks_before_nothing_is_touched(counted):
    model, first, blocks = counted
    sequence = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    with replayed(sequence, "1"):
        assert not any("forward" in vars(module) for module in sequence.modules())
    for sites in (f"{blocks}.0.mlp", [f"{blocks}.3", "transformer.ln_f"], "transformer.wte"):
        with replayed(model, sites):
            assert not any("forward" in vars(module) for module in model.modules())
            assert runs_as_usual(first, lambda: logits(model))[0]
    with pytest.raises(ValueError, match=r"^site pattern 'h\.9' matches no module"), replayed(model, "h.9"):
        pass


def reading(model):
    """Contexts one by one, and the model as a whole."""
    found = [logits(model, batch) for batch in BATCHES]
    return {"first": found[0][:, -1, 0].numpy(), "all": float(sum(one.square().mean() for one in found))}


def switched_off(monkeypatch):
    for module in (lesions, steering):
        monkeypatch.setattr(module, "replayed", lambda *given: contextlib.nullcontext())


@pytest.mark.parametrize("mode", ["zero", "resample"])
def test_lesions_cost_the_same(monkeypatch, mode):
    """Controls elsewhere in the model begin earlier than those at the site; each is replayed as far as it can be."""
    model, first, blocks = built("topographic")
    sheets = {f"{blocks}.{number}.mlp_sheet": model.sheets()[f"{blocks}.{number}.mlp_sheet"] for number in (1, 2, 3)}
    site = f"{blocks}.3.mlp_sheet"
    chosen = Selection(site, np.isin(np.arange(WIDTH), [0, 8, 16, 23]), sheets[site], "test")
    responses = None
    if mode == "resample":
        responses = responses_at(sheets)
    arguments = {"mode": mode, "responses": responses, "n_draws": 4}

    def measure(model):
        return {"all": reading(model)["all"]}

    before = first.calls
    with_replay = lesion_effects(model, chosen, sheets, measure, **arguments)
    n_replayed = first.calls - before
    switched_off(monkeypatch)
    assert repr(lesion_effects(model, chosen, sheets, measure, **arguments)) == repr(with_replay)
    assert len({row.value for row in with_replay}) == 5
    assert [row.changes for row in lesion_effects(model, chosen, sheets, measure, **arguments)] == [
        row.changes for row in with_replay
    ]
    assert (n_replayed, (first.calls - before - n_replayed) // 2) == (2 * 3, 14 * 3)


def responses_at(sheets):
    stimuli = StimulusSet("s", [f"t{number}" for number in range(5)], ["a"] * 5)
    draw = np.random.default_rng(0)
    return {
        site: Responses(site, draw.normal(size=(5, WIDTH)).astype(np.float32), sheet, stimuli)
        for site, sheet in sheets.items()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_steering_changes_the_same(monkeypatch, family):
    model, first, blocks = built(family)
    adaptors = list(adaptors_at(*(f"{blocks}.{number}" for number in (0, 1, 2, 3))))
    site = f"{blocks}.3.sheet"
    target = micro_stimulation(site, adaptors[-1].sheet, 10, sigma_mm=1.0)
    controls = direction_controls(target, 3, adaptor=adaptors[-1])
    with rebased(model, adaptors):
        before = first.calls
        rows = steering_curve(model, target, [-1.0, 2.0], reading, controls=controls, progress=False)
        assert first.calls - before == 3
        switched_off(monkeypatch)
        plain = steering_curve(model, target, [-1.0, 2.0], reading, controls=controls, progress=False)
        assert first.calls - before == 3 + 3 * (1 + 2 * 7)
    assert repr(rows) == repr(plain)
    assert len({row.value for row in rows if row.measure == "all"}) == 6


def test_a_lesion_that_is_measured_by_hand(counted):
    """As in the room's own loops: what is ablated changes inside the block that is replayed up to its site."""
    model, first, blocks = counted
    site = f"{blocks}.2.mlp"
    chosen = Selection(site, np.arange(WIDTH) < 9, grid((6, 6), site), "test")
    with ablate(model, chosen):
        expected = logits(model)
    before = first.calls
    with replayed(model, site):
        intact = logits(model)
        with ablate(model, chosen):
            assert equal(logits(model), expected)
        assert equal(logits(model), intact)
    assert first.calls - before == 1
