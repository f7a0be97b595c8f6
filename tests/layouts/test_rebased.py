import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from topographic.interventions import ablate, drive
from topographic.layouts import Adaptor, rebase, rebased
from topographic.layouts.adaptors import KINDS
from topographic.maps import Selection, UnitMap
from topographic.objectives import Objective, SpatialCorrelation
from topographic.recording import carried_sheets, edit, find_sites, record, record_images, tap, weights_checksum
from topographic.sheets import grid
from topographic.stimuli import ImageStimuli, StimulusSet
from topographic.training.text.tokenizer import train_tokenizer

IDS = torch.arange(12).view(2, 6)
NO_SPECIAL = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


def built(name):
    torch.manual_seed(0)
    if name == "gpt2":
        config = GPT2Config(vocab_size=50, n_positions=32, n_embd=36, n_layer=2, n_head=4, **NO_SPECIAL)
        return GPT2LMHeadModel(config).eval()
    if name == "llama":
        config = LlamaConfig(
            vocab_size=50,
            hidden_size=36,
            intermediate_size=20,
            num_hidden_layers=2,
            num_attention_heads=3,
            **NO_SPECIAL,
        )
        return LlamaForCausalLM(config).eval()
    config = BertConfig(
        vocab_size=50, hidden_size=36, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3, pad_token_id=2
    )
    return BertModel(config).eval()


SITES = {
    "gpt2": ["transformer.h.0", "transformer.h.1.attn", "transformer.h.1.mlp", "transformer.wte", "transformer"],
    "llama": ["model.layers.0", "model.layers.1.self_attn", "model.layers.1.mlp.down_proj", "model.norm"],
    "bert": ["encoder.layer.0", "encoder.layer.1.attention", "encoder.layer.1.output.dense", "embeddings"],
}
MODELS = {name: built(name) for name in SITES}


def said(model, ids=IDS):
    with torch.no_grad():
        return model(input_ids=ids)[0]


def state(model):
    """Everything of a model that a context could leave behind."""
    modules = {name: dict(vars(module)) for name, module in model.named_modules()}
    kept = {name: {key: one for key, one in entries.items() if key != "_modules"} for name, entries in modules.items()}
    hooks = {
        name: [len(module._forward_hooks), len(module._forward_pre_hooks)] for name, module in model.named_modules()
    }
    return list(modules), {name: list(one) for name, one in kept.items()}, hooks, list(model.state_dict())


class Thrown(Exception):
    """Thrown by the test."""


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_everything_is_restored_whatever_happens_inside(make_adaptor_for_all, data):
    name = data.draw(st.sampled_from(sorted(MODELS)))
    model = MODELS[name]
    before, checksum, out = state(model), weights_checksum(model), said(model)
    sites = data.draw(st.lists(st.sampled_from(SITES[name]), min_size=1, unique=True))
    kinds = [data.draw(st.sampled_from(KINDS)) for _ in sites]
    adaptors = [
        make_adaptor_for_all(site, kind=kind, seed=i) for i, (site, kind) in enumerate(zip(sites, kinds, strict=True))
    ]
    cut = data.draw(st.integers(0, len(sites) - 1))  # the outer context has some, the inner one the others
    throws, acts = data.draw(st.booleans()), data.draw(st.sampled_from(["nothing", "tap", "silence", "move"]))
    try:
        with (
            rebased(model, adaptors[cut:]),
            edit(model, {}),
            rebased(model, adaptors[:cut] or make_adaptor_for_all(f"{sites[cut]}.sheet")),
        ):
            assert torch.equal(said(model), out), "untouched bit by bit"
            assert list(model.state_dict()) == before[-1]
            assert weights_checksum(model, contents=False) == checksum != weights_checksum(model)
            sheet = f"{sites[0]}.sheet"
            if acts == "tap":
                with tap(model, "*.sheet") as heard:
                    said(model)
                assert {*heard} >= {one.sheet_site for one in adaptors}
            elif acts == "silence":
                with edit(model, {sheet: torch.zeros_like}):
                    assert not torch.equal(said(model), out)
            elif acts == "move":
                model.double().float()
            if throws:
                raise Thrown
    except Thrown:
        pass
    assert state(model) == before
    assert weights_checksum(model) == checksum
    assert torch.equal(said(model), out)
    assert carried_sheets(model) == {}


