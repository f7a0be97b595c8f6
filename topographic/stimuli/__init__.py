"""What was shown: stimulus sets."""

from topographic.stimuli.download import fetch, fetch_published
from topographic.stimuli.localizers import LOCALIZERS, load_localizer
from topographic.stimuli.stimulus_set import StimulusSet

__all__ = ["LOCALIZERS", "StimulusSet", "fetch", "fetch_published", "load_localizer"]
