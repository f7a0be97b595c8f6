"""`DiffusionModel`: diffusers' U-Net, told the class by a learned or a given prototype."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, no_type_check

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ModelOutput

from topographic.diffusion.condition import ClassCondition
from topographic.storage import save_json

__all__ = ["CONDITIONS", "DiffusionConfig", "DiffusionModel", "diffusers"]

CONDITIONS = ("regular", "frozen", "unfrozen")


def diffusers() -> Any:
    """The library of U-Nets and schedulers."""
    try:
        import diffusers as library
    except ImportError as error:
        raise ImportError("diffusion models need diffusers; run `pip install 'topographic[diffusion]'`") from error
    return library


@no_type_check  # the base class takes any key of a config.json, also those that are no fields here
class DiffusionConfig(PreTrainedConfig):
    """Shape of a `DiffusionModel`.

    Parameters
    ----------
    image_size, num_channels : int
        Of the images.
    block_out_channels : list of int
        Channels of each level of the U-Net; each level halves the side of the one before.
    attention : list of bool
        Which levels have self-attention.
    layers_per_block, norm_num_groups, dropout
        As in diffusers' ``UNet2DModel``.
    width : int
        Numbers of a prototype.
    condition : {"regular", "frozen", "unfrozen"}
        A table that starts at random, one that keeps the prototypes it was given, or one that starts with them.
    condition_dropout : float
        Share of training images that are shown without their class, for classifier-free guidance.
    num_train_timesteps, beta_start, beta_end, beta_schedule
        As in diffusers' ``DDPMScheduler``.
    ema_decay : float, optional
        Decay of a running mean of the weights, which then samples; none by default.
    num_labels : int
        Classes.

    Raises
    ------
    ValueError
        If the images cannot be halved so often, lists differ in length, or a number is out of range.
    """

    model_type = "class_diffusion"

    image_size: int = 28
    num_channels: int = 1
    block_out_channels: Any = None
    attention: Any = None
    layers_per_block: int = 1
    norm_num_groups: int = 8
    dropout: float = 0.0
    width: int = 128
    condition: str = "regular"
    condition_dropout: float = 0.1
    num_train_timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    ema_decay: float | None = None

    def __post_init__(self, **kwargs) -> None:
        """Refuse what no U-Net can be."""
        super().__post_init__(**kwargs)
        self.block_out_channels = list(self.block_out_channels or (32, 64, 64))
        self.attention = list(self.attention or [False] * (len(self.block_out_channels) - 1) + [True])
        levels = len(self.block_out_channels)
        if len(self.attention) != levels:
            raise ValueError(f"attention names {len(self.attention)} levels and block_out_channels {levels}; give both")
        if self.image_size % 2 ** (levels - 1):
            raise ValueError(
                f"image_size={self.image_size} cannot be halved {levels - 1} times; choose fewer levels or "
                f"images.size={-(-self.image_size // 2 ** (levels - 1)) * 2 ** (levels - 1)}"
            )
        if off := [channels for channels in self.block_out_channels if channels % self.norm_num_groups]:
            raise ValueError(f"{off[0]} channels are no multiple of norm_num_groups={self.norm_num_groups}; change one")
        if self.condition not in CONDITIONS:
            raise ValueError(f"condition={self.condition!r}; expected one of {', '.join(CONDITIONS)}")
        if not 0 <= self.condition_dropout < 1:
            raise ValueError(f"condition_dropout={self.condition_dropout}; expected 0 to below 1")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay}; expected a number between 0 and 1, or null for none")

    def unet(self, **classes: Any) -> Any:
        """Diffusers' own network with fresh weights."""
        names = ["AttnDownBlock2D" if attends else "DownBlock2D" for attends in self.attention]
        return diffusers().UNet2DModel(
            sample_size=self.image_size,
            in_channels=self.num_channels,
            out_channels=self.num_channels,
            block_out_channels=tuple(self.block_out_channels),
            down_block_types=tuple(names),
            up_block_types=tuple(name.replace("Down", "Up") for name in reversed(names)),
            layers_per_block=self.layers_per_block,
            norm_num_groups=self.norm_num_groups,
            dropout=self.dropout,
            **classes,
        )

    def scheduler(self) -> Any:
        """How noise is added, and taken away in as many steps."""
        return diffusers().DDPMScheduler(
            num_train_timesteps=self.num_train_timesteps,
            beta_start=self.beta_start,
            beta_end=self.beta_end,
            beta_schedule=self.beta_schedule,
        )


