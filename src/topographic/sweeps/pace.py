"""What a training step takes: seconds, measured in turn with those of other models, and bytes kept for the way back."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from topographic.objectives.terms import configured_objective
from topographic.runs.recipe import Recipe

__all__ = ["Pace", "measure_pace"]


class Pace(NamedTuple):
    """What one step takes."""

    seconds: float
    """Median over rounds."""
    ratio: float
    """Median over rounds of the seconds by those of the reference in the same round."""
    kept_mib: float
    """Activations that are kept for the way back."""


def measure_pace(
    models: Mapping[str, tuple[nn.Module, Recipe]], reference: str, *, n_rounds: int = 9, seed: int = 0
) -> dict[str, Pace]:
    """Time a step of every model in every round, on tokens of its own vocabulary and at its recipe's batch.

    Models take turns, so that a machine that is busy for a while slows all of them. The first round is not counted.
    """
    steps = {name: _step(model.train(), recipe, seed) for name, (model, recipe) in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(n_rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - started)
    beside = seconds[reference][1:]
    found = {}
    for name, (model, _) in models.items():
        own = seconds[name][1:]
        ratios = [mine / theirs for mine, theirs in zip(own, beside, strict=True)]
        found[name] = Pace(statistics.median(own), statistics.median(ratios), _kept_mib(model, steps[name]))
    return found


def _step(model: nn.Module, recipe: Recipe, seed: int) -> Callable[[], None]:
    """One optimiser step of a model, terms included."""
    objective = configured_objective(model, recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)  # the model stays what it is
    drawn, config = torch.Generator().manual_seed(seed), model.config
    shape, vocabulary = (recipe.training.batch_size, recipe.data.sequence_length), getattr(config, "vocab_size", 2)
    tokens = torch.randint(int(vocabulary), shape, generator=drawn).to(next(model.parameters()).device)

    def step() -> None:
        for _ in range(recipe.training.gradient_accumulation_steps):
            with objective.listen():
                task_loss = model(input_ids=tokens, labels=tokens).loss
            loss, _ = objective(task_loss)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _kept_mib(model: nn.Module, step: Callable[[], None]) -> float:
    """Bytes that a step keeps for the way back, each storage once, parameters and buffers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in _held(model)}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = max(kept.get(storage.data_ptr(), 0), storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(kept.values()) / 2**20


def _held(model: Any) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
