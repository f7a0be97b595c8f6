"""Fine-tuning on labelled texts, and what the model scores afterwards."""

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from topographic.recording import longest_context
from topographic.storage import load_json, save_arrays, save_json
from topographic.training.config import HasTrainingConfigs, TrainingConfig
from topographic.training.finetuning.classification import EncodedItems, encode, labelled_material, predict
from topographic.training.finetuning.glue import Task, task_named
from topographic.training.finetuning.labelled import TRAIN, LabelledDataConfig, LabelledItems, load_labelled
from topographic.training.finetuning.scores import check_defined, decide, majority, measure, score
from topographic.training.folder import FINETUNED, PREDICTIONS, difference, is_first_process, run_state, writing_to
from topographic.training.run import EXAMPLE_TOKENS, train_in

__all__ = ["HasLabelledConfigs", "LabelledSplits", "fine_tune", "open_task", "whole_epochs"]


@runtime_checkable
class HasLabelledConfigs(HasTrainingConfigs, Protocol):
    """Any dataclass with these four fields, such as one that also says where a model came from."""

    @property
    def data(self) -> LabelledDataConfig:
        """The labelled texts."""
        ...


@dataclass(frozen=True, eq=False)
class LabelledSplits:
    """The items of a task.

    Parameters
    ----------
    name : str
        The task, one of `glue.TASKS`.
    train : LabelledItems
        What is trained on.
    watched : LabelledItems
        What is validated on during training, which decides about stopping.
    validation : mapping of str to LabelledItems
        What is scored at the end, by its name in tables.
    """

    name: str
    train: LabelledItems
    watched: LabelledItems
    validation: Mapping[str, LabelledItems]

    @property
    def task(self) -> Task:
        """Texts, labels and measures."""
        return task_named(self.name)

    @property
    def about(self) -> dict[str, Any]:
        """Sources, numbers of items and checksums, for ``run.json``."""
        sets = {TRAIN: self.train, "watched": self.watched, **self.validation}
        return {"text": f"task {self.name}", "source": self.train.source} | {
            name: {"source": items.source, "items": len(items), "sha256": items.checksum}
            for name, items in sets.items()
        }


def open_task(name: str, config: LabelledDataConfig) -> LabelledSplits:
    """Load a task, draw its training items, and say which items decide about stopping.

    Parameters
    ----------
    name : str
        One of `glue.TASKS`.
    config : LabelledDataConfig
        Files or hub dataset, how many items, share that decides about stopping.

    Returns
    -------
    LabelledSplits
        Training items in a seeded order, so that whole steps leave out no particular label. Without a
        ``stopping_fraction`` the first validation split decides about stopping, whose scores are then a little
        better than those of texts that nobody watched.

    Raises
    ------
    ValueError
        As `load_labelled`; if a measure means nothing on a validation split, or nothing is left to train on.
    """
    found = load_labelled(name, config)
    every, task = found.pop(TRAIN), task_named(name)
    for split, items in found.items():
        check_defined(task, items.labels, f"{split} ({items.source})")
    generator = np.random.default_rng(config.seed)
    order = generator.permutation(len(every))[: config.train_items]
    n_watched = round(config.stopping_fraction * len(order))
    if config.stopping_fraction and not 0 < n_watched < len(order):
        raise ValueError(
            f"data.stopping_fraction={config.stopping_fraction} of {len(order)} items holds out {n_watched}; expected "
            "some, and some left to train on: change it"
        )
    watched = every.take(order[:n_watched]) if n_watched else next(iter(found.values()))
    return LabelledSplits(name, every.take(order[n_watched:]), watched, found)


