"""Site names: which modules of a model are meant."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

__all__ = [
    "FIRST_MLP_LAYERS",
    "VISION_LAYERS",
    "find_sites",
    "first_mlp_layers",
    "modules_by_site",
    "unwrapped",
    "vision_layers",
]

# names that torch.compile, FSDP and activation checkpointing put into the paths of what they wrap
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# classes that hold a model and pass it through, and the name they hold it under
_HOLDERS: dict[str, str] = {"OptimizedModule": "_orig_mod"}
_HOLDERS |= dict.fromkeys(("DataParallel", "DistributedDataParallel", "AveragedModel", "DeepSpeedEngine"), "module")
_FRAMEWORKS = ("torch.", "deepspeed.")
# these hold modules and are never called themselves
_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def find_sites(model: nn.Module, patterns: str | Sequence[str]) -> list[str]:
    """Names of the modules that match Unix wildcards, in natural order.

    Parameters
    ----------
    model : nn.Module
        Any model, wrapped (DataParallel, DDP, FSDP, torch.compile) or not.
    patterns : str or sequence of str
        Wildcards over module names: ``*`` matches anything, dots included, ``?`` one character,
        ``[0-3]`` one of a range. "transformer.h.*.attn" finds every attention block of a GPT-2.
        Patterns may carry the prefixes of wrappers ("module.", "_orig_mod.") or not.

    Returns
    -------
    list of str
        Every matching module once, ``h.2`` before ``h.10``; one that has several names, because it is
        shared, under the first of them that a pattern matches. The prefixes that wrappers add are left
        out, so a wrapped model has the names of the bare one.

    Raises
    ------
    ValueError
        If a pattern matches nothing; the message shows the nearest names.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not patterns:
        raise ValueError("no site pattern given; expected at least one, for example 'transformer.h.*.attn'")
    return sites_among(modules_by_site(model), patterns, type(model).__name__)


def sites_among(modules: Mapping[str, nn.Module], patterns: Sequence[str], model_name: str) -> list[str]:
    """`find_sites` among modules that are listed already, as in every step of a training."""
    found: dict[nn.Module, str] = {}
    for pattern in patterns:
        bare = re.sub(r"^((module|_orig_mod)\.)+", "", pattern)
        matching = _matching(modules, pattern) or _matching(modules, bare)
        if not matching:
            nearest = f"the nearest are {', '.join(map(repr, _nearest(pattern, list(modules))))}"
            raise ValueError(
                f"site pattern {pattern!r} matches no module of {model_name}; "
                + (nearest if modules else "it has no submodules: give nn.Sequential(model), whose site is '0'")
            )
        for name in matching:
            found.setdefault(modules[name], name)
    return sorted(found.values(), key=_natural)


def first_mlp_layers(model: nn.Module) -> str:
    """Wildcard over the first MLP layer of every block, whose units TopoNets lays on sheets in language models.

    Parameters
    ----------
    model : nn.Module
        A language model of transformers, or ours, wrapped or not.

    Returns
    -------
    str
        Such as "transformer.h.*.mlp.c_fc". Of a gated MLP it is the layer that carries the values, not the gate.

    Raises
    ------
    ValueError
        If no name is known for its architecture.

    References
    ----------
    Deb et al., TopoNets, ICLR 2025: GPT-Neo and nanoGPT.
    """
    model_type = getattr(getattr(unwrapped(model), "config", None), "model_type", None)
    if model_type in FIRST_MLP_LAYERS:
        return FIRST_MLP_LAYERS[model_type]
    names = list(modules_by_site(model))
    found = next((pattern for pattern in _MLP_NAMES if any(fnmatchcase(name, pattern) for name in names)), None)
    if found is None:
        raise ValueError(
            f"first MLP layers are known of {', '.join(FIRST_MLP_LAYERS)}, not of {type(unwrapped(model)).__name__} "
            f"(model_type {model_type!r}), nor has it modules called {', '.join(_MLP_NAMES)}; name its sites, for "
            "example sites='model.layers.*.mlp.up_proj'"
        )
    return found


