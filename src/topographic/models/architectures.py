"""Any causal language model that transformers knows, from words of a configuration to fresh weights."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from topographic.models.configuration_topoformer import TopoformerConfig
from topographic.models.configuration_topolm import TopoLMConfig
from topographic.models.registration import register

__all__ = ["AUTO_CLASSES", "architecture", "configured", "fresh_model", "own_fields"]

# what a language model is trained on -> what gives it the head for that
AUTO_CLASSES: dict[str, Any] = {
    "next_token": AutoModelForCausalLM,
    "masked_tokens": AutoModelForMaskedLM,
    "labels": AutoModelForSequenceClassification,
}
_OWN = {config.model_type: config for config in (TopoLMConfig, TopoformerConfig)}

# the words every architecture is told its size in -> what transformers calls the same everywhere
_SIZES = {
    "n_layer": "num_hidden_layers",
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
}
# what "dropout" means, where an architecture has several
_DROPOUTS = (
    "embd_pdrop",
    "embed_dropout",
    "resid_pdrop",
    "resid_dropout",
    "hidden_dropout",
    "attn_pdrop",
    "attention_dropout",
)


def architecture(
    model_type: str, *settings: Mapping[str, Any], special_tokens: Mapping[str, int | None] | None = None
) -> PreTrainedConfig:
    """Configuration of a causal language model, every word of it checked.

    Parameters
    ----------
    model_type : str
        "topolm", "topoformer", or what transformers calls the architecture: "gpt2", "gpt_neo", "llama" and the like.
    *settings : mapping
        Fields by the architecture's own names, or by the words that serve for all: ``n_layer``, ``n_embd``,
        ``n_head``, ``n_positions``, and ``dropout`` for all of its dropouts. Later mappings win over earlier ones;
        what none of them says is as in transformers.
    special_tokens : mapping of str to int or None, optional
        ``bos_token_id``, ``eos_token_id`` and ``pad_token_id``, set where the architecture has them.

    Returns
    -------
    PreTrainedConfig
        Of the architecture's own class.

    Raises
    ------
    ValueError
        If the architecture or a field is unknown, a field is given twice, or the sizes do not fit together.

    Notes
    -----
    A pad that is also another token is left out: several architectures never train the embedding of their pad. The
    layers of GPT-Neo alternate between global and local attention, as published, at every depth.
    """
    config_class = _config_class(model_type)
    own = own_fields(config_class)
    tokens = {name: token for name, token in (special_tokens or {}).items() if name in own}
    if tokens.get("pad_token_id") in (tokens.get("bos_token_id"), tokens.get("eos_token_id")):
        tokens["pad_token_id"] = None
    fields: dict[str, Any] = {**tokens}
    for mapping in settings:
        fields |= _translated(mapping, model_type, config_class)
    depth = fields.get("num_layers")
    if model_type == "gpt_neo" and "attention_types" not in fields and isinstance(depth, int):
        fields["attention_types"] = [[["global", "local"], depth // 2], [["global"], depth % 2]]
    config = configured(config_class, f"model_type {model_type!r}", fields)
    _check_sizes(config, model_type, own)
    return config


def fresh_model(config: PreTrainedConfig, *, seed: int, objective: str = "next_token") -> Any:
    """A model with the initial weights of its architecture.

    Parameters
    ----------
    config : PreTrainedConfig
        As `architecture` or `preset` returns it.
    seed : int
        Decides the weights; the global generators are left alone.
    objective : {"next_token", "masked_tokens", "labels"}
        What it is to be trained on: a decoder, a model that finds masked tokens, or a classifier of whole texts.

    Returns
    -------
    PreTrainedModel
        In float32, in training mode.

    Raises
    ------
    ValueError
        If the objective is unknown, transformers cannot build the model, it does not run on tokens alone, or a token's
        output depends on later tokens, so that predicting the next one would be copying.
    """
    if objective not in AUTO_CLASSES:
        raise ValueError(f"objective={objective!r}; expected one of {list(AUTO_CLASSES)}")
    register()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = AUTO_CLASSES[objective].from_config(config, dtype=torch.float32)
        outputs = _two_endings(model)
    except Exception as error:  # each of the many architectures has errors of its own
        raise ValueError(
            f"model_type {config.model_type!r} cannot be built like this or does not run on tokens alone "
            f"({' '.join(str(error).split())}); change its fields or choose another architecture"
        ) from error
    if objective != "next_token":
        return model.train()
    difference = float((outputs[0, :-1] - outputs[1, :-1]).abs().max())
    if difference > 1e-3 * float(outputs.abs().max()):
        raise ValueError(
            f"model_type {config.model_type!r} looks at later tokens, which a model of the next token must not; set "
            "is_decoder=true if it has that field, or choose another architecture"
        )
    return model.train()


def _config_class(model_type: str) -> type[PreTrainedConfig]:
    if model_type in _OWN:
        return _OWN[model_type]
    if model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return CONFIG_MAPPING[model_type]
    known = [*_OWN, *MODEL_FOR_CAUSAL_LM_MAPPING_NAMES]
    nearest = ", ".join(difflib.get_close_matches(model_type, known, n=4, cutoff=0.0))
    raise ValueError(
        f"no causal architecture {model_type!r}; expected a model_type of transformers, 'topolm' or 'topoformer'; the "
        f"nearest are {nearest}"
    )


def configured(config_class: type[PreTrainedConfig], what: str, fields: Mapping[str, Any]) -> PreTrainedConfig:
    """A configuration, what its class refuses said in one line."""
    try:
        return config_class(**fields)
    except Exception as error:  # transformers checks fields with errors of its own, some of several lines
        raise ValueError(f"{what}: {' '.join(str(error).split())}") from error


def own_fields(config_class: type[PreTrainedConfig]) -> set[str]:
    """Fields of an architecture, without those of the base class, which are not about its shape."""
    declared: Any = config_class
    base: Any = PreTrainedConfig
    return {field.name for field in dataclasses.fields(declared)} - {field.name for field in dataclasses.fields(base)}


def _translated(settings: Mapping[str, Any], model_type: str, config_class: type[PreTrainedConfig]) -> dict[str, Any]:
    """Settings by the architecture's own names."""
    own = own_fields(config_class)
    known = {name: [name] for name in own}
    for name, standard in [*_SIZES.items(), *((standard, standard) for standard in config_class.attribute_map)]:
        field = config_class.attribute_map.get(standard, standard)
        if field in own:
            known.setdefault(name, [field])
    if several := [field for field in _DROPOUTS if field in own]:
        known.setdefault("dropout", several)
    fields: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in known:
            raise ValueError(f"model_type {model_type!r} has no field {name}; expected some of {sorted(known)}")
        for field in known[name]:
            if field in fields:
                raise ValueError(
                    f"{name}={value!r} sets {field} of model_type {model_type!r} a second time; give it once"
                )
            fields[field] = value
    return fields


