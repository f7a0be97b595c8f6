"""What all conversions share: weights under bare names, loaded without a remainder, and a note of their source."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from topographic.models.modeling_topolm import TopoLMForCausalLM
from topographic.storage import save_json

__all__ = ["Conversion", "bare_weights", "load_weights", "misfits", "plain"]

# left behind by torch.compile and DistributedDataParallel, in either order
_PREFIXES = re.compile(r"^((_orig_mod|module)\.)+")


@dataclass(frozen=True, eq=False)
class Conversion:
    """A converted model and where it comes from.

    Parameters
    ----------
    model : TopoLMForCausalLM
        With the authors' weights and positions, in evaluation mode.
    provenance : dict
        Source files with checksums, the authors' settings, what was left behind, and facts about the layout of
        every sheet: anything JSON can hold.
    """

    model: TopoLMForCausalLM
    provenance: dict[str, Any]

    def save(self, folder: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and the note ``conversion.json``."""
        folder = Path(folder)
        if (folder / "config.json").exists():
            raise FileExistsError(f"{folder} already holds a model (config.json); choose another folder or remove it")
        self.model.save_pretrained(folder)
        save_json(folder / "conversion.json", self.provenance)


def bare_weights(stored: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Weights without the prefixes of wrappers; the output layer is the token embeddings and is left to them."""
    weights = {_PREFIXES.sub("", name): tensor for name, tensor in stored.items()}
    if odd := [name for name, tensor in weights.items() if not isinstance(tensor, Tensor)]:
        raise ValueError(f"{path}: model holds {odd[0]!r}, which is no tensor; expected a state dict")
    if len(weights) < len(stored):
        raise ValueError(
            f"{path} holds weights twice, with and without '_orig_mod.' or 'module.'; give a checkpoint with one set"
        )
    embeddings = weights.get("transformer.wte.weight")
    output = weights.pop("lm_head.weight", embeddings)
    if embeddings is not None and not torch.equal(embeddings, output):
        raise ValueError(
            f"{path}: lm_head.weight differs from transformer.wte.weight; expected tied weights: the file is damaged, "
            "copy it again"
        )
    return weights


def load_weights(model: TopoLMForCausalLM, weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Copy weights into a model that has exactly these."""
    own = {name: tensor for name, tensor in model.named_parameters() if name != "lm_head.weight"}
    if faults := misfits(own, weights):
        raise ValueError(
            f"{path}: weights do not fit its model_args: {faults}; the two must come from one training run"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def misfits(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """What is missing, too much or of another shape, the first of it in words; nothing where all weights fit."""
    faults = [f"{name} is missing" for name in own if name not in weights]
    faults += [f"{name} has no place in this model" for name in weights if name not in own]
    faults += [
        f"{name} has shape {tuple(weights[name].shape)} in place of {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    return ", and ".join([*faults[:1], *([f"{len(faults) - 1} more"] if len(faults) > 1 else [])])


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, Tensor):
        return value.tolist()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
