"""A training run, from a model to a run folder."""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, TrainingArguments
from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available

from topographic.objectives.config import HasNeighborConfigs
from topographic.objectives.objective import Objective
from topographic.objectives.terms import configured_objective
from topographic.recording import longest_context
from topographic.storage import load_json
from topographic.training.callbacks import EarlyStopping, EpochsTold, MetricsLog, ProgressBar, rises_in_a_row
from topographic.training.checkpoints import check_checkpoint, last_checkpoint
from topographic.training.config import HasTextConfigs, HasTrainingConfigs, TrainingConfig, save_config
from topographic.training.finetuning.classification import encode, labelled_material
from topographic.training.folder import (
    check_free,
    forget_replaced,
    is_first_process,
    put_back_if_refused,
    replaced_runs,
    writing_to,
)
from topographic.training.interruption import Interruption
from topographic.training.low_rank import low_rank_updates
from topographic.training.material import Material, whole_steps
from topographic.training.record import RunRecord, device_name, git_commit, versions
from topographic.training.text.corpus import open_corpus
from topographic.training.text.data import prepare_tokens
from topographic.training.text.labelled_documents import document_task, labelled_documents, split_documents
from topographic.training.text.masking import MaskTokens, Placed
from topographic.training.trainer import TopographicTrainer
from topographic.training.trajectory import SaveAt, steps_to_save
from topographic.training.unit_swaps import UnitSwaps

__all__ = ["EXAMPLE_TOKENS", "rehearse", "train", "train_in", "train_on", "training_arguments", "unit_swaps"]

EXAMPLE_TOKENS = {"input_ids": torch.zeros(2, 2, dtype=torch.int64)}  # the smallest inputs of any language model


def train(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    config: HasTextConfigs,
    run_folder: str | Path,
    *,
    resume: Literal["auto", "never"] = "auto",
    overwrite: bool = False,
) -> Path:
    """Train a language model in place on text, and keep everything about it in a run folder.

    Parameters
    ----------
    model : nn.Module
        A language model in Hugging Face form: takes ``input_ids`` and ``labels``, returns its loss. A decoder, a model
        that finds masked tokens, or a classifier, as ``config.data.objective`` says.
    tokenizer : PreTrainedTokenizerBase
        As `load_tokenizer` returns it.
    config : RunConfig
        Or any dataclass with its fields; all of it goes into ``config.yaml``.
    run_folder, resume, overwrite
        As in `train_on`.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    FileExistsError, ValueError, FloatingPointError, ImportError
        As in `train_on`.
    """
    _check_fit(model, tokenizer, config)

    def prepare() -> Material:
        return _MATERIALS[config.data.objective](config, tokenizer, longest_context(model))

    return train_on(
        model,
        config,
        run_folder,
        prepare=prepare,
        example=EXAMPLE_TOKENS,
        processor=tokenizer,
        resume=resume,
        overwrite=overwrite,
    )


def _windows(config: HasTextConfigs, tokenizer: PreTrainedTokenizerBase, _longest: int | None) -> Material:
    """Windows of tokens, of which the next is learnt."""
    tokens = prepare_tokens(config.data, tokenizer)
    about = {key: entry for key, entry in tokens.manifest.items() if key != "files"}
    counted = ("tokens", tokens.train.sequence_length)
    return Material(tokens.train, tokens.validation, about, config.data.seed, counted)


def _masked_windows(config: HasTextConfigs, tokenizer: PreTrainedTokenizerBase, longest: int | None) -> Material:
    """Windows of tokens, of which some are to be found."""
    windows = _windows(config, tokenizer, longest)
    masks = MaskTokens(tokenizer, config.data.masked_fraction, seed=config.training.seed)
    held_out = windows.validation
    return replace(
        windows,
        train=Placed(windows.train, every_epoch=True),
        validation=None if held_out is None else Placed(held_out, every_epoch=False),
        about={**windows.about, "masked_fraction": config.data.masked_fraction},
        collator=masks,
        callbacks=(EpochsTold(masks),),
    )


