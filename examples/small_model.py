"""A small TopoLM for the gallery: trained once, in a quarter of a minute, on the texts of Python's own help."""

import os
import pydoc_data.topics
import tempfile
from pathlib import Path

from topographic.objectives import SpatialConfig
from topographic.runs import ModelConfig, Recipe, train_model
from topographic.storage import locked
from topographic.training import DataConfig, TrainingConfig

STEPS = int(os.environ.get("TOPOGRAPHIC_GALLERY_STEPS", "150"))
FOLDER = Path(os.environ.get("TOPOGRAPHIC_GALLERY", Path(tempfile.gettempdir()) / "topographic-gallery"))


def small_recipe(alpha: float = 0.25, steps: int = STEPS, folder: Path = FOLDER) -> Recipe:
    """A model of 3 blocks x 144 units: 6 sheets of 12 x 12."""
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "help.txt"
    if not text.is_file():
        text.write_text("\n\n".join(pydoc_data.topics.topics.values()), encoding="utf-8")
    return Recipe(
        run=str(folder / f"alpha-{alpha:g}-steps-{steps}"),
        model=ModelConfig(preset="demo", n_layer=3, n_embd=144, n_head=4, n_positions=64),
        data=DataConfig(text=str(text), vocab_size=1024, validation_fraction=0.02, sequence_length=64),
        spatial=SpatialConfig(weight=alpha, radius=4),
        training=TrainingConfig(
            max_steps=steps, batch_size=16, learning_rate=2e-3, warmup_steps=20, eval_steps=steps, eval_batches=4
        ),
    )


def small_run(alpha: float = 0.25) -> Path:
    """The run folder of such a model, which is trained if it is not there yet."""
    recipe = small_recipe(alpha)
    with locked(FOLDER / "gallery", wait=True):
        if not (Path(recipe.run) / "model").is_dir():
            train_model(recipe)
    return Path(recipe.run)
