"""`topo sample`: images of classes from a trained diffusion model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

__all__ = ["SampleCommand", "sample_images"]


@dataclass(frozen=True)
class SampleCommand:
    """Make images of classes, as a picture and as arrays."""

    run: str
    """Run folder of a diffusion model, or the folder of its model."""
    classes: list[int] = field(default_factory=list)
    """Numbers of the classes; all of them, ten at most, by default."""
    n: int = 8
    """Images of each class."""
    guidance: float = 1.8
    """0 follows the class as trained, more follows it more."""
    steps: int = 50
    """Steps from noise to image."""
    scheduler: Literal["ddim", "ddpm"] = "ddim"
    """Without or with noise in each step."""
    seed: int = 0
    """Decides the noise."""
    out: str | None = None
    """Where samples.png and samples.npz go; RUN/samples by default."""

    def __post_init__(self) -> None:
        """Refuse to make nothing."""
        if self.n < 1:
            raise ValueError(f"n={self.n}; expected at least 1 image of each class")


def sample_images(command: SampleCommand) -> Path:
    """Sample, and write a row for each class."""
    import numpy as np

    from topographic.diffusion import sample, save_grid, to_pixels
    from topographic.runs import load_diffusion_model
    from topographic.storage import write_atomically

    model, _ = load_diffusion_model(command.run)
    classes = command.classes or list(range(min(10, model.n_classes)))
    shown = [number for number in classes for _ in range(command.n)]
    settings = {"guidance": command.guidance, "steps": command.steps, "seed": command.seed}
    pixels = to_pixels(sample(model, shown, scheduler=command.scheduler, **settings))
    folder = Path(command.run) / "samples" if command.out is None else Path(command.out)
    folder.mkdir(parents=True, exist_ok=True)
    with write_atomically(folder / "samples.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, pixels=pixels, classes=np.array(shown), scheduler=command.scheduler, **settings)
    picture = save_grid(folder / "samples.png", pixels, command.n)
    print(picture)
    return picture
