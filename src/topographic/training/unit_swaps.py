"""Units that change places while a model is trained, so that wires are shorter (BIMT)."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.pytorch_utils import Conv1D

from topographic.losses import weight_sheets, wiring_swaps
from topographic.losses.wrappers import unwrapped
from topographic.objectives import WiringConfig, WiringCost
from topographic.recording.sites import modules_by_site, sites_among

__all__ = ["UnitSwaps", "exchange"]

_Layer = nn.Linear | Conv1D


class UnitSwaps(TrainerCallback):
    """Lets units that one layer makes and another reads change places, with what the optimiser keeps of them.

    Parameters
    ----------
    model : nn.Module
        The model in whose layers they lie.
    config : WiringConfig
        Layers, how often, and how many units are tried.
    example : mapping of str to Tensor
        Inputs on which an exchange must change nothing.

    Raises
    ------
    ValueError
        If layers before and after the units do not go together, or the model would compute something else.
    TypeError
        If a layer is no linear one with weights of its own.
    """

    def __init__(self, model: nn.Module, config: WiringConfig, example: Mapping[str, Tensor]) -> None:
        self.config = config
        self._lengths_mm = WiringCost([], between_mm=config.between_mm).lengths_mm
        self.pairs = list(_pairs(model, config))
        _check_same(model, self.pairs, example)

    def on_step_end(self, _args: Any, state: TrainerState, control: TrainerControl, **others: Any) -> None:
        """Swap after every so many steps."""
        if state.global_step % self.config.swap_steps == 0:
            self.swap(others["model"], others.get("optimizer"))

    def swap(self, model: nn.Module, optimizer: Any = None) -> int:
        """Let units change places; how many have moved."""
        modules, moved = modules_by_site(unwrapped(model)), 0
        for before, after in self.pairs:
            first, second = modules[before], modules[after]
            incoming, outgoing = (weight_sheets(layer)["weight"] for layer in (first, second))
            lengths_mm = [self._lengths_mm(*weights.shape) for weights in (incoming, outgoing)]
            order = wiring_swaps(incoming, outgoing, *lengths_mm, n_candidates=self.config.swap_candidates)
            exchange(first, second, order, getattr(optimizer, "optimizer", optimizer))
            moved += int((order != torch.arange(len(order), device=order.device)).sum())
        return moved


@torch.no_grad()
def exchange(before: Any, after: Any, order: Tensor, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Put unit ``order[i]`` in place i: rows of one layer, columns of the next, and an optimiser's moments of both."""
    rows, columns = (1, 0) if isinstance(before, Conv1D) else (0, 1), (0, 1) if isinstance(after, Conv1D) else (1, 0)
    places = [(before.weight, rows[0]), (after.weight, columns[0])]
    if before.bias is not None:
        places.append((before.bias, 0))
    for parameter, axis in places:
        kept = {} if optimizer is None else optimizer.state.get(parameter, {})
        alike = [entry for entry in kept.values() if isinstance(entry, Tensor) and entry.shape == parameter.shape]
        for tensor in (parameter, *alike):
            tensor.copy_(tensor.index_select(axis, order.to(tensor.device)))


def _pairs(model: nn.Module, config: WiringConfig) -> Iterator[tuple[str, str]]:
    """Names of the layers before and after the units of every place."""
    modules, name = modules_by_site(unwrapped(model)), type(unwrapped(model)).__name__
    sides = [sites_among(modules, [pattern], name) for pattern in config.swap or ()]
    if len({len(side) for side in sides}) != 1:
        raise ValueError(
            f"wiring.swap={config.swap} names {len(sides[0])} layers before the units and {len(sides[1])} after them; "
            "expected as many: one of either in every block"
        )
    for before, after in zip(*sides, strict=True):
        for site in (before, after):
            if not isinstance(modules[site], _Layer) or is_parametrized(modules[site]):
                raise TypeError(
                    f"wiring.swap: site {site!r} ({type(modules[site]).__name__}) is no linear layer with weights of "
                    "its own; name such layers"
                )
        made, read = (weight_sheets(modules[site])["weight"].shape for site in (before, after))
        if made[0] != read[1]:
            raise ValueError(
                f"wiring.swap: {before!r} makes {made[0]} units and {after!r} reads {read[1]}; name two layers with "
                "nothing but an activation between them"
            )
        yield before, after


@torch.no_grad()
def _check_same(model: nn.Module, pairs: list[tuple[str, str]], example: Mapping[str, Tensor]) -> None:
    """Refuse units that cannot change places: what lies between the layers tells them apart."""
    modules, device = modules_by_site(unwrapped(model)), next(model.parameters()).device
    inputs = {name: entry.to(device) for name, entry in example.items()}
    was_training = model.training
    model.eval()
    try:
        intact = model(**inputs)[0]
        for before, after in pairs:
            first, second = modules[before], modules[after]
            kept = [tensor.clone() for tensor in (*first.state_dict().values(), *second.state_dict().values())]
            n_units = len(weight_sheets(first)["weight"])
            exchange(first, second, torch.arange(n_units, device=device).flip(0))
            turned = model(**inputs)[0]
            for tensor, one in zip((*first.state_dict().values(), *second.state_dict().values()), kept, strict=True):
                tensor.copy_(one)
            if not torch.allclose(turned, intact, rtol=0, atol=2e-5 * float(intact.abs().max())):
                raise ValueError(
                    f"wiring.swap: the model computes something else when units between {before!r} and {after!r} "
                    "change places; name two layers with nothing but an activation between them"
                )
    finally:
        model.train(was_training)
