"""What was shown: stimulus sets."""

from topographic.stimuli.stimulus_set import StimulusSet

__all__ = ["StimulusSet"]
