"""From noise to images of a class, with classifier-free guidance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm.auto import tqdm

from topographic.diffusion.modeling import DiffusionModel, diffusers
from topographic.storage import write_atomically

__all__ = ["SCHEDULERS", "read_grid", "sample", "save_grid", "to_pixels"]

_GAP, _ENLARGED = 2, 2  # pixels between two images of a grid; how often each pixel is repeated


def sample(
    model: DiffusionModel,
    classes: Sequence[int],
    *,
    guidance: float = 1.8,
    steps: int = 50,
    scheduler: str = "ddim",
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = True,
) -> Float[Tensor, "images channels height width"]:
    r"""Images of classes.

    .. math:: \hat\epsilon = (1 + w)\, \epsilon_\theta(x_t, t, c) - w\, \epsilon_\theta(x_t, t, \varnothing)

    Parameters
    ----------
    model : DiffusionModel
        In any mode; it is left in the one it was in.
    classes : sequence of int
        One image for each, so ``[3] * 16`` are sixteen of class 3.
    guidance : float
        ``w``: 0 follows the class as trained, more follows it more.
    steps : int
        Steps from noise to image.
    scheduler : {"ddim", "ddpm"}
        Without or with noise in each step.
    seed : int
        Image ``i`` is decided by the seed and ``i`` alone, whatever the batch size.
    batch_size : int
        Images at once.
    progress : bool
        Show a bar.

    Returns
    -------
    Tensor, shape (images, channels, height, width)
        From -1 to 1, on the CPU.

    Raises
    ------
    ValueError
        If a class is none of the model's, guidance is below 0, or there are more steps than in training.

    Examples
    --------
    >>> from topographic.diffusion import DiffusionConfig
    >>> config = DiffusionConfig(image_size=8, block_out_channels=[8, 8], num_labels=2, width=4)
    >>> sample(DiffusionModel(config), [0, 1], steps=2, progress=False).shape
    torch.Size([2, 1, 8, 8])
    """
    n_classes, trained = model.n_classes, model.config.num_train_timesteps
    if wrong := [number for number in classes if not 0 <= number < n_classes]:
        raise ValueError(f"class {wrong[0]}; the model has {n_classes} classes: choose from 0 to {n_classes - 1}")
    if not len(classes):
        raise ValueError("no classes; name one for each image, for example classes=[0,1,2]")
    if not np.isfinite(guidance) or guidance < 0:
        raise ValueError(f"guidance={guidance:g}; expected 0 (as trained) or more")
    if not 1 <= steps <= trained:
        raise ValueError(f"steps={steps}; the model was trained with {trained}: choose from 1 to {trained}")
    if scheduler not in SCHEDULERS:
        raise ValueError(f"scheduler={scheduler!r}; expected one of {', '.join(SCHEDULERS)}")
    was_training = model.training
    model.eval()
    batches = [range(first, min(first + batch_size, len(classes))) for first in range(0, len(classes), batch_size)]
    try:
        with torch.no_grad(), tqdm(total=len(batches) * steps, desc="sample", unit="step", disable=not progress) as bar:
            made = [
                _batch(model, [(place, classes[place]) for place in batch], guidance, steps, scheduler, seed, bar)
                for batch in batches
            ]
    finally:
        model.train(was_training)
    return torch.cat(made)


def _batch(
    model: DiffusionModel,
    wanted: list[tuple[int, int]],
    guidance: float,
    steps: int,
    scheduler: str,
    seed: int,
    bar: Any,
) -> Tensor:
    path: Any = getattr(diffusers(), SCHEDULERS[scheduler]).from_config(model.scheduler.config)
    path.set_timesteps(steps)
    draws = [np.random.default_rng([seed, place]) for place, _ in wanted]
    seeds = [int(draw.integers(2**62)) for draw in draws]
    generators = [torch.Generator().manual_seed(one) for one in seeds]
    shape = (model.config.num_channels, model.config.image_size, model.config.image_size)
    device, network = next(model.parameters()).device, model.sampler
    images = torch.stack([torch.randn(shape, generator=one) for one in generators]).to(device)
    labels = torch.tensor([number for _, number in wanted], device=device)
    nothing = torch.full_like(labels, model.n_classes)
    for time in path.timesteps:
        times = time.expand(len(images)).to(device)
        if guidance > 0:
            both = network(images.repeat(2, 1, 1, 1), times.repeat(2), torch.cat([labels, nothing]))
            with_class, without = both.chunk(2)
            guess = (1 + guidance) * with_class - guidance * without
        else:
            guess = network(images, times, labels)
        images = path.step(guess, time, images, generator=generators).prev_sample
        bar.update()
    return images.clamp(-1, 1).cpu()


def to_pixels(
    images: Float[Tensor, "images channels height width"],
) -> UInt8[np.ndarray, "images height width channels"]:
    """From -1 to 1 to bytes."""
    scaled = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).numpy()


def save_grid(path: str | Path, pixels: UInt8[np.ndarray, "images height width channels"], columns: int) -> Path:
    """Write images as one PNG, row by row."""
    n, height, width, channels = pixels.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, channels), 255, np.uint8)
    for place, image in enumerate(pixels):
        top, left = place // columns * (height + _GAP), place % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = image
    from PIL import Image

    picture = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    enlarged = picture.resize((_ENLARGED * picture.width, _ENLARGED * picture.height), Image.Resampling.NEAREST)
    with write_atomically(Path(path)) as temporary:
        enlarged.save(temporary, format="PNG")
    return Path(path)


def read_grid(path: str | Path, columns: int) -> UInt8[np.ndarray, "rows columns height width channels"]:
    """Images of a PNG that `save_grid` wrote with as many columns; places after the last image are white."""
    from PIL import Image

    with Image.open(path) as picture:
        held = np.asarray(picture)[::_ENLARGED, ::_ENLARGED]
    held = held[..., None] if held.ndim == 2 else held
    side, left = divmod(held.shape[1] + _GAP, columns)
    rows, above = divmod(held.shape[0] + _GAP, side)
    if left or above or side <= _GAP:
        raise ValueError(
            f"{path} has {held.shape[0]} x {held.shape[1]} pixels, which are no {columns} columns of square images; "
            "give as many as it was written with"
        )
    whole = np.pad(held, ((0, _GAP), (0, _GAP), (0, 0)))
    cells = whole.reshape(rows, side, columns, side, -1).swapaxes(1, 2)
    return cells[:, :, :-_GAP, :-_GAP]


SCHEDULERS = {"ddim": "DDIMScheduler", "ddpm": "DDPMScheduler"}
