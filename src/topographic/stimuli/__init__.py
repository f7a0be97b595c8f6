"""What was shown: stimulus sets."""

from topographic.stimuli.categories import CATEGORIES, CATEGORY_CONTRASTS, category_images
from topographic.stimuli.download import fetch, fetch_published
from topographic.stimuli.image_sets import IMAGE_SETS, load_images
from topographic.stimuli.image_stimuli import ImageStimuli, joined
from topographic.stimuli.localizers import LOCALIZERS, load_localizer
from topographic.stimuli.low_level import gray, matched_contrast, phase_scrambled, radial_power, resized
from topographic.stimuli.minimal_pairs import load_minimal_pairs
from topographic.stimuli.stimulus_set import StimulusSet
from topographic.stimuli.tables import stimuli_from
from topographic.stimuli.word_sequences import sentence_blocks, word_runs

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
    "matched_contrast",
    "phase_scrambled",
    "radial_power",
    "resized",
    "sentence_blocks",
    "stimuli_from",
    "word_runs",
]