def vision_layers(model: nn.Module) -> list[str]:
    """Wildcards over the layers of a vision model whose units TopoNets lays on sheets.

    In a ResNet every convolution of the residual blocks, in a ViT the second MLP layer of every block.

    Parameters
    ----------
    model : nn.Module
        A vision model of transformers, or ours, wrapped or not.

    Returns
    -------
    list of str
        Such as ["*encoder.stages.*.layers.*.layer.*.convolution"].

    Raises
    ------
    ValueError
        If no names are known for its architecture.

    Notes
    -----
    The paper does not say whether the 1 x 1 convolutions that shorten a residual path are among "every convolution in
    the residual blocks"; they are left out here and called "*encoder.stages.*.shortcut.convolution".

    References
    ----------
    Deb et al., TopoNets, ICLR 2025: ResNet-18, ResNet-50, ViT-B/32.
    """
    model_type = getattr(getattr(unwrapped(model), "config", None), "model_type", None)
    if model_type not in VISION_LAYERS:
        raise ValueError(
            f"layers with sheets are known of {', '.join(VISION_LAYERS)}, not of {type(unwrapped(model)).__name__} "
            f"(model_type {model_type!r}); name its sites"
        )
    names = list(modules_by_site(model))
    return [pattern for pattern in VISION_LAYERS[model_type] if any(fnmatchcase(name, pattern) for name in names)]


def modules_by_site(model: nn.Module) -> dict[str, nn.Module]:
    """Every module that can be a site, by its name without wrapper prefixes."""
    sites = {}
    for name, module in _named_modules(unwrapped(model)):
        site = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if site and not isinstance(module, _CONTAINERS):
            sites[site] = module  # a wrapper and what it wraps share a name: the wrapped module comes later and stays
    return sites


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DataParallel, DDP, AveragedModel, DeepSpeed's engine or torch.compile."""
    while held := _held_as(model):
        model = model.get_submodule(held)
    return model


def _held_as(model: nn.Module) -> str | None:
    """Name under which a wrapper holds its model. By class, since a model of one's own may have a child `module`."""
    known = (_HOLDERS.get(base.__name__) for base in type(model).__mro__ if base.__module__.startswith(_FRAMEWORKS))
    return next(filter(None, known), None)


def _named_modules(
    module: nn.Module, name: str = "", above: tuple[nn.Module, ...] = ()
) -> Iterator[tuple[str, nn.Module]]:
    """Every module under each of its names, where `named_modules` either leaves names out or follows loops for ever."""
    yield name, module
    path = (*above, module)
    for part, child in module._modules.items():
        if child is not None and child not in path:
            yield from _named_modules(child, f"{name}.{part}" if name else part, path)


def _matching(names: Collection[str], pattern: str) -> list[str]:
    if not any(letter in pattern for letter in "*?["):
        return [pattern] if pattern in names else []
    return [name for name in names if fnmatchcase(name, pattern)]


def _nearest(pattern: str, names: list[str]) -> list[str]:
    """Up to four existing names with their numbers as wildcards, ready to be pasted."""
    candidates = list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) for name in names))
    return difflib.get_close_matches(pattern, candidates, n=4, cutoff=0.0)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


# model_type in transformers -> names
FIRST_MLP_LAYERS: dict[str, str] = {
    "gpt2": "transformer.h.*.mlp.c_fc",
    "gpt_neo": "transformer.h.*.mlp.c_fc",
    "topolm": "transformer.h.*.mlp.c_fc",  # nanoGPT too
    "gptj": "transformer.h.*.mlp.fc_in",
    "bloom": "transformer.h.*.mlp.dense_h_to_4h",
    "gpt_neox": "gpt_neox.layers.*.mlp.dense_h_to_4h",
    "opt": "model.decoder.layers.*.fc1",
}
# of other architectures, by the names of their modules: the first that is there
_MLP_NAMES = (
    "*.mlp.up_proj",  # Llama, SmolLM, Mistral, Qwen, Gemma, OLMo: gated
    "*.mlp.gate_up_proj",  # Phi-3, GLM: gate and values in one layer
    "*.mlp.c_fc",  # StarCoder
    "*.mlp.fc1",  # Phi
    "*.mlp.dense_h_to_4h",  # Falcon
)

# model_type in transformers -> names, of newer and of older versions
VISION_LAYERS: dict[str, tuple[str, ...]] = {
    "resnet": ("*encoder.stages.*.layers.*.layer.*.convolution",),
    "vit": ("*layers.*.mlp.fc2", "*encoder.layer.[0-9].output.dense", "*encoder.layer.[0-9][0-9].output.dense"),
    "pixel_mlp": ("fc1",),
}
