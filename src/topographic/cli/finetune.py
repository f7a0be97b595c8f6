"""`topo finetune`: downstream tasks, with what made the model topographic kept at a chosen scale."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from topographic.evaluation.glue_table import glue_table
from topographic.evaluation.results import save_table
from topographic.objectives.config import SmoothnessConfig, SpatialConfig
from topographic.runs.folder import require_finished
from topographic.runs.own_sheets import own_sections
from topographic.training.config import TrainingConfig
from topographic.training.finetuning.glue import task_named
from topographic.training.finetuning.labelled import LabelledDataConfig

__all__ = ["ClassifierConfig", "FinetuneCommand", "FinetuneRun", "StartConfig", "finetune"]


def _constant_rate() -> TrainingConfig:
    """As published: constant learning rate, no warm-up, batches of 64, a patience of three rises."""
    rates = {"learning_rate": 2e-5, "min_learning_rate": 2e-5, "warmup_steps": 0}
    return TrainingConfig(batch_size=64, early_stopping_patience=3, keep_checkpoints=1, **rates)


@dataclass(frozen=True)
class ClassifierConfig:
    """How a causal model becomes a classifier."""

    dropout: float | None = 0.1
    """Every dropout of the model in fine-tuning; null leaves them as they were in pretraining."""
    seed: int = 0
    """Seed of the map from the last hidden state to the labels, and of all weights that are random."""

    def __post_init__(self) -> None:
        """Refuse what is no probability."""
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout={self.dropout}; expected a probability from 0 to below 1, or null")


@dataclass(frozen=True)
class FinetuneCommand:
    """Fine-tune a model on tasks of GLUE, one run folder per task, and write one table."""

    run: str
    """A run folder, or the name or folder of any Hugging Face causal model."""
    tasks: list[str] | str = "sst2"
    """Tasks: sst2, or a list such as [sst2,cola]; also mrpc, stsb, qqp, mnli, qnli, rte, wnli."""
    out: str | None = None
    """Folder for the runs and the table; RUN/finetune by default, needed for a model that is no run."""
    overwrite: bool = False
    """Begin again where finished runs are. Unfinished ones are resumed in any case, finished ones taken as they are."""
    scale: float = 1.0
    """Share of the spatial loss and of the smoothness of weights that is kept: their weights, alpha and tau, of the run
    or of the sections spatial and smoothness, times this. The published TopoLMs were fine-tuned at 0, 0.1 and 1."""
    epochs: int | None = 3
    """How often every training item is seen; null: training.max_steps, eval_steps and save_steps as they are."""
    validations_per_epoch: int = 2
    """Validations per epoch; each is on the whole validation set."""
    random_weights: bool = False
    """Also train the same architecture from random weights, as a control."""
    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    """The classifier."""
    data: LabelledDataConfig = field(default_factory=LabelledDataConfig)
    """The labelled texts."""
    spatial: SpatialConfig | None = None
    """The spatial loss in place of the run's own; needed for a model that is no run, unless scale is 0."""
    smoothness: SmoothnessConfig | None = None
    """The smoothness of weights (TopoNets) in place of the run's own, which is kept at the weight it ended with; for a
    model that is no run there is none by default."""
    training: TrainingConfig = field(default_factory=_constant_rate)
    """The optimisation."""

    def __post_init__(self) -> None:
        """Refuse tasks that do not exist and shares that are none."""
        names = self.names()
        if not names or len(set(names)) < len(names):
            raise ValueError(f"tasks={self.tasks}; expected one or more tasks, each once, such as [sst2,cola]")
        for name in names:
            task_named(name)
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise ValueError(f"scale={self.scale}; expected a share of alpha from 0 on, such as 0, 0.1 or 1")
        if (self.epochs is not None and self.epochs < 1) or self.validations_per_epoch < 1:
            raise ValueError(
                f"epochs={self.epochs}, validations_per_epoch={self.validations_per_epoch}; expected at least 1 of each"
            )
        default = _constant_rate()
        for name in ("max_steps", "eval_steps", "save_steps") if self.epochs is not None else ():
            if getattr(self.training, name) != getattr(default, name):
                raise ValueError(
                    f"training.{name}={getattr(self.training, name)} with epochs={self.epochs}, which decides how many "
                    "steps are taken; say epochs=null to count steps, or leave it out"
                )

    def names(self) -> list[str]:
        """The tasks."""
        return [self.tasks] if isinstance(self.tasks, str) else list(self.tasks)


