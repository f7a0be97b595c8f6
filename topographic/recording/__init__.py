"""Listening to any module of any model."""

from topographic.recording.responses import Responses

__all__ = ["Responses"]
