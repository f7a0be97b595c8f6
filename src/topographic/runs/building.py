"""From a recipe to a model and its training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from topographic.runs.recipe import ModelConfig, TrainCommand
from topographic.training.folder import check_free

__all__ = ["build_model", "build_vision_model", "carries_sheets", "shape_of", "train_model"]


def train_model(recipe: TrainCommand) -> tuple[Path, Any]:
    """Train what a recipe says, or go on where an interrupted run stopped.

    Parameters
    ----------
    recipe : TrainCommand
        What to train, on text or, with ``images.name``, on images.

    Returns
    -------
    folder : Path
        The run folder.
    model : PreTrainedModel
        The trained model.
    """
    from topographic.training import load_tokenizer, open_images, train, train_on_images

    check_free(recipe.run, recipe, overwrite=recipe.overwrite)  # before anything is fetched or tokenised
    folder = Path(recipe.run)
    if recipe.counted == "images":
        images = open_images(recipe.images)
        channels, side, _ = images.shape
        model = build_vision_model(recipe.model, images.classes, image_size=side, num_channels=channels)
        return Path(train_on_images(model, images, recipe, folder, overwrite=recipe.overwrite)), model
    tokenizer = load_tokenizer(recipe.data)
    model = build_model(recipe.model, tokenizer)
    return Path(train(model, tokenizer, recipe, folder, overwrite=recipe.overwrite)), model


def build_vision_model(config: ModelConfig, classes: Sequence[str], *, image_size: int, num_channels: int) -> Any:
    """A classifier of images with fresh weights, or a pretrained one with a fresh last layer where classes differ."""
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
    """Configuration of a model with fresh weights."""
    from topographic.models import architecture, preset

    changes = {**({} if vocab_size is None else {"vocab_size": vocab_size}), **config.changes()}
    if config.model_type is not None:
        return architecture(config.model_type, changes, special_tokens=special_tokens)
    return preset(config.preset, **{**(special_tokens or {}), **changes})


def carries_sheets(command: TrainCommand) -> bool:
    """Whether the model is our decoder with sheets of its own, whose layout has a seed."""
    if command.counted == "images" or command.model.pretrained is not None:
        return False
    return getattr(shape_of(command.model), "sheet_point", "none") != "none"