@dataclass
class DiffusionOutput(ModelOutput):
    """Mean squared error of the predicted noise, and the prediction."""

    loss: Tensor | None = None
    sample: Tensor | None = None


class Denoiser(nn.Module):
    """The U-Net and its condition: what is averaged, and what samples."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.unet = config.unet(class_embed_type="identity")
        out = 4 * config.block_out_channels[0]
        n_classes: Any = config.num_labels
        self.condition = ClassCondition(n_classes, config.width, out, frozen=config.condition == "frozen")

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """Noise that is thought to be in the images."""
        return self.unet(noisy, timesteps, class_labels=self.condition(labels)).sample


class DiffusionModel(PreTrainedModel):
    r"""A diffusion model of images of a class.

    .. math:: L = E_{x, y, t, \epsilon} \lVert \epsilon - \epsilon_\theta(\sqrt{\bar\alpha_t} x +
              \sqrt{1 - \bar\alpha_t}\, \epsilon,\, t,\, c(y)) \rVert^2

    Parameters
    ----------
    config : DiffusionConfig
        Shape of the U-Net, condition, noise.

    Notes
    -----
    In training, noise, timesteps and dropped classes come from torch's global generator, whose state checkpoints
    hold. In evaluation they are the same each time: timesteps in even steps, noise from a seed.
    ``save_pretrained`` writes a pipeline of diffusers beside the weights: ``unet/``, where the condition is folded
    into a class embedding whose last row is no class, and ``scheduler/``.
    """

    config_class = DiffusionConfig
    main_input_name = "pixel_values"
    base_model_prefix = "denoiser"

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__(config)
        self.denoiser = Denoiser(config)
        self.averaged: AveragedModel | None = None
        if config.ema_decay is not None:
            self.averaged = AveragedModel(self.denoiser, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
            self.averaged.requires_grad_(False)
        self._scheduler: Any = None  # not before it is used: weights may be made on no device
        self.post_init()

    @property
    def scheduler(self) -> Any:
        """How noise is added; that of the configuration."""
        if self._scheduler is None:
            self._scheduler = self.config.scheduler()
        return self._scheduler

    @property
    def sampler(self) -> Denoiser:
        """What samples: the averaged network where there is one."""
        averaged: Any = self.averaged
        return self.denoiser if averaged is None else averaged.module

    @property
    def n_classes(self) -> int:
        """Classes; the number after them is no class."""
        return self.denoiser.condition.n_classes

    def set_prototypes(self, prototypes: Float[Tensor, "rows numbers"]) -> None:
        """Put prototypes into the table of the condition.

        Raises
        ------
        ValueError
            If there are more or fewer than classes, or they have another width.
        """
        wanted = tuple(self.denoiser.condition.table.weight.shape)
        if tuple(prototypes.shape) != wanted:
            raise ValueError(
                f"{prototypes.shape[0]} prototypes of {prototypes.shape[1]} numbers; the model has {wanted[0]} classes "
                f"and a width of {wanted[1]}: train prototypes on these images, or set diffusion.width"
            )
        with torch.no_grad():
            for network in {self.denoiser, self.sampler}:
                network.condition.table.weight.copy_(prototypes)

    def update_average(self) -> None:
        """Take the weights of now into the running mean, after each step."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.denoiser)

    def forward(
        self,
        pixel_values: Float[Tensor, "batch channels height width"],
        labels: Int64[Tensor, " batch"] | None = None,
        **_: Any,
    ) -> DiffusionOutput:
        """Add noise, guess it, and say how wrong the guess is.

        Parameters
        ----------
        pixel_values : Tensor, shape (batch, channels, height, width)
            Images, about -1 to 1.
        labels : Tensor of int64, shape (batch,), optional
            Classes; the number after the last is no class. By default none has one, which training refuses.

        Returns
        -------
        DiffusionOutput
            ``loss`` and ``sample``, the predicted noise.

        Raises
        ------
        ValueError
            If a label is no class, labels are missing in training, or the images have another size.
        """
        side, channels, n_classes = self.config.image_size, self.config.num_channels, self.n_classes
        if tuple(pixel_values.shape[1:]) != (channels, side, side):
            raise ValueError(
                f"images of shape {tuple(pixel_values.shape[1:])}; this model makes ({channels}, {side}, {side}): "
                "resize them (images.size), or make the model for them"
            )
        if labels is None and self.training:
            raise ValueError(
                f"no labels; expected the class of each image, from 0 to {n_classes - 1}: pass labels, or call eval() "
                "to look at images of no class"
            )
        if labels is None:
            labels = torch.full((len(pixel_values),), n_classes, device=pixel_values.device)
        elif len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
            raise ValueError(
                f"labels from {int(labels.min())} to {int(labels.max())}; the model has {n_classes} classes: number "
                f"them from 0 to {n_classes - 1}"
            )
        drawn = self._draws(pixel_values) if self.training else self._same_each_time(pixel_values)
        shown = labels.masked_fill(drawn.dropped, n_classes)
        noisy: Any = self.scheduler.add_noise(pixel_values, drawn.noise, drawn.timesteps)  # pyright: ignore
        network = self.denoiser if self.training else self.sampler
        guess = network(noisy, drawn.timesteps, shown)
        return DiffusionOutput(loss=functional.mse_loss(guess.float(), drawn.noise.float()), sample=guess)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Write weights and configuration, and beside them what plain diffusers loads."""
        super().save_pretrained(save_directory, *args, **kwargs)
        folder = Path(save_directory)
        self.plain_unet().save_pretrained(folder / "unet")
        self.scheduler.save_pretrained(folder / "scheduler")
        parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
        save_json(
            folder / "model_index.json",
            {"_class_name": "DDPMPipeline", "_diffusers_version": diffusers().__version__, **parts},
        )

    def plain_unet(self) -> Any:
        """Diffusers' U-Net with the condition as its class embedding; row K, the last, is no class."""
        network = self.sampler
        plain = self.config.unet(num_class_embeds=network.condition.n_classes + 1)
        held: Mapping[str, Tensor] = network.unet.state_dict()
        plain.load_state_dict({**held, "class_embedding.weight": network.condition.as_table()})
        return plain

    def _draws(self, images: Tensor) -> "_Draws":
        batch, device = len(images), images.device
        ours = torch.default_generator  # of the CPU, whose state checkpoints hold: the same on every device
        timesteps = torch.randint(self.config.num_train_timesteps, (batch,), generator=ours)
        dropped = torch.rand(batch, generator=ours) < self.config.condition_dropout
        noise = torch.randn(images.shape, generator=ours)
        return _Draws(noise.to(images), timesteps.to(device), dropped.to(device))

    def _same_each_time(self, images: Tensor) -> "_Draws":
        batch, device = len(images), images.device
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images)
        timesteps = (torch.arange(batch, device=device) * self.config.num_train_timesteps) // batch
        return _Draws(noise, timesteps, torch.zeros(batch, dtype=torch.bool, device=device))

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: diffusers' and torch's own beginnings stay."""


class _Draws(NamedTuple):
    noise: Tensor
    timesteps: Tensor
    dropped: Tensor
