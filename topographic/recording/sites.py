"""Site names: which modules of a model are meant."""

import difflib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

__all__ = ["FIRST_MLP_LAYERS", "find_sites", "first_mlp_layers", "modules_by_site", "unwrapped"]

# names that torch.compile, FSDP and activation checkpointing put into the paths of what they wrap
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
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
        Every matching name once, ``h.2`` before ``h.10``. The prefixes that wrappers add are left
        out, so a wrapped model has the names of the bare one.

    Raises
    ------
    ValueError
        If a pattern matches nothing; the message shows the nearest names.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not patterns:
        raise ValueError("no site pattern given; expected at least one, for example 'transformer.h.*.attn'")
    names = list(modules_by_site(model))
    found: set[str] = set()
    for pattern in patterns:
        bare = re.sub(r"^((module|_orig_mod)\.)+", "", pattern)
        matching = [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, bare)]
        if not matching:
            raise ValueError(
                f"site pattern {pattern!r} matches no module of {type(model).__name__}; "
                f"the nearest are {', '.join(map(repr, _nearest(pattern, names))) or 'none: it has no submodules'}"
            )
        found.update(matching)
    return sorted(found, key=_natural)


def first_mlp_layers(model: nn.Module) -> list[str]:
    """The layer of each block that widens the stream: what TopoNets makes topographic in language models.

    Parameters
    ----------
    model : nn.Module
        A transformer, wrapped or not.

    Returns
    -------
    list of str
        Names of the first linear layer of every MLP, in the order of depth. Of a gated MLP it is the one that
        carries the values, not the gate.

    Raises
    ------
    ValueError
        If the model names its layers in none of the ways in `FIRST_MLP_LAYERS`.

    References
    ----------
    Deb et al. 2025, TopoNets, ICLR, arXiv:2501.16396.
    """
    names = list(modules_by_site(model))
    for pattern in FIRST_MLP_LAYERS:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if found:
            return sorted(found, key=_natural)
    raise ValueError(
        f"{type(unwrapped(model)).__name__} has no layer called {', '.join(FIRST_MLP_LAYERS)}; name the first linear "
        f"layer of its MLPs. Its modules are {', '.join(dict.fromkeys(map(_with_wildcards, names)))}"
    )


def modules_by_site(model: nn.Module) -> dict[str, nn.Module]:
    """Every module that can be a site, by its name without wrapper prefixes.

    Parameters
    ----------
    model : nn.Module
        Any model, wrapped or not.

    Returns
    -------
    dict of str to nn.Module
        All submodules but pure containers (ModuleList and the like), which are never called.
    """
    sites = {}
    for name, module in unwrapped(model).named_modules():
        site = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if site and not isinstance(module, _CONTAINERS):
            sites[site] = module  # a wrapper and what it wraps share a name: the wrapped module comes later and stays
    return sites


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DataParallel, DDP, AveragedModel or torch.compile.

    Parameters
    ----------
    model : nn.Module
        Any model, wrapped or not.

    Returns
    -------
    nn.Module
        The bare model.
    """
    # these hold the model as their only child
    while [name for name, _ in model.named_children()] in (["module"], ["_orig_mod"]):
        (model,) = model.children()
    return model


def _nearest(pattern: str, names: list[str]) -> list[str]:
    """Up to four existing names with their numbers as wildcards, ready to be pasted."""
    candidates = list(dict.fromkeys(map(_with_wildcards, names)))
    return difflib.get_close_matches(pattern, candidates, n=4, cutoff=0.0)


def _with_wildcards(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


# the first that matches anything is taken
FIRST_MLP_LAYERS = (
    "*.mlp.c_fc",  # GPT-2, GPT-Neo, TopoLM
    "*.mlp.up_proj",  # Llama, SmolLM, Mistral, Qwen, Gemma, OLMo
    "*.mlp.dense_h_to_4h",  # GPT-NeoX (Pythia), BLOOM, Falcon
    "*.mlp.fc_in",  # GPT-J
    "*.mlp.fc1",  # Phi, StarCoder
    "*.mlp.gate_up_proj",  # Phi-3, GLM: gate and values in one layer
    "*.fc1",  # OPT
)
