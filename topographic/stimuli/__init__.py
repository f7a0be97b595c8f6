"""What was shown: stimulus sets."""

from topographic.stimuli.download import fetch, fetch_published
from topographic.stimuli.localizers import LOCALIZERS, load_localizer
from topographic.stimuli.minimal_pairs import load_minimal_pairs
from topographic.stimuli.stimulus_set import StimulusSet
from topographic.stimuli.word_sequences import sentence_blocks, word_runs

__all__ = [
    "LOCALIZERS",
    "StimulusSet",
    "fetch",
    "fetch_published",
    "load_localizer",
    "load_minimal_pairs",
    "sentence_blocks",
    "word_runs",
]
