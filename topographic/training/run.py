"""A training run, from a model to a run folder."""

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import nn
from torch.utils.data import Dataset, Subset
from transformers import PreTrainedTokenizerBase, TrainingArguments

from topographic.sheets import LAYOUTS, Sheet
from topographic.storage import load_json
from topographic.training.callbacks import EarlyStopping, MetricsLog, ProgressBar, rises_in_a_row
from topographic.training.checkpoints import check_checkpoint, last_checkpoint
from topographic.training.config import HasTrainingConfigs, SpatialConfig, TrainingConfig, plain, save_config
from topographic.training.data import Tokens, prepare_tokens
from topographic.training.objective import Objective, SpatialCorrelation
from topographic.training.record import RunRecord, device_name, git_commit, versions

__all__ = ["spatial_objective", "train", "training_arguments"]

# what a run folder holds, besides evaluations of its model; nothing else is ever deleted
_OURS = ("config.yaml", "run.json", "metrics.jsonl", "tensorboard", "checkpoints", "model", "maps", "report.html")


def train(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    config: HasTrainingConfigs,
    run_folder: str | Path,
    *,
    resume: Literal["auto", "never"] = "auto",
    overwrite: bool = False,
) -> Path:
    """Train a model in place, and keep everything about it in a run folder.

    Parameters
    ----------
    model : nn.Module
        A causal language model in Hugging Face form: takes ``input_ids`` and ``labels``, returns its loss.
    tokenizer : PreTrainedTokenizerBase
        As `load_tokenizer` returns it.
    config : RunConfig
        Or any dataclass with the fields ``data``, ``spatial`` and ``training``; all of it goes into ``config.yaml``.
    run_folder : str or Path
        Folder to make or, if the run in it was interrupted, to go on with.
    resume : {"auto", "never"}
        Whether an interrupted run is gone on with, from its last complete checkpoint.
    overwrite : bool
        Delete an earlier run in this folder first.

    Returns
    -------
    Path
        The run folder with ``config.yaml``, ``run.json``, ``metrics.jsonl``, ``checkpoints/`` and ``model/``.

    Raises
    ------
    FileExistsError
        If the folder holds a finished run, or one with another configuration.
    ValueError
        If text, tokenizer, model and configuration do not fit together, or a checkpoint is damaged.
    FloatingPointError
        If activations or losses become NaN, naming the site.
    ImportError
        If accelerate is not installed.

    Notes
    -----
    The model is trained on the accelerator if there is one; start with ``torchrun`` for several, on machines that
    share a disk if they are several. The weights in ``model/`` are those of the last step. Global random generators
    are seeded with ``training.seed``, since dropout draws from them.
    """
    _require_extras(config.training)
    _check_fit(model, tokenizer, config)
    objective = spatial_objective(model, config.spatial, seed=config.training.seed)
    _rehearse(model, objective)
    folder = Path(run_folder)
    if os.environ.get("RANK", "0") == "0":
        _open_run_folder(folder, config, resume=resume, overwrite=overwrite)
    tokens = prepare_tokens(config.data, tokenizer)
    arguments = training_arguments(config.training, folder, evaluates=tokens.validation is not None)
    sets, tokens_per_step = _whole_steps(tokens, config.training, arguments.world_size)

    from topographic.training.trainer import TopographicTrainer

    settings = config.training
    callbacks = [MetricsLog(folder, tensorboard=settings.report_to == "tensorboard"), ProgressBar()]
    if settings.early_stopping_patience is not None:
        callbacks.append(EarlyStopping(settings.early_stopping_patience))
    record = RunRecord(folder / "run.json", _about(model, config, tokens, arguments), tokens_per_step)
    trainer = TopographicTrainer(
        model,
        arguments,
        objective=objective,
        train_dataset=sets["train"],
        eval_dataset=sets["validation"],
        tokenizer=tokenizer,
        callbacks=[*callbacks, record],
    )
    if settings.fsdp and not trainer.is_fsdp_enabled:
        raise ValueError(
            f"training.fsdp=True on {arguments.device}; parameters are sharded over accelerators only: switch it off"
        )
    trainer.accelerator.wait_for_everyone()
    checkpoint = last_checkpoint(folder / "checkpoints")
    if checkpoint is not None:
        check_checkpoint(checkpoint, arguments.world_size)
    trainer.train_from(checkpoint, already_done=checkpoint is not None and _is_done(checkpoint, settings))
    trainer.save_for_use(folder / "model")
    if arguments.process_index == 0:
        record.finish(trainer.state, stopped_early=trainer.state.global_step < settings.max_steps)
    return folder


def spatial_objective(model: nn.Module, config: SpatialConfig, *, seed: int) -> Objective:
    """Spatial correlation loss on the sheets of a model, as the configuration asks for it.

    Parameters
    ----------
    model : nn.Module
        Any model; if it has a method ``sheets``, that says where the units of its sites lie.
    config : SpatialConfig
        Sites, neighbourhoods and weight.
    seed : int
        What neighbourhoods are drawn from.

    Returns
    -------
    Objective
        Without a term if the weight is 0.

    Raises
    ------
    ValueError
        If no sites are named and the model carries no sheets, or a pattern matches nothing.
    """
    if config.weight == 0:
        return Objective(model, [])
    sheets_of = getattr(model, "sheets", None)
    carried: Any = sheets_of() if callable(sheets_of) else {}
    sites = config.sites if config.sites is not None else list(carried)
    if not sites:
        raise ValueError(
            f"{type(model).__name__} carries no sheets and spatial.sites names none; set spatial.sites to modules, "
            "for example ['transformer.h.*.attn'], or spatial.weight to 0"
        )

    def layout(n_units: int, site: str) -> Sheet:
        return carried[site] if site in carried else LAYOUTS[config.layout](n_units, site)

    term = SpatialCorrelation(
        sites=sites,
        layout=layout,
        weight=config.weight,
        neighborhoods=config.neighborhoods,
        radius=config.radius,
        k=config.k,
        n_neighborhoods=config.n_neighborhoods,
        norm=config.norm,
        seed=seed,
    )
    return Objective(model, [term])


