"""A thin `transformers.Trainer`: it adds the objective, logs its parts, and keeps its checkpoints without pickle."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers import default_data_collator as collate
from transformers.trainer_callback import ProgressCallback, TrainerState
from transformers.utils import logging as transformers_logging

from topographic.objectives.objective import Objective
from topographic.storage import disk_errors, load_json, publish_folder, save_json, write_folder_atomically
from topographic.training.checkpoints import (
    load_tensors,
    optimizer_state,
    random_state,
    remove_older_checkpoints,
    restore_optimizer,
    restore_random_state,
    save_tensors,
    weights,
    whole_state,
)
from topographic.training.material import Material
from topographic.training.means import NotFiniteError, RunningMeans

__all__ = ["TopographicTrainer"]


class TopographicTrainer(Trainer):
    """`transformers.Trainer` with a spatial loss beside the task loss.

    Parameters
    ----------
    model : nn.Module
        Any model that takes ``input_ids`` and ``labels`` and returns its loss.
    args : TrainingArguments
        As for any Trainer.
    objective : Objective
        The weighted terms beside the task loss.
    train_dataset, eval_dataset : Dataset
        Where all windows are of equal length, a mean over forward passes is a mean over tokens.
    processor : optional
        Tokenizer or image processor that is saved with the model.
    callbacks : list of TrainerCallback
        What else happens.
    material : Material, optional
        How items become batches, and what is measured on the outputs; by default windows of tokens, and nothing.

    Notes
    -----
    One rule scales every term: the Trainer divides the loss of each forward pass by the number of passes of
    the step, and processes are averaged. The spatial loss so enters a step with its weight, whatever the
    accumulation. (The count of tokens that newer Trainers hand to the model would scale the task loss alone.)
    Neighbourhoods are drawn by the number of the forward pass, so a resumed run draws what it would have drawn.
    """

    # the Trainer's own annotations allow for each of these being absent or wrapped
    model: Any
    args: Any
    accelerator: Any
    optimizer: Any
    lr_scheduler: Any

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        objective: Objective,
        train_dataset: Any,
        eval_dataset: Any = None,
        processor: Any = None,
        callbacks: list[TrainerCallback] | None = None,
        material: Material | None = None,
    ) -> None:
        self._caches = getattr(getattr(model, "config", None), "use_cache", None)
        super().__init__(
            model=model,
            args=args,
            data_collator=collate if material is None else material.collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processor,
            callbacks=callbacks,
            compute_metrics=None if material is None else material.metrics,
        )
        self.remove_callback(ProgressCallback)  # it prints every log line to the standard output
        self.model_accepts_loss_kwargs = False
        self.objective = objective
        # a validation changes no weights, so it spares the terms that depend on them alone
        self._validation = Objective(model, [term for term in objective.terms if not term.per_step])
        self._means, self._eval_means = RunningMeans(), RunningMeans()
        self._pass = 0

    def train_from(self, checkpoint: Path | None, *, already_done: bool = False) -> None:
        """Train from the start, or go on from a checkpoint; that of the last step is only taken up."""
        if checkpoint is not None and already_done:
            self._load_from_checkpoint(str(checkpoint))
            self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        else:
            self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    def save_for_use(self, folder: Path) -> None:
        """Write model and tokenizer for `from_pretrained`, whole or not at all; every process must call this."""
        with contextlib.ExitStack() as stack:
            first = self.is_world_process_zero()
            staging = stack.enter_context(write_folder_atomically(folder)) if first else folder
            self.save_model(str(staging))
        self.accelerator.wait_for_everyone()

    def save_in_time(self, folder: Path) -> None:
        """`save_for_use` of weights that are finite, as those of a checkpoint are."""
        self._refuse_unless_finite(self.model)
        self.save_for_use(folder)

    # ---- the objective

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch the batches of one optimiser step, and count its forward passes from 0."""
        self._pass = 0
        return super().get_batch_samples(*args, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Task loss plus weighted terms in training; in evaluation the task loss, with the terms set aside."""
        padding = inputs.get("attention_mask")  # padded tokens are no samples of a sheet's activity
        objective = self.objective if model.training else self._validation
        with objective.listen(model):
            task_loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        if not model.training:
            # evaluations draw the same neighbourhoods each time, so that they can be compared
            _, parts = objective(task_loss, draw=self._eval_means.count, token_mask=padding)
            self._eval_means.add(parts, self.state.global_step)
            return (task_loss, outputs) if return_outputs else task_loss
        draw = self.state.global_step * self.args.gradient_accumulation_steps + self._pass
        self._pass += 1
        loss, parts = objective(task_loss, draw=draw, token_mask=padding)
        self._means.add({"loss": loss, **parts}, self.state.global_step)
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in the Trainer; ``eval_loss`` is the task loss."""
        self._means.check(self.accelerator.gather)  # whatever broke first is in there; by now everything may be broken
        self._eval_means = RunningMeans()
        return super().evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the objective to what is logged."""
        if "loss" in logs:
            logs |= self._means.take(self.accelerator.gather) | self._scheduled_weights()
        if "eval_loss" in logs:
            parts = self._eval_means.check(self.accelerator.gather)
            logs |= {f"eval_{name}": entry for name, entry in parts.items() if name == "spatial_loss"}
        super().log(logs, start_time)

    def _scheduled_weights(self) -> dict[str, float]:
        """Weight that every term with a schedule had in the last step."""
        step = max(self.state.global_step - 1, 0)
        return {f"{term.name}_weight": term.weight(step) for term in self.objective.terms if callable(term.weight)}

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Weight decay falls on every parameter with two axes or more, embeddings included (TopoLM)."""
        return [name for name, parameter in model.named_parameters() if parameter.ndim >= 2]

    # ---- checkpoints: whole or absent, safetensors and JSON

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        self._refuse_unless_finite(model)
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        staging = folder.with_name(f".{folder.name}.partial")
        first, wait = self.is_world_process_zero(), self.accelerator.wait_for_everyone
        try:
            with disk_errors(folder):
                if first:
                    shutil.rmtree(staging, ignore_errors=True)
                    staging.mkdir(parents=True)
                wait()
                self.save_model(str(staging))
                optimizer, groups = optimizer_state(self.model, self._bare_optimizer())
                if first:
                    save_tensors(staging / "optimizer.safetensors", optimizer, groups)
                    save_json(staging / "scheduler.json", self.lr_scheduler.state_dict())
                    self.state.save_to_json(str(staging / "trainer_state.json"))
                self._save_process(staging)
                wait()
                if first:
                    publish_folder(staging, folder)
                    remove_older_checkpoints(folder.parent, self.args.save_total_limit)
                wait()
        finally:
            if first:
                shutil.rmtree(staging, ignore_errors=True)

    def _save_process(self, folder: Path) -> None:
        """What every process has of its own: random states and the sums of the next log line."""
        (tensors, drawn), (sums, counted) = random_state(), self._means.state()
        named = {f"random/{name}": entry for name, entry in tensors.items()}
        named |= {f"means/{name}": entry for name, entry in sums.items()}
        metadata = {"random": drawn, "means": counted}
        save_tensors(folder / f"process-{self.args.process_index}.safetensors", named, metadata)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write model and tokenizer; the Trainer's own would add its arguments as a pickle."""
        bare = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        whole = whole_state(bare) if self._is_sharded() else None
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(bare, PreTrainedModel):
            # the Trainer switches the cache off while it trains; whoever generates with the saved model wants it
            while_training = bare.config.use_cache
            bare.config.use_cache = while_training if self._caches is None else self._caches
            with _no_progress_bar():
                bare.save_pretrained(folder, state_dict=whole)
            bare.config.use_cache = while_training
        else:
            whole = bare.state_dict() if whole is None else whole
            once = {entry.data_ptr(): name for name, entry in reversed(whole.items())}  # tied tensors under one name
            save_tensors(folder / "model.safetensors", {name: whole[name] for name in once.values()}, {})
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        target = self.model if model is None else model
        saved: dict[str, Any] = weights(Path(resume_from_checkpoint))
        if self._is_sharded(target):
            set_model_state_dict(target, saved, options=StateDictOptions(full_state_dict=True, strict=False))
            return
        try:
            loaded = target.load_state_dict(saved, strict=False)
        except RuntimeError as error:
            raise ValueError(f"{resume_from_checkpoint} does not fit this model ({error})") from error
        held = target.state_dict()
        known = {held[name].data_ptr() for name in saved if name in held}
        lacking = [name for name in loaded.missing_keys if held[name].data_ptr() not in known]
        if lacking or loaded.unexpected_keys:
            raise ValueError(
                f"{resume_from_checkpoint} does not fit this model: it lacks {lacking[:3]} and has "
                f"{loaded.unexpected_keys[:3]} besides; resume with the model it was made from"
            )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        restore_optimizer(self.model, self._bare_optimizer(), *load_tensors(folder / "optimizer.safetensors"))
        self.lr_scheduler.load_state_dict(load_json(folder / "scheduler.json"))
        tensors, metadata = self._load_process(folder, "means")
        self._means.restore(tensors, metadata, self.args.device)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            restore_random_state(*self._load_process(Path(checkpoint), "random"))

    def _load_process(self, folder: Path, part: str) -> tuple[dict[str, Tensor], Any]:
        tensors, metadata = load_tensors(folder / f"process-{self.args.process_index}.safetensors")
        chosen = {name: entry for name, entry in tensors.items() if name.startswith(f"{part}/")}
        return {name.removeprefix(f"{part}/"): entry for name, entry in chosen.items()}, metadata[part]

    def _is_sharded(self, model: nn.Module | None = None) -> bool:
        return any(isinstance(parameter, DTensor) for parameter in (model or self.model).parameters())

    def _bare_optimizer(self) -> torch.optim.Optimizer:
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def _refuse_unless_finite(self, model: nn.Module) -> None:
        """Keep a broken model out of the checkpoints."""
        self._means.check(self.accelerator.gather)
        local = [entry.to_local() if isinstance(entry, DTensor) else entry for entry in model.parameters()]
        finite = torch.stack([torch.isfinite(entry).all() for entry in local]).all()
        if not self.accelerator.gather(finite[None]).all():
            raise NotFiniteError("parameters", "after", self.state.global_step)


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Spare the training bar those that transformers draws for every file it writes."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
