"""`ImageStimuli`: a stimulus set of images, with its pixels."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import no_type_check

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from topographic.stimuli.stimulus_set import StimulusSet
from topographic.storage import load_noun, save_arrays

__all__ = ["ImageStimuli", "joined"]

_DIGITS = 16  # hexadecimal digits that stand for an image in the set's column "pixels"


@no_type_check  # arrays of whole numbers are welcome: __post_init__ converts and checks what the fields then hold
@dataclass(frozen=True, eq=False)
class ImageStimuli:
    """A stimulus set whose items are names of images, and the images.

    Parameters
    ----------
    stimuli : StimulusSet
        The items with their conditions. Its label column "pixels" holds a digest of each image, so that the
        set's checksum covers what was shown; the column is added where it is missing.
    pixels : ndarray of uint8, shape (stimuli, height, width, channels)
        The images, 1 channel for gray or 3 for RGB.

    Raises
    ------
    ValueError
        If there are not as many images as items, they are no such array, or they are not the images that the
        set was made with.
    """

    stimuli: StimulusSet
    pixels: UInt8[np.ndarray, "stimuli height width channels"]

    def __post_init__(self) -> None:
        """Refuse misfits, and tie the images to the set."""
        pixels = np.ascontiguousarray(self.pixels)
        name = self.stimuli.name
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] not in (1, 3) or not pixels.size:
            raise ValueError(
                f"images of {name!r} are {pixels.dtype} {pixels.shape}; expected uint8 (stimuli, height, width, 1 or 3)"
            )
        if len(pixels) != len(self.stimuli):
            raise ValueError(f"images of {name!r}: {len(pixels)} for {len(self.stimuli)} items; give each item one")
        digests = tuple(_digest(image) for image in pixels)
        known = self.stimuli.labels.get("pixels", digests)
        if known != digests:
            index = next(index for index, pair in enumerate(zip(known, digests, strict=True)) if pair[0] != pair[1])
            raise ValueError(
                f"image {index} of {name!r} ({self.stimuli.items[index]!r}) is not the one the set was made with; "
                "give the same pixels, or leave out the label column 'pixels'"
            )
        labelled = dataclasses.replace(self.stimuli, labels={**self.stimuli.labels, "pixels": digests})
        object.__setattr__(self, "stimuli", labelled)
        object.__setattr__(self, "pixels", pixels)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.stimuli)

    def __repr__(self) -> str:
        """Short form with the size of the images."""
        height, width, channels = self.pixels.shape[1:]
        return f"ImageStimuli({self.stimuli!r}, {height} x {width} x {channels})"

    def take(self, indices: Sequence[int] | np.ndarray) -> "ImageStimuli":
        """Images at the given indices."""
        chosen = np.asarray(indices, dtype=np.int64)
        return ImageStimuli(self.stimuli.take(chosen), self.pixels[chosen])

    def select(self, **columns: str | Sequence[str]) -> "ImageStimuli":
        """Images whose columns have the given entries."""
        return self.take(self.stimuli.find(**columns))

    def to_frame(self) -> pd.DataFrame:
        """The set as a table, without the pixels.

        Returns
        -------
        DataFrame
            As `StimulusSet.to_frame`, with the names of the images as ``image`` and their digests as ``pixels``.
        """
        return self.stimuli.to_frame().rename(columns={"text": "image"})

    def save(self, path: str | Path) -> None:
        """Write images and set to one safetensors file."""
        save_arrays(path, {"pixels": self.pixels}, {"noun": "ImageStimuli", "stimuli": self.stimuli.to_json()})

    @classmethod
    def load(cls, path: str | Path) -> "ImageStimuli":
        """Read what `save` wrote."""
        arrays, metadata = load_noun(path, "ImageStimuli")
        return cls(StimulusSet.from_json(metadata["stimuli"]), arrays["pixels"])


def joined(name: str, parts: Sequence[ImageStimuli]) -> ImageStimuli:
    """One set of several, in their order.

    Parameters
    ----------
    name : str
        Name of the set.
    parts : sequence of ImageStimuli
        Sets of images of one size, with the same label columns and without onsets.

    Returns
    -------
    ImageStimuli
        All their images; sources and licences are listed.

    Raises
    ------
    ValueError
        If there are no sets, or their sizes, label columns or what they were sampled by differ.
    """
    if not parts:
        raise ValueError(f"no sets to join to {name!r}; expected at least one")
    sets = [part.stimuli for part in parts]
    for what, found in (
        ("sizes", {part.pixels.shape[1:] for part in parts}),
        ("label columns", {tuple(sorted(one.labels)) for one in sets}),
        ("columns by which they were sampled", {one.sampled_by or "" for one in sets}),
    ):
        if len(found) > 1:
            raise ValueError(f"the sets to join to {name!r} have different {what}: {sorted(found)}; make them alike")

    def column(pick: str) -> tuple[str, ...]:
        return tuple(entry for one in sets for entry in getattr(one, pick))

    stimuli = StimulusSet(
        name=name,
        items=column("items"),
        conditions=column("conditions"),
        runs=column("runs"),
        labels={key: tuple(entry for one in sets for entry in one.labels[key]) for key in sets[0].labels},
        source="; ".join(dict.fromkeys(one.source for one in sets)),
        licence="; ".join(dict.fromkeys(one.licence for one in sets)),
        sampled_by=sets[0].sampled_by,
    )
    return ImageStimuli(stimuli, np.concatenate([part.pixels for part in parts]))


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()[:_DIGITS]