def whole_epochs(config: TrainingConfig, n_items: int, epochs: int, validations_per_epoch: int) -> TrainingConfig:
    """Count steps so that every item is seen so many times.

    Parameters
    ----------
    config : TrainingConfig
        Sizes of batches.
    n_items : int
        Training items.
    epochs : int
        How often each is seen.
    validations_per_epoch : int
        Validations, and checkpoints, per epoch.

    Returns
    -------
    TrainingConfig
        With ``max_steps``, ``eval_steps`` and ``save_steps`` of that length. The items that do not fill a step, fewer
        than one step takes, are never trained on.
    """
    per_step = config.batch_size * config.gradient_accumulation_steps * int(os.environ.get("WORLD_SIZE", "1"))
    steps = max(1, n_items // per_step)
    between = math.ceil(steps / validations_per_epoch)
    return dataclasses.replace(config, max_steps=epochs * steps, eval_steps=between, save_steps=between)


def fine_tune(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    splits: LabelledSplits,
    config: HasLabelledConfigs,
    run_folder: str | Path,
    *,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Train a classifier on a task, then score the saved model on all validation items.

    Parameters
    ----------
    model : nn.Module
        As `load_classifier` returns it; trained in place.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    splits : LabelledSplits
        As `open_task` returns it.
    config : dataclass
        With the fields ``data``, ``spatial``, ``smoothness`` and ``training``; all of it goes into ``config.yaml``.
    run_folder : str or Path
        Folder to make, or to go on with; as in `train_on`.
    overwrite : bool
        Begin again in a folder that holds a finished run.

    Returns
    -------
    dict or None
        What also stands in ``finetune.json`` in the run folder: the task, one row per validation split and measure
        (``scores``), the same for the most frequent label (``majority``), and how long training took. None on
        all processes but the first. Outputs and labels of every item are in ``predictions.safetensors``.

    Raises
    ------
    FileExistsError
        If the folder holds a run with another configuration.
    ValueError, FloatingPointError, ImportError
        As `encode` and `train_on`.

    Notes
    -----
    The spatial loss hears the same sheets as in pretraining, at every token of a text and none of its pads. Where
    ``training.early_stopping_patience`` ends the training, the model scored is that of the last step.
    """
    data = config.data
    with writing_to(run_folder) as folder:
        encoding = {"separator": data.separator, "longest": longest_context(model), "max_tokens": data.max_tokens}
        validation = {name: encode(tokenizer, items, **encoding) for name, items in splits.validation.items()}
        pad: Any = tokenizer.pad_token_id
        if overwrite or not _is_trained(folder, config):
            material = labelled_material(
                splits.task,
                encode(tokenizer, splits.train, **encoding),
                encode(tokenizer, splits.watched, **encoding),
                pad_token_id=pad,
                about=splits.about,
                seed=data.seed,
            )
            train_in(
                folder,
                model,
                config,
                prepare=lambda: material,
                example=EXAMPLE_TOKENS,
                processor=tokenizer,
                overwrite=overwrite,
            )
        if not is_first_process():
            return None
        if not (folder / FINETUNED).is_file():
            _write_results(folder, splits, validation, config)
        return load_json(folder / FINETUNED)


def _is_trained(folder: Path, config: HasLabelledConfigs) -> bool:
    """Whether the folder holds this very run, finished; another one is refused."""
    state = run_state(folder)
    if state is None or state.status != "finished":
        return False
    if differs := difference(folder, config):
        raise FileExistsError(
            f"{folder} holds a finished run with another configuration ({differs}); choose another folder, or "
            "overwrite it"
        )
    return True


def _write_results(
    folder: Path, splits: LabelledSplits, validation: Mapping[str, EncodedItems], config: HasLabelledConfigs
) -> None:
    """Score the model as it lies on the disk: what is reported is what others will load."""
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    on_gpu = torch.cuda.is_available() and not config.training.cpu
    model = nn.Module.to(model, "cuda" if on_gpu else "cpu").eval()
    task, kept, found = splits.task, {}, {"scores": [], "majority": []}
    for name, items in validation.items():
        outputs = predict(model, items, pad_token_id=tokenizer.pad_token_id, batch_size=config.training.batch_size)
        kept |= {f"{name}/outputs": outputs, f"{name}/labels": items.labels}
        predicted, guessed = decide(task, outputs), majority(task, splits.train.labels, len(items))
        for metric in task.metrics:
            row = score(metric, items.labels, predicted, seed=config.data.seed)
            found["scores"].append({"name": name, **row._asdict()})
            guess = measure(metric, items.labels, guessed)
            found["majority"].append({"name": name, "metric": metric, "value": guess if math.isfinite(guess) else None})
    record = load_json(folder / "run.json")
    save_arrays(folder / PREDICTIONS, kept, {"task": splits.name, "items": splits.about})
    save_json(folder / "run.json", record | {"scores": found["scores"]})
    about = {key: record[key] for key in ("steps", "stopped_early", "items_seen", "git_commit", "versions")}
    weights = {"spatial_weight": config.spatial.weight, "smoothness_weight": config.smoothness.weight}
    trained = {**weights, "epochs": record["items_seen"] / len(splits.train), **about}
    save_json(folder / FINETUNED, {"task": splits.name, **found, **trained})
