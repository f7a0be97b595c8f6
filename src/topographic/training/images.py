"""Training on images: batches that are prepared, shifted and mirrored, and how many are recognised."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import EvalPrediction, TrainerCallback, TrainerControl, TrainerState

from topographic.recording.preparation import Preparation
from topographic.stimuli.download import user_cache
from topographic.stimuli.image_sets import IMAGE_SETS, load_images
from topographic.stimuli.image_stimuli import ImageStimuli
from topographic.storage import locked
from topographic.training.config import HasImageConfigs, ImageConfig
from topographic.training.material import Material
from topographic.training.run import train_on

__all__ = [
    "Augmentation",
    "ImageItems",
    "LabelledImages",
    "accuracy",
    "blank_images",
    "open_images",
    "train_on_images",
]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """What `open_images` opened.

    Parameters
    ----------
    name : str
        Name of the set.
    train, validation : ImageStimuli
        Training and test images.
    classes : tuple of str
        Names of the classes, by number.
    prepare : Preparation
        How they become what a model takes; it is saved with the model.
    """

    name: str
    train: ImageStimuli
    validation: ImageStimuli
    classes: tuple[str, ...]
    prepare: Preparation

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a prepared image."""
        channels, height, width = self.prepare(self.train.pixels[:1]).shape[1:]
        return channels, height, width


def open_images(config: ImageConfig, *, progress: bool = True) -> LabelledImages:
    """Fetch or read the images of a configuration.

    Parameters
    ----------
    config : ImageConfig
        Set, numbers and scale.
    progress : bool
        Show on stderr what is going on.

    Returns
    -------
    LabelledImages
        Images to train and to validate on.

    Raises
    ------
    ValueError
        If no set is named, it has no test images, or as `load_images` and `Preparation` say.
    FileNotFoundError, OSError
        As `load_images`.
    """
    name = _divided(config.name)
    cache = user_cache() if config.cache_folder is None else Path(config.cache_folder).expanduser()
    where = {"folder": config.folder, "cache_folder": cache, "progress": progress}
    with locked(cache / "images", wait=True):
        train = load_images(name, "train", n_images=config.train_images, **where)
        validation = load_images(name, "test", n_images=config.validation_images, **where)
    return LabelledImages(name, train, validation, IMAGE_SETS[name].classes, _preparation(config, train.pixels.shape))


def blank_images(config: ImageConfig) -> tuple[tuple[str, ...], Float[Tensor, "2 channels height width"]]:
    """What is known of the images of a configuration before they are fetched."""
    one = IMAGE_SETS[_divided(config.name)]
    black = np.zeros((2, *one.shape), np.uint8)
    return one.classes, _preparation(config, black.shape)(black)


def _divided(name: str | None) -> str:
    """Name of a set that has test images."""
    divided = [one for one, found in IMAGE_SETS.items() if "test" in found.splits]
    if name not in divided:
        raise ValueError(f"images.name={name!r}; expected one of {', '.join(divided)}: choose a set to train on")
    return name


def _preparation(config: ImageConfig, shape: tuple[int, ...]) -> Preparation:
    """How images of shape (images, height, width, channels) become what a model takes."""
    height, width, channels = shape[1:]
    # spelt out, so that images of another kind are brought to the same
    size = (height, width) if config.size is None else (config.size, config.size)
    return Preparation(tuple(config.mean), tuple(config.sd), config.channels or channels, size)


