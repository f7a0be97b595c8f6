"""A run fine-tuned on a task: what the model was before, what of its losses is kept, and the run folder it gets."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from topographic.models import register
from topographic.objectives.config import SmoothnessConfig, SpatialConfig
from topographic.recording.checksum import weights_checksum
from topographic.runs.finetuning_choices import ClassifierConfig
from topographic.runs.own_sheets import own_sections
from topographic.training.config import TrainingConfig
from topographic.training.finetuning.classifiers import load_classifier
from topographic.training.finetuning.fine_tune import fine_tune, open_task, whole_epochs
from topographic.training.finetuning.labelled import LabelledDataConfig

__all__ = [
    "FinetuneRun",
    "KeptLosses",
    "StartConfig",
    "fine_tune_on",
    "kept_losses",
]

KeptLosses = tuple[SpatialConfig, SmoothnessConfig]
_NOT_KEPT = ("neighbor_weights", "neighbor_activations", "wiring")


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


def kept_losses(
    run: str | Path, scale: float, spatial: SpatialConfig | None = None, smoothness: SmoothnessConfig | None = None
) -> KeptLosses:
    """Both losses as given, or else as the run was trained with them, their weights times the scale."""
    own = own_sections(run)
    lost = [name for name in _NOT_KEPT if (section := getattr(own, name)) is not None and section.weight]
    if lost and scale:
        raise ValueError(
            f"{run} was trained with {' and '.join(lost)}, which fine-tuning cannot go on with; set scale=0 to "
            "fine-tune without any such loss"
        )
    spatial = spatial or own.spatial or (SpatialConfig(weight=0.0) if scale == 0 else None)
    if spatial is None:
        raise ValueError(
            f"{run} is no run folder that says with which alpha it was trained; set spatial.weight (2.5 in the "
            "TopoLM paper), or scale=0 for no spatial loss"
        )
    if smoothness is None:  # a schedule is over when the model is trained
        smoothness = dataclasses.replace(own.smoothness or SmoothnessConfig(), schedule="constant", start_weight=0.0)
    weights = {"weight": scale * smoothness.weight, "start_weight": scale * smoothness.start_weight}
    return (
        dataclasses.replace(spatial, weight=scale * spatial.weight),
        dataclasses.replace(smoothness, **weights),
    )


def fine_tune_on(
    task: str,
    source: str,
    losses: KeptLosses,
    run_folder: str | Path,
    *,
    classifier: ClassifierConfig,
    data: LabelledDataConfig,
    training: TrainingConfig,
    epochs: tuple[int, int] | None = None,
    random_weights: bool = False,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Fine-tune a model on one task, or take what is there; ``epochs`` are how many, and validations in each."""
    register()
    splits, tokenizer = open_task(task, data), _tokenizer(source)
    chosen = {**dataclasses.asdict(classifier), "random_weights": random_weights}
    model = load_classifier(source, splits.task, tokenizer, **chosen)
    if epochs is not None:
        training = whole_epochs(training, len(splits.train), *epochs)
    start = StartConfig(task, source, weights_checksum(model), **chosen)
    config = FinetuneRun(str(run_folder), start, data, *losses, training)
    return fine_tune(model, tokenizer, splits, config, run_folder, overwrite=overwrite)


def _tokenizer(source: str) -> Any:
    try:
        return AutoTokenizer.from_pretrained(source)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"no model with a tokenizer at {source} ({reason}); give a run, a folder or a name") from error
