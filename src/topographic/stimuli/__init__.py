"""What was shown: stimulus sets.

The room is itself a door: ``topographic.stimuli("my.csv")`` is ``topographic.stimuli.stimuli_from("my.csv")``. Names
are fetched when they are first used, so that the choices of a command are read without loading tables or images.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topographic.stimuli.categories import CATEGORIES, category_images
    from topographic.stimuli.category_contrasts import CATEGORY_CONTRASTS
    from topographic.stimuli.download import fetch, fetch_published
    from topographic.stimuli.image_sets import IMAGE_SETS, load_images
    from topographic.stimuli.image_stimuli import ImageStimuli, joined
    from topographic.stimuli.localizers import LOCALIZERS, load_localizer
    from topographic.stimuli.low_level import gray, matched_contrast, phase_scrambled, radial_power, resized
    from topographic.stimuli.minimal_pairs import load_minimal_pairs
    from topographic.stimuli.sounds import load_sound, resampled
    from topographic.stimuli.stimulus_set import StimulusSet
    from topographic.stimuli.tables import stimuli_from
    from topographic.stimuli.word_sequences import sentence_blocks, word_runs
    from topographic.stimuli.word_times import load_words, read_textgrid

__all__ = [
    "CATEGORIES",
    "CATEGORY_CONTRASTS",
    "IMAGE_SETS",
    "LOCALIZERS",
    "ImageStimuli",
    "StimulusSet",
    "category_images",
    "fetch",
    "fetch_published",
    "gray",
    "joined",
    "load_images",
    "load_localizer",
    "load_minimal_pairs",
    "load_sound",
    "load_words",
    "matched_contrast",
    "phase_scrambled",
    "radial_power",
    "read_textgrid",
    "resampled",
    "resized",
    "sentence_blocks",
    "stimuli_from",
    "word_runs",
]

_FILES = {
    "categories": ("CATEGORIES", "category_images"),
    "category_contrasts": ("CATEGORY_CONTRASTS",),
    "download": ("fetch", "fetch_published"),
    "image_sets": ("IMAGE_SETS", "load_images"),
    "image_stimuli": ("ImageStimuli", "joined"),
    "localizers": ("LOCALIZERS", "load_localizer"),
    "low_level": ("gray", "matched_contrast", "phase_scrambled", "radial_power", "resized"),
    "minimal_pairs": ("load_minimal_pairs",),
    "sounds": ("load_sound", "resampled"),
    "stimulus_set": ("StimulusSet",),
    "tables": ("stimuli_from",),
    "word_sequences": ("sentence_blocks", "word_runs"),
    "word_times": ("load_words", "read_textgrid"),
}


def __getattr__(name: str) -> Any:
    """Import the file that holds a name."""
    for file, names in _FILES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{file}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Room(ModuleType):
    """A room that can be called, as the front door has a function of its name."""

    def __call__(self, *table: Any, **columns: Any) -> Any:
        return self.stimuli_from(*table, **columns)


sys.modules[__name__].__class__ = _Room
