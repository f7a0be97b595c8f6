"""`topo train`: from a recipe to a run folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from topographic.training.config import DataConfig, ImageConfig, SmoothnessConfig, SpatialConfig, TrainingConfig

__all__ = [
    "ModelConfig",
    "TrainCommand",
    "build_model",
    "build_vision_model",
    "carries_sheets",
    "shape_of",
    "train_model",
    "train_vision",
]


@dataclass(frozen=True)
class ModelConfig:
    """Which model: a preset, perhaps changed, any causal architecture of transformers, or a pretrained model."""

    preset: str = "small"
    """TopoLM: paper, small, mini, demo or tiny; as published: nanogpt, gpt2 or gpt_neo; for two cores: nanogpt_demo,
    gpt2_demo or gpt_neo_demo. On images: resnet18, resnet50, vit_b_32, mnist_mlp, resnet_demo or vit_demo."""
    model_type: str | None = None
    """A causal architecture of transformers, such as gpt2, gpt_neo or llama, with fresh weights in place of a preset;
    sizes that are not given are those of transformers, often billions of parameters."""
    pretrained: str | None = None
    """Name or folder of a Hugging Face causal model to start from in place of a preset."""
    config: dict[str, Any] | None = None
    """Further fields by the architecture's own names, for example {intermediate_size: 512}."""
    seed: int = 0
    """Seed of the initial weights."""
    vocab_size: int | None = None
    """Entries of the vocabulary; by default those of the tokenizer, rounded up to a multiple of 64."""
    n_layer: int | None = None
    """Blocks; every block of TopoLM carries two sheets."""
    n_embd: int | None = None
    """Width; the number of units of a sheet of TopoLM."""
    n_head: int | None = None
    """Attention heads."""
    n_positions: int | None = None
    """Longest context in tokens."""
    dropout: float | None = None
    """Dropout everywhere."""
    sheet_point: Literal["pre_residual", "post_residual", "none"] | None = None
    """Whether a sheet is a branch's output (the paper) or the stream after the branch, or there are none."""
    head_tiles: bool | None = None
    """Replace the attention output projection by head tiles."""
    extra_projection: bool | None = None
    """Add a square projection after attention."""
    layout: Literal["permuted_grid", "grid"] | None = None
    """Where units lie at the start: a seeded permutation per sheet (the paper), or in order."""
    layout_seed: int | None = None
    """Seed of the permutations."""
    wrap: bool | None = None
    """Join opposite edges of every sheet."""

    def __post_init__(self) -> None:
        """Refuse what is said twice."""
        if twice := sorted({*self._given(), "vocab_size"} & set(self.config or {})):
            raise ValueError(f"model.config gives {twice[0]}; give it as model.{twice[0]} only")
        if self.pretrained is not None and self.model_type is not None:
            raise ValueError(f"model.pretrained={self.pretrained!r} with model_type={self.model_type!r}; give either")

    def changes(self) -> dict[str, Any]:
        """What differs from the preset, or from the defaults of the architecture.

        Returns
        -------
        dict
            The fields that are given.
        """
        return {**(self.config or {}), **self._given()}

    def _given(self) -> dict[str, Any]:
        own = {"preset", "model_type", "pretrained", "config", "seed"}
        given = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in own}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class TrainCommand:
    """Train a model on text or images, with or without topography."""

    run: str = "runs/topolm"
    """Folder of the run."""
    overwrite: bool = False
    """Begin again in a folder that holds a finished run. An unfinished one is resumed in any case."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model."""
    data: DataConfig = field(default_factory=DataConfig)
    """The text and its tokens."""
    images: ImageConfig = field(default_factory=ImageConfig)
    """The images, for a vision model; with images.name there is no text."""
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    """The spatial loss."""
    smoothness: SmoothnessConfig = field(default_factory=SmoothnessConfig)
    """The smoothness of weights (TopoNets)."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """The optimisation."""

    @property
    def counted(self) -> Literal["tokens", "images"]:
        """What the model is shown, and what is counted as seen."""
        return "tokens" if self.images.name is None else "images"


def train_model(command: TrainCommand) -> Path:
    """Train, or go on where an interrupted run stopped.

    Parameters
    ----------
    command : TrainCommand
        What to train.

    Returns
    -------
    Path
        The run folder.
    """
    from topographic.training import load_tokenizer, train

    if command.counted == "images":
        return train_vision(command)
    tokenizer = load_tokenizer(command.data)
    model = build_model(command.model, tokenizer)
    folder = train(model, tokenizer, command, Path(command.run), overwrite=command.overwrite)
    print(f"finished: {folder}; next: topo map {folder}{_sites_to_map(command, model)}")
    return Path(folder)


def train_vision(command: TrainCommand) -> Path:
    """Train a classifier of images, or go on where an interrupted run stopped.

    Parameters
    ----------
    command : TrainCommand
        With ``images.name``.

    Returns
    -------
    Path
        The run folder.
    """
    from topographic.training import open_images, train_on_images

    images = open_images(command.images)
    channels, side, _ = images.shape
    model = build_vision_model(command.model, images.classes, image_size=side, num_channels=channels)
    folder = train_on_images(model, images, command, Path(command.run), overwrite=command.overwrite)
    print(f"finished: {folder}; next: topo map {folder}")
    return folder


def build_vision_model(config: ModelConfig, classes: Sequence[str], *, image_size: int, num_channels: int) -> Any:
    """A classifier of images with fresh weights, or a pretrained one with a fresh last layer where classes differ.

    Parameters
    ----------
    config : ModelConfig
        Which model.
    classes : sequence of str
        Names of the classes.
    image_size, num_channels : int
        Of the images.

    Returns
    -------
    PreTrainedModel
        The model in float32.

    Raises
    ------
    ValueError
        If sizes are given in the words for language models, a pretrained model comes together with changes, or as
        `topographic.models.vision_config` says.
    """
    from topographic.models import fresh_vision_model, register_pixel_mlp, vision_config

    given = sorted(set(config.changes()) - set(config.config or {}))
    if given:
        raise ValueError(f"model.{given[0]} is a word for language models; on images give fields as model.config")
    if config.pretrained is None:
        name = config.preset if config.model_type is None else config.model_type
        sizes = {"image_size": image_size, "num_channels": num_channels}
        return fresh_vision_model(vision_config(name, config.config, classes=classes, **sizes), seed=config.seed)
    if config.config:
        raise ValueError(f"model.pretrained={config.pretrained!r} with {sorted(config.config)}; give either")
    import torch
    from transformers import AutoModelForImageClassification

    register_pixel_mlp()
    labels = dict(enumerate(classes))
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return AutoModelForImageClassification.from_pretrained(
            config.pretrained,
            dtype=torch.float32,
            id2label=labels,
            label2id={label: number for number, label in labels.items()},
            ignore_mismatched_sizes=True,
        )


def _sites_to_map(command: TrainCommand, model: Any) -> str:
    """Words that `topo map` needs for a model that carries no sheets, where its configuration names none."""
    from topographic.cli.own_sheets import OwnSections, trained_sites
    from topographic.recording import FIRST_MLP_LAYERS

    carried = hasattr(model, "sheets") and model.sheets()
    if carried or trained_sites(model, OwnSections(command.spatial, command.smoothness)) is not None:
        return ""
    return f" sites='{FIRST_MLP_LAYERS.get(model.config.model_type, 'PATTERN')}'"


def build_model(config: ModelConfig, tokenizer: Any) -> Any:
    """A model with fresh weights, or a pretrained one.

    Parameters
    ----------
    config : ModelConfig
        Which model.
    tokenizer : PreTrainedTokenizerBase
        Decides the size of the vocabulary.

    Returns
    -------
    PreTrainedModel
        The model in float32.

    Raises
    ------
    ValueError
        If a pretrained model is given together with changes, the vocabulary is smaller than the tokenizer's, or as
        `topographic.models.architecture` and `fresh_model` say.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from topographic.models import fresh_model, register

    if config.pretrained is not None:
        if config.changes():
            raise ValueError(f"model.pretrained={config.pretrained!r} with {sorted(config.changes())}; give either")
        register()
        model = AutoModelForCausalLM.from_pretrained(config.pretrained, dtype=torch.float32)
        if model.config.vocab_size < len(tokenizer):
            raise ValueError(
                f"{config.pretrained} knows {model.config.vocab_size} tokens and the tokenizer {len(tokenizer)}; "
                f"use its own: data.tokenizer={config.pretrained}"
            )
        return model
    if config.vocab_size is not None and config.vocab_size < len(tokenizer):
        raise ValueError(
            f"model.vocab_size={config.vocab_size} and the tokenizer knows {len(tokenizer)} tokens; give as many"
        )
    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    # a multiple of 64 keeps the output matrix product fast
    shape = shape_of(config, vocab_size=64 * -(-len(tokenizer) // 64), special_tokens=tokens)
    return fresh_model(shape, seed=config.seed)


def shape_of(
    config: ModelConfig, *, vocab_size: int | None = None, special_tokens: Mapping[str, int | None] | None = None
) -> Any:
    """Configuration of a model with fresh weights.

    Parameters
    ----------
    config : ModelConfig
        A preset or an architecture, not a pretrained model.
    vocab_size : int, optional
        Entries of the vocabulary where ``config`` does not say; by default those of the preset or the architecture.
    special_tokens : mapping of str to int or None, optional
        As `topographic.models.architecture` takes them.

    Returns
    -------
    PreTrainedConfig
        As `topographic.models.preset` or `architecture` returns it.
    """
    from topographic.models import architecture, preset

    changes = {**({} if vocab_size is None else {"vocab_size": vocab_size}), **config.changes()}
    if config.model_type is not None:
        return architecture(config.model_type, changes, special_tokens=special_tokens)
    return preset(config.preset, **{**(special_tokens or {}), **changes})


def carries_sheets(command: TrainCommand) -> bool:
    """Whether the model is our decoder with sheets of its own, whose layout has a seed.

    Parameters
    ----------
    command : TrainCommand
        What is trained.

    Returns
    -------
    bool
        False for pretrained models, whose weights and sheets are what they are, and for vision models.
    """
    if command.counted == "images" or command.model.pretrained is not None:
        return False
    return getattr(shape_of(command.model), "sheet_point", "none") != "none"
