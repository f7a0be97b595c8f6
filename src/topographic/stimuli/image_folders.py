"""Pictures of one's own: a folder with one folder for each class, read by Pillow."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from tqdm.auto import tqdm

from topographic.stimuli.image_stimuli import ImageStimuli
from topographic.stimuli.low_level import resized
from topographic.stimuli.stimulus_set import StimulusSet

__all__ = ["ClassFolders", "by_turns", "class_folders", "labelled_pictures", "picture_pixels", "pillow"]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


class ClassFolders(NamedTuple):
    """Files and class numbers of every split, and the names of the classes."""

    name: str
    folder: Path
    files: dict[str, list[tuple[Path, int]]]
    classes: tuple[str, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.files)

    def first(self, split: str) -> UInt8[np.ndarray, "height width channels"]:
        """The first picture of a split."""
        return read_picture(self.files[split][0][0])

    def read(
        self, split: str, *, n_images: int | None = None, size: int | None = None, progress: bool = False
    ) -> ImageStimuli:
        """Pictures of a split, or so many of them by turns from each class."""
        files = self.files[split]
        chosen = by_turns(f"{self.name}/{split}", [number for _, number in files], n_images)
        bar = tqdm([files[index] for index in chosen], desc=self.name, unit="image", disable=not progress)
        pictures = (
            (f"{self.name}/{path.relative_to(self.folder)}", read_picture(path), number) for path, number in bar
        )
        about = {"source": f"{self.folder.resolve()} ({len(files)} files)", "licence": "as given by its owner"}
        return labelled_pictures(f"{self.name}/{split}", pictures, self.classes, size=size, **about)


def class_folders(name: str, folder: Path) -> ClassFolders:
    """What lies in FOLDER/CLASS/PICTURE or FOLDER/SPLIT/CLASS/PICTURE, in the order of names; nothing is opened."""
    if not folder.is_dir():
        raise FileNotFoundError(f"image set {name!r}: no folder at {folder}; pass one with a folder for each class")
    kinds = {word: split for split, words in _SPLITS.items() for word in words}
    inner = _folders(folder)
    is_divided = bool(inner) and all(path.name.lower() in kinds for path in inner)
    parts = {kinds[path.name.lower()]: path for path in inner} if is_divided else {"all": folder}
    if is_divided and len(parts) < len(inner):
        raise ValueError(
            f"image set {name!r}: {folder} holds two folders of one split; expected train, validation, test"
        )
    found: dict[str, dict[str, list[Path]]] = {}
    for split in [one for one in (*_SPLITS, "all") if one in parts]:
        part = parts[split]
        loose = _pictures(part.glob("*"))
        if loose or not _folders(part):
            raise ValueError(
                f"image set {name!r}: {part} holds {len(loose)} pictures beside its folders of classes and "
                f"{len(_folders(part))} of these; put every picture in {part}/CLASS/"
            )
        found[split] = {path.name: _pictures(path.rglob("*")) for path in _folders(part)}
        empty = [class_name for class_name, files in found[split].items() if not files]
        if empty:
            raise ValueError(
                f"image set {name!r}: {part / empty[0]} holds no picture ({', '.join(sorted(_SUFFIXES))}); fill or "
                "remove the folder"
            )
    classes = tuple(sorted({class_name for split in found.values() for class_name in split}))
    files = {
        split: [(file, classes.index(class_name)) for class_name, files in one.items() for file in files]
        for split, one in found.items()
    }
    return ClassFolders(name, folder, files, classes)


def by_turns(name: str, numbers: Sequence[int], n_images: int | None) -> Int[np.ndarray, " chosen"]:
    """Indices of so many images, taken by turns from the classes, in their order; of all by default."""
    if n_images is not None and not 1 <= n_images <= len(numbers):
        raise ValueError(f"n_images={n_images}; {name} has {len(numbers)}: ask for 1 to {len(numbers)}, or None")
    classes = np.asarray(numbers)
    turn = np.zeros(len(classes), np.int64)
    for number in np.unique(classes):
        turn[classes == number] = np.arange((classes == number).sum())
    return np.sort(np.argsort(turn, kind="stable")[:n_images])


def labelled_pictures(
    name: str,
    pictures: Iterable[tuple[str, UInt8[np.ndarray, "height width channels"], int]],
    classes: Sequence[str],
    *,
    size: int | None,
    source: str,
    licence: str,
) -> ImageStimuli:
    """Pictures with their names and class numbers, brought to one size and one number of channels."""
    items, shown, numbers = zip(*pictures, strict=True)
    pixels: list[np.ndarray] = list(shown)
    if size is not None:
        pixels = [one if one.shape[:2] == (size, size) else resized(one[None], size, size)[0] for one in pixels]
    sizes = sorted({one.shape[:2] for one in pixels})
    if len(sizes) > 1:
        raise ValueError(
            f"image set {name!r}: pictures of {len(sizes)} sizes, {sizes[0]} to {sizes[-1]}; say to which one they are "
            "to be brought (size=, in a recipe images.size=)"
        )
    channels = max(one.shape[2] for one in pixels)
    stimuli = StimulusSet(
        name=name,
        items=items,
        conditions=tuple(str(classes[number]) for number in numbers),
        labels={"class": numbers},
        source=source,
        licence=licence,
    )
    return ImageStimuli(stimuli, np.stack([np.broadcast_to(one, (*one.shape[:2], channels)) for one in pixels]))


@contextmanager
def pillow(name: str, kind: str = "picture") -> Iterator[Any]:
    """Pillow's Image, whose complaints about a file become one line."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError(
            f"{name}: reading a {kind} needs Pillow, which is not installed; run `pip install 'topographic[images]'`"
        ) from error
    try:
        yield Image
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise ValueError(f"{name} is damaged or no {kind} ({error}); get it again") from error


def read_picture(path: Path) -> UInt8[np.ndarray, "height width channels"]:
    """Pixels of a file."""
    with pillow(str(path)) as image, image.open(path) as opened:
        return picture_pixels(str(path), opened)


def picture_pixels(name: str, picture: Any) -> UInt8[np.ndarray, "height width channels"]:
    """Pixels of a picture that Pillow opened: one channel where it is gray, else three."""
    from PIL import ImageOps

    if picture is None:
        raise ValueError(f"{name} is nothing; leave it out, or give its picture")
    if getattr(picture, "n_frames", 1) > 1:
        raise ValueError(f"{name} holds {picture.n_frames} pictures; expected one: save the one that is meant")
    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"{name} has gray levels of more than 8 bits ({picture.mode}); save it with 256 levels")
    picture = ImageOps.exif_transpose(picture)
    has_alpha = "A" in picture.getbands() or "transparency" in picture.info
    if has_alpha and picture.convert("RGBA").getchannel("A").getextrema()[0] < 255:
        raise ValueError(f"{name} is transparent in places; put it on the ground that is to be seen")
    is_gray = picture.mode in ("1", "L", "LA")
    return np.asarray(picture.convert("L" if is_gray else "RGB")).reshape(picture.height, picture.width, -1)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def _pictures(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in _SUFFIXES and path.name[0] != "." and path.is_file())
