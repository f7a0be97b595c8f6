import contextlib
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.recording import edit
from topographic.recording.gathering import gather
from topographic.sheets import grid


class Shown(NamedTuple):
    indices: list
    run: object


def test_rows_lie_where_their_items_do_and_the_model_is_given_back_as_it_was():
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(2, 6), nn.Dropout(0.5)), torch.randn(3, 2)
    batches = [Shown([2, 0], lambda: model(inputs[[2, 0]])), Shown([1], lambda: model(inputs[[1]]))]
    with tqdm(total=3, disable=True) as bar:
        values, sheets = gather(model, ["0", "1"], grid, batches, lambda batch, site, heard: heard, n_rows=3, bar=bar)
    assert sheets == {"0": grid(6, "0"), "1": grid(6, "1")}
    np.testing.assert_allclose(values["0"], model[0](inputs).detach(), atol=1e-6)
    np.testing.assert_array_equal(values["0"], values["1"])
    assert model.training
    assert values["0"].dtype == np.float32


def test_other_rows_and_an_error_inside():
    model = nn.Sequential(nn.Linear(2, 6))
    batch = Shown([0], lambda: model(torch.ones(2, 2)))
    settings = {"n_rows": 4, "bar": tqdm(disable=True)}
    values, _ = gather(model, ["0"], grid, [batch], lambda batch, site, heard: heard, rows=lambda _: [1, 3], **settings)
    np.testing.assert_allclose(values["0"][[1, 3]], model(torch.ones(2, 2)).detach(), atol=1e-6)
    with pytest.raises(KeyError):
        gather(model, ["0"], grid, [batch], lambda batch, site, heard: {}["no"], **settings)
    assert model.training
    assert "forward" not in vars(model[0])


class Headed(nn.Module):
    """Blocks and a head that counts what it reads."""

    def __init__(self, n_rounds=1):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(2, 6), nn.Linear(6, 6), nn.Linear(6, 100)
        self.n_rounds, self.n_read = n_rounds, 0

    def forward(self, inputs):
        states = self.first(inputs)
        for _ in range(self.n_rounds):
            states = self.second(states)
        self.n_read += len(inputs)
        return self.head(states)


def recorded(model, sites, respond=lambda batch, site, heard: heard):
    torch.manual_seed(0)
    inputs = torch.randn(7, 2)
    parts = ([0], [1, 2, 3], [4, 5, 6])
    batches = [Shown(part, lambda part=part: model(inputs[part])) for part in parts]
    with tqdm(total=7, disable=True) as bar:
        return gather(model, sites, grid, batches, respond, n_rows=7, bar=bar)[0], inputs


def test_what_comes_after_the_last_site_is_not_run_again():
    model = Headed()
    values, inputs = recorded(model, ["second", "first"])
    assert model.n_read == 1
    with torch.no_grad():
        np.testing.assert_allclose(values["second"], model.second(model.first(inputs)), atol=1e-6)


def disturbed_by_an_edit(model):
    return edit(model, {"head": lambda output: output + 1})


def disturbed_by_a_hook(model):
    handle = model.head.register_forward_hook(lambda module, inputs, output: None)
    return contextlib.closing(SimpleNamespace(close=handle.remove))


def disturbed_by_a_hook_before(model):
    handle = model.head.register_forward_pre_hook(lambda module, inputs: None)
    return contextlib.closing(SimpleNamespace(close=handle.remove))


@pytest.mark.parametrize("disturbed", [disturbed_by_an_edit, disturbed_by_a_hook, disturbed_by_a_hook_before])
def test_whole_passes_where_somebody_may_wait_for_the_end(disturbed):
    model = Headed()
    plain, _ = recorded(model, ["first", "second"])
    model.n_read = 0
    with disturbed(model):
        values, _ = recorded(model, ["first", "second"])
    assert model.n_read == 7
    np.testing.assert_allclose(values["second"], plain["second"], atol=1e-6)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_whole_passes_of_wrapped_models(wrap):
    torch._dynamo.reset()
    model = Headed()
    values, inputs = recorded(wrap(model), ["first"])
    assert model.n_read == 7
    with torch.no_grad():
        np.testing.assert_allclose(values["first"], model.first(inputs), atol=1e-6)


def test_a_site_that_speaks_again_and_again_is_heard_to_the_end():
    model = Headed(n_rounds=2)
    values, inputs = recorded(model, ["second"])
    assert model.n_read == 7
    with torch.no_grad():
        np.testing.assert_allclose(values["second"], model.second(model.second(model.first(inputs))), atol=1e-6)


def test_outputs_become_rows_when_their_site_speaks():
    model, order = Headed(), []

    def respond(batch, site, heard):
        order.append((site, model.n_read))
        return heard

    recorded(model, ["first", "head"], respond)
    whole, *later = [order[start : start + 2] for start in (0, 2, 4)]
    assert whole == [("first", 1), ("head", 1)]
    assert later == [[("first", 1), ("head", 4)], [("first", 4), ("head", 7)]]


def test_hidden_states_asked_for_before_change_nothing():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=12, vocab_size=20, n_positions=16)).eval()
    ids = torch.arange(6).view(3, 2)
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states  # leaves hooks on its modules
    seen = []

    def respond(batch, site, heard):
        seen.append(len(heard))
        return heard[:, -1]

    batches = [Shown([row], lambda row=row: model(ids[[row]])) for row in range(3)]
    site = "transformer.h.0"
    head = model.lm_head.forward
    model.lm_head.__class__ = type("Counted", (nn.Linear,), {"forward": lambda self, x: seen.append("head") or head(x)})
    with tqdm(total=3, disable=True) as bar:
        values, _ = gather(model, [site], grid, batches, respond, n_rows=3, bar=bar)
    assert seen.count("head") == 1
    np.testing.assert_allclose(values[site], states[1][:, -1], atol=1e-5)


def test_errors_of_a_site_come_through_and_leave_the_model_as_it_was():
    model = Headed()

    def respond(batch, site, heard):
        if len(heard) > 1:
            raise ValueError("too many")
        return heard

    with pytest.raises(ValueError, match="too many"):
        recorded(model, ["first"], respond)
    assert not any("forward" in vars(module) for module in model.modules())
