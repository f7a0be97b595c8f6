"""`Preparation`: how the pixels of an image become what a model takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from topographic.storage import load_json, save_json

__all__ = ["Preparation"]

_FILE = "preprocessor_config.json"  # where transformers keeps the same
_DONE = ("do_resize", "do_rescale", "do_normalize")  # the steps of transformers that are done here too


@no_type_check  # plain numbers are welcome for mean and sd: __post_init__ converts them
@dataclass(frozen=True)
class Preparation:
    """Gray levels from 0 to 255 brought to a size, a number of channels and a scale.

    ``x = (pixel / 255 - mean) / sd`` after the resizing.

    Parameters
    ----------
    mean, sd : float or tuple of float
        Of every channel, on the scale from 0 to 1. By default x lies between -1 and 1.
    channels : int, optional
        1 or 3; a gray image is repeated in three channels. By default as the images come.
    size : (int, int), optional
        Height and width, reached by linear interpolation that takes in every pixel when it shrinks. By default as
        the images come.

    Raises
    ------
    ValueError
        If mean and sd have neither one number nor one per channel, or an sd is not above 0.
    """

    mean: tuple[float, ...] = (0.5,)
    sd: tuple[float, ...] = (0.5,)
    channels: int | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Convert to tuples and refuse misfits."""
        for name in ("mean", "sd"):
            given = getattr(self, name)
            numbers = (given,) if isinstance(given, (int, float)) else tuple(given)
            object.__setattr__(self, name, tuple(float(number) for number in numbers))
        lengths = {1, 3} if self.channels is None else {1, self.channels}
        if self.channels not in (None, 1, 3) or not {len(self.mean), len(self.sd)} <= lengths:
            raise ValueError(
                f"channels={self.channels}, mean={self.mean}, sd={self.sd}; expected 1 or 3 channels, and one number "
                "or one per channel"
            )
        if min(self.sd) <= 0:
            raise ValueError(f"sd={self.sd}; expected numbers above 0")
        if self.size is not None:
            object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))

    def __call__(
        self, pixels: UInt8[np.ndarray, "batch height width channels"]
    ) -> Float[Tensor, "batch new_channels new_height new_width"]:
        """What the model takes, of shape (batch, channels, height, width), in float32 on the CPU."""
        # copied, because arrays read from files cannot be written to, which torch warns about
        values = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 255
        channels = self.channels or max(values.shape[1], len(self.mean), len(self.sd))
        if values.shape[1] not in (1, channels):
            raise ValueError(
                f"the images have {values.shape[1]} channels and {channels} are wanted; make them gray first "
                "(topographic.stimuli.gray)"
            )
        if self.size is not None and self.size != tuple(values.shape[2:]):
            values = torch.nn.functional.interpolate(values, self.size, mode="bilinear", antialias=True)
        values = values.expand(-1, channels, -1, -1)
        mean, sd = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (self.mean, self.sd))
        return ((values - mean) / sd).contiguous()

    def to_json(self) -> dict[str, Any]:
        """The settings in the words of transformers' image processors, as ``preprocessor_config.json`` holds them."""
        size = None if self.size is None else {"height": self.size[0], "width": self.size[1]}
        return {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": size is not None,
            **({} if size is None else {"size": size, "resample": 2}),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.sd),
            "num_channels": self.channels,
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``preprocessor_config.json`` into a model's folder."""
        save_json(Path(folder) / _FILE, self.to_json())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Preparation":
        """Read ``preprocessor_config.json``, if it asks for no more than resizing and normalising."""
        path = Path(folder) / _FILE
        if not path.is_file():
            raise FileNotFoundError(f"no {_FILE} in {folder}; pass a Preparation with the mean and sd of its training")
        content = load_json(path)
        size = content.get("size") if content.get("do_resize") else None
        size = {"height": size, "width": size} if isinstance(size, int) else size
        more = [key for key, entry in content.items() if key.startswith("do_") and entry and key not in _DONE]
        if more or (size is not None and set(size) != {"height", "width"}):
            raise ValueError(
                f"{path} asks for {more or size}; expected resizing to a height and width and normalising: pass "
                "record_images that image processor itself as prepare="
            )
        normalised = content.get("do_normalize", False)
        return cls(
            mean=content["image_mean"] if normalised else (0.0,),
            sd=content["image_std"] if normalised else (1.0,),
            channels=content.get("num_channels"),
            size=None if size is None else (size["height"], size["width"]),
        )