def train_on_images(
    model: nn.Module,
    images: LabelledImages,
    config: HasImageConfigs,
    run_folder: str | Path,
    *,
    resume: Literal["auto", "never"] = "auto",
    overwrite: bool = False,
) -> Path:
    """Train a classifier of images in place, and keep everything about it in a run folder.

    Parameters
    ----------
    model : nn.Module
        Takes ``pixel_values`` and ``labels`` and returns its loss and its class scores, as the classifiers of
        transformers do.
    images : LabelledImages
        As `open_images` returns them.
    config : dataclass
        With the fields ``images``, ``spatial``, ``smoothness`` and ``training``; all of it goes into ``config.yaml``.
    run_folder, resume, overwrite
        As in `train_on`.

    Returns
    -------
    Path
        The run folder. ``metrics.jsonl`` holds ``eval_accuracy``, the share of test images that are recognised.

    Raises
    ------
    FileExistsError, ValueError, FloatingPointError, ImportError
        As in `train_on`; also if the spatial loss is asked for at feature maps, whose units it would not find.
    """
    drawn = {"flip": config.images.flip, "shift": config.images.shift, "seed": config.training.seed}
    augmentation = Augmentation(len(images.train), **drawn)

    def prepare() -> Material:
        sets = {"train": images.train, "validation": images.validation}
        about: dict[str, Any] = {"images": images.name}
        about |= {"source": images.train.stimuli.source, "licence": images.train.stimuli.licence}
        about |= {f"{split}_sha256": one.stimuli.checksum for split, one in sets.items()}
        about |= {f"{split}_images": len(one) for split, one in sets.items()}
        return Material(
            train=ImageItems(images.train, augmented=True),
            validation=ImageItems(images.validation),
            about=about,
            seed=config.training.seed,
            counted=("images", 1),
            collator=_Collator(images.prepare, augmentation),
            metrics=accuracy,
            callbacks=(_Epochs(augmentation),),
        )

    example = {"pixel_values": images.prepare(images.train.pixels[:2])}
    return train_on(
        model,
        config,
        run_folder,
        prepare=prepare,
        example=example,
        processor=images.prepare,
        resume=resume,
        overwrite=overwrite,
    )


class ImageItems(Dataset):
    """Images with their class numbers, for a collator to prepare together, shift and mirror."""

    def __init__(self, images: ImageStimuli, *, augmented: bool = False) -> None:
        self.pixels = images.pixels
        self.labels = np.array([int(number) for number in images.stimuli.labels["class"]])
        self.augmented = augmented

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Pixels and label of one image, and its place in the set for what is drawn for it."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index}; there are {len(self)}")
        place = index if self.augmented else None
        return {"pixels": self.pixels[index], "labels": self.labels[index], "place": place}


class Augmentation:
    """Shifts, black coming in, and mirror images; seed, epoch and image decide them, so a resumed run has the same."""

    def __init__(self, n_images: int, *, flip: bool = False, shift: int = 0, seed: int = 0) -> None:
        self.n_images, self.flip, self.shift, self.seed = n_images, flip, shift, seed
        self.epoch = 0
        self._drawn_for = -1
        self._draws = np.empty((0, 3))

    def __call__(
        self, pixels: UInt8[np.ndarray, "batch height width channels"], places: Sequence[int]
    ) -> UInt8[np.ndarray, "batch height width channels"]:
        """Images of the current epoch."""
        if not (self.flip or self.shift):
            return pixels
        draws = self._of_epoch()[np.asarray(places)]
        height, width = pixels.shape[1:3]
        reach = ((0, 0), (self.shift, self.shift), (self.shift, self.shift), (0, 0))
        padded = np.pad(pixels, reach)
        corners = (draws[:, :2] * (2 * self.shift + 1)).astype(int)
        rows, columns = corners[:, :1] + np.arange(height), corners[:, 1:] + np.arange(width)
        if self.flip:
            columns = np.where(draws[:, 2:] < 0.5, columns[:, ::-1], columns)
        return padded[np.arange(len(pixels))[:, None, None], rows[:, :, None], columns[:, None, :]]

    def _of_epoch(self) -> np.ndarray:
        """Three numbers from 0 to 1 for each image: rows, columns, mirror."""
        if self._drawn_for != self.epoch:
            draw = np.random.default_rng([self.seed, self.epoch])
            self._draws = draw.random((self.n_images, 3))
            self._drawn_for = self.epoch
        return self._draws


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Share of images whose highest score is that of their class."""
    scores: Any = prediction.predictions
    scores = scores[0] if isinstance(scores, tuple) else scores
    return {"accuracy": float((scores.argmax(axis=1) == prediction.label_ids).mean())}


@dataclass(frozen=True)
class _Collator:
    """From items to what a model takes."""

    prepare: Preparation
    augmentation: Augmentation

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor | Int64[Tensor, " batch"]]:
        pixels = np.stack([item["pixels"] for item in items])
        if items[0]["place"] is not None:
            pixels = self.augmentation(pixels, [item["place"] for item in items])
        labels = torch.from_numpy(np.array([item["labels"] for item in items]))
        return {"pixel_values": self.prepare(pixels), "labels": labels}


class _Epochs(TrainerCallback):
    """Tell an augmentation which epoch it is; read from the state, which a resumed run takes up."""

    def __init__(self, augmentation: Augmentation) -> None:
        self._augmentation = augmentation

    def on_epoch_begin(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Whole epochs done."""
        self._augmentation.epoch = int(state.epoch or 0)
