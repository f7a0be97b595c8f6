"""What a model is trained on, whatever it is: windows of tokens, sentences with labels, images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset, Subset
from transformers import EvalPrediction, TrainerCallback
from transformers import default_data_collator as collate

from topographic.training.config import TrainingConfig

__all__ = ["Material", "whole_steps"]


@dataclass(frozen=True, eq=False)
class Material:
    """Examples to train on, examples to validate on, and what is written down about them.

    Parameters
    ----------
    train : Dataset
        Sized; every item holds the model's inputs, labels among them.
    validation : Dataset, optional
        Items of the same kind; None for no validation.
    about : mapping
        Source, licence and checksums, for ``run.json``.
    seed : int
        What decided the split.
    counted : (str, int)
        What is counted as seen, and how many of these an item holds: ("tokens", 128) for windows of 128 tokens.
    collator : callable
        Joins items to a batch.
    metrics : callable, optional
        ``EvalPrediction -> {name: number}``; they are logged as ``eval_<name>``. Without it no outputs are kept.
    callbacks : sequence of TrainerCallback
        What else it needs to know of the training, such as the epoch.
    """

    train: Dataset
    validation: Dataset | None
    about: Mapping[str, Any]
    seed: int
    counted: tuple[str, int] = ("items", 1)
    collator: Callable[[list[Any]], dict[str, Any]] = collate
    metrics: Callable[[EvalPrediction], dict[str, float]] | None = None
    callbacks: Sequence[TrainerCallback] = ()


def whole_steps(
    material: Material, config: TrainingConfig, n_processes: int
) -> tuple[Dataset, Dataset | None, dict[str, int]]:
    """Cut the training items to whole steps, so that every step counts alike and a step never spans two epochs."""
    batch = config.batch_size * n_processes
    items = batch * config.gradient_accumulation_steps
    (counted, each), held = material.counted, _length(material.train)
    whole = held // items * items
    if not whole:
        raise ValueError(
            f"{held} training items of {each} {counted}; one step takes {items} (batch_size x "
            "gradient_accumulation_steps x processes): give more of them or smaller batches"
        )
    validation = material.validation
    if validation is not None and config.eval_batches is not None:
        validation = Subset(validation, range(min(_length(validation), config.eval_batches * batch)))
    return Subset(material.train, range(whole)), validation, {counted: items * each}


def _length(dataset: Dataset) -> int:
    return len(dataset)  # pyright: ignore[reportArgumentType] - torch leaves the length out of its annotation
