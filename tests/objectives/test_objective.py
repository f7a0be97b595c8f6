import copy
import inspect
import math
import subprocess
import sys
from collections import OrderedDict
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.losses import spatial_correlation_loss
from topographic.objectives.objective import Draw, Objective, SpatialCorrelation, Term
from topographic.sheets import (
    from_positions,
    global_neighborhoods,
    grid,
    local_neighborhoods,
    permuted_grid,
)

ATTENTION = "transformer.h.*.attn"


class Blocks(nn.Module):
    """Two sites of equal and one of another width; each call returns the mean square of the last."""

    def __init__(self, widths=(36, 36, 64)):
        super().__init__()
        self.first = nn.Linear(5, widths[0])
        self.second = nn.Linear(widths[0], widths[1])
        self.third = nn.Linear(widths[1], widths[2])

    def forward(self, inputs):
        return self.third(self.second(self.first(inputs).tanh()).tanh()).square().mean()


SITES = ["first", "second", "third"]


class Decay:
    """A term on weights."""

    name, weight, per_step = "decay", 0.5, True

    def __init__(self):
        self.calls = []

    def taps(self, model):
        return []

    def losses(self, model, activations, draw, token_mask):
        self.calls.append((draw, dict(activations)))
        return {name: getattr(model, name).weight.square().mean() for name in ("first", "second")}

    def total(self, losses):
        return losses["first"] + losses["second"]


@pytest.fixture
def blocks():
    torch.manual_seed(0)
    return Blocks()


@pytest.fixture
def inputs(generator):
    return torch.randn(4, 10, 5, generator=generator)


@pytest.fixture
def gpt2():
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 36, "n_positions": 16, "vocab_size": 50}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**shape, **dropout, bos_token_id=0, eos_token_id=0, use_cache=False))


def spatial(**changes):
    return SpatialCorrelation(**{"sites": SITES, "layout": permuted_grid, "radius": 2, "n_neighborhoods": 3, **changes})


def heard(objective, model, *arguments, draw=0, **options):
    """One forward pass and the objective's answer to it."""
    with objective.listen():
        task_loss = model(*arguments)
    return objective(task_loss, draw=draw, **options)


def outputs_of(model, inputs):
    first = model.first(inputs)
    second = model.second(first.tanh())
    return {"first": first, "second": second, "third": model.third(second.tanh())}


def test_adds_the_weighted_sum_over_sites(blocks, inputs):
    term = spatial(weight=1.5, neighborhoods="global")
    loss, parts = heard(Objective(blocks, [term]), blocks, inputs)
    expected = {}
    for site, activations in outputs_of(blocks, inputs).items():
        sheet = permuted_grid(activations.shape[-1], site)
        every = global_neighborhoods(sheet)
        expected[site] = spatial_correlation_loss(activations.flatten(0, 1), sheet.positions_mm, every)
        torch.testing.assert_close(parts[f"spatial/{site}"], expected[site].detach())
    torch.testing.assert_close(parts["task_loss"], blocks(inputs).detach())
    torch.testing.assert_close(parts["spatial_loss"], 1.5 * sum(expected.values()).detach())
    torch.testing.assert_close(loss.detach(), parts["task_loss"] + parts["spatial_loss"])
    assert list(parts) == ["task_loss", *(f"spatial/{site}" for site in SITES), "spatial_loss"]
    assert not any(part.requires_grad for part in parts.values())


def test_gradients_reach_what_feeds_each_site(blocks, inputs):
    loss, _ = heard(Objective(blocks, [spatial(sites=["second"], neighborhoods="global")]), blocks, inputs)
    loss.backward()
    with_term = blocks.second.weight.grad.clone()
    blocks.zero_grad()
    sheet = permuted_grid(36, "second")
    activations = outputs_of(blocks, inputs)["second"].flatten(0, 1)
    added = spatial_correlation_loss(activations, sheet.positions_mm, global_neighborhoods(sheet))
    (blocks(inputs) + 2.5 * added).backward()
    torch.testing.assert_close(with_term, blocks.second.weight.grad)


