"""`topo train`: from a recipe to a run folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from topographic.training.config import DataConfig, ImageConfig, TrainingConfig
from topographic.objectives.config import SmoothnessConfig, SpatialConfig

__all__ = ["ModelConfig", "Recipe"]


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
        """What differs from the preset, or from the defaults of the architecture."""
        return {**(self.config or {}), **self._given()}

    def _given(self) -> dict[str, Any]:
        own = {"preset", "model_type", "pretrained", "config", "seed"}
        given = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in own}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Recipe:
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