def _check_sizes(config: PreTrainedConfig, model_type: str, own: set[str]) -> None:
    """Refuse sizes that some architectures accept and fail on later."""
    for word, standard in {**_SIZES, "vocab_size": "vocab_size"}.items():
        size = getattr(config, standard, None)
        if isinstance(size, int) and size < 1:
            raise ValueError(f"model_type {model_type!r} with {word}={size}; expected at least 1")
    width, heads = getattr(config, "hidden_size", None), getattr(config, "num_attention_heads", None)
    # some architectures give their heads a width of their own
    if isinstance(width, int) and isinstance(heads, int) and "head_dim" not in own and width % heads:
        raise ValueError(
            f"model_type {model_type!r}: n_embd={width} is not a multiple of n_head={heads}; choose a number of heads "
            "that divides the width"
        )
    shared = getattr(config, "num_key_value_heads", None)
    if isinstance(heads, int) and isinstance(shared, int) and (shared < 1 or heads % shared):
        raise ValueError(
            f"model_type {model_type!r}: n_head={heads} is not a multiple of num_key_value_heads={shared}; give both"
        )


def _two_endings(model: Any) -> Tensor:
    """Logits of two texts that differ in their last token only, shape (2, tokens, vocabulary)."""
    tokens = torch.zeros(2, 4, dtype=torch.int64)
    tokens[1, -1] = 1
    with torch.no_grad():
        return model.eval()(input_ids=tokens).logits
