"""Site names: which modules of a model are meant."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import pandas as pd
from torch import nn

from topographic.losses.wrappers import WRAPPER_NAMES, unwrapped

__all__ = [
    "ALIASES",
    "FIRST_MLP_LAYERS",
    "VISION_LAYERS",
    "find_sites",
    "first_mlp_layers",
    "list_sites",
    "modules_by_site",
    "site_name",
    "sites_among",
    "suggested_sites",
    "vision_layers",
]

# these hold modules and are never called themselves
_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
_NO_SUBMODULES = "it has no submodules: give nn.Sequential(model), whose site is '0'"


def find_sites(model: nn.Module, patterns: str | Sequence[str]) -> list[str]:
    """Names of the modules that match Unix wildcards, in natural order.

    Parameters
    ----------
    model : nn.Module
        Any model, wrapped (DataParallel, DDP, FSDP, torch.compile) or not.
    patterns : str or sequence of str
        Wildcards over module names: ``*`` matches anything, dots included, ``?`` one character,
        ``[0-3]`` one of a range. "transformer.h.*.attn" finds every attention block of a GPT-2.
        What is exactly a module's name means that module, brackets and all. Patterns may carry the
        prefixes of wrappers ("module.", "_orig_mod.") or not. An alias, "attn", "mlp", "resid", "embed" or "conv",
        means those parts of every block, whatever the family of the model calls them (`list_sites`).

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

    Examples
    --------
    >>> find_sites(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)), "[02]")
    ['0', '2']
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    modules = modules_by_site(model)
    if not patterns:
        raise ValueError(f"no site pattern given; expected at least one, for example {suggested_sites(model)!r}")
    return sites_among(modules, patterns, type(model).__name__)


def sites_among(modules: Mapping[str, nn.Module], patterns: Sequence[str], model_name: str) -> list[str]:
    """`find_sites` among modules that are listed already, as in every step of a training."""
    found: dict[nn.Module, str] = {}
    for pattern in patterns:
        bare = re.sub(r"^((module|_orig_mod)\.)+", "", pattern)
        matching = _matching(modules, pattern) or _matching(modules, bare) or _meant_by(bare, modules, model_name)
        if not matching:
            nearest = f"the nearest are {', '.join(map(repr, _nearest(pattern, list(modules))))}"
            raise ValueError(
                f"site pattern {pattern!r} matches no module of {model_name}; "
                + (nearest if modules else _NO_SUBMODULES)
            )
        for name in matching:
            found.setdefault(modules[name], name)
    return sorted(found.values(), key=_natural)


def list_sites(model: nn.Module, alias: str | None = None) -> pd.DataFrame:
    """Every module of a model that can be a site, with its alias where it has one.

    Parameters
    ----------
    model : nn.Module
        Any model, wrapped or not.
    alias : str, optional
        Only the sites of this alias: "attn", "mlp", "resid" (the blocks), "embed" or "conv".

    Returns
    -------
    DataFrame
        ``site``, ``alias`` (empty for parts that have none) and ``module``, the name of its class.

    Raises
    ------
    ValueError
        If the alias fits nothing in this model; the message lists those that do.

    Notes
    -----
    Of a model that carries sheets "attn" and "mlp" are these sheets. "mlp" of a model without a module around the two
    layers (BERT, OPT) is the second layer, before it is added to the residual stream.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=16))
    >>> list_sites(model, "mlp")["site"].tolist()
    ['transformer.h.0.mlp', 'transformer.h.1.mlp']
    """
    modules = modules_by_site(model)
    found = {site: one for one in ALIASES for site in _aliased(one, modules)}
    sites = (
        sorted(modules, key=_natural) if alias is None else _meant_by(alias, modules, type(unwrapped(model)).__name__)
    )
    if not sites:
        raise ValueError(f"alias={alias!r}; expected one of {', '.join(ALIASES)}, or None for every module")
    return pd.DataFrame([
        {"site": site, "alias": alias or found.get(site, ""), "module": type(modules[site]).__name__} for site in sites
    ])


def suggested_sites(model: nn.Module, *, weighted: bool = False) -> str:
    """A pattern of sites that the model at hand has, to begin with.

    Parameters
    ----------
    model : nn.Module
        Any model, wrapped or not.
    weighted : bool
        Whether the sites shall be layers with a weight matrix or kernel of their own.

    Returns
    -------
    str
        The MLPs of its blocks or, where no module is called so, their attention, their convolutions or the part of
        them with the most weights; if ``weighted``, those layers; of a model without blocks its first layer.

    Raises
    ------
    ValueError
        If it has no submodules.

    Examples
    --------
    >>> suggested_sites(nn.ModuleDict({"layers": nn.ModuleList(nn.ModuleDict({"mlp": nn.Linear(2, 2)}) for _ in "ab")}))
    'layers.*.mlp'
    """
    every = modules_by_site(model)
    if not every:
        raise ValueError(f"{type(model).__name__} names no sites; {_NO_SUBMODULES}")
    layers = {name: module for name, module in every.items() if _is_layer(module)}
    modules = layers if weighted and layers else every
    weights: dict[str, list[int]] = {}
    for name, pattern in zip(modules, _with_wildcards(modules), strict=True):
        weights.setdefault(pattern, []).append(sum(weight.numel() for weight in _made(modules[name].parameters())))
    # not what ends in a number: such a wildcard takes in all that lies below
    repeated = [pattern for pattern, sizes in weights.items() if "*" in pattern[:-1] and len(sizes) > 1]
    for name in () if weighted else ("*.mlp", "*attn", "*attention", "*.convolution"):
        alike = [pattern for pattern in repeated if fnmatchcase(pattern, name)]
        if alike:
            return max(alike, key=lambda pattern: (len(weights[pattern]), -pattern.count("*")))
    parts = [pattern for pattern in repeated if weighted or re.search(r"\*\.\w+$", pattern)]
    if parts:
        return max(parts, key=lambda pattern: sum(weights[pattern]))
    return next(iter(layers or modules))