@pytest.fixture(scope="module")
def make_adaptor_for_all():
    def make(site, kind="rotation", seed=0, n_units=36):
        draw = torch.Generator().manual_seed(seed)
        rotation = torch.linalg.qr(torch.randn(n_units, n_units, generator=draw))[0]
        matrix = torch.randperm(n_units, generator=draw) if kind == "assigned" else rotation
        scale = 0.2 + torch.rand(n_units, generator=draw)
        return Adaptor(site, torch.randn(n_units, generator=draw), scale, matrix, grid(n_units), kind)

    return make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_an_edit_of_the_sheet_is_the_closed_form_in_the_stream(make_adaptor, name, kind):
    """Against an edit of the site itself, which knows nothing of adaptors."""
    model, site = MODELS[name], SITES[name][0]
    one, change = make_adaptor(site, kind=kind), torch.linspace(-1, 1, 36)
    with rebased(model, one), edit(model, {one.sheet_site: lambda z: z + change}):
        got = said(model)
    with edit(model, {site: lambda x: x + one.to_stream(change)}):
        torch.testing.assert_close(got, said(model), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(got, said(model), atol=1e-3)


def test_silencing_all_of_a_sheet_leaves_the_mean(make_adaptor):
    one = make_adaptor("transformer.h.0")
    model = MODELS["gpt2"]
    everything = Selection(one.sheet_site, np.ones(36, bool), one.sheet, "all")
    with rebased(model, one), tap(model, "transformer.h.0") as heard, ablate(model, everything):
        said(model)
    torch.testing.assert_close(heard["transformer.h.0"], one.mean.expand(2, 6, 36), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_a_change_in_place_is_a_change(make_adaptor, guard):
    model, one = MODELS["gpt2"], make_adaptor("transformer.h.0")
    with rebased(model, one), guard():
        with edit(model, {one.sheet_site: torch.zeros_like}):
            expected = model(IDS).logits
        with edit(model, {one.sheet_site: lambda z: z.zero_()}):
            assert torch.equal(model(IDS).logits, expected)
        with edit(model, {one.sheet_site: lambda z: z}):
            unchanged = model(IDS).logits
        assert torch.equal(unchanged, model(IDS).logits)
    assert torch.equal(unchanged, said(model))


@pytest.mark.parametrize("name", MODELS)
def test_a_tap_hears_z_at_the_sheet_and_what_went_back_at_the_site(make_adaptor, name):
    model, site = MODELS[name], SITES[name][1]
    with tap(model, site) as plain:
        said(model)
    one = make_adaptor(site)
    with rebased(model, one), tap(model, [site, one.sheet_site]) as heard:
        said(model)
    torch.testing.assert_close(heard[one.sheet_site], one.to_sheet(plain[site]), atol=1e-5, rtol=1e-4)
    assert torch.equal(heard[site], plain[site])
    assert heard[one.sheet_site].dtype is torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_precision_of_the_model_is_not_that_of_the_sheet(make_adaptor, dtype):
    """Also where the model is moved inside: the adaptor's numbers are those it was saved with."""
    model, one = copy.deepcopy(MODELS["llama"]), make_adaptor("model.layers.0", provenance={"weights": "other"})
    with rebased(model, one, any_weights=True):
        model.to(dtype)
        with tap(model, ["model.layers.0", one.sheet_site]) as heard:
            inside = said(model)
        with edit(model, {one.sheet_site: lambda z: z + 0.0}):
            assert torch.equal(said(model), inside), "an edit of nothing is nothing, in any precision"
    assert torch.equal(said(model), inside)
    assert inside.dtype is dtype
    shown = heard[one.sheet_site]
    assert shown.dtype is torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(
        shown, one.to_sheet(heard["model.layers.0"].to(shown.dtype)).to(shown.dtype), atol=1e-5, rtol=1e-5
    )
    with (
        rebased(model, one, any_weights=True),
        torch.autocast("cpu", torch.bfloat16),
        tap(model, one.sheet_site) as heard,
    ):
        said(model)
    assert heard[one.sheet_site].dtype is shown.dtype


def test_recordings_lie_on_the_sheet_of_the_adaptor(make_adaptor):
    model, tokenizer = MODELS["gpt2"], train_tokenizer(["the dog saw a bird"] * 4, 300)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=36, n_layer=2, n_head=4)
    ).eval()
    stimuli = StimulusSet("s", ["the dog", "a bird saw", "dog"], ["a", "b", "a"])
    one = make_adaptor("transformer.h.1")
    plain = record(model, tokenizer, stimuli, "transformer.h.1", progress=False)["transformer.h.1"]
    with rebased(model, one) as shown:
        assert find_sites(shown, "*.sheet") == [one.sheet_site]
        [responses] = record(shown, tokenizer, stimuli, progress=False).values()
    assert (responses.site, responses.sheet) == (one.sheet_site, one.sheet)
    # the mean over tokens goes through a change of basis
    np.testing.assert_allclose(responses.values, one.to_sheet(torch.from_numpy(plain.values)), atol=1e-4)


