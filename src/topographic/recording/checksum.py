"""Which weights, and which architecture, a result belongs to."""

import hashlib
import json

import torch
from torch import nn

from topographic.losses.wrappers import unwrapped
from topographic.storage import digest as digest_of

__all__ = ["architecture_checksum", "weights_checksum"]

# of a configuration, what says where a model came from and not what it computes
_WHENCE = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "auto_map"}


def architecture_checksum(model: nn.Module) -> str:
    """SHA-256 of a model's class and configuration, which say how its weights are used, and not where it came from."""
    bare = unwrapped(model)
    written = getattr(getattr(bare, "config", None), "to_json_string", None)
    config = {} if written is None else json.loads(written(use_diff=False))
    return digest_of([type(bare).__name__, {key: one for key, one in config.items() if key not in _WHENCE}])


def weights_checksum(model: nn.Module, *, contents: bool = True) -> str:
    """SHA-256 of a model's parameters and stored buffers.

    Parameters
    ----------
    model : nn.Module
        Any model, wrapped (DataParallel, DDP, torch.compile) or not, on any device.
    contents : bool
        Count what modules hold besides weights and name by an attribute ``content_checksum``, as the sheets of
        `topographic.layouts.rebased` do.

    Returns
    -------
    str
        Hexadecimal SHA-256 over the names, types, shapes and bytes of the state dict, sorted by name. The same for a
        model and for what is loaded from its checkpoint; another one as soon as any bit of any weight differs.
    """
    digest, bare = hashlib.sha256(), unwrapped(model)
    for name, tensor in sorted(bare.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):
            continue  # a module's extra state need not be a tensor
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        # bytes rather than numbers: numpy has no bfloat16
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for name, module in bare.named_modules() if contents else ():
        if isinstance(content := getattr(module, "content_checksum", None), str):
            digest.update(repr((name, content)).encode())
    return digest.hexdigest()
