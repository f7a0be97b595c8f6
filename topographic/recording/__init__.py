"""Listening to any module of any model."""

from topographic.recording.hooks import edit, tap
from topographic.recording.readout import readout, readout_kernel, readout_sheet
from topographic.recording.record import POOLINGS, record
from topographic.recording.responses import Responses
from topographic.recording.sites import find_sites

__all__ = ["POOLINGS", "Responses", "edit", "find_sites", "readout", "readout_kernel", "readout_sheet", "record", "tap"]
