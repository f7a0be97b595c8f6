"""Whisper as CTranslate2 keeps it (``model.bin``), under the names that transformers gives its weights.

The file holds numbers and names alone: nothing in it could be executed.
"""

import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from topographic.models.conversion import misfits

__all__ = ["load_whisper", "read_ctranslate2", "whisper_extractor", "whisper_weights"]

_VERSION = 6  # of the file, which CTranslate2 4 writes
_TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)  # by their number
_FRAMES_PER_S = 50
# what a part of the file is called in transformers; of several names each has an equal share of the rows
_PARTS = {
    "conv1": ("conv1",),
    "conv2": ("conv2",),
    "embeddings": ("embed_tokens",),
    "position_encodings": ("embed_positions",),
    "layer_norm": ("layer_norm",),
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
_KINDS = {"weight": "weight", "gamma": "weight", "encodings": "weight", "bias": "bias", "beta": "bias"}
# how every Whisper computes: a file that says otherwise is of another network
_SETTINGS = {
    "decoder/activation": 3,  # GELU
    "decoder/alibi": 0,
    "decoder/pre_norm": 1,
    "decoder/scale_embeddings": 0,
    "decoder/start_from_zero_embedding": 0,
}


def load_whisper(path: str | Path) -> WhisperForConditionalGeneration:
    """A Whisper of transformers with the weights of a file of CTranslate2.

    Parameters
    ----------
    path : str or Path
        A ``model.bin`` of version 6, as CTranslate2 4 writes it, in any of its types. Weights of 8 and 16
        bits are divided by their scales: they are numbers of few bits, kept in many.

    Returns
    -------
    WhisperForConditionalGeneration
        In float32 and in evaluation mode. Which tokens begin and end a text is not in that file, but in the tokenizer
        beside it: `generate` has to be told.

    Raises
    ------
    ValueError
        If the file is damaged, of another version or type, or holds another model.
    FileNotFoundError
        If there is none.

    Examples
    --------
    >>> load_whisper("absent/model.bin")
    Traceback (most recent call last):
    FileNotFoundError: no file at absent/model.bin; expected CTranslate2's model.bin
    """
    config, weights = whisper_weights(path)
    config.name_or_path = str(Path(path).parent)
    with torch.device("meta"):  # no weights are drawn, of which none would stay
        model = WhisperForConditionalGeneration(config)
    if faults := misfits(model.state_dict(), weights):
        raise ValueError(f"{path}: weights do not fit a Whisper: {faults}; convert or copy it again")
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    return model.eval()


def whisper_extractor(config: WhisperConfig) -> WhisperFeatureExtractor:
    """How a Whisper of these sizes takes sound: a frame of its encoder is .02 s, and it takes whole seconds."""
    if config.max_source_positions % _FRAMES_PER_S:
        raise ValueError(
            f"{config.max_source_positions} positions of the encoder; expected a multiple of {_FRAMES_PER_S}, a second"
        )
    return WhisperFeatureExtractor(
        feature_size=config.num_mel_bins, chunk_length=config.max_source_positions // _FRAMES_PER_S
    )


def whisper_weights(path: str | Path) -> tuple[WhisperConfig, dict[str, Tensor]]:
    """Sizes of a Whisper, read off the shapes in CTranslate2's file, and its weights by transformers' names, float32.

    The file fuses queries, keys and values. Its bias of the keys is left out: it adds one number to all scores of a
    query, which the softmax takes out again, and transformers has none.
    """
    spec, stored = read_ctranslate2(path)
    if spec != "WhisperSpec":
        raise ValueError(f"{path} holds a {spec} of CTranslate2; expected a WhisperSpec: give a converted Whisper")
    settings = {name: int(value) for name, value in stored.items() if not value.ndim}
    if others := [name for name, wanted in _SETTINGS.items() if settings.get(name, wanted) != wanted]:
        raise ValueError(
            f"{path}: {others[0]} is {settings[others[0]]}, and {_SETTINGS[others[0]]} in every Whisper; give another"
        )
    embeddings = stored.get("decoder/embeddings/weight")
    output = stored.pop("decoder/projection/weight", embeddings)
    if output is not None and embeddings is not None and not torch.equal(output, embeddings):
        raise ValueError(
            f"{path}: decoder/projection/weight differs from decoder/embeddings/weight, which it is in every Whisper; "
            "give another"
        )
    weights = {}
    for name, tensor in stored.items():
        if tensor.ndim:
            weights |= _placed(name, tensor.float())
    config = _config(path, stored, settings)
    weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"]
    return config, weights


def read_ctranslate2(path: str | Path) -> tuple[str, dict[str, Tensor]]:
    """What a model is called and its variables by name, those of whole numbers divided by their scales."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; expected CTranslate2's model.bin")
    with open(path, "rb") as opened:
        file = _File(path, opened)
        if (version := file.number("I")) != _VERSION:
            raise ValueError(
                f"{path} begins with {version}; expected {_VERSION}, the version of the files of CTranslate2 4: "
                "convert the model again"
            )
        spec, _revision = file.text(), file.number("I")
        stored = dict(file.variable() for _ in range(file.number("I")))
        aliases = [(file.text(), file.text()) for _ in range(file.number("I"))]
        if file.n_left:
            raise ValueError(f"{path} holds {file.n_left} bytes after its last entry; it is damaged: copy it again")
    variables = {
        name: _scaled(path, name, tensor, stored.get(f"{name}_scale"))
        for name, tensor in stored.items()
        if not name.endswith("_scale")
    }
    for name, target in aliases:
        if target not in stored:
            raise ValueError(f"{path}: {name} stands for {target}, which is not there; it is damaged: copy it again")
        if not name.endswith("_scale"):
            variables[name] = variables[target]
    return spec, variables


class _File:
    """A file that is read from its beginning; numbers have their lowest byte first."""

    def __init__(self, path: Path, opened: BinaryIO) -> None:
        self._path, self._opened = path, opened
        self.n_left = path.stat().st_size

    def take(self, n_bytes: int) -> bytes:
        if n_bytes > self.n_left:
            raise ValueError(f"{self._path} is truncated: {n_bytes - self.n_left} bytes are missing; copy it again")
        self.n_left -= n_bytes
        return self._opened.read(n_bytes)

    def number(self, kind: str) -> int:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def text(self) -> str:
        return self.take(self.number("H")).removesuffix(b"\0").decode("utf-8", "backslashreplace")

    def variable(self) -> tuple[str, Tensor]:
        name, rank = self.text(), self.number("B")
        shape = [self.number("I") for _ in range(rank)]
        kind, n_bytes = self.number("B"), self.number("I")
        if kind >= len(_TYPES):
            raise ValueError(
                f"{self._path}: {name} has numbers of type {kind}; expected 0 to {len(_TYPES) - 1}: convert the model "
                "with float16 or float32"
            )
        if n_bytes == 0 or n_bytes != math.prod(shape) * _TYPES[kind].itemsize:
            raise ValueError(
                f"{self._path}: {name} has {n_bytes} bytes for the shape {shape} of {_TYPES[kind]}; it is damaged: "
                "copy it again"
            )
        # a bytearray, as torch wants what it could write to
        return name, torch.frombuffer(bytearray(self.take(n_bytes)), dtype=_TYPES[kind]).reshape(shape)


def _scaled(path: Path, name: str, tensor: Tensor, scale: Tensor | None) -> Tensor:
    """Weights ``w`` are kept as ``round(s w)``, s for each row or for all; single numbers are settings."""
    if tensor.is_floating_point() or not tensor.ndim:
        return tensor
    if scale is None or scale.numel() not in (1, len(tensor)):
        found = "no scale" if scale is None else f"{scale.numel()} scales for {len(tensor)} rows"
        raise ValueError(
            f"{path}: {name} is quantized ({tensor.dtype}) and has {found}; convert the model with float16 or float32"
        )
    return tensor.float() / scale.float().reshape(-1, *[1] * (tensor.ndim - 1))


def _placed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A variable under transformers' names; one that is unknown keeps its own, for which there will be no place."""
    found = re.fullmatch(r"(encoder|decoder)/(?:layer_(\d+)/)?(.+)/(\w+)", name)
    if found is None or found[3] not in _PARTS or found[4] not in _KINDS:
        return {name: tensor}
    parts, kind = _PARTS[found[3]], _KINDS[found[4]]
    where = f"model.{found[1]}." + (f"layers.{int(found[2])}." if found[2] else "")
    shares = zip(parts, tensor.chunk(len(parts)), strict=False)  # too few rows make too few shares, which are missed
    placed = {f"{where}{part}.{kind}": share.clone() for part, share in shares}
    return {name: share for name, share in placed.items() if not name.endswith("k_proj.bias")}


def _config(path: str | Path, stored: Mapping[str, Tensor], settings: Mapping[str, int]) -> WhisperConfig:
    """Sizes of a Whisper."""

    def size(name: str, axis: int = 0) -> int:
        if name not in stored or stored[name].ndim <= axis:
            raise ValueError(f"{path} holds no {name} of a Whisper; convert or copy it again")
        return stored[name].shape[axis]

    width, sizes = size("encoder/conv1/weight"), {}
    for side in ("encoder", "decoder"):
        heads = settings.get(f"{side}/num_heads", 0)
        if heads < 1 or width % heads:
            raise ValueError(f"{path}: {heads} {side}/num_heads for {width} units; expected a number that divides them")
        sizes[f"{side}_attention_heads"] = heads
        sizes[f"{side}_layers"] = len({found[0] for one in stored if (found := re.match(rf"{side}/layer_\d+/", one))})
        sizes[f"{side}_ffn_dim"] = size(f"{side}/layer_0/ffn/linear_0/bias")
    return WhisperConfig(
        vocab_size=size("decoder/embeddings/weight"),
        d_model=width,
        num_mel_bins=size("encoder/conv1/weight", 1),
        max_source_positions=size("encoder/position_encodings/encodings"),
        max_target_positions=size("decoder/position_encodings/encodings"),
        **sizes,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id")),  # the default's are of one vocabulary
    )