def test_drive_adds_its_direction_through_the_inverse(make_adaptor):
    model, one = MODELS["llama"], make_adaptor("model.layers.0")
    bump = np.exp(-np.arange(36.0) / 5)
    everywhere = Selection(one.sheet_site, np.ones(36, bool), one.sheet, "all")
    with rebased(model, one):
        directions = {one.sheet_site: UnitMap(one.sheet_site, bump, one.sheet, "direction")}
        with drive(model, everywhere, strength=3.0, direction=directions):
            got = said(model)
    with edit(model, {"model.layers.0": lambda x: x + 3 * one.to_stream(torch.from_numpy(bump).float())}):
        torch.testing.assert_close(got, said(model), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_generation_with_a_cache(make_adaptor, name):
    model, one = MODELS[name], make_adaptor(SITES[name][0])
    kwargs = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(IDS)}
    free = model.generate(IDS, **kwargs)
    push = {one.sheet_site: lambda z: z + 30 * torch.linspace(-1, 1, 36).sign()}
    with rebased(model, one):
        assert torch.equal(model.generate(IDS, **kwargs), free)
        with edit(model, push):
            pushed = model.generate(IDS, **kwargs, use_cache=True)
            assert torch.equal(model.generate(IDS, **kwargs, use_cache=False), pushed)
    assert not torch.equal(pushed, free)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_gradient_checkpointing(make_adaptor, name):
    """Gradients of weights by a loss on Z alone and by the task, with and without recomputation."""
    gradients = []
    for checkpointing in (False, True):
        model = copy.deepcopy(MODELS[name]).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        one = make_adaptor(SITES[name][0])
        with rebased(model, one), tap(model, one.sheet_site) as heard:
            torch.manual_seed(0)
            (model(input_ids=IDS, labels=IDS, use_cache=False).loss + heard[one.sheet_site].square().mean()).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_objectives_pull_at_z(make_adaptor):
    model = copy.deepcopy(MODELS["gpt2"]).train()
    with rebased(model, make_adaptor("transformer.h.0")):
        objective = Objective(model, [SpatialCorrelation(weight=1.0, neighborhoods="global")])
        with objective.listen():
            task = model(input_ids=IDS, labels=IDS).loss
        loss, _ = objective(task)
        loss.backward()
    assert float((loss - task).detach()) > 0
    assert model.transformer.h[0].mlp.c_fc.weight.grad.abs().sum() > 0


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 36), nn.Linear(36, 4)

    def forward(self, x):
        return self.second(self.first(x).relu())