def _is_layer(module: nn.Module) -> bool:
    return not isinstance(module, nn.Embedding) and any(one.ndim > 1 for one in _made(module.parameters(False)))


def _made(parameters: Iterable[nn.Parameter]) -> Iterator[nn.Parameter]:
    """Those that have a shape already, as parameters of lazy layers have not before the first pass."""
    return (parameter for parameter in parameters if not nn.parameter.is_lazy(parameter))


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
            f"(model_type {model_type!r}), nor has it modules called {', '.join(_MLP_NAMES)}; name its sites"
            + (f", for example sites={suggested_sites(model, weighted=True)!r}" if names else "")
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
        site = site_name(name)
        if site and not isinstance(module, _CONTAINERS):
            sites[site] = module  # a wrapper and what it wraps share a name: the wrapped module comes later and stays
    return sites


def site_name(name: str) -> str:
    """The name of a module without what wrappers put into its path."""
    return ".".join(part for part in name.split(".") if part not in WRAPPER_NAMES)


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
    if pattern in names or not any(letter in pattern for letter in "*?["):
        return [pattern] if pattern in names else []
    return [name for name in names if fnmatchcase(name, pattern)]


def _meant_by(alias: str, modules: Mapping[str, nn.Module], model_name: str) -> list[str]:
    """Sites of an alias; none if the word is no alias."""
    if alias not in ALIASES:
        return []
    found = _aliased(alias, modules)
    if not found:
        there = {name: _aliased(name, modules) for name in ALIASES}
        told = [f"{name} ({_with_wildcards(sites)[0]})" for name, sites in there.items() if sites]
        raise ValueError(
            f"{model_name} has nothing that {alias!r} means; it has {', '.join(told) or 'no part with an alias'}: "
            "name one of these, or a wildcard over its modules"
        )
    return sorted(found, key=_natural)


def _aliased(alias: str, modules: Mapping[str, nn.Module]) -> list[str]:
    """Sites of the first of the alias's names that the model has."""
    blocks = _blocks(modules)
    if alias == "resid":
        return blocks
    if alias == "conv":
        return [site for site, module in modules.items() if isinstance(module, _CONVOLUTIONS)]
    if alias == "embed":
        named = next(([site] for name in ALIASES[alias] for site in modules if _ends_as(site, name)), [])
        return named or [one for one, module in modules.items() if _ends_as(one, "conv2") and _is_1d(module)][:1]
    for name in ALIASES[alias]:
        found = [f"{block}.{name}" for block in blocks if f"{block}.{name}" in modules]
        if found:
            return found
    return ["fc1"] if alias == "mlp" and not blocks and "fc1" in modules else []  # a perceptron is one


def _blocks(modules: Mapping[str, nn.Module]) -> list[str]:
    """What is numbered and holds more: the blocks; of a network of stages the numbered parts of those."""
    numbered = [site for site in modules if re.search(r"\.\d+$", f".{site}") and any(modules[site].children())]
    numbered = [site for site in numbered if not _only_convolves(modules[site])] or numbered
    outer = [site for site in numbered if not _within(site, numbered)]
    inner = [site for site in numbered if len(_within(site, outer)) == 1 and len(_within(site, numbered)) == 1]
    # a stage holds nothing but numbered blocks; a block holds other parts as well
    staged = bool(inner) and all(site.count(".") and _is_stage(site, modules) for site in outer)
    return inner if staged else outer


def _only_convolves(module: nn.Module) -> bool:
    """As what stands before the blocks of a speech encoder does, numbered as they are."""
    parts = list(module.modules())
    return any(map(_is_1d, parts)) and not any(isinstance(one, nn.Linear) for one in parts)


def _is_1d(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d)


def _ends_as(site: str, name: str) -> bool:
    return site.split(".")[-1] == name


def _is_stage(site: str, modules: Mapping[str, nn.Module]) -> bool:
    names = [name for name, _ in modules[site].named_children()]
    return names in (["layers"], ["blocks"]) or all(name.isdigit() for name in names)


def _within(site: str, others: Iterable[str]) -> list[str]:
    return [other for other in others if site.startswith(f"{other}.")]


def _nearest(pattern: str, names: list[str]) -> list[str]:
    """Up to four existing names with their numbers as wildcards, ready to be pasted."""
    return difflib.get_close_matches(pattern, list(dict.fromkeys(_with_wildcards(names))), n=4, cutoff=0.0)


def _with_wildcards(names: Iterable[str]) -> list[str]:
    return [re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) for name in names]


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# what families call a part of a block, the first that is there; sheets that a model carries come first
ALIASES: dict[str, tuple[str, ...]] = {
    "attn": ("attn_sheet", "self_attn", "attn", "attention", "self_attention", "self_attention.dense"),
    "mlp": ("mlp_sheet", "mlp", "feed_forward", "ffn", "output.dense", "fc2"),
    "resid": (),  # the blocks themselves
    "embed": (
        "wte",
        "embed_tokens",
        "embed_in",
        "word_embeddings",
        "patch_embeddings",
        "embedder",
        "embeddings",
        "feature_projection",  # of sound, before positions, as the second convolution of Whisper is
    ),
    "conv": (),  # every convolution
}

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
    "prototype_classifier": ("backbone.classifier.1",),
}
