"""Named sizes of TopoLM, from the paper's model to one that tests can afford."""

from typing import Any

from topographic.models.configuration_topolm import TopoLMConfig

__all__ = ["PRESETS", "preset"]


def preset(name: str, **changes: Any) -> TopoLMConfig:
    """Configuration of a named size.

    Parameters
    ----------
    name : str
        One of `PRESETS`: "paper" (12 blocks of 784 units, 24 sheets of 28 x 28; 128 M parameters),
        "small" (8 x 400, 20 x 20), "mini" (6 x 256, 16 x 16), "demo" (4 x 196, 14 x 14) or
        "tiny" (2 x 36, 6 x 6).
    **changes
        Fields of `TopoLMConfig` to set otherwise.

    Returns
    -------
    TopoLMConfig
        A new configuration.

    Raises
    ------
    ValueError
        If the name or a field is unknown, or the fields do not fit together.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; expected one of {sorted(PRESETS)}")
    fields = [field for field in TopoLMConfig.__annotations__ if not field.startswith("_")]
    unknown = sorted(set(changes) - set(fields))
    if unknown:
        raise ValueError(f"preset {name!r}: unknown field {', '.join(unknown)}; expected some of {sorted(fields)}")
    return TopoLMConfig(**{**PRESETS[name], **changes})


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"vocab_size": 50304, "n_positions": 1024, "n_embd": 784, "n_layer": 12, "n_head": 16},
    "small": {"vocab_size": 50304, "n_positions": 512, "n_embd": 400, "n_layer": 8, "n_head": 8},
    "mini": {"vocab_size": 16384, "n_positions": 256, "n_embd": 256, "n_layer": 6, "n_head": 8},
    "demo": {"vocab_size": 4096, "n_positions": 128, "n_embd": 196, "n_layer": 4, "n_head": 4},
    "tiny": {"vocab_size": 256, "n_positions": 32, "n_embd": 36, "n_layer": 2, "n_head": 4},
}
