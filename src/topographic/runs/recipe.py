"""`Recipe`: what a training run is told, as the command line, a file and a run folder hold it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from topographic.objectives.config import (
    NeighborActivationsConfig,
    NeighborWeightsConfig,
    SmoothnessConfig,
    SpatialConfig,
    WiringConfig,
)
from topographic.runs.parsing import parse_mapping, read_yaml
from topographic.training.config import DataConfig, ImageConfig, TrainingConfig, save_config

__all__ = [
    "PRESET_CONTEXTS",
    "DiffusionSection",
    "ModelConfig",
    "Recipe",
    "read_recipe",
    "read_sections",
    "write_recipe",
]

# tokens that presets take, where they are fewer than a recipe's default; `topographic.models` builds them
PRESET_CONTEXTS = {"tiny": 32, "demo": 128, "nanogpt_demo": 128, "gpt2_demo": 128, "gpt_neo_demo": 128}
_TOPOFORMER_CONTEXTS = {"tiny": 32, "demo": 128, "bert": 128, "bert_heads": 128}
PRESET_CONTEXTS |= {f"topoformer_{name}": context for name, context in _TOPOFORMER_CONTEXTS.items()}
PRESET_CONTEXTS |= {f"topoformer_{name}_control": context for name, context in _TOPOFORMER_CONTEXTS.items()}
_TINY_RADIUS = 2  # 3 x 3 units, on sheets of 6 x 6


@dataclass(frozen=True)
class ModelConfig:
    """Which model: a preset, perhaps changed, any causal architecture of transformers, or a pretrained model."""

    preset: str = "small"
    """TopoLM: paper, small, mini, demo or tiny; as published: nanogpt, gpt2 or gpt_neo; for two cores: nanogpt_demo,
    gpt2_demo or gpt_neo_demo. Topoformer: topoformer_imdb, topoformer_bert, topoformer_bert_heads, topoformer_demo or
    topoformer_tiny, each also with _control. On images: resnet18, resnet50, vit_b_32, mnist_mlp, resnet_demo or
    vit_demo."""
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
        """What differs from the preset, or from the defaults of the architecture."""
        return {**(self.config or {}), **self._given()}

    def _given(self) -> dict[str, Any]:
        own = {"preset", "model_type", "pretrained", "config", "seed"}
        given = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in own}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class DiffusionSection:
    """A diffusion model of images in place of a classifier, and how it is told the class (ProtoDiffusion)."""

    condition: Literal["regular", "frozen", "unfrozen"] | None = None
    """What stands for a class: a vector that starts at random, a prototype that stays as it is, or one that is trained
    on. Null to train a classifier."""
    prototypes: str | None = None
    """Run folder of a prototype classifier; by default one is trained first, in the folder RUN-prototypes."""
    prototypes_as: Literal["given", "shuffled", "random"] = "given"
    """Controls: prototypes of other classes, or random vectors with the norms and covariance of the prototypes."""
    prototypes_scaled: bool = False
    """Whether prototypes are made as long as rows of a random table, so that only what they mean differs from one."""
    prototypes_seed: int = 0
    """Seed of these controls."""
    classifier_steps: int = 1000
    """Steps in which the prototype classifier is trained."""
    classifier_learning_rate: float = 1e-3
    """Its highest learning rate."""
    width: int = 128
    """Numbers of a prototype."""
    block_out_channels: list[int] = field(default_factory=lambda: [32, 64, 64])
    """Channels of each level of the U-Net; each level halves the side of the one before."""
    attention: list[bool] = field(default_factory=lambda: [False, False, True])
    """Which levels have self-attention."""
    layers_per_block: int = 1
    """Residual blocks of each level."""
    norm_num_groups: int = 8
    """Groups of the normalisation."""
    dropout: float = 0.0
    """Dropout in the residual blocks."""
    condition_dropout: float = 0.1
    """Share of the images that are shown without their class, for guidance."""
    num_train_timesteps: int = 1000
    """Steps from image to noise."""
    beta_schedule: Literal["linear", "squaredcos_cap_v2"] = "linear"
    """How noise grows."""
    ema_decay: float | None = None
    """Decay of a running mean of the weights, which then samples; null for none."""
    sample_steps: int | None = None
    """Training steps between grids of samples, kept in RUN/samples; those of the validations by default."""
    samples_per_class: int = 8
    """Images of a class on such a grid, of ten classes at most."""

    def shape(self) -> dict[str, Any]:
        """Fields that decide the network."""
        names = ("condition", "width", "block_out_channels", "attention", "layers_per_block", "norm_num_groups")
        names += ("dropout", "condition_dropout", "num_train_timesteps", "beta_schedule", "ema_decay")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Recipe:
    """Train a model on text or images, with or without topography.

    Parameters
    ----------
    run, overwrite, model, data, images, diffusion, training
        As `topo train --help` explains them, key by key.
    spatial, smoothness, neighbor_weights, neighbor_activations, wiring
        What is added to the task loss, likewise.

    Examples
    --------
    >>> recipe = Recipe("runs/small", model=ModelConfig("mini", n_layer=2))
    >>> recipe.counted, recipe.model.changes()
    ('tokens', {'n_layer': 2})
    """

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
    diffusion: DiffusionSection = field(default_factory=DiffusionSection)
    """A model that makes images; with diffusion.condition it is trained in place of a classifier."""
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    """The spatial loss."""
    smoothness: SmoothnessConfig = field(default_factory=SmoothnessConfig)
    """The smoothness of weights (TopoNets)."""
    neighbor_weights: NeighborWeightsConfig = field(default_factory=NeighborWeightsConfig)
    """Adjacent units with like weights."""
    neighbor_activations: NeighborActivationsConfig = field(default_factory=NeighborActivationsConfig)
    """Adjacent units that respond alike."""
    wiring: WiringConfig = field(default_factory=WiringConfig)
    """What long connections cost (BIMT)."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """The optimisation."""

    @property
    def counted(self) -> Literal["tokens", "images"]:
        """What the model is shown, and what is counted as seen."""
        return "tokens" if self.images.name is None else "images"

    @staticmethod
    def implied(said: Mapping[str, Any]) -> dict[str, Any]:
        """What is meant where words are left out: windows and blocks that a small preset has room for."""
        model = said.get("model") or {}
        if model.get("model_type") is not None or model.get("pretrained") is not None:
            return {}
        preset = model.get("preset", ModelConfig.preset)
        context = model.get("n_positions") or PRESET_CONTEXTS.get(preset)
        implied: dict[str, Any] = {}
        if context is not None and context < DataConfig.sequence_length:
            implied["data"] = {"sequence_length": context}
        if preset in ("tiny", "topoformer_tiny", "topoformer_tiny_control") and model.get("n_embd") is None:
            implied["spatial"] = {"radius": _TINY_RADIUS}
        return implied


def write_recipe(path: str | Path, recipe: Recipe) -> None:
    """Write a recipe as YAML, every key spelt out.

    Parameters
    ----------
    path : str or Path
        File to write, such as ``config.yaml`` in a run folder.
    recipe : Recipe
        What is written.

    Examples
    --------
    >>> import tempfile
    >>> file = tempfile.mkdtemp() + "/config.yaml"
    >>> write_recipe(file, Recipe(model=ModelConfig("mini")))
    >>> read_recipe(file) == Recipe(model=ModelConfig("mini"))
    True
    """
    save_config(path, recipe)


def read_recipe(path: str | Path) -> Recipe:
    """Read what `write_recipe` or `topo train` wrote; keys that a file is too old to have get their defaults.

    Parameters
    ----------
    path : str or Path
        A run folder, or its ``config.yaml``, or any recipe.

    Returns
    -------
    Recipe
        What the run was told.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no YAML of keys and values, or holds unknown keys or values of another type; with the file's name.

    Examples
    --------
    >>> read_recipe("runs/absent/config.yaml")
    Traceback (most recent call last):
    FileNotFoundError: no file at runs/absent/config.yaml; expected a YAML file of keys and values: correct its name
    """
    return _read(path, Recipe)


def read_sections(path: str | Path, sections: type) -> Any:
    """Those sections of a ``config.yaml`` that a dataclass has, also of runs that were told more than a recipe."""
    return _read(path, sections, only={entry.name for entry in fields(sections)})


def _read(path: str | Path, kind: type, only: set[str] | None = None) -> Any:
    file = Path(path) / "config.yaml" if Path(path).is_dir() else Path(path)
    content = read_yaml(file)
    try:
        return parse_mapping("train", kind, {k: v for k, v in content.items() if only is None or k in only})
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
