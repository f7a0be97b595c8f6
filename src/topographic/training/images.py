"""Training on images: batches that are prepared, shifted and mirrored, and how many are recognised."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import EvalPrediction, TrainerCallback

from topographic.recording.preparation import Preparation
from topographic.stimuli.download import user_cache
from topographic.stimuli.image_folders import ClassFolders, by_turns, labelled_pictures, picture_pixels
from topographic.stimuli.image_sets import IMAGE_SETS, ImageSet, default_split, describe_images, load_images
from topographic.stimuli.image_stimuli import ImageStimuli
from topographic.storage import locked
from topographic.training.callbacks import EpochsTold
from topographic.training.config import HasImageConfigs, ImageConfig
from topographic.training.material import Material
from topographic.training.run import train_on

__all__ = [
    "Augmentation",
    "ImageItems",
    "LabelledImages",
    "accuracy",
    "blank_images",
    "load_image_split",
    "open_images",
    "train_on_images",
]


_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


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
        If no set is named, it has no images to validate on, or as `load_image_split` and `Preparation` say.
    FileNotFoundError, OSError
        As `load_image_split`.
    """
    name, known, validation = _divided(config)
    cache = user_cache() if config.cache_folder is None else Path(config.cache_folder).expanduser()
    where = {"folder": config.folder, "cache_folder": cache, "progress": progress}
    if name not in IMAGE_SETS:
        where["size"] = config.size  # their pictures may be of several sizes
    with locked(cache / "images", wait=True):
        train = load_image_split(name, "train", n_images=config.train_images, **where)
        held_out = load_image_split(name, validation, n_images=config.validation_images, **where)
    return LabelledImages(name, train, held_out, known.classes, _preparation(config, train.pixels.shape))


def load_image_split(
    name: str,
    split: str | None = None,
    *,
    n_images: int | None = None,
    size: int | None = None,
    folder: str | Path | None = None,
    cache_folder: str | Path | None = None,
    progress: bool = True,
) -> ImageStimuli:
    """Images of a data set on a hub, or whatever `load_images` loads.

    Parameters
    ----------
    name : str
        "owner/name" of a data set with a column of images and one of class labels; or as in `load_images`.
    split, n_images, size, folder, progress
        As in `load_images`, for a hub as for a folder; with a folder the name is not looked up.
    cache_folder
        As in `load_images`; data sets of a hub are kept by `datasets`.

    Returns
    -------
    ImageStimuli
        Items of a hub are called ``<name>/<split>/<number>``.

    Raises
    ------
    ValueError
        If the data set cannot be reached or has no such columns or split; as `load_images`.
    FileNotFoundError, OSError
        As `load_images`.
    """
    known = _described(name, folder)
    if not isinstance(known, _HubImages):
        where = {"folder": folder, "cache_folder": cache_folder, "progress": progress}
        return load_images(name, split, n_images=n_images, size=size, **where)
    split = default_split(known.splits) if split is None else split
    if split not in known.splits:
        raise ValueError(f"dataset {name!r} has no split {split!r}; expected one of {', '.join(known.splits)}")
    return known.read(split, n_images=n_images, size=size)


def blank_images(config: ImageConfig) -> tuple[tuple[str, ...], Float[Tensor, "2 channels height width"]]:
    """What is known of the images of a configuration before they are fetched."""
    _, known, _ = _divided(config)
    shape = known.shape if isinstance(known, ImageSet) else known.first("train").shape
    black = np.zeros((2, *shape), np.uint8)
    return known.classes, _preparation(config, black.shape)(black)


class _HubImages(NamedTuple):
    """Where a data set of a hub has its images and classes."""

    name: str
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    image_column: str
    class_column: str
    licence: str

    def first(self, split: str) -> UInt8[np.ndarray, "height width channels"]:
        """The first picture of a split, fetched alone."""
        with _hub(self.name) as datasets:
            row = next(iter(datasets.load_dataset(self.name, split=split, streaming=True)))
        return picture_pixels(f"{self.name}/{split}/0", row[self.image_column])

    def read(self, split: str, *, n_images: int | None = None, size: int | None = None) -> ImageStimuli:
        """Images of a split, or so many of them by turns from each class."""
        name = f"{self.name}/{split}"
        with _hub(self.name) as datasets:
            rows = datasets.load_dataset(self.name, split=split)
            numbers = [-1 if number is None else number for number in rows[self.class_column]]
        if min(numbers) < 0:
            raise ValueError(
                f"dataset {name}: image {numbers.index(-1)} has no class; choose a data set whose images all have one"
            )

        def pictures() -> Iterator[tuple[str, np.ndarray, int]]:
            for index in by_turns(name, numbers, n_images).tolist():
                with _hub(self.name):
                    picture = rows[index][self.image_column]
                yield f"{name}/{index}", picture_pixels(f"{name}/{index}", picture), numbers[index]

        about = {"source": f"hub dataset {name}, column {self.class_column}", "licence": self.licence}
        return labelled_pictures(name, pictures(), self.classes, size=size, **about)


