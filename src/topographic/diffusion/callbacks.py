"""What happens to a diffusion model while it is trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from topographic.diffusion.sampling import sample, save_grid, to_pixels

__all__ = ["AverageWeights", "SampleGrids"]


class AverageWeights(TrainerCallback):
    """The running mean of the weights moves with every step."""

    def on_step_end(
        self, _args: Any, _state: TrainerState, _control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Before a checkpoint is written, so that it holds the mean of its step."""
        model.update_average()


class SampleGrids(TrainerCallback):
    """A grid of samples every so many steps, from the same noise each time: one sees the model learn.

    Parameters
    ----------
    folder : Path
        Where ``step-000100.png`` and the like go.
    classes : sequence of int
        One image for each.
    every : int
        Steps between two grids.
    """

    def __init__(self, folder: Path, classes: Sequence[int], every: int) -> None:
        self._folder, self._classes, self._every = folder, list(classes), every

    def on_step_end(
        self, _args: Any, state: TrainerState, _control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Sample in few steps; the training's own random numbers are left alone."""
        if state.global_step % self._every == 0 and state.is_world_process_zero:
            steps = min(20, model.config.num_train_timesteps)
            images = to_pixels(sample(model, self._classes, steps=steps, progress=False))
            columns = self._classes.count(self._classes[0])
            self._folder.mkdir(parents=True, exist_ok=True)
            save_grid(self._folder / f"step-{state.global_step:06d}.png", images, columns)