def _labelled(config: HasTextConfigs, tokenizer: PreTrainedTokenizerBase, longest: int | None) -> Material:
    """Whole documents and their labels."""
    data, pad = config.data, tokenizer.pad_token_id
    if not isinstance(pad, int):
        raise ValueError(
            f"{type(tokenizer).__name__} has no pad token, which documents of unequal length need; set one"
        )
    items = labelled_documents(data)
    sides = split_documents(items, data)
    encoding = {"separator": " ", "longest": longest, "max_tokens": data.sequence_length}
    train_items = encode(tokenizer, sides[0], **encoding)
    held_out = encode(tokenizer, sides[1], **encoding) if len(sides[1]) else None
    corpus = open_corpus(**data.where())
    about = {"text": corpus.name, "source": corpus.source, "licence": corpus.licence, "sha256": items.checksum}
    about |= {"labels": list(data.labels), "documents": {"train": len(sides[0]), "validation": len(sides[1])}}
    material = labelled_material(
        document_task(data.labels), train_items, train_items, pad_token_id=pad, about=about, seed=data.seed
    )
    return replace(material, validation=held_out)


_MATERIALS = {"next_token": _windows, "masked_tokens": _masked_windows, "labels": _labelled}


def train_on(
    model: nn.Module,
    config: HasTrainingConfigs,
    run_folder: str | Path,
    *,
    prepare: Callable[[], Material],
    example: Mapping[str, torch.Tensor],
    processor: Any = None,
    resume: Literal["auto", "never"] = "auto",
    overwrite: bool = False,
) -> Path:
    """Train a model in place on anything, and keep everything about it in a run folder.

    Parameters
    ----------
    model : nn.Module
        Takes a batch's entries, labels among them, and returns its loss.
    config : RunConfig
        Or any dataclass with the fields ``spatial``, ``smoothness`` and ``training``, and perhaps
        ``neighbor_weights``, ``neighbor_activations`` and ``wiring``; all of it goes into ``config.yaml``.
    run_folder : str or Path
        Folder to make or, if the run in it was interrupted, to go on with.
    prepare : callable
        Makes or opens what is trained on, once it is known that the model and the folder will do.
    example : mapping of str to Tensor
        Inputs of a small forward pass; with it the objective is tried before anything is made.
    processor : optional
        Tokenizer or image processor that is saved with the model.
    resume : {"auto", "never"}
        Whether an interrupted run is gone on with, from its last complete checkpoint.
    overwrite : bool
        Begin again where the folder holds a finished run, a failed one, or one with another configuration. It is set
        aside, beside the folder under a hidden name, until the new run is finished.

    Returns
    -------
    Path
        The run folder with ``config.yaml``, ``run.json``, ``metrics.jsonl``, ``checkpoints/`` and ``model/``.

    Raises
    ------
    FileExistsError
        If the folder holds a finished run, one with another configuration, or files and no run.
    HeldElsewhereError
        If another process trains in this folder.
    ValueError
        If data, model and configuration do not fit together, or a checkpoint is damaged.
    FloatingPointError
        If activations or losses become NaN, naming the site.
    KeyboardInterrupt, SystemExit
        After SIGINT (Ctrl-C) or SIGTERM: the step is finished, with the validation if one is due, and a checkpoint
        written first.
    ImportError
        If accelerate is not installed.

    Notes
    -----
    The model is trained on the accelerator if there is one; start with ``torchrun`` for several, on machines that
    share a disk if they are several. The weights in ``model/`` are those of the last step. Global random generators
    are seeded with ``training.seed``, since dropout draws from them. What is refused before the first step leaves the
    folder as it was; a run that fails later says so in ``run.json``.
    """
    with writing_to(run_folder) as folder:
        return train_in(
            folder,
            model,
            config,
            prepare=prepare,
            example=example,
            processor=processor,
            resume=resume,
            overwrite=overwrite,
        )


def train_in(
    folder: Path,
    model: nn.Module,
    config: HasTrainingConfigs,
    *,
    prepare: Callable[[], Material],
    example: Mapping[str, torch.Tensor],
    processor: Any,
    resume: Literal["auto", "never"] = "auto",
    overwrite: bool = False,
) -> Path:
    """As `train_on`, for whoever writes to the folder already."""
    _require_extras(config.training)
    _require_machine(config.training)
    with low_rank_updates(model, config.training) as merge:
        return _train_in(
            folder,
            model,
            config,
            prepare=prepare,
            example=example,
            processor=processor,
            resume=resume,
            overwrite=overwrite,
            before_saving=merge,
        )


