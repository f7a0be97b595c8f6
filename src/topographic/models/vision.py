"""Classifiers of images: those of TopoNets by name, and any architecture that transformers knows."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForImageClassification, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from topographic.models.architectures import configured, own_fields
from topographic.models.configuration_mlp import PixelMLPConfig
from topographic.models.modeling_mlp import register_pixel_mlp
from topographic.models.modeling_prototypes import PrototypeClassifierConfig, register_prototypes

__all__ = ["VISION_PRESETS", "fresh_vision_model", "register_vision", "vision_config"]


def register_vision() -> None:
    """Teach transformers' Auto classes our classifiers of images; calling it again changes nothing."""
    register_pixel_mlp()
    register_prototypes()


def vision_config(
    name: str,
    changes: Mapping[str, Any] | None = None,
    *,
    classes: Sequence[str],
    image_size: int,
    num_channels: int = 3,
) -> PreTrainedConfig:
    """Configuration of a classifier, every word of it checked.

    - "resnet18", "resnet50": convolutions of the residual blocks on sheets of 8 x 8 to 32 x 64
    - "vit_b_32": patches of 32 x 32 pixels, the second MLP layers on sheets of 24 x 32
    - "mnist_mlp": 784-256-10 without biases, the first layer on a sheet of 16 x 16
    - "resnet_demo", "vit_demo": small ones for 32 x 32 images and two cores
    - "prototypes_demo": a small ResNet whose classes are prototypes on a sheet of 8 x 16 (ProtoDiffusion)

    Parameters
    ----------
    name : str
        One of these, or an architecture of transformers that classifies images, such as "convnext".
    changes : mapping, optional
        Fields to set otherwise, by the architecture's own names.
    classes : sequence of str
        Names of the classes.
    image_size : int
        Pixels of the images along each side, where the architecture has to know.
    num_channels : int
        1 for gray, 3 for RGB.

    Returns
    -------
    PreTrainedConfig
        Of the architecture's own class.

    Raises
    ------
    ValueError
        If the name or a field is unknown, or the fields do not fit together.

    Notes
    -----
    The ResNets of transformers begin with a 7 x 7 convolution of stride 2 and a maximum over 3 x 3 of stride 2, and
    have no field to change that: an image of 32 x 32 reaches the first block as 8 x 8, one of 64 x 64 as 16 x 16.
    TopoNets' ResNets also blur before they stride, which is a matter of the training recipe and left out here.
    """
    register_vision()
    shape: dict[str, Any] = dict(VISION_PRESETS.get(name, {"model_type": name}))
    config_class = _config_class(shape.pop("model_type"), name)
    own = own_fields(config_class)
    given = {"image_size": image_size, "num_channels": num_channels}
    fields: dict[str, Any] = {key: entry for key, entry in given.items() if key in own} | shape
    for key, entry in (changes or {}).items():
        if key not in own:
            nearest = difflib.get_close_matches(key, own, n=3, cutoff=0.0)
            raise ValueError(f"model {name!r} has no field {key}; the nearest are {', '.join(nearest)}")
        fields[key] = entry
    fields |= {"id2label": dict(enumerate(classes)), "label2id": {label: at for at, label in enumerate(classes)}}
    config = configured(config_class, f"model {name!r}", fields)
    width, heads = getattr(config, "hidden_size", None), getattr(config, "num_attention_heads", None)
    if isinstance(width, int) and isinstance(heads, int) and (heads < 1 or width % heads):
        raise ValueError(
            f"model {name!r}: hidden_size={width} is not a multiple of num_attention_heads={heads}; choose a number of "
            "heads that divides the width"
        )
    return config


def fresh_vision_model(config: PreTrainedConfig, *, seed: int) -> Any:
    """A classifier with the initial weights of its architecture.

    Parameters
    ----------
    config : PreTrainedConfig
        As `vision_config` returns it.
    seed : int
        Decides the weights; the global generators are left alone.

    Returns
    -------
    PreTrainedModel
        In float32, in training mode.

    Raises
    ------
    ValueError
        If transformers cannot build the model.
    """
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return AutoModelForImageClassification.from_config(config, dtype=torch.float32).train()
    except Exception as error:  # each of the many architectures has errors of its own
        raise ValueError(
            f"model_type {config.model_type!r} cannot be built like this ({' '.join(str(error).split())}); change its "
            "fields or choose another architecture"
        ) from error


def _config_class(model_type: str, name: str) -> type[PreTrainedConfig]:
    for ours in (PixelMLPConfig, PrototypeClassifierConfig):
        if model_type == ours.model_type:
            return ours
    if model_type in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        return CONFIG_MAPPING[model_type]
    known = [*VISION_PRESETS, *MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES]
    nearest = ", ".join(difflib.get_close_matches(model_type, known, n=4, cutoff=0.0))
    raise ValueError(
        f"no classifier of images {name!r}; expected one of {', '.join(VISION_PRESETS)}, or a model_type of "
        f"transformers; the nearest are {nearest}"
    )


VISION_PRESETS: dict[str, dict[str, Any]] = {
    "mnist_mlp": {"model_type": "pixel_mlp", "hidden_size": 256},
    "prototypes_demo": {"model_type": "prototype_classifier", "width": 128},
    "resnet18": {
        "model_type": "resnet",
        "layer_type": "basic",
        "embedding_size": 64,
        "hidden_sizes": [64, 128, 256, 512],
        "depths": [2, 2, 2, 2],
    },
    "resnet50": {
        "model_type": "resnet",
        "layer_type": "bottleneck",
        "embedding_size": 64,
        "hidden_sizes": [256, 512, 1024, 2048],
        "depths": [3, 4, 6, 3],
    },
    "vit_b_32": {
        "model_type": "vit",
        "patch_size": 32,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "layer_norm_eps": 1e-6,
    },
    # sheets of 8 x 8, 8 x 16 and 16 x 16
    "resnet_demo": {
        "model_type": "resnet",
        "layer_type": "basic",
        "embedding_size": 64,
        "hidden_sizes": [64, 128, 256],
        "depths": [1, 1, 1],
    },
    # sheets of 12 x 16
    "vit_demo": {
        "model_type": "vit",
        "patch_size": 4,
        "hidden_size": 192,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
    },
}
