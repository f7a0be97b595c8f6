"""The checkpoints of nanoGPT, which TopoNets' language models were trained with, in our format."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from topographic.models.configuration_topolm import TopoLMConfig
from topographic.models.conversion import Conversion, bare_weights, load_weights, plain
from topographic.models.modeling_topolm import TopoLMForCausalLM
from topographic.storage import sha256_of_file

__all__ = ["convert_nanogpt"]

# what nanoGPT calls it -> what we call it
_FIELDS = {
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
    "block_size": "n_positions",
    "vocab_size": "vocab_size",
    "bias": "bias",
    "dropout": "dropout",
}
# the causal mask, which was stored where PyTorch had no fused attention; not to be taken for the bias of a linear map
_MASK = re.compile(r"transformer\.h\.\d+\.attn\.bias")


def convert_nanogpt(stored: Mapping[str, Any], path: str | Path, *, n_head: int | None = None) -> Conversion:
    """Turn a checkpoint of nanoGPT into our decoder without sheets, which computes the same.

    References
    ----------
    Deb et al., TopoNets, ICLR 2025; code karpathy/nanoGPT and toponets/toponets.

    Notes
    -----
    What lies on TopoNets' sheets are weights, in the order in which they are stored: no positions come with them. The
    activation is the exact GELU, as in TopoNets; early versions of nanoGPT used its tanh approximation, and checkpoints
    do not say which.
    """
    weights = bare_weights(stored["model"], path)
    masks = [name for name, tensor in weights.items() if _MASK.fullmatch(name) and tensor.ndim == 4]
    for name in masks:
        del weights[name]
    settings = stored.get("model_args") or {}
    if unknown := sorted(set(settings) - set(_FIELDS)):
        warnings.warn(f"{Path(path).name}: unknown settings {unknown} are ignored", stacklevel=3)
    with torch.random.fork_rng():  # the initial weights are overwritten
        model = TopoLMForCausalLM(_config(settings, weights, path, n_head)).eval()
    load_weights(model, weights, path)
    kept = ("model", "model_args", "iter_num", "best_val_loss", "config")
    provenance = {
        "format": "nanoGPT checkpoint",
        "sha256": {Path(path).name: sha256_of_file(path)},
        **{entry: plain(stored.get(entry)) for entry in kept[1:]},
        "dropped": [
            *sorted(str(entry) for entry in stored if entry not in kept),
            *(["causal masks"] if masks else []),
            "lm_head.weight (tied to transformer.wte.weight)",
        ],
    }
    return Conversion(model, provenance)


def _config(
    settings: Mapping[str, Any], weights: Mapping[str, Tensor], path: str | Path, n_head: int | None
) -> TopoLMConfig:
    said = {ours: settings[theirs] for theirs, ours in _FIELDS.items() if settings.get(theirs) is not None}
    heads = said.get("n_head", n_head)
    if heads is None:
        raise ValueError(f"{path} does not say how many heads it has; give n_head, 12 in the published models")
    if n_head not in (None, heads):
        raise ValueError(f"{path} says n_head={heads}; n_head={n_head} was given: leave it out")
    return TopoLMConfig(**{**_shape(weights, path), **said, "n_head": heads, "sheet_point": "none"})


def _shape(weights: Mapping[str, Tensor], path: str | Path) -> dict[str, Any]:
    """Sizes that the weights themselves show."""
    embeddings, positions = weights.get("transformer.wte.weight"), weights.get("transformer.wpe.weight")
    blocks = [int(found[1]) for name in weights if (found := re.match(r"transformer\.h\.(\d+)\.", name))]
    if embeddings is None or positions is None or not blocks or embeddings.ndim != 2:
        raise ValueError(
            f"{path} holds no weights of nanoGPT (transformer.wte, wpe and h) but {sorted(weights)[:3]}; give a "
            "checkpoint of nanoGPT, or one of TopoLM's train.py with its model_args"
        )
    return {
        "vocab_size": len(embeddings),
        "n_positions": len(positions),
        "n_embd": embeddings.shape[1],
        "n_layer": max(blocks) + 1,
        "bias": "transformer.ln_f.bias" in weights,
    }
