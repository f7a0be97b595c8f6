"""Sheets for a model that has none: where its units come to lie, and how it shows them there."""

from topographic.layouts.adaptors import Adaptor, Adaptors, ModelSource, is_layout
from topographic.layouts.rebased import rebase, rebased

__all__ = ["Adaptor", "Adaptors", "ModelSource", "is_layout", "rebase", "rebased"]
