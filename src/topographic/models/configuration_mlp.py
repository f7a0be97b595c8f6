"""`PixelMLPConfig`: the shape of a classifier of pixels."""

import warnings
from typing import no_type_check

from transformers import PreTrainedConfig

from topographic.models.auto_map import NeverCopied, auto_map, write_loader
from topographic.sheets.layouts import strip_warning

__all__ = ["PixelMLPConfig"]


@no_type_check  # the base class takes any key of a config.json, also those that are no fields here
class PixelMLPConfig(NeverCopied, PreTrainedConfig):
    """Shape of a `PixelMLPForImageClassification`; the defaults are the network of TopoNets' demonstration.

    Parameters
    ----------
    image_size : int
        Pixels of the image along each side.
    num_channels : int
        1 for gray, 3 for RGB.
    hidden_size : int
        Units of the hidden layer, which lie on a sheet: 256 are 16 x 16.
    num_labels : int
        Classes.

    Raises
    ------
    ValueError
        If a size is below 1.
    """

    model_type = "pixel_mlp"

    image_size: int = 28
    num_channels: int = 1
    hidden_size: int = 256

    def __post_init__(self, **kwargs) -> None:
        """Refuse sizes that no layer has; ten classes unless more is said."""
        if "num_labels" not in kwargs and "id2label" not in kwargs and self.id2label is None:
            kwargs["num_labels"] = 10
        super().__post_init__(**kwargs)
        self.auto_map = auto_map(
            AutoConfig="PixelMLPConfig", AutoModelForImageClassification="PixelMLPForImageClassification"
        )
        for name in ("image_size", "num_channels", "hidden_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; expected at least 1")
        if (said := strip_warning(self.hidden_size)) is not None:
            warnings.warn(f"hidden_size={self.hidden_size}: {said}", stacklevel=2)

    def save_pretrained(self, save_directory, *args, **kwargs) -> None:
        """Write ``config.json`` and what loads it without `register_pixel_mlp`."""
        write_loader(save_directory, self.auto_map, "register_pixel_mlp")
        super().save_pretrained(save_directory, *args, **kwargs)