@dataclass(frozen=True)
class StartConfig:
    """What a fine-tuned model was before."""

    task: str
    """What it is fine-tuned on."""
    pretrained: str
    """Folder or name of the model."""
    weights: str
    """Checksum of the weights at the start, the new map and the sheets included."""
    dropout: float | None
    """As in `ClassifierConfig`."""
    seed: int
    """As in `ClassifierConfig`."""
    random_weights: bool
    """Whether only its architecture was taken."""


@dataclass(frozen=True)
class FinetuneRun:
    """One task's run, as its config.yaml keeps it."""

    run: str
    """Folder of the run."""
    start: StartConfig
    """The model at the start."""
    data: LabelledDataConfig
    """The labelled texts."""
    spatial: SpatialConfig
    """The spatial loss, its weight already scaled."""
    smoothness: SmoothnessConfig
    """The smoothness of weights, its weight already scaled."""
    training: TrainingConfig
    """The optimisation, its steps already counted."""


def finetune(command: FinetuneCommand) -> Path | None:
    """Fine-tune on every task, or go on where an interrupted command stopped, and write the table."""
    from topographic.models import register

    register()
    run = Path(command.run)
    require_finished(run)
    is_run = (run / "model").is_dir()
    if command.out is None and not is_run:
        raise ValueError(f"{command.run} is no run folder (it has no model/); say where the runs go: --out FOLDER")
    out = Path(command.out) if command.out is not None else run / "finetune"
    source = str(run / "model") if is_run else command.run
    losses = _scaled(command, run)
    kinds: dict[str, list[Any]] = {"": [], "-random": []} if command.random_weights else {"": []}
    for name in command.names():
        for suffix, results in kinds.items():
            folder, is_random = out / f"{name}{suffix}", suffix != ""
            results.append(_one_task(command, name, source, losses=losses, folder=folder, random_weights=is_random))
    if None in kinds[""]:
        return None
    csv, markdown = save_table(out, glue_table(kinds[""], kinds.get("-random", ())))
    print(markdown.read_text(encoding="utf-8"))
    print(f"{markdown}, {csv.name} and one run folder per task")
    return markdown


def _one_task(
    command: FinetuneCommand,
    name: str,
    source: str,
    *,
    losses: tuple[SpatialConfig, SmoothnessConfig],
    folder: Path,
    random_weights: bool,
) -> dict[str, Any] | None:
    from topographic.recording.checksum import weights_checksum
    from topographic.training.finetuning.classifiers import load_classifier
    from topographic.training.finetuning.fine_tune import fine_tune, open_task, whole_epochs

    splits, tokenizer = open_task(name, command.data), _tokenizer(source)
    chosen = {**dataclasses.asdict(command.model), "random_weights": random_weights}
    model = load_classifier(source, splits.task, tokenizer, **chosen)
    training = command.training
    if command.epochs is not None:
        training = whole_epochs(training, len(splits.train), command.epochs, command.validations_per_epoch)
    config = FinetuneRun(
        run=str(folder),
        start=StartConfig(name, source, weights_checksum(model), **chosen),
        data=command.data,
        spatial=losses[0],
        smoothness=losses[1],
        training=training,
    )
    return fine_tune(model, tokenizer, splits, config, folder, overwrite=command.overwrite)


def _tokenizer(source: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"no model with a tokenizer at {source} ({reason}); give a run, a folder or a name") from error


def _scaled(command: FinetuneCommand, run: Path) -> tuple[SpatialConfig, SmoothnessConfig]:
    """Both losses as the sections say, or else the run, their weights times the scale."""
    own = own_sections(run)
    spatial = command.spatial or own.spatial
    if spatial is None and command.scale == 0:
        spatial = SpatialConfig(weight=0.0)
    if spatial is None:
        raise ValueError(
            f"{command.run} is no run folder that says with which alpha it was trained; set spatial.weight (2.5 in the "
            "TopoLM paper), or scale=0 for no spatial loss"
        )
    smoothness = command.smoothness
    if smoothness is None:  # a schedule is over when the model is trained
        smoothness = dataclasses.replace(own.smoothness or SmoothnessConfig(), schedule="constant", start_weight=0.0)
    starts = command.scale * smoothness.start_weight
    return (
        dataclasses.replace(spatial, weight=command.scale * spatial.weight),
        dataclasses.replace(smoothness, weight=command.scale * smoothness.weight, start_weight=starts),
    )
