"""Checkpoints in time: the weights alone, after so many tokens, each a model of its own; resuming never reads them."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from transformers import TrainerCallback, TrainerControl, TrainerState

__all__ = ["SaveAt", "steps_to_save", "trajectory_checkpoints"]

FOLDER = "trajectory"


def steps_to_save(save_at: Literal["log"] | Sequence[int], tokens_per_step: int, max_steps: int) -> dict[int, int]:
    """After which optimiser steps weights are saved, and how many tokens have been seen by then.

    "log": before the first step, after 1, 2, 4, 8 and so on, and after the last. Numbers of tokens are rounded up to
    whole steps.
    """
    if save_at == "log":
        steps = [0, *(2**power for power in range(max_steps.bit_length()) if 2**power < max_steps), max_steps]
        return {step: step * tokens_per_step for step in steps}
    found: dict[int, int] = {}
    for tokens in save_at:
        step = -(-int(tokens) // tokens_per_step)
        if step > max_steps:
            raise ValueError(
                f"training.save_at has {tokens} tokens and the run ends at {max_steps * tokens_per_step}; leave it out "
                "or train longer"
            )
        if step in found:
            raise ValueError(
                f"training.save_at has {tokens} tokens and another number within the same step of {tokens_per_step} "
                "tokens; keep one of them"
            )
        found[step] = step * tokens_per_step
    return found


class SaveAt(TrainerCallback):
    """Save the model where a run has seen so many tokens; a resumed run writes again what it passes again."""

    def __init__(self, run_folder: Path, steps: dict[int, int], save: Callable[[Path], None]) -> None:
        self._folder, self._steps, self._save = run_folder / FOLDER, steps, save

    def on_train_begin(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save the weights no step has changed yet."""
        if state.global_step == 0:
            self._save_if_due(state)

    def on_step_end(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save what is due."""
        self._save_if_due(state)

    def _save_if_due(self, state: TrainerState) -> None:
        if state.global_step in self._steps:
            self._save(self._folder / f"tokens-{self._steps[state.global_step]}")


def trajectory_checkpoints(run: str | Path) -> dict[int, Path]:
    """Checkpoints in time of a run by the number of tokens seen, from the first on.

    Parameters
    ----------
    run : str or Path
        A run folder.

    Returns
    -------
    dict of int to Path
        The folder of each, which `load_model` takes.

    Raises
    ------
    ValueError
        If the run has none.

    Examples
    --------
    >>> trajectory_checkpoints("runs/absent")
    Traceback (most recent call last):
    ValueError: runs/absent has no checkpoints in time; train it with training.save_at=log
    """
    named = {path: re.fullmatch(r"tokens-(\d+)", path.name) for path in (Path(run) / FOLDER).glob("tokens-*")}
    found = sorted((int(one[1]), path) for path, one in named.items() if one is not None)
    if not found:
        raise ValueError(f"{run} has no checkpoints in time; train it with training.save_at=log")
    return dict(found)
