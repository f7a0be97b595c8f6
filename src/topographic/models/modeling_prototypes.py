"""`PrototypeClassifierForImageClassification`: any classifier of images whose classes are points among its features."""

import warnings
from typing import Any, no_type_check

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention
from transformers.utils import can_return_tuple

from topographic.losses import prototype_loss, squared_distances
from topographic.models.auto_map import NeverCopied, auto_map, write_loader
from topographic.sheets.layouts import strip_warning

__all__ = ["PrototypeClassifierConfig", "PrototypeClassifierForImageClassification", "register_prototypes"]

_SMALL: dict[str, Any] = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 32,
    "hidden_sizes": [32, 64, 128],
}


@no_type_check  # the base class takes any key of a config.json, also those that are no fields here
class PrototypeClassifierConfig(NeverCopied, PreTrainedConfig):
    """Shape of a `PrototypeClassifierForImageClassification`.

    Parameters
    ----------
    image_size, num_channels : int
        Of the images, where the backbone has to know.
    backbone : dict, optional
        ``model_type`` and fields of a classifier of transformers, whose class scores are the features; by default a
        small ResNet.
    width : int
        Numbers of a feature and of a prototype: 128 lie on a sheet of 8 x 16.
    scale : float
        By which squared distances become logits.
    pull : float
        Weight of the pull of features to the prototype of their class.
    num_labels : int
        Classes, as many as you like.

    Raises
    ------
    ValueError
        If a size is below 1, the scale is not above 0, or the backbone is unknown.
    """

    model_type = "prototype_classifier"

    image_size: int = 28
    num_channels: int = 1
    backbone: Any = None
    width: int = 128
    scale: float = 2.0
    pull: float = 0.001

    def __post_init__(self, **kwargs) -> None:
        """Refuse what no backbone has."""
        if "num_labels" not in kwargs and "id2label" not in kwargs and self.id2label is None:
            kwargs["num_labels"] = 10
        super().__post_init__(**kwargs)
        classes = "PrototypeClassifierForImageClassification"
        self.auto_map = auto_map(AutoConfig="PrototypeClassifierConfig", AutoModelForImageClassification=classes)
        self.backbone = {**_SMALL, "depths": [1, 1, 1]} if self.backbone is None else dict(self.backbone)
        for name in ("image_size", "num_channels", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; expected at least 1")
        if self.scale <= 0 or self.pull < 0:
            raise ValueError(f"scale={self.scale}, pull={self.pull}; expected a scale above 0 and a pull of 0 or more")
        if self.backbone.get("model_type") not in CONFIG_MAPPING:
            raise ValueError(
                f"backbone={self.backbone}; expected a mapping with the model_type of a classifier of transformers, "
                "such as resnet, and its fields"
            )
        if (said := strip_warning(self.width)) is not None:
            warnings.warn(f"width={self.width}: {said}", stacklevel=2)

    def backbone_config(self) -> PreTrainedConfig:
        """Configuration of the backbone, which gives ``width`` scores."""
        fields = dict(self.backbone)
        sizes = {"image_size": self.image_size, "num_channels": self.num_channels}
        config_class = CONFIG_MAPPING[fields.pop("model_type")]
        return config_class(**{**sizes, **fields, "num_labels": self.width})

    def save_pretrained(self, save_directory, *args, **kwargs) -> None:
        """Write ``config.json`` and what loads it without `register_prototypes`."""
        write_loader(save_directory, self.auto_map, "register_prototypes")
        super().save_pretrained(save_directory, *args, **kwargs)


class PrototypeClassifierForImageClassification(NeverCopied, PreTrainedModel):
    """Features of a backbone, and classes by their distance to learned prototypes: ``logits = -s ||f - m||^2``.

    Parameters
    ----------
    config : PrototypeClassifierConfig
        Backbone, width, classes.

    Notes
    -----
    The published features pass through the 1,000 ImageNet scores of a ResNet-18 first; here the backbone's last layer
    gives the features itself, and a rectifier follows as published.
    """

    config_class = PrototypeClassifierConfig
    main_input_name = "pixel_values"
    base_model_prefix = "backbone"

    def __init__(self, config: PrototypeClassifierConfig) -> None:
        super().__init__(config)
        self.backbone = AutoModelForImageClassification.from_config(config.backbone_config())
        self.features = nn.ReLU()
        n_classes: Any = config.num_labels  # annotated as if it could be absent
        self.prototypes = nn.Parameter(torch.empty(n_classes, config.width))
        nn.init.kaiming_normal_(self.prototypes)
        self.post_init()

    @can_return_tuple
    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **_: Any) -> Any:
        """Class scores and, if labels are given, distance-based cross-entropy with its pull.

        Parameters
        ----------
        pixel_values : Tensor, shape (batch, channels, height, width)
            Images.
        labels : Tensor of int64, shape (batch,), optional
            Classes.

        Returns
        -------
        ImageClassifierOutputWithNoAttention
            ``loss`` and ``logits`` of shape (batch, classes).
        """
        features = self.features(self.backbone(pixel_values).logits)
        if labels is None:
            logits = -self.config.scale * squared_distances(features.float(), self.prototypes.float())
            return ImageClassifierOutputWithNoAttention(logits=logits)
        numbers = {"scale": self.config.scale, "pull": self.config.pull}
        loss, logits = prototype_loss(features, self.prototypes, labels, **numbers)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if module is self:
            init.kaiming_normal_(self.prototypes)


def register_prototypes() -> None:
    """Teach transformers' Auto classes the model type "prototype_classifier"; calling it again changes nothing."""
    AutoConfig.register("prototype_classifier", PrototypeClassifierConfig, exist_ok=True)
    AutoModelForImageClassification.register(
        PrototypeClassifierConfig, PrototypeClassifierForImageClassification, exist_ok=True
    )
