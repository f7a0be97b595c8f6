"""`topo finetune`: downstream tasks, with what made the model topographic kept at a chosen scale."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from topographic.objectives.config import SmoothnessConfig, SpatialConfig
from topographic.runs.finetuning_choices import ClassifierConfig, constant_rate
from topographic.training.config import TrainingConfig
from topographic.training.finetuning.glue import task_named
from topographic.training.finetuning.labelled import LabelledDataConfig

__all__ = ["FinetuneCommand", "finetune"]


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
    training: TrainingConfig = field(default_factory=constant_rate)
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
        default = constant_rate()
        for name in ("max_steps", "eval_steps", "save_steps") if self.epochs is not None else ():
            if getattr(self.training, name) != getattr(default, name):
                raise ValueError(
                    f"training.{name}={getattr(self.training, name)} with epochs={self.epochs}, which decides how many "
                    "steps are taken; say epochs=null to count steps, or leave it out"
                )

    def names(self) -> list[str]:
        """The tasks."""
        return [self.tasks] if isinstance(self.tasks, str) else list(self.tasks)


def finetune(command: FinetuneCommand) -> Path | None:
    """Fine-tune on every task, or go on where an interrupted command stopped, and write the table."""
    from topographic.evaluation.glue_table import glue_table
    from topographic.evaluation.results import save_table
    from topographic.runs.finetuning import fine_tune_on, kept_losses
    from topographic.runs.folder import require_finished

    run = Path(command.run)
    require_finished(run)
    is_run = (run / "model").is_dir()
    if command.out is None and not is_run:
        raise ValueError(f"{command.run} is no run folder (it has no model/); say where the runs go: --out FOLDER")
    out = Path(command.out) if command.out is not None else run / "finetune"
    source = str(run / "model") if is_run else command.run
    losses = kept_losses(command.run, command.scale, command.spatial, command.smoothness)
    told = {"classifier": command.model, "data": command.data, "training": command.training}
    epochs = None if command.epochs is None else (command.epochs, command.validations_per_epoch)
    results, random = [], []
    for name in command.names():
        for found, suffix in ((results, ""), (random, "-random"))[: 1 + command.random_weights]:
            options = {"epochs": epochs, "random_weights": suffix != "", "overwrite": command.overwrite}
            found.append(fine_tune_on(name, source, losses, out / f"{name}{suffix}", **told, **options))
    if None in results:  # another process writes the table
        return None
    csv, markdown = save_table(out, glue_table(results, random))
    print(markdown.read_text(encoding="utf-8"))
    print(f"{markdown}, {csv.name} and one run folder per task")
    return markdown