def test_sites_alike_are_computed_in_one_call(blocks, inputs, monkeypatch):
    calls = []

    def counted(activations, *arguments, **options):
        calls.append([tuple(each.shape) for each in activations])
        return spatial_correlation_loss(activations, *arguments, **options)

    monkeypatch.setattr("topographic.objectives.objective.spatial_correlation_loss", counted)
    heard(Objective(blocks, [spatial()]), blocks, inputs)
    assert calls == [[(40, 36), (40, 36)], [(40, 64)]]
    calls.clear()
    torus = {"first": grid(36, "first"), "second": grid(36, "second", wrap=True), "third": grid(64, "third")}
    heard(Objective(blocks, [spatial(layout=torus)]), blocks, inputs)
    assert [len(call) for call in calls] == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "every"),
    [
        ({"neighborhoods": "local", "radius": 3}, lambda sheet, _: local_neighborhoods(sheet, 3)),
        ({"neighborhoods": lambda sheet: local_neighborhoods(sheet, 2, closed=True)}, None),
        ({"neighborhoods": "scattered", "k": 9}, None),
        ({"neighborhoods": "global"}, None),
    ],
)
def test_kinds_of_neighborhoods(blocks, inputs, monkeypatch, options, every):
    drawn = []

    def kept(activations, positions_mm, neighborhoods, **rest):
        drawn.append(neighborhoods)
        return spatial_correlation_loss(activations, positions_mm, neighborhoods, **rest)

    monkeypatch.setattr("topographic.objectives.objective.spatial_correlation_loss", kept)
    heard(Objective(blocks, [spatial(sites=["first"], **options)]), blocks, inputs)
    (rows,) = drawn[0]
    sheet = permuted_grid(36, "first")
    if options["neighborhoods"] == "global":
        assert torch.equal(rows, global_neighborhoods(sheet))
    elif options["neighborhoods"] == "scattered":
        assert rows.shape == (3, 9)
        width = sheet.positions_mm[rows].amax(1) - sheet.positions_mm[rows].amin(1)
        assert (width > 2).any()
    else:
        blocks_of = local_neighborhoods(sheet, options.get("radius", 2), closed="radius" not in options).tolist()
        assert all(row in blocks_of for row in rows.tolist())
        assert len({tuple(row) for row in rows.tolist()}) == 3


def test_draws_depend_on_seed_pass_process_and_site_alone(blocks, inputs):
    def losses(number=0, rank=0, **changes):
        term = spatial(layout=grid, **changes)
        objective = Objective(blocks, [term])
        with objective.listen():
            blocks(inputs)
        return term.losses(blocks, objective._heard, Draw(number, rank))["first"].item()

    torch.manual_seed(1)
    once = losses()
    state = torch.random.get_rng_state()
    assert losses() == once
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len({once, losses(number=1), losses(rank=1), losses(seed=1)}) == 4
    assert losses(sites=["first"]) == once  # what else is computed makes no difference


def test_sites_draw_independently(blocks, inputs):
    term = spatial(sites=["first", "second"], layout=grid)
    heard(Objective(blocks, [term]), blocks, inputs)
    rows = [[term._drawn(site, Draw(number)).tolist() for number in range(4)] for site in ("first", "second")]
    assert rows[0] != rows[1]


def test_norm_is_passed_on(blocks, inputs):
    losses = [heard(Objective(blocks, [spatial(norm=norm)]), blocks, inputs)[0].item() for norm in ("l1", "l2", "linf")]
    assert len(set(losses)) == 3


