"""`topo train`: from a recipe to a run folder."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from topographic.training.config import DataConfig, SmoothnessConfig, SpatialConfig, TrainingConfig

__all__ = ["ModelConfig", "TrainCommand", "build_model", "train_model"]


@dataclass(frozen=True)
class ModelConfig:
    """Which model: one of our decoder's presets, perhaps changed, or any Hugging Face causal model."""

    preset: str = "small"
    """Preset of our decoder: paper, small, mini, demo or tiny."""
    pretrained: str | None = None
    """Name or folder of a Hugging Face causal model to start from in place of a preset."""
    seed: int = 0
    """Seed of the initial weights."""
    n_layer: int | None = None
    """Blocks; every block carries two sheets."""
    n_embd: int | None = None
    """Width, the number of units of a sheet."""
    n_head: int | None = None
    """Attention heads."""
    n_positions: int | None = None
    """Longest context in tokens."""
    dropout: float | None = None
    """Dropout everywhere."""
    sheet_point: Literal["pre_residual", "post_residual"] | None = None
    """Whether a sheet is a branch's output (the paper) or the stream after the branch."""
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

    def changes(self) -> dict[str, Any]:
        """What differs from the preset.

        Returns
        -------
        dict
            The fields that are given.
        """
        own = {"preset", "pretrained", "seed"}
        given = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in own}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class TrainCommand:
    """Train a model on text, with or without topography."""

    run: str = "runs/topolm"
    """Folder of the run."""
    overwrite: bool = False
    """Begin again in a folder that holds a finished run. An unfinished one is resumed in any case."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model."""
    data: DataConfig = field(default_factory=DataConfig)
    """The text and its tokens."""
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    """The spatial loss."""
    smoothness: SmoothnessConfig = field(default_factory=SmoothnessConfig)
    """The smoothness of weights (TopoNets)."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """The optimisation."""


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

    tokenizer = load_tokenizer(command.data)
    model = build_model(command.model, tokenizer)
    folder = train(model, tokenizer, command, Path(command.run), overwrite=command.overwrite)
    print(f"finished: {folder}; next: topo map {folder}")
    return Path(folder)


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
        If a pretrained model is given together with changes of a preset, or its vocabulary is too small.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from topographic.models import TopoLMForCausalLM, preset, register

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
    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        # a multiple of 64 keeps the output matrix product fast
        return TopoLMForCausalLM(
            preset(config.preset, vocab_size=64 * -(-len(tokenizer) // 64), **tokens, **config.changes())
        )
