"""Named sizes: TopoLM and the language models of TopoNets as published, and smaller ones that tests can afford."""

from typing import Any

from transformers import PreTrainedConfig

from topographic.models.architectures import architecture

__all__ = ["PRESETS", "preset"]


def preset(name: str, **changes: Any) -> PreTrainedConfig:
    """Configuration of a named size.

    Parameters
    ----------
    name : str
        One of `PRESETS`. TopoLM: "paper" (12 blocks of 784 units, 24 sheets of 28 x 28; 128 M parameters),
        "small" (8 x 400, 20 x 20), "mini" (6 x 256, 16 x 16), "demo" (4 x 196, 14 x 14) or "tiny" (2 x 36, 6 x 6).
        TopoNets: "nanogpt" (124,373,760 parameters), "gpt_neo" (125,198,592) and "gpt2" (124,439,808), whose sheets
        are the weights of the first MLP layers, 48 x 64 units in each of 12 blocks; "nanogpt_demo", "gpt_neo_demo"
        and "gpt2_demo" have 4 blocks and sheets of half the side. Topoformer, of a single head: "topoformer_imdb" (the
        published classifier, 1 x 400), "topoformer_bert" (16 x 784), "topoformer_demo" (4 x 196) and "topoformer_tiny"
        (2 x 36); "topoformer_bert_heads" has 16 heads as tiles. Each has a control without locality, named
        "..._control": plain queries, and output weights that are non-negative as well.
    **changes
        Fields to set otherwise, as `architecture` takes them.

    Returns
    -------
    PreTrainedConfig
        A new configuration; of TopoLM and nanoGPT a `TopoLMConfig`, of Topoformer a `TopoformerConfig`.

    Raises
    ------
    ValueError
        If the name or a field is unknown, or the fields do not fit together.

    Notes
    -----
    nanoGPT without biases is our own decoder without its sheets; the GPT-2 of transformers always has biases, and the
    tanh approximation of the activation.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; expected one of {sorted(PRESETS)}")
    fields = dict(PRESETS[name])
    return architecture(fields.pop("model_type", "topolm"), fields, changes)


_PUBLISHED = {"n_embd": 768, "n_layer": 12, "n_head": 12}
# 4 x 192 units are a sheet of 24 x 32, half the published 48 x 64 either way
_DEMO = {"vocab_size": 4096, "n_positions": 128, "n_embd": 192, "n_layer": 4, "n_head": 6}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"vocab_size": 50304, "n_positions": 1024, "n_embd": 784, "n_layer": 12, "n_head": 16},
    "small": {"vocab_size": 50304, "n_positions": 512, "n_embd": 400, "n_layer": 8, "n_head": 8},
    "mini": {"vocab_size": 16384, "n_positions": 256, "n_embd": 256, "n_layer": 6, "n_head": 8},
    "demo": {"vocab_size": 4096, "n_positions": 128, "n_embd": 196, "n_layer": 4, "n_head": 4},
    "tiny": {"vocab_size": 256, "n_positions": 32, "n_embd": 36, "n_layer": 2, "n_head": 4},
    "nanogpt": {"sheet_point": "none", "vocab_size": 50304, "n_positions": 1024, **_PUBLISHED},
    "nanogpt_demo": {"sheet_point": "none", **_DEMO},
    "gpt2": {"model_type": "gpt2", "vocab_size": 50257, "n_positions": 1024, **_PUBLISHED},
    "gpt2_demo": {"model_type": "gpt2", **_DEMO},
    "gpt_neo": {"model_type": "gpt_neo", "vocab_size": 50257, "n_positions": 2048, **_PUBLISHED},
    # local attention sees an eighth of the context, as published
    "gpt_neo_demo": {"model_type": "gpt_neo", "window_size": 16, **_DEMO},
}

_TOPOFORMERS: dict[str, dict[str, Any]] = {
    "topoformer_imdb": {
        "vocab_size": 30522,
        "n_positions": 256,
        "n_embd": 400,
        "n_layer": 1,
        "n_inner": 1600,
        "activation": "relu",
        "gated": False,
        "norm": "post",
        "positions": "learned",
        "bias": True,
        "layer_norm_epsilon": 1e-5,
        "classifier_width": None,
        "querying_fraction": 0.1,
    },
    "topoformer_bert": {},
    "topoformer_bert_heads": {"n_head": 16},
    "topoformer_demo": {"vocab_size": 4096, "n_positions": 128, "n_embd": 196, "n_layer": 4, "n_inner": 784},
    "topoformer_tiny": {
        "vocab_size": 256,
        "n_positions": 32,
        "n_embd": 36,
        "n_layer": 2,
        "n_inner": 72,
        "classifier_width": 16,
        "dropout": 0.0,
    },
}
_UNCONSTRAINED = {"querying_fraction": None, "fields": "full"}
for _name, _fields in _TOPOFORMERS.items():
    PRESETS[_name] = {"model_type": "topoformer", **_fields}
    PRESETS[f"{_name}_control"] = {"model_type": "topoformer", **_fields, **_UNCONSTRAINED}
