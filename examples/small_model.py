"""A small TopoLM for the gallery: trained once, in a quarter of a minute, on the texts of Python's own help, and kept."""

import pydoc_data.topics
import tempfile
from pathlib import Path

from topographic.objectives import SpatialConfig
from topographic.runs import ModelConfig, Recipe, train_model
from topographic.training import DataConfig, TrainingConfig

STEPS = 150


def small_run(alpha: float = 0.25, folder: Path | None = None) -> Path:
    """The run folder of a model of 3 blocks x 144 units (6 sheets of 12 x 12); trained if it is not there yet."""
    folder = folder or Path(tempfile.gettempdir()) / f"topographic-gallery-{STEPS}"
    folder.mkdir(parents=True, exist_ok=True)
    run = folder / f"alpha-{alpha:g}"
    if (run / "model").is_dir():
        return run
    text = folder / "help.txt"
    text.write_text("\n\n".join(pydoc_data.topics.topics.values()), encoding="utf-8")
    recipe = Recipe(
        run=str(run),
        model=ModelConfig(preset="demo", n_layer=3, n_embd=144, n_head=4, n_positions=64),
        data=DataConfig(text=str(text), vocab_size=1024, validation_fraction=0.02, sequence_length=64),
        spatial=SpatialConfig(weight=alpha, radius=4),
        training=TrainingConfig(
            max_steps=STEPS, batch_size=16, learning_rate=2e-3, warmup_steps=20, eval_steps=STEPS, eval_batches=4
        ),
    )
    train_model(recipe)
    return run