def training_arguments(config: TrainingConfig, run_folder: Path, *, evaluates: bool) -> TrainingArguments:
    """Translate a configuration into transformers' words.

    Parameters
    ----------
    config : TrainingConfig
        The configuration.
    run_folder : Path
        Checkpoints go into its folder ``checkpoints``.
    evaluates : bool
        Whether there is a validation text.

    Returns
    -------
    TrainingArguments
        AdamW with a linear warm-up and a cosine that ends at ``min_learning_rate``.
    """
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


def _require_extras(config: TrainingConfig) -> None:
    if importlib.util.find_spec("accelerate") is None:
        raise ImportError("training needs accelerate, which is not installed; run `pip install 'topographic[train]'`")
    if config.report_to == "wandb" and importlib.util.find_spec("wandb") is None:
        raise ImportError(
            "training.report_to=wandb needs wandb, which is not installed; run `pip install 'topographic[wandb]'`"
        )


def _open_run_folder(folder: Path, config: HasTrainingConfigs, *, resume: str, overwrite: bool) -> None:
    """Refuse a folder that is taken, or write the configuration into it."""
    if overwrite:
        for name in (*_OURS, *(file.parent.name for file in folder.glob("evaluation*/evaluation.json"))):
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    if (folder / "run.json").is_file():
        status = load_json(folder / "run.json").get("status")
        if status == "finished" or resume == "never":
            raise FileExistsError(
                f"{folder} holds a run that is {status}; expected a new folder: choose another name, or overwrite it"
            )
        earlier = _sections(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
        now = _sections(plain(config))
        if earlier != now:
            raise FileExistsError(
                f"{folder} holds an interrupted run with another configuration ({_difference(earlier, now)}); "
                "go on with the same one, choose another name, or overwrite it"
            )
    save_config(folder / "config.yaml", config)


def _sections(config: dict[str, Any]) -> dict[str, Any]:
    """What decides the numbers: not the words beside the sections, such as the folder's name or "overwrite"."""
    return {key: entry for key, entry in config.items() if isinstance(entry, dict)}


def _difference(earlier: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> str:
    """First key that differs."""
    for key in [*earlier, *now]:
        old, new = earlier.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict) and old != new:
            return _difference(old, new, f"{prefix}{key}.")
        if old != new:
            return f"{prefix}{key} was {old} and is {new}"
    return "nothing"


def _check_fit(model: nn.Module, tokenizer: PreTrainedTokenizerBase, config: HasTrainingConfigs) -> None:
    shape = getattr(model, "config", None)
    entries = getattr(shape, "vocab_size", None)
    if entries is not None and len(tokenizer) > entries:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} entries, the model {entries}; make the model with at least as many"
        )
    longest = getattr(shape, "max_position_embeddings", getattr(shape, "n_positions", None))
    if longest is not None and config.data.sequence_length > longest:
        raise ValueError(
            f"data.sequence_length={config.data.sequence_length}; the model takes {longest} tokens at most: shorten it"
        )
    if config.training.fsdp and os.environ.get("WORLD_SIZE", "1") == "1":
        raise ValueError(
            "training.fsdp=True in a single process; start several with torchrun --nproc-per-node, or switch it off"
        )
    if config.training.early_stopping_patience is not None and config.data.validation_fraction == 0:
        raise ValueError(
            "training.early_stopping_patience is set and data.validation_fraction is 0; hold some documents out"
        )


def _rehearse(model: nn.Module, objective: Objective) -> None:
    """Let the objective hear four tokens, so that a sheet that cannot be is refused before anything is made."""
    was_training = model.training
    tokens = torch.zeros(2, 2, dtype=torch.int64, device=next(model.parameters()).device)
    try:
        with torch.no_grad(), objective.listen(model.eval()):
            model(input_ids=tokens)
        objective(torch.zeros((), device=tokens.device), draw=0)
    finally:
        model.train(was_training)


def _whole_steps(tokens: Tokens, config: TrainingConfig, n_processes: int) -> tuple[dict[str, Dataset | None], int]:
    """Cut the windows to whole steps, so that every step counts alike and a step never spans two epochs."""
    batch = config.batch_size * n_processes
    per_step = batch * config.gradient_accumulation_steps
    whole = len(tokens.train) // per_step * per_step
    if not whole:
        raise ValueError(
            f"{len(tokens.train)} training windows of {tokens.train.sequence_length} tokens; one step takes {per_step} "
            "(batch_size x gradient_accumulation_steps x processes): give more text or smaller batches"
        )
    validation = tokens.validation
    if validation is not None and config.eval_batches is not None:
        validation = Subset(validation, range(min(len(validation), config.eval_batches * batch)))
    sets: dict[str, Dataset | None] = {"train": Subset(tokens.train, range(whole)), "validation": validation}
    return sets, per_step * tokens.train.sequence_length


def _about(
    model: nn.Module, config: HasTrainingConfigs, tokens: Tokens, arguments: TrainingArguments
) -> dict[str, Any]:
    return {
        "model": type(model).__name__,
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "corpus": {key: entry for key, entry in tokens.manifest.items() if key != "files"},
        "seeds": {"data": config.data.seed, "training": config.training.seed},
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
