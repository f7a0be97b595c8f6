"""`PixelMLPForImageClassification`: two linear maps without biases, the smallest network with a sheet of weights."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention
from transformers.utils import can_return_tuple

from topographic.models.auto_map import NeverCopied
from topographic.models.configuration_mlp import PixelMLPConfig

__all__ = ["PixelMLPForImageClassification", "register_pixel_mlp"]


class PixelMLPForImageClassification(NeverCopied, PreTrainedModel):
    """Pixels, one hidden layer, classes: ``logits = W_2 relu(W_1 x)``.

    Parameters
    ----------
    config : PixelMLPConfig
        Sizes.

    Notes
    -----
    The network of the demonstration released with TopoNets (784-256-10 on MNIST); ``fc1`` lies on the sheet, and its
    output is taken before the ReLU. Weights begin as those of `torch.nn.Linear` do.
    """

    config_class = PixelMLPConfig
    main_input_name = "pixel_values"
    base_model_prefix = "mlp"

    def __init__(self, config: PixelMLPConfig) -> None:
        super().__init__(config)
        self.fc1 = nn.Linear(config.num_channels * config.image_size**2, config.hidden_size, bias=False)
        self.relu = nn.ReLU()
        n_classes: Any = config.num_labels  # annotated as if it could be absent
        self.fc2 = nn.Linear(config.hidden_size, n_classes, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **_: Any) -> Any:
        """Class scores and, if labels are given, their cross-entropy.

        Parameters
        ----------
        pixel_values : Tensor, shape (batch, channels, height, width)
            Images of the size the network was made for.
        labels : Tensor of int64, shape (batch,), optional
            Classes.

        Returns
        -------
        ImageClassifierOutputWithNoAttention
            ``loss`` and ``logits`` of shape (batch, classes).

        Raises
        ------
        ValueError
            If the images have another size.
        """
        channels, side = self.config.num_channels, self.config.image_size
        if tuple(pixel_values.shape[1:]) != (channels, side, side):
            raise ValueError(
                f"images of shape {tuple(pixel_values.shape[1:])}; this network takes ({channels}, {side}, {side}): "
                "resize them, or make it for them"
            )
        logits = self.fc2(self.relu(self.fc1(pixel_values.flatten(1))))
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))


def register_pixel_mlp() -> None:
    """Teach transformers' Auto classes the model type "pixel_mlp"; calling it again changes nothing."""
    AutoConfig.register("pixel_mlp", PixelMLPConfig, exist_ok=True)
    AutoModelForImageClassification.register(PixelMLPConfig, PixelMLPForImageClassification, exist_ok=True)