def _train_in(
    folder: Path,
    model: nn.Module,
    config: HasTrainingConfigs,
    *,
    prepare: Callable[[], Material],
    example: Mapping[str, torch.Tensor],
    processor: Any,
    resume: Literal["auto", "never"],
    overwrite: bool,
    before_saving: Callable[[], None],
) -> Path:
    settings, first = config.training, is_first_process()
    fate = check_free(folder, config, resume=resume, overwrite=overwrite)
    objective = configured_objective(model, config)
    rehearse(model, objective, example)
    swaps = unit_swaps(model, config, example)
    material = prepare()
    if settings.early_stopping_patience is not None and material.validation is None:
        raise ValueError("training.early_stopping_patience is set and nothing is held out; hold some items out")
    arguments = training_arguments(settings, folder, evaluates=material.validation is not None)
    train_set, validation_set, seen_per_step = whole_steps(material, settings, arguments.world_size)
    saved_in_time = {} if settings.save_at is None else _saved_in_time(settings, seen_per_step)
    metrics = MetricsLog(folder, tensorboard=settings.report_to == "tensorboard")
    bar, interruption = ProgressBar(), Interruption()
    with put_back_if_refused(folder, fate):
        record = RunRecord(folder / "run.json", _about(model, config, material, arguments), seen_per_step)
        if first:
            save_config(folder / "config.yaml", config)
            if fate != "resumed":
                replaces = {"replaces": [path.name for path in replaced_runs(folder)]} if fate == "replaced" else {}
                record.write("running", steps=0, **replaces)
        stopping = settings.early_stopping_patience
        trainer = TopographicTrainer(
            model,
            arguments,
            objective=objective,
            train_dataset=train_set,
            eval_dataset=validation_set,
            processor=processor,
            callbacks=[
                metrics,
                bar,
                *([] if stopping is None else [EarlyStopping(stopping)]),
                record,
                *material.callbacks,
                *swaps,
                interruption,
            ],
            material=material,
        )
        trainer.add_callback(SaveAt(folder, saved_in_time, trainer.save_in_time))
        if settings.fsdp and not trainer.is_fsdp_enabled:
            raise ValueError(
                f"training.fsdp=True on {arguments.device}; parameters are sharded over accelerators only: switch it "
                "off"
            )
        trainer.accelerator.wait_for_everyone()
        checkpoint = last_checkpoint(folder / "checkpoints")
        if checkpoint is not None:
            check_checkpoint(checkpoint, arguments.world_size)
    try:
        with interruption.heard(arguments.device):
            trainer.train_from(checkpoint, already_done=checkpoint is not None and _is_done(checkpoint, settings))
        before_saving()
        trainer.save_for_use(folder / "model")
    except BaseException as error:
        if first:
            with contextlib.suppress(OSError):  # the error itself says more
                record.end_badly(error, trainer.state.global_step)
            _say_what_is_kept(error, folder)
        raise
    finally:
        bar.close()
    if first:
        record.finish(trainer.state, stopped_early=trainer.state.global_step < settings.max_steps)
        forget_replaced(folder, record.content.get("replaces", ()))
    return folder


def unit_swaps(
    model: nn.Module, config: HasTrainingConfigs, example: Mapping[str, torch.Tensor]
) -> tuple[UnitSwaps, ...]:
    """What lets units change places, if the configuration asks for it."""
    if not isinstance(config, HasNeighborConfigs) or config.wiring.swap is None:
        return ()
    if config.training.fsdp:
        raise ValueError(
            f"wiring.swap={config.wiring.swap} with training.fsdp=True, which leaves no process all weights of a "
            "layer; switch either off"
        )
    return (UnitSwaps(model, config.wiring, example),)


def _saved_in_time(settings: TrainingConfig, seen_per_step: Mapping[str, int]) -> dict[int, int]:
    """Steps after which the weights are kept, and the tokens seen by then."""
    if settings.save_at is None or "tokens" not in seen_per_step:
        raise ValueError(
            f"training.save_at={settings.save_at} counts tokens and this run sees {' and '.join(seen_per_step)}; leave "
            "it out"
        )
    return steps_to_save(settings.save_at, seen_per_step["tokens"], settings.max_steps)


def _say_what_is_kept(error: BaseException, folder: Path) -> None:
    """Add to an error's words where the run lies that was to be replaced."""
    if (kept := replaced_runs(folder)) and isinstance(error, Exception):
        error.args = (f"{error}; the run that this one was to replace is kept in {kept[-1]}", *error.args[1:])