def test_pads_do_not_count(blocks, inputs):
    mask = torch.ones(4, 10, dtype=torch.int64)
    mask[1, 6:] = 0
    mask[3, 2:] = 0
    objective = Objective(blocks, [spatial()])
    _, parts = heard(objective, blocks, inputs, token_mask=mask)
    other = torch.where(mask.bool()[..., None], inputs, 100.0)
    _, same = heard(objective, blocks, other, token_mask=mask)
    _, unmasked = heard(objective, blocks, inputs)
    for site in SITES:
        torch.testing.assert_close(parts[f"spatial/{site}"], same[f"spatial/{site}"])
        assert abs(parts[f"spatial/{site}"] - unmasked[f"spatial/{site}"]) > 1e-4
    chosen = {site: each[mask.bool()] for site, each in outputs_of(blocks, inputs).items()}
    direct = spatial().losses(blocks, chosen, Draw(0))
    torch.testing.assert_close(direct["third"].detach(), parts["spatial/third"])


def test_weight_may_follow_a_schedule(blocks, inputs):
    objective = Objective(blocks, [spatial(weight=lambda step: 0.1 * step)], accumulation=2)
    weights = []
    for draw in range(6):
        _, parts = heard(objective, blocks, inputs, draw=draw)
        weights.append(parts["spatial_loss"] / sum(parts[f"spatial/{site}"] for site in SITES))
    assert torch.stack(weights).tolist() == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2])
    _, parts = heard(objective, blocks, inputs, draw=5, step=7)
    assert parts["spatial_loss"].item() == pytest.approx(
        7 / 2 * weights[5].item() * sum(parts[f"spatial/{site}"].item() for site in SITES)
    )


def test_a_term_that_watches_is_kept_without_a_weight(blocks):
    decay = Decay()
    decay.weight = 0.0
    assert Objective(blocks, [decay]).terms == []
    decay.watches = True
    loss, parts = Objective(blocks, [decay])(torch.ones(()))
    assert loss == 1
    assert parts["decay/first"] == blocks.first.weight.square().mean()
    assert parts["decay_loss"] == 0


@pytest.mark.parametrize("terms", [[], [spatial(weight=0.0)], [spatial(weight=0.0, sites="no such site")]])
def test_without_a_weight_nothing_happens(blocks, inputs, terms):
    objective = Objective(blocks, terms)
    with objective.listen():
        assert not any("forward" in vars(module) or module._forward_hooks for module in blocks.modules())
        task_loss = blocks(inputs)
    loss, parts = objective(task_loss, draw=0)
    assert loss is task_loss
    assert list(parts) == ["task_loss"]


def test_the_model_is_restored(blocks, inputs):
    objective = Objective(blocks, [spatial()])
    before = {name: dict(vars(module)) for name, module in blocks.named_modules()}
    with pytest.raises(ZeroDivisionError), objective.listen():
        blocks(inputs)
        raise ZeroDivisionError
    assert {name: dict(vars(module)) for name, module in blocks.named_modules()} == before
    with pytest.raises(RuntimeError, match="nothing was heard"):
        objective(blocks(inputs), draw=0)


# ---- terms on weights


def test_a_term_on_weights_is_computed_once_per_step(blocks, inputs):
    decay = Decay()
    assert isinstance(decay, Term)
    assert isinstance(spatial(), Term)
    objective = Objective(blocks, [decay, spatial()], accumulation=3)
    for draw in range(6):
        loss, parts = heard(objective, blocks, inputs, draw=draw)
        (loss / 3).backward()
        own = 0.5 * sum(getattr(blocks, name).weight.square().mean() for name in ("first", "second"))
        torch.testing.assert_close(parts["decay_loss"], own.detach())
        assert {"decay/first", "decay/second", "spatial_loss"} < set(parts)
    assert [draw.number for draw, _ in decay.calls] == [0, 3]
    assert not any(activations for _, activations in decay.calls)

    accumulated = blocks.first.weight.grad.clone()
    blocks.zero_grad()
    whole = Objective(blocks, [Decay()])
    bare = Objective(blocks, [spatial()], accumulation=3)
    for draw in range(6):
        (heard(bare, blocks, inputs, draw=draw)[0] / 3).backward()
    for draw in range(2):
        loss, _ = whole(torch.zeros(()), draw=draw)
        loss.backward()
    torch.testing.assert_close(accumulated, blocks.first.weight.grad)