def test_compiled_before_and_after(make_adaptor):
    torch.manual_seed(0)
    model, one, x = Stack(), make_adaptor("first"), torch.linspace(-1, 1, 12).view(3, 4)
    plain, compiled = model(x), torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), plain)
    with rebased(compiled, one):
        assert torch.equal(compiled(x), plain)
        with edit(compiled, {one.sheet_site: torch.zeros_like}):
            changed = compiled(x)
        with edit(model, {one.sheet_site: torch.zeros_like}):
            torch.testing.assert_close(model(x), changed)
        with tap(compiled, one.sheet_site) as heard:
            assert torch.equal(compiled(x), plain)
        torch.testing.assert_close(heard[one.sheet_site], one.to_sheet(model.first(x)))
    assert not torch.allclose(changed, plain, atol=1e-3)
    assert torch.equal(compiled(x), plain)


def test_a_copy_has_a_sheet_of_its_own(make_adaptor):
    """As pruning makes copies: heard at the copy, not at the original."""
    model, one = copy.deepcopy(MODELS["gpt2"]), make_adaptor("transformer.h.0")
    rebase(model, one)
    copied = copy.deepcopy(model)
    with tap(copied, one.sheet_site) as at_copy, tap(model, one.sheet_site) as at_original:
        said(copied)
    assert (set(at_copy), set(at_original)) == ({one.sheet_site}, set())
    assert carried_sheets(copied) == carried_sheets(model) == {one.sheet_site: one.sheet}


def test_for_good_and_saved_without_it(make_adaptor, tmp_path):
    model = copy.deepcopy(MODELS["gpt2"])
    out = said(model)
    assert rebase(model, make_adaptor("transformer.h.0")) is model
    model.save_pretrained(tmp_path)
    assert torch.equal(said(GPT2LMHeadModel.from_pretrained(tmp_path).eval()), out)
    assert torch.equal(said(model), out)


def test_own_sheets_stay_beside_those_of_adaptors(make_adaptor, tiny_model):
    from topographic.models import TopoLMForCausalLM

    model = TopoLMForCausalLM.from_pretrained(tiny_model)
    own = list(model.sheets())
    with rebased(model, make_adaptor("transformer.h.0")):
        assert list(model.sheets()) == [*own, "transformer.h.0.sheet"]
    assert list(model.sheets()) == own
    assert "sheets" not in vars(model)


