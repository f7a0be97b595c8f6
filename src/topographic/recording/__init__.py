"""Listening to any module of any model."""

from topographic.recording.alignment import AlignedWords, align_words
from topographic.recording.checksum import weights_checksum
from topographic.recording.context import longest_context
from topographic.recording.context_windows import CONTEXTS, ContextWindow, context_starts, context_windows
from topographic.recording.depths import sites_at_depths
from topographic.recording.hooks import edit, tap
from topographic.recording.images import IMAGE_POOLINGS, low_level_responses, record_images
from topographic.recording.placement import carried_sheets, own_layout
from topographic.recording.preparation import Preparation
from topographic.recording.random_tokens import RandomTokens
from topographic.recording.readout import readout, readout_kernel, readout_sheet
from topographic.recording.record import POOLINGS, record
from topographic.recording.replacements import (
    SwappedWords,
    embedding_matched_word,
    random_word,
    same_class_word,
    single_token_words,
    swap_words,
)
from topographic.recording.responses import Responses
from topographic.recording.sites import (
    FIRST_MLP_LAYERS,
    VISION_LAYERS,
    find_sites,
    first_mlp_layers,
    list_sites,
    suggested_sites,
    vision_layers,
)
from topographic.recording.speech import SPEECH_POOLINGS, record_speech
from topographic.recording.static_vectors import WordVectors, load_vectors
from topographic.recording.swaps import SwapDifferences, record_swaps
from topographic.recording.tokens import record_tokens
from topographic.recording.words import predict_words, record_words, sees_ahead

__all__ = [
    "CONTEXTS",
    "FIRST_MLP_LAYERS",
    "IMAGE_POOLINGS",
    "POOLINGS",
    "SPEECH_POOLINGS",
    "VISION_LAYERS",
    "AlignedWords",
    "ContextWindow",
    "Preparation",
    "RandomTokens",
    "Responses",
    "SwapDifferences",
    "SwappedWords",
    "WordVectors",
    "align_words",
    "carried_sheets",
    "context_starts",
    "context_windows",
    "edit",
    "embedding_matched_word",
    "find_sites",
    "first_mlp_layers",
    "list_sites",
    "load_vectors",
    "longest_context",
    "low_level_responses",
    "own_layout",
    "predict_words",
    "random_word",
    "readout",
    "readout_kernel",
    "readout_sheet",
    "record",
    "record_images",
    "record_speech",
    "record_swaps",
    "record_tokens",
    "record_words",
    "same_class_word",
    "sees_ahead",
    "single_token_words",
    "sites_at_depths",
    "suggested_sites",
    "swap_words",
    "tap",
    "vision_layers",
    "weights_checksum",
]
