"""Low-rank updates (LoRA) in place of all weights: put into a model for its training, merged into its weights after."""

import contextlib
import importlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from topographic.training.config import TrainingConfig

__all__ = ["low_rank_updates"]

_NEW_LAYER = ("ForSequenceClassification", "ForImageClassification")


@contextlib.contextmanager
def low_rank_updates(model: nn.Module, config: TrainingConfig) -> Iterator[Callable[[], None]]:
    """Train updates of every linear map of the blocks while this lasts, if ``training.adapter`` says so.

    Yields what merges them: after its call the model has its own architecture again, and the updates in its weights.
    Where it is not called, because something broke, the weights are what they were.
    """
    if config.adapter is None:
        yield lambda: None
        return
    if type(model).__name__.endswith(_NEW_LAYER):
        raise ValueError(
            f"training.adapter={config.adapter!r} on a {type(model).__name__}, whose new last layer has to be trained "
            "whole; leave the adapter out"
        )
    peft = importlib.import_module("peft")  # takes seconds
    trained = {name: one.requires_grad for name, one in model.named_parameters()}
    chosen = peft.LoraConfig(r=config.adapter_rank, lora_alpha=config.adapter_rank, target_modules="all-linear")
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        updated = peft.get_peft_model(model, chosen)
    left = [updated.unload]

    def merge() -> None:
        left.clear()
        updated.merge_and_unload()

    try:
        yield merge
    finally:
        for take_out in left:
            take_out()
        for name, one in model.named_parameters():
            one.requires_grad_(trained[name])