class Seeing(nn.Module):
    """Feature maps of 36 channels, from a convolution and a block, then one vector per image."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 36, 3, padding=1)
        self.block = nn.Sequential(nn.ReLU(), nn.Conv2d(36, 36, 3, groups=36, padding=1), nn.BatchNorm2d(36))
        self.head = nn.Linear(36, 5)

    def forward(self, pixel_values):
        return self.head(self.block(self.stem(pixel_values)).mean((2, 3)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("site", ["stem", "block.2"])
def test_feature_maps_are_shown_with_places_in_the_place_of_channels(make_adaptor, site, kind):
    torch.manual_seed(0)
    model = Seeing().eval()
    pixels = torch.randn(3, 3, 6, 7, generator=torch.Generator().manual_seed(1))
    one = make_adaptor(site, kind=kind)
    with torch.no_grad():
        plain_said = model(pixels)
        with tap(model, site) as heard:
            model(pixels)
        plain = heard[site]
        with rebased(model, one):
            torch.testing.assert_close(model(pixels), plain_said, atol=0, rtol=0)
            with tap(model, one.sheet_site) as shown:
                model(pixels)
            chosen = Selection(one.sheet_site, np.arange(36) < 5, one.sheet, "first")
            with ablate(model, chosen), tap(model, [site, one.sheet_site]) as silenced:
                model(pixels)
            bump = UnitMap(one.sheet_site, np.arange(36.0), one.sheet, "direction")
            with drive(model, direction={one.sheet_site: bump}, strength=0.5), tap(model, site) as driven:
                model(pixels)
    z = one.to_sheet(plain.movedim(1, -1))
    assert shown[one.sheet_site].shape == plain.shape == (3, 36, 6, 7)
    torch.testing.assert_close(shown[one.sheet_site], z.movedim(-1, 1), atol=1e-5, rtol=1e-4)
    without = z.clone()
    without[..., :5] = 0
    assert (silenced[one.sheet_site][:, :5] == 0).all()
    expected = plain.movedim(1, -1) + one.to_stream(without - z)
    torch.testing.assert_close(silenced[site], expected.movedim(-1, 1), atol=1e-4, rtol=1e-3)
    added = one.to_stream(0.5 * torch.arange(36.0).expand(3, 6, 7, 36)).movedim(-1, 1)
    torch.testing.assert_close(driven[site], plain + added, atol=1e-4, rtol=1e-3)


def test_what_is_recorded_of_feature_maps_is_what_the_adaptor_says_of_their_means(make_adaptor):
    torch.manual_seed(0)
    model, one = Seeing().eval(), make_adaptor("block.2")
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 6, 3), dtype=np.uint8)
    images = ImageStimuli(StimulusSet("noise", [str(number) for number in range(4)], ["a", "b"] * 2), pixels)
    plain = record_images(model, images, "block.2", grid, progress=False)["block.2"]
    with rebased(model, one):
        shown = record_images(model, images, progress=False)[one.sheet_site]
    assert shown.sheet == one.sheet
    np.testing.assert_allclose(shown.values, one.to_sheet(torch.from_numpy(plain.values)), atol=1e-5)


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.stack = nn.Sequential(nn.Linear(4, 36), nn.ReLU())
        self.series, self.words = nn.Conv1d(1, 36, 1), nn.Module()
        self.words.forward = lambda x: "no tensor"
        self.owner = Owner()

    def forward(self, x):
        self.words(x)
        return self.stack(x)


class Owner(nn.Module):
    def __init__(self):
        super().__init__()
        self.sheet = nn.ReLU()


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ("layers.7", r"site pattern 'layers\.7' matches no module of Wide; the nearest are"),
        ("series", "site 'series' is a Conv1d, whose units lie on no last axis"),
        ("stack", r"site 'stack' runs all its parts in turn; name the last of them, 'stack\.1', which says the same"),
        ("owner", r"site 'owner' \(Owner\) has a part of its own called 'sheet'"),
    ],
)
def test_sites_that_cannot_be_rebased(make_adaptor, site, message):
    model = Wide()
    before = state(model)
    both = [make_adaptor("stack.1"), make_adaptor(site)]
    with pytest.raises(ValueError, match=message) as caught, rebased(model, both):
        pass
    assert "\n" not in str(caught.value)
    assert state(model) == before, "nothing half done"


def test_another_width_and_no_tensor(make_adaptor):
    model = Wide()
    with (
        rebased(model, make_adaptor("stack.1", 16)),
        pytest.raises(ValueError, match=r"'stack\.1' gives shape \(2, 36\).*its adaptor has 16 units"),
    ):
        model(torch.ones(2, 4))
    with (
        rebased(model, make_adaptor("words")),
        pytest.raises(TypeError, match="site 'words' returned str without a tensor"),
    ):
        model(torch.ones(2, 4))


def test_twice_at_one_site_and_on_other_weights(make_adaptor):
    model = copy.deepcopy(MODELS["gpt2"])
    one = make_adaptor("transformer.h.0", provenance={"weights": weights_checksum(model)})
    with (
        rebased(model, one),
        pytest.raises(
            ValueError, match=r"shows a sheet already; leave the other rebased\(\) first, or rebase 'transformer"
        ),
        rebased(model, one),
    ):
        pass
    with rebased(model, make_adaptor("transformer.h.1")), rebased(model, one):
        assert len(model.sheets()) == 2, "another adaptor is no other weight"
    with torch.no_grad():
        model.transformer.wte.weight[0, 0] += 1
    with (
        pytest.raises(ValueError, match=r"was fitted on other weights .* or pass any_weights=True"),
        rebased(model, one),
    ):
        pass
    with rebased(model, one, any_weights=True):
        assert len(model.sheets()) == 1


@pytest.mark.gpu
def test_moved_to_the_gpu_inside(make_adaptor):
    model, one = copy.deepcopy(MODELS["gpt2"]), make_adaptor("transformer.h.0")
    with rebased(model, one):
        model.to("cuda", torch.bfloat16)
        with tap(model, one.sheet_site) as heard:
            inside = said(model, IDS.cuda())
    assert heard[one.sheet_site].device.type == "cuda"
    assert torch.equal(inside, said(model, IDS.cuda()))