def _described(name: str, folder: str | Path | None) -> "ImageSet | ClassFolders | _HubImages":
    """Classes and splits of a set, before its images are read."""
    is_hub = folder is None and _HUB_NAME.fullmatch(name) and not Path(name).is_dir()
    return _hub_images(name) if is_hub else describe_images(name, folder)


def _hub_images(name: str) -> _HubImages:
    with _hub(name) as datasets:
        builder = datasets.load_dataset_builder(name)
        splits = tuple(datasets.get_dataset_split_names(name))
        features = builder.info.features or datasets.load_dataset(name, split=splits[0], streaming=True).features
    images = [key for key, feature in features.items() if isinstance(feature, datasets.Image)]
    classes = [key for key, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if len(images) != 1 or not classes:
        raise ValueError(
            f"dataset {name!r} holds {', '.join(features)}; expected one column of images and one of class labels: "
            "choose another, or save it as a folder with a folder for each class"
        )
    licence = builder.info.license or "see the dataset's page"
    return _HubImages(name, splits, tuple(features[classes[0]].names), images[0], classes[0], licence)


@contextmanager
def _hub(name: str) -> Iterator[Any]:
    """The library `datasets`, whose complaints become one line."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError("hub datasets need datasets; run `pip install 'topographic[train]'`") from error
    try:
        yield datasets
    except Exception as error:
        raise ValueError(
            f"could not read dataset {name!r}: {' '.join(str(error).split())[:200]}; check the name and the network, "
            "or give a folder (images.folder)"
        ) from error


def _divided(config: ImageConfig) -> "tuple[str, ImageSet | ClassFolders | _HubImages, str]":
    """The set that a configuration names, what is known of it, and its split to validate on."""
    own = f"{', '.join(name for name, one in IMAGE_SETS.items() if 'test' in one.splits)}, a folder, or 'owner/name'"
    name = config.name
    if name is None or (name in IMAGE_SETS and "test" not in IMAGE_SETS[name].splits):
        raise ValueError(f"images.name={name!r}; expected one of {own}: choose a set to train on")
    try:
        known = _described(name, config.folder)
    except ValueError as error:
        raise ValueError(f"images.name={name!r}; expected one of {own} ({error})") from error
    validation = next((split for split in ("validation", "test") if split in known.splits), None)
    if "train" not in known.splits or validation is None:
        raise ValueError(
            f"images.name={name!r} has the splits {', '.join(known.splits)}; expected train, and validation or test: "
            "divide the pictures into two folders of these names"
        )
    return name, known, validation


def _preparation(config: ImageConfig, shape: tuple[int, ...]) -> Preparation:
    """How images of shape (images, height, width, channels) become what a model takes."""
    height, width, channels = shape[1:]
    # spelt out, so that images of another kind are brought to the same
    size = (height, width) if config.size is None else (config.size, config.size)
    return Preparation(tuple(config.mean), tuple(config.sd), config.channels or channels, size)


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Share of images whose highest score is that of their class."""
    scores: Any = prediction.predictions
    scores = scores[0] if isinstance(scores, tuple) else scores
    return {"accuracy": float((scores.argmax(axis=1) == prediction.label_ids).mean())}


def train_on_images(
    model: nn.Module,
    images: LabelledImages,
    config: HasImageConfigs,
    run_folder: str | Path,
    *,
    metrics: Callable[[EvalPrediction], dict[str, float]] | None = accuracy,
    callbacks: Sequence[TrainerCallback] = (),
    resume: Literal["auto", "never"] = "auto",
    overwrite: bool = False,
) -> Path:
    """Train a model of labelled images in place, and keep everything about it in a run folder.

    Parameters
    ----------
    model : nn.Module
        Takes ``pixel_values`` and ``labels`` and returns its loss and, for `accuracy`, its class scores, as the
        classifiers of transformers do.
    images : LabelledImages
        As `open_images` returns them.
    config : dataclass
        With the fields ``images``, ``spatial``, ``smoothness`` and ``training``; all of it goes into ``config.yaml``.
    metrics : callable, optional
        What is measured on the outputs for test images, as `Material` takes it.
    callbacks : sequence of TrainerCallback
        What else happens while it trains.
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
            metrics=metrics,
            callbacks=(EpochsTold(augmentation), *callbacks),
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
