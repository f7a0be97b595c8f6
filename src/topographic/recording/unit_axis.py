"""On which axis of a site's output its units lie."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from topographic.losses.weight_sheets import framework_names
from topographic.recording.sites import modules_by_site

__all__ = ["units_are_last"]


def units_are_last(model: nn.Module, site: str, activations: Tensor) -> bool:
    """Whether units may lie on the last axis, as far as the layers of a model tell."""
    modules = {"": model, **modules_by_site(model)}
    module = modules[site]
    if isinstance(module, _ConvNd):
        return False
    if isinstance(module, (_NormBase, nn.GroupNorm)):
        return activations.ndim < 3
    if (n_units := _n_units(module)) is not None:
        return activations.shape[-1] == n_units
    while site and not any(module.children()):
        site = site.rpartition(".")[0]
        module = modules.get(site, module)  # a container is no site: its own parent judges
    layers = list(module.modules())
    channels = {_n_units(layer) for layer in layers if isinstance(layer, _ConvNd)}
    if activations.ndim < 3 or activations.shape[1] not in channels:
        return True
    return activations.ndim == 3 and activations.shape[-1] in {_n_units(layer) for layer in layers}


def _n_units(layer: nn.Module) -> int | None:
    """How many units a layer has, where it says so."""
    if isinstance(layer, nn.LayerNorm):
        return layer.normalized_shape[-1]
    return next((getattr(layer, _COUNTS[name]) for name in framework_names(layer) if name in _COUNTS), None)


_COUNTS = {"Linear": "out_features", "Conv1D": "nf", "Embedding": "embedding_dim", "_ConvNd": "out_channels"}