def training_arguments(config: TrainingConfig, run_folder: Path, *, evaluates: bool) -> TrainingArguments:
    """Translate a configuration into transformers' words."""
    arguments = TrainingArguments(
        output_dir=str(run_folder / "checkpoints"),
        run_name=run_folder.name,
        max_steps=config.max_steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        optim="adamw_torch",
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine_warmup_with_min_lr",
        lr_scheduler_kwargs={"min_lr": config.min_learning_rate},
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        adam_beta1=config.betas[0],
        adam_beta2=config.betas[1],
        max_grad_norm=config.max_grad_norm,
        bf16=config.bf16,
        torch_compile=config.compile,
        fsdp=True if config.fsdp else None,  # pyright: ignore[reportArgumentType] - annotated as the word it once was
        use_cpu=config.cpu,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=False,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,  # a NaN ends the run here; it is not averaged away
        eval_strategy="steps" if evaluates else "no",
        eval_steps=config.eval_steps,
        save_steps=config.save_steps,
        save_total_limit=config.keep_checkpoints,
        seed=config.seed,
        data_seed=config.seed,
        report_to=["wandb"] if config.report_to == "wandb" else [],
        disable_tqdm=False,
        remove_unused_columns=False,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # DataParallel copies the model in every pass, out of reach of `listen`; torchrun does not
    return arguments


def rehearse(model: nn.Module, objective: Objective, example: Mapping[str, torch.Tensor]) -> None:
    """Let an objective hear a small example, so that a sheet that cannot be is refused before anything is made."""
    was_training = model.training
    device = next(model.parameters()).device
    try:
        with torch.no_grad(), objective.listen(model.eval()):
            model(**{name: entry.to(device) for name, entry in example.items()})
        objective(torch.zeros((), device=device), draw=0)
    finally:
        model.train(was_training)


def _require_extras(config: TrainingConfig) -> None:
    if importlib.util.find_spec("accelerate") is None:
        raise ImportError("training needs accelerate, which is not installed; run `pip install 'topographic[train]'`")
    if config.adapter is not None and importlib.util.find_spec("peft") is None:
        raise ImportError(
            f"training.adapter={config.adapter} needs peft, which is not installed; run `pip install "
            "'topographic[train]'`"
        )
    if config.report_to == "wandb" and importlib.util.find_spec("wandb") is None:
        raise ImportError(
            "training.report_to=wandb needs wandb, which is not installed; run `pip install 'topographic[wandb]'`"
        )


def _require_machine(config: TrainingConfig) -> None:
    if config.fsdp and os.environ.get("WORLD_SIZE", "1") == "1":
        raise ValueError(
            "training.fsdp=True in a single process; start several with torchrun --nproc-per-node, or switch it off"
        )
    if config.bf16 and not config.cpu and not (is_torch_bf16_gpu_available() or is_torch_xla_available()):
        raise ValueError(
            "training.bf16=True and no accelerator here that computes in bfloat16; say training.bf16=false, or "
            "training.cpu=true for a CPU's own"
        )


def _check_fit(model: nn.Module, tokenizer: PreTrainedTokenizerBase, config: HasTextConfigs) -> None:
    shape = getattr(model, "config", None)
    entries = getattr(shape, "vocab_size", None)
    if entries is not None and len(tokenizer) > entries:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} entries, the model {entries}; make the model with at least as many"
        )
    longest = longest_context(model)
    if longest is not None and config.data.sequence_length > longest:
        raise ValueError(
            f"data.sequence_length={config.data.sequence_length}; the model takes {longest} tokens at most: shorten it"
        )
    if config.training.early_stopping_patience is not None and config.data.validation_fraction == 0:
        raise ValueError(
            "training.early_stopping_patience is set and data.validation_fraction is 0; hold some documents out"
        )


def _about(
    model: nn.Module, config: HasTrainingConfigs, material: Material, arguments: TrainingArguments
) -> dict[str, Any]:
    return {
        "model": type(model).__name__,
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "corpus": dict(material.about),
        "seeds": {"data": material.seed, "training": config.training.seed},
        "versions": versions(),
        "git_commit": git_commit(),
        "n_processes": arguments.world_size,
        "device": device_name(arguments.device),
    }


def _is_done(checkpoint: Path, config: TrainingConfig) -> bool:
    """Whether a run was killed after its last step, but before its model was saved."""
    state = load_json(checkpoint / "trainer_state.json")
    patience = config.early_stopping_patience
    stopped = patience is not None and rises_in_a_row(state["log_history"]) >= patience
    return stopped or state["global_step"] >= config.max_steps