@pytest.mark.parametrize("start", [0, 1, 6])
def test_any_number_may_be_the_first_pass_of_a_step(blocks, inputs, start):
    """Counting from 1 neither loses the term in the first step nor adds it twice, with a schedule either."""
    decay = Decay()
    decay.weight = lambda step: 1.0 + step
    objective = Objective(blocks, [decay], accumulation=4)
    with torch.no_grad():
        objective(torch.zeros(()), draw=0)  # a validation beforehand counts for nothing
    own = sum(getattr(blocks, name).weight.square().mean().item() for name in ("first", "second"))
    added = [objective(torch.zeros(()), draw=start + number)[0].item() for number in range(12)]
    weights = [1.0 + start // 4 + step for step in range(3)]
    assert added == pytest.approx([value for weight in weights for value in (4 * weight * own, 0, 0, 0)])
    assert len(decay.calls) == 4


# ---- counting


def test_passes_are_counted_where_no_number_is_given(blocks, inputs):
    def history(draws):
        objective = Objective(blocks, [spatial()])
        return [heard(objective, blocks, inputs, draw=draw)[1]["spatial_loss"].item() for draw in draws]

    numbered = history(range(5))
    assert len(set(numbered)) == 5
    assert history([None] * 5) == numbered
    assert history([2, None, None]) == numbered[2:]  # a resumed training says once where it is
    assert history([4, 0, None]) == [numbered[4], numbered[0], numbered[1]]


def test_validation_is_not_counted(blocks, inputs):
    objective, decay = Objective(blocks, [spatial()]), Decay()
    first = heard(objective, blocks, inputs, draw=None)[1]["spatial_loss"]
    with torch.no_grad():
        seen = [heard(objective, blocks, inputs, draw=None)[1]["spatial_loss"] for _ in range(3)]
    second = heard(objective, blocks, inputs, draw=None)[1]["spatial_loss"]
    assert first != second
    assert seen == [second] * 3  # it draws as the coming pass will
    accumulating = Objective(blocks, [decay], accumulation=2)
    for _ in range(2):
        with torch.no_grad():
            accumulating(torch.zeros(()))
        added = [accumulating(torch.zeros(()))[0].item() for _ in range(2)]
        assert added[0] > 0
        assert added[1] == 0


def test_a_resumed_training_goes_on_as_if_nothing_had_happened(blocks, inputs):
    def steps(model, objective, number, draw=None):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses = []
        for at in range(number):
            loss, parts = heard(objective, model, inputs, draw=draw if at == 0 else None)
            (loss / 2).backward()
            losses.append(parts["decay_loss"].item() + parts["spatial_loss"].item())
            if at % 2:
                optimizer.step()
                optimizer.zero_grad()
        return losses

    def objective_for(model):
        return Objective(model, [spatial(), Decay()], accumulation=2)

    other = copy.deepcopy(blocks)
    whole = steps(blocks, objective_for(blocks), 8)
    begun = steps(other, objective_for(other), 4)
    resumed = steps(other, objective_for(other), 4, draw=4)
    assert begun + resumed == whole
    for name, entry in blocks.state_dict().items():
        assert torch.equal(entry, other.state_dict()[name])


# ---- models


def train(model, objective, ids, steps, running=None):
    running = model if running is None else running
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for step in range(steps):
        with objective.listen(running):
            task_loss = running(input_ids=ids, labels=ids).loss
        loss, parts = objective(task_loss, draw=step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append({name: value.item() for name, value in parts.items()})
    return history


@pytest.fixture
def ids(generator):
    return torch.randint(50, (4, 16), generator=generator)


def attention_term(**changes):
    return spatial(sites=ATTENTION, radius=3, **changes)


def test_a_hand_loop_makes_a_gpt2_topographic(gpt2, ids):
    control = copy.deepcopy(gpt2)
    history = train(gpt2, Objective(gpt2, [attention_term()]), ids, 40)
    first, last = history[0], history[-1]
    assert set(first) == {"task_loss", "spatial_loss", *(f"spatial/transformer.h.{i}.attn" for i in range(2))}
    for site in ("spatial/transformer.h.0.attn", "spatial/transformer.h.1.attn"):
        assert 0.4 < first[site] < 0.6
        assert last[site] < 0.2
    assert last["task_loss"] < first["task_loss"]
    # what is learnt is the weight's doing: a control of nearly no weight stays where it was
    watched = train(control, Objective(control, [attention_term(weight=1e-9)]), ids, 40)
    assert watched[-1]["spatial/transformer.h.0.attn"] > 0.35


def test_a_compiled_model_is_heard(gpt2, ids):
    expected = train(copy.deepcopy(gpt2), Objective(gpt2, []), ids, 1)
    plain = copy.deepcopy(gpt2)
    history = train(plain, Objective(plain, [attention_term()]), ids, 4)
    torch.compiler.reset()
    running = torch.compile(gpt2, backend="aot_eager")
    compiled = train(gpt2, Objective(running, [attention_term()]), ids, 4, running)
    assert expected[0]["task_loss"] == pytest.approx(history[0]["task_loss"])
    for step, same in zip(history, compiled, strict=True):
        assert same == pytest.approx(step, abs=1e-4)


def test_a_model_in_data_parallel_training_is_heard(gpt2, ids, process_group):
    plain = copy.deepcopy(gpt2)
    history = train(plain, Objective(plain, [attention_term()]), ids, 3)
    wrapped = DistributedDataParallel(gpt2)
    parallel = train(gpt2, Objective(wrapped, [attention_term()]), ids, 3, wrapped)
    for step, same in zip(history, parallel, strict=True):
        assert same == pytest.approx(step, abs=1e-5)


def test_the_process_decides_what_is_drawn(blocks, inputs, monkeypatch):
    objective = Objective(blocks, [spatial()])
    _, here = heard(objective, blocks, inputs)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    _, there = heard(objective, blocks, inputs)
    assert here["spatial/first"] != there["spatial/first"]


def test_half_precision(gpt2, ids):
    objective = Objective(gpt2, [attention_term()])
    with torch.autocast("cpu", dtype=torch.bfloat16), objective.listen():
        task_loss = gpt2(input_ids=ids, labels=ids).loss
    loss, parts = objective(task_loss, draw=0)
    loss.backward()
    assert parts["spatial_loss"].dtype == torch.float32
    _, exact = heard(objective, lambda ids: gpt2(input_ids=ids, labels=ids).loss, ids)
    assert parts["spatial_loss"].item() == pytest.approx(exact["spatial_loss"].item(), rel=0.02)
    assert torch.isfinite(gpt2.transformer.h[0].attn.c_proj.weight.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_training_half_precision_parameters_is_refused(blocks, inputs, dtype):
    """In float16 a loop of one's own ends in NaN after its first step; in bfloat16 most steps round to nothing."""
    blocks.second.to(dtype)
    for terms in ([spatial()], [Decay()], []):
        with pytest.raises(
            ValueError, match=rf"^parameter 'second.weight' is trained in {dtype} \(2 such of 6\)"
        ) as one:
            Objective(blocks, terms)
        assert "\n" not in str(one.value)
        assert "keep parameters in float32 (model.float()) and compute under torch.autocast" in str(one.value)
    blocks.second.requires_grad_(False)  # as under adapters
    assert Objective(blocks, [spatial(sites="first")]).sites == {"spatial": ["first"]}
    heard(Objective(blocks.float().requires_grad_(), [spatial()]), blocks, inputs)[0].backward()


class Carrier(Blocks):
    def sheets(self):
        return {site: permuted_grid(36, site, seed=7) for site in ("first", "second")}


def test_the_sheets_that_a_model_carries_are_the_ones_it_is_trained_on(inputs):
    torch.manual_seed(0)
    model, options = Carrier(), {"radius": 2, "n_neighborhoods": 3}
    term = SpatialCorrelation(**options)
    assert Objective(nn.DataParallel(model), [term]).sites == {"spatial": ["first", "second"]}
    _, own = heard(Objective(model, [term]), model, inputs)
    _, named = heard(Objective(model, [SpatialCorrelation(layout=model.sheets(), **options)]), model, inputs)
    assert own == named
    with pytest.raises(ValueError, match=r"^the layout puts the units of site 'first' elsewhere .*relayout=True"):
        Objective(model, [spatial()])
    _, anew = heard(Objective(model, [spatial(relayout=True)]), model, inputs)
    assert anew["spatial/first"] != own["spatial/first"]
    other = copy.deepcopy(model)
    other.sheets = lambda: {site: grid(36, site) for site in ("first", "second")}
    _, there = heard(Objective(other, [term]), other, inputs)  # the term that was made for the first model
    _, same = heard(Objective(other, [SpatialCorrelation(layout=other.sheets(), **options)]), other, inputs)
    assert there == same != own
    bare = Blocks()
    bare.load_state_dict(model.state_dict())
    assert heard(Objective(bare, [spatial()]), bare, inputs)[1] == anew


def test_what_is_no_model_is_refused_in_one_line():
    with pytest.raises(TypeError, match=r"^model is the string 'gpt2'; expected a Module: a loaded model"):
        inspect.unwrap(Objective.__init__)(object.__new__(Objective), "gpt2", [spatial()])


def test_a_loop_of_ones_own_loads_neither_trainer_nor_transformers():
    script = (
        "import sys\n"
        "from topographic.objectives.objective import Objective, SpatialCorrelation\n"
        "from topographic.objectives.terms import configured_objective\n"
        "from topographic.objectives.weight_terms import WeightSmoothness\n"
        "from topographic.objectives import check_finite, linear_schedule\n"
        "print(sorted({'transformers', 'accelerate', 'datasets', 'topographic.training'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


# ---- bad input


def test_checkpointing_is_noticed(gpt2, ids):
    gpt2.gradient_checkpointing_enable({"use_reentrant": True})
    gpt2.train()
    objective = Objective(gpt2, [attention_term()])
    with objective.listen():
        task_loss = gpt2(input_ids=ids, labels=ids).loss
    with pytest.raises(ValueError, match=r"h\.0\.attn' carry no gradient; switch gradient checkpointing off"):
        objective(task_loss, draw=0)


def test_evaluation_needs_no_gradient(blocks, inputs):
    objective = Objective(blocks, [spatial()])
    with torch.no_grad():
        loss, _ = heard(objective, blocks, inputs)
    torch.testing.assert_close(loss, heard(objective, blocks, inputs)[0].detach())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spatial(sites=None), "sites is missing"),
        (lambda: spatial(n_neighborhoods=0), "^n_neighborhoods=0; expected at least 1$"),
        (lambda: spatial(radius=0), "^radius=0; expected at least 1$"),
        (lambda: spatial(k=2), "^k=2; expected at least 3 units$"),
        (lambda: spatial(sites=[]), r"^sites=\[\]; expected patterns of names, or null$"),
        (lambda: Objective(Blocks(), [SpatialCorrelation()]), "carries no sheets .* for example sites='first'$"),
        (lambda: Objective(Blocks(), [spatial(sites="fourth")]), "site pattern 'fourth' matches no module"),
        (lambda: Objective(Blocks(), [spatial(), spatial()]), "expected different names"),
        (lambda: Objective(Blocks(), [spatial(name="task")]), "none of them 'task'"),
        (lambda: Objective(Blocks(), [spatial(weight=-1.0)]), "term 'spatial' has weight -1.0"),
        (lambda: Objective(Blocks(), [spatial(weight=math.nan)]), "has weight nan; expected a finite number"),
        (lambda: Objective(Blocks(), [spatial()], accumulation=0), "accumulation=0; expected at least 1"),
        (
            lambda: Objective(Blocks(), [spatial(layout={"first": grid(36)})]),
            r"layout has no sheet for site 'second' \(2 of 3 sites lack one\); it holds 'first'",
        ),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_an_unknown_kind_of_neighborhoods():
    term = spatial()
    term.neighborhoods = "round"  # past the run-time checks of annotations, which users do not have
    with pytest.raises(ValueError, match="neighborhoods='round'; expected one of"):
        term.__post_init__()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": {site: grid(49) for site in SITES}}, "'first' has 36 units and its sheet 'sheet' places 49"),
        ({"layout": from_positions(torch.zeros(49, 2))}, "'first' has 36 units; the given positions place 49"),
        ({"radius": 5}, "radius=5 needs a 9 x 9 block on a 6 x 6 sheet"),
        ({"radius": 3, "n_neighborhoods": 5}, "n=5 neighbourhoods of 4"),
        ({"weight": lambda step: -1.0}, "has weight -1.0"),
    ],
)
def test_what_does_not_fit_the_sheet(blocks, inputs, changes, message):
    with pytest.raises(ValueError, match=message):
        heard(Objective(blocks, [spatial(**changes)]), blocks, inputs)


@pytest.mark.parametrize("site", ["conv", "norm", "act", "pool"])
def test_feature_maps_have_their_units_elsewhere(site, generator):
    """The last axis is a row of 6 x 6 places, and a sheet of so many units would fit it."""
    layers = {"conv": nn.Conv2d(3, 8, 3), "norm": nn.BatchNorm2d(8), "act": nn.ReLU(), "pool": nn.AvgPool2d(3, 1)}
    model = nn.Sequential(OrderedDict(layers))
    size = 10 if site == "pool" else 8
    objective = Objective(model, [spatial(sites=[site], layout=partial(grid, shape=(2, 3)), radius=1)])
    with objective.listen():
        task_loss = model(torch.randn(2, 3, size, size, generator=generator)).mean()
    message = (
        rf"^site '{site}' gives feature maps of shape \(2, 8, 6, 6\); the spatial loss needs units on the last axis"
    )
    with pytest.raises(ValueError, match=message) as raised:
        objective(task_loss)
    assert "\n" not in str(raised.value)


def test_a_mask_of_another_shape(blocks, inputs):
    with pytest.raises(
        ValueError, match=r"token_mask has shape \(4, 9\); activations at site 'first' have shape \(4, 10, 36\)"
    ):
        heard(Objective(blocks, [spatial()]), blocks, inputs, token_mask=torch.ones(4, 9))


def test_a_site_that_is_not_called(blocks, inputs):
    blocks.unused = nn.Linear(3, 36)
    with pytest.raises(RuntimeError, match="nothing was heard at site 'unused'"):
        heard(Objective(blocks, [spatial(sites=["first", "unused"])]), blocks, inputs)


def test_each_pass_is_used_once(blocks, inputs):
    objective = Objective(blocks, [spatial()])
    with objective.listen():
        task_loss = blocks(inputs)
    objective(task_loss, draw=0)
    with pytest.raises(RuntimeError, match="nothing was heard at site 'first'; run one forward pass"):
        objective(task_loss, draw=0)


def test_sites_come_first_as_in_weight_smoothness():
    assert SpatialCorrelation("enc").sites == SpatialCorrelation(sites="enc").sites == "enc"
    with pytest.raises(TypeError, match="positional argument"):
        SpatialCorrelation("enc", None)
