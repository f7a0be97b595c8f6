"""What decides a fine-tuning beside its data; read by help and wrong words, so that it loads no torch."""

from dataclasses import dataclass

from topographic.objectives.config import expect
from topographic.training.config import TrainingConfig

__all__ = ["ClassifierConfig", "constant_rate"]


@dataclass(frozen=True)
class ClassifierConfig:
    """How a causal model becomes a classifier."""

    dropout: float | None = 0.1
    """Every dropout of the model in fine-tuning; null leaves them as they were in pretraining."""
    seed: int = 0
    """Seed of the map from the last hidden state to the labels, and of all weights that are random."""

    def __post_init__(self) -> None:
        """Refuse what is no probability, and no seed."""
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout={self.dropout}; expected a probability from 0 to below 1, or null")
        expect(self.seed >= 0, "model.seed", self.seed, "a whole number from 0 on")


def constant_rate() -> TrainingConfig:
    """As published: constant learning rate, no warm-up, batches of 64, a patience of three rises."""
    rates = {"learning_rate": 2e-5, "min_learning_rate": 2e-5, "warmup_steps": 0}
    return TrainingConfig(batch_size=64, early_stopping_patience=3, keep_checkpoints=1, **rates)
