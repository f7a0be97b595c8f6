"""A category localizer out of image sets that install as packages: faces, objects, characters, animals, vehicles."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topographic.stimuli.category_contrasts import CATEGORY_CONTRASTS
from topographic.stimuli.image_sets import load_images
from topographic.stimuli.image_stimuli import ImageStimuli, joined
from topographic.stimuli.low_level import gray, matched_contrast, phase_scrambled, resized
from topographic.stimuli.stimulus_set import StimulusSet

__all__ = ["CATEGORIES", "CATEGORY_CONTRASTS", "category_images"]

_SIDE = 32  # pixels of the one frame, along each side


def category_images(
    n_images: int = 80,
    *,
    scrambled: bool = True,
    mean: float = 96.0,
    sd: float = 32.0,
    seed: int = 0,
    folders: Mapping[str, str | Path] | None = None,
    cache_folder: str | Path | None = None,
    progress: bool = True,
) -> ImageStimuli:
    """Images of five categories in one frame, 32 x 32 gray, each with the same mean and contrast.

    - "faces": ORL faces, 40 people
    - "objects": Fashion-MNIST, ten kinds of clothes, shoes and bags
    - "characters": MNIST digits
    - "animals", "vehicles": the six and the four classes of CIFAR-10, which are animate and inanimate

    and "scrambled faces" and so on: the same images with random phases.

    Parameters
    ----------
    n_images : int
        Images per category, spread evenly over its classes; at least 2.
    scrambled : bool
        Show every image a second time, phase-scrambled.
    mean, sd : float
        Gray levels of every image, as in `matched_contrast`.
    seed : int
        Chooses the images and the phases.
    folders : mapping of str to path, optional
        For an image set, the folder of its files, in place of its package.
    cache_folder, progress
        As in `load_images`.

    Returns
    -------
    ImageStimuli
        Conditions as above. Labels: ``category``, ``class`` (a person, a kind of thing), ``exemplar`` (a person, or
        one image of a thing: what was sampled), and ``version``, "intact" or "scrambled". The exemplars of every
        category lie alternately in the runs "odd" and "even", an image and its scrambled self in the same.

    Raises
    ------
    ValueError
        If a category has too few images, or as `load_images` and `matched_contrast` say.
    OSError
        As in `load_images`.

    Notes
    -----
    A stand-in for the localizer of the Vision and Perception Neuroscience Lab (Stigliani, Weiner and Grill-Spector
    2015, J Neurosci 35:12412), which does not install as a package. Mean and contrast are matched and nothing else:
    the categories come from different sources and differ in spatial frequency, background and outline. A model
    that has never been trained, or one pixel, tells them apart. So compare every contrast with the same contrast of
    the scrambled images, and of `low_level_responses`.
    """
    if n_images < 2:
        raise ValueError(f"n_images={n_images}; expected at least 2 per category, one for each run")
    folders = folders or {}
    unknown = sorted(set(folders) - {category.images for category in CATEGORIES.values()})
    if unknown:
        expected = sorted({category.images for category in CATEGORIES.values()})
        raise ValueError(f"folders name the image set {unknown[0]!r}; expected some of {expected}")
    generator = np.random.default_rng(seed)
    loaded: dict[str, ImageStimuli] = {}
    parts = []
    for name, category in CATEGORIES.items():
        if category.images not in loaded:
            where = {"folder": folders.get(category.images), "cache_folder": cache_folder, "progress": progress}
            loaded[category.images] = load_images(category.images, **where)
        images = loaded[category.images]
        chosen = images.take(_spread(images.stimuli, name, n_images, generator))
        parts.append(_category(name, chosen, (mean, sd)))
    if scrambled:
        parts += [_scrambled(part, seed + number, (mean, sd)) for number, part in enumerate(parts)]
    return joined("categories", parts)


class _Category(NamedTuple):
    """Which classes of which image set, and how its images are brought to the frame."""

    images: str
    classes: tuple[str, ...] | None  # all of them
    frame: Callable[[np.ndarray], np.ndarray]
    is_of_individuals: bool = False  # whether a class is one individual, of whom there are several images


def _category(name: str, chosen: ImageStimuli, contrast: tuple[float, float]) -> ImageStimuli:
    n_images, category = len(chosen), CATEGORIES[name]
    exemplars = chosen.stimuli.conditions if category.is_of_individuals else chosen.stimuli.items
    places = {exemplar: place for place, exemplar in enumerate(dict.fromkeys(exemplars))}
    stimuli = replace(
        chosen.stimuli,
        name=name,
        conditions=(name,) * n_images,
        # all images of a person in one run, or the halves of a localizer would share people
        runs=tuple(("odd", "even")[places[exemplar] % 2] for exemplar in exemplars),
        labels={
            "category": (name,) * n_images,
            "class": chosen.stimuli.conditions,
            "exemplar": tuple(f"{name}/{exemplar}" for exemplar in exemplars),
            "version": ("intact",) * n_images,
        },
        sampled_by="exemplar",
    )
    return ImageStimuli(stimuli, matched_contrast(category.frame(gray(chosen.pixels)), *contrast))


def _spread(stimuli: StimulusSet, name: str, n_images: int, generator: np.random.Generator) -> list[int]:
    """Images of a category, drawn by turns from each of its classes until there are enough."""
    conditions = np.asarray(stimuli.conditions)
    wanted = CATEGORIES[name].classes or sorted(set(stimuli.conditions))
    queues = [list(generator.permutation(np.flatnonzero(conditions == one))) for one in wanted]
    n_there = sum(len(queue) for queue in queues)
    if n_there < n_images:
        raise ValueError(f"n_images={n_images}; {stimuli.name} has {n_there} images of {name}: ask for fewer")
    chosen: list[int] = []
    while len(chosen) < n_images:
        chosen += [int(queue.pop()) for queue in queues if queue]
    return chosen[:n_images]


def _scrambled(part: ImageStimuli, seed: int, contrast: tuple[float, float]) -> ImageStimuli:
    stimuli = part.stimuli
    labels = {key: column for key, column in stimuli.labels.items() if key != "pixels"}
    pixels = phase_scrambled(part.pixels, seed)
    # a few of the sums of many waves leave the range of gray levels, so the contrast is matched once more
    within = np.rint(pixels.clip(0, 255)).astype(np.uint8)
    return ImageStimuli(
        replace(
            stimuli,
            name=f"scrambled {stimuli.name}",
            items=tuple(f"{item}/scrambled" for item in stimuli.items),
            conditions=tuple(f"scrambled {condition}" for condition in stimuli.conditions),
            labels={**labels, "version": ("scrambled",) * len(stimuli)},
        ),
        matched_contrast(within, *contrast),
    )


def _padded(pixels: np.ndarray) -> np.ndarray:
    """28 x 28 on the uniform ground that it has, as it is."""
    border = [(_SIDE - side) // 2 for side in pixels.shape[1:3]]
    return np.pad(pixels, ((0, 0), *((one, one) for one in border), (0, 0)))


def _square_face(pixels: np.ndarray) -> np.ndarray:
    """The square below the hair's top, shrunk."""
    start = (pixels.shape[1] - pixels.shape[2]) // 2
    return resized(pixels[:, start : start + pixels.shape[2]], _SIDE, _SIDE)


CATEGORIES: dict[str, _Category] = {
    "faces": _Category("orl_faces", None, _square_face, is_of_individuals=True),
    "objects": _Category("fashion_mnist", None, _padded),
    "characters": _Category("mnist", None, _padded),
    "animals": _Category("cifar10", ("bird", "cat", "deer", "dog", "frog", "horse"), np.asarray),
    "vehicles": _Category("cifar10", ("airplane", "automobile", "ship", "truck"), np.asarray),
}
