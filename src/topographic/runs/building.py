"""From a recipe to a model and its training."""

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageClassification, PreTrainedConfig

from topographic.diffusion import (
    PROTOTYPES_AS,
    AverageWeights,
    DiffusionConfig,
    DiffusionModel,
    SampleGrids,
    scaled_prototypes,
)
from topographic.models import (
    PrototypeClassifierForImageClassification,
    TopoformerConfig,
    TopoLMConfig,
    architecture,
    fresh_model,
    fresh_vision_model,
    preset,
    register,
    register_vision,
    vision_config,
)
from topographic.models.architectures import AUTO_CLASSES
from topographic.objectives.config import SpatialConfig
from topographic.runs.loading import load_vision_model, pretrained
from topographic.runs.recipe import ModelConfig, Recipe
from topographic.runs.refusals import is_refusal
from topographic.runs.sources import found_source
from topographic.sheets import Sheet, local_neighborhoods
from topographic.training import LabelledImages, load_tokenizer, open_images, train, train_on_images
from topographic.training.folder import check_free, difference, run_state
from topographic.training.text.corpus import REVIEWS, open_corpus
from topographic.training.text.labelled_documents import labelled_documents

__all__ = ["build_model", "build_vision_model", "carries_sheets", "check_recipe", "shape_of", "train_model", "trained"]


def train_model(recipe: Recipe) -> tuple[Path, Any]:
    """Train what a recipe says, or go on where an interrupted run stopped.

    Parameters
    ----------
    recipe : Recipe
        What to train, on text or, with ``images.name``, on images.

    Returns
    -------
    folder : Path
        The run folder.
    model : PreTrainedModel
        The trained model.

    Raises
    ------
    ValueError
        If model, data and losses do not fit together; everything that can be told before anything is made comes in
        one message.
    OSError
        If a text, a tokenizer or a model is not there, or the folder cannot be written.

    Examples
    --------
    >>> train_model(Recipe(model=ModelConfig("tiny")))
    Traceback (most recent call last):
    ValueError: data.sequence_length=256; the model takes 32 tokens at most: shorten it, or set model.n_positions; \
sheet 'transformer.h.0.attn_sheet': radius=5 needs a 9 x 9 block on a 6 x 6 sheet; choose a radius from 2 to 3
    """
    check_free(recipe.run, recipe, overwrite=recipe.overwrite)  # before anything is fetched or tokenised
    check_recipe(recipe)
    folder = Path(recipe.run)
    if recipe.counted == "images":
        images = open_images(recipe.images)
        channels, side, _ = images.shape
        if recipe.diffusion.condition is not None:
            return _train_diffusion(recipe, images)
        model = build_vision_model(recipe.model, images.classes, image_size=side, num_channels=channels)
        return Path(train_on_images(model, images, recipe, folder, overwrite=recipe.overwrite)), model
    tokenizer = load_tokenizer(recipe.data)
    labels = recipe.data.labels if recipe.data.objective == "labels" else ()
    model = build_model(recipe.model, tokenizer, objective=recipe.data.objective, labels=labels)
    return Path(train(model, tokenizer, recipe, folder, overwrite=recipe.overwrite)), model


def _train_diffusion(recipe: Recipe, images: LabelledImages) -> tuple[Path, DiffusionModel]:
    """Train prototypes where they are needed and not there, then the model that they guide."""
    channels, height, width = images.shape
    if height != width:
        raise ValueError(f"images of {height} x {width} pixels; a diffusion model makes square ones: give images.size")
    if set(images.prepare.mean) | set(images.prepare.sd) != {0.5}:
        raise ValueError(
            f"images.mean={list(images.prepare.mean)}, images.sd={list(images.prepare.sd)}; samples run from -1 to 1: "
            "leave both at 0.5"
        )
    said = recipe.diffusion
    sizes: dict[str, Any] = {"image_size": height, "num_channels": channels, "num_labels": len(images.classes)}
    prototypes = None if said.condition == "regular" else _prototypes(recipe, images)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.model.seed)
        model = DiffusionModel(DiffusionConfig(**said.shape(), **sizes))
    if prototypes is not None:
        prototypes = scaled_prototypes(prototypes) if said.prototypes_scaled else prototypes
        model.set_prototypes(PROTOTYPES_AS[said.prototypes_as](prototypes, said.prototypes_seed))
    shown = [number for number in range(min(10, len(images.classes))) for _ in range(said.samples_per_class)]
    grids = SampleGrids(Path(recipe.run) / "samples", shown, said.sample_steps or recipe.training.eval_steps)
    callbacks = [AverageWeights(), grids]
    return train_on_images(
        model, images, recipe, recipe.run, metrics=None, callbacks=callbacks, overwrite=recipe.overwrite
    ), model


def _prototypes(recipe: Recipe, images: LabelledImages) -> torch.Tensor:
    """Prototypes of a finished run, or of one that is trained now with the same images."""
    said = recipe.diffusion
    folder = Path(f"{recipe.run}-prototypes" if said.prototypes is None else said.prototypes)
    if said.prototypes is None:
        steps = {"max_steps": said.classifier_steps, "learning_rate": said.classifier_learning_rate}
        steps |= {"min_learning_rate": said.classifier_learning_rate / 10, "save_steps": said.classifier_steps}
        steps |= {"eval_steps": said.classifier_steps}
        own = Recipe(
            run=str(folder),
            model=ModelConfig("prototypes_demo", config={"width": said.width}, seed=recipe.model.seed),
            images=recipe.images,
            spatial=SpatialConfig(weight=0.0),
            training=dataclasses.replace(recipe.training, bf16=False, **steps),
        )
        trained(own)
    model, _ = load_vision_model(folder, device="cpu")
    if not isinstance(model, PrototypeClassifierForImageClassification):
        raise ValueError(
            f"{folder} holds a {type(model).__name__}; expected a prototype classifier: train one with "
            "model.preset=prototypes_demo, or leave diffusion.prototypes out"
        )
    names = [str(name) for name in (model.config.id2label or {}).values()]
    if names != [str(name) for name in images.classes]:
        raise ValueError(
            f"the prototypes in {folder} are of {', '.join(names[:5])} ... and the images of "
            f"{', '.join(images.classes[:5])} ...; train prototypes on these images"
        )
    return model.prototypes.detach().float().cpu()


def trained(recipe: Recipe) -> Path:
    """Folder of the finished run of a recipe, which is trained first where it is not there.

    Parameters
    ----------
    recipe : Recipe
        What to train.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    FileExistsError
        If the folder holds a finished run of another recipe.
    ValueError, OSError
        As `train_model`.

    Examples
    --------
    >>> trained(Recipe("runs/absent", model=ModelConfig("tiny")))
    Traceback (most recent call last):
    ValueError: data.sequence_length=256; the model takes 32 tokens at most: shorten it, or set model.n_positions; \
sheet 'transformer.h.0.attn_sheet': radius=5 needs a 9 x 9 block on a 6 x 6 sheet; choose a radius from 2 to 3
    """
    folder = Path(recipe.run)
    state = run_state(folder)
    if state is None or state.status != "finished" or difference(folder, recipe):
        train_model(recipe)
    return folder


def check_recipe(recipe: Recipe) -> None:
    """Refuse, together and before anything is made, what does not fit or is not there."""
    complaints = list(_complaints(recipe))
    if len(complaints) == 1:
        raise complaints[0]
    if complaints:
        raise ValueError("; ".join(map(str, complaints)))


def _complaints(recipe: Recipe) -> Iterator[Exception]:
    model = recipe.model
    if model.pretrained is not None:
        yield from _refused(lambda: found_source(str(model.pretrained)))
    if recipe.counted == "images":
        return
    yield from _refused(lambda: open_corpus(**recipe.data.where()))
    if recipe.data.objective == "labels" and recipe.data.text not in REVIEWS:
        yield from _refused(lambda: labelled_documents(recipe.data))
    if recipe.data.tokenizer != "train":
        yield from _refused(lambda: found_source(recipe.data.tokenizer, needs_model=False))
    if model.pretrained is None:
        shapes: list[PreTrainedConfig] = []
        yield from _refused(lambda: shapes.append(shape_of(model)))
        for shape in shapes:
            yield from _misfits(recipe, shape)


def _misfits(recipe: Recipe, shape: PreTrainedConfig) -> Iterator[Exception]:
    """What a model of this shape has no room for."""
    longest, wanted = getattr(shape, "max_position_embeddings", None), recipe.data.sequence_length
    if isinstance(longest, int) and 0 < longest < wanted:
        yield ValueError(
            f"data.sequence_length={wanted}; the model takes {longest} tokens at most: shorten it, or set "
            "model.n_positions"
        )
    spatial = recipe.spatial
    hears_sheets = spatial.weight > 0 and spatial.sites is None and spatial.neighborhoods == "local"
    own = isinstance(shape, TopoformerConfig) or (isinstance(shape, TopoLMConfig) and shape.sheet_point != "none")
    if own and hears_sheets:
        site = "attn.query_sheet" if isinstance(shape, TopoformerConfig) else "attn_sheet"
        yield from _refused(lambda: _require_blocks(shape.sheet(f"transformer.h.0.{site}"), spatial))


def _require_blocks(sheet: Sheet, spatial: SpatialConfig) -> None:
    blocks = local_neighborhoods(sheet, spatial.radius)
    if spatial.n_neighborhoods > len(blocks):
        raise ValueError(
            f"spatial.n_neighborhoods={spatial.n_neighborhoods}; {len(blocks)} blocks of radius {spatial.radius} fit "
            "on a sheet of the model: ask for as many at most, or make spatial.radius smaller"
        )


def _refused(attempt: Callable[[], Any]) -> Iterator[Exception]:
    """What an attempt refuses, if it does."""
    try:
        attempt()
    except (ValueError, OSError) as error:
        if not isinstance(error, OSError) and not is_refusal(error):
            raise
        yield error


def build_vision_model(config: ModelConfig, classes: Sequence[str], *, image_size: int, num_channels: int) -> Any:
    """A classifier of images with fresh weights, or a pretrained one with a fresh last layer where classes differ."""
    given = sorted(set(config.changes()) - set(config.config or {}))
    if given:
        raise ValueError(f"model.{given[0]} is a word for language models; on images give fields as model.config")
    if config.pretrained is None:
        name = config.preset if config.model_type is None else config.model_type
        sizes = {"image_size": image_size, "num_channels": num_channels}
        return fresh_vision_model(vision_config(name, config.config, classes=classes, **sizes), seed=config.seed)
    if config.config:
        raise ValueError(f"model.pretrained={config.pretrained!r} with {sorted(config.config)}; give either")
    register_vision()
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return pretrained(
            AutoModelForImageClassification, found_source(config.pretrained), fresh_head=True, **_named(classes)
        )


def build_model(
    config: ModelConfig, tokenizer: Any, *, objective: str = "next_token", labels: Sequence[str] = ()
) -> Any:
    """A model with fresh weights, or a pretrained one.

    Parameters
    ----------
    config : ModelConfig
        Which model.
    tokenizer : PreTrainedTokenizerBase
        Decides the size of the vocabulary.
    objective : {"next_token", "masked_tokens", "labels"}
        What it is to be trained on.
    labels : sequence of str
        Names of the labels, where it is labels.

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
    if config.pretrained is not None:
        if config.changes():
            raise ValueError(f"model.pretrained={config.pretrained!r} with {sorted(config.changes())}; give either")
        register()
        factory, fresh_head = AUTO_CLASSES[objective], objective == "labels"
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            model = pretrained(factory, found_source(config.pretrained), fresh_head=fresh_head, **_named(labels))
        if model.config.vocab_size < len(tokenizer):
            raise ValueError(
                f"{config.pretrained} knows {model.config.vocab_size} tokens and the tokenizer {len(tokenizer)}; "
                f"use its own: data.tokenizer={shlex.quote(config.pretrained)}"
            )
        return model
    if config.vocab_size is not None and config.vocab_size < len(tokenizer):
        raise ValueError(
            f"model.vocab_size={config.vocab_size} and the tokenizer knows {len(tokenizer)} tokens; give as many"
        )
    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    # a multiple of 64 keeps the output matrix product fast
    shape = shape_of(config, vocab_size=64 * -(-len(tokenizer) // 64), special_tokens=tokens)
    for name, value in _named(labels).items():
        setattr(shape, name, value)
    return fresh_model(shape, seed=config.seed, objective=objective)


def _named(labels: Sequence[str]) -> dict[str, Any]:
    """Labels as configurations hold them."""
    names = dict(enumerate(labels))
    return {"id2label": names, "label2id": {label: number for number, label in names.items()}} if labels else {}


def shape_of(
    config: ModelConfig, *, vocab_size: int | None = None, special_tokens: Mapping[str, int | None] | None = None
) -> Any:
    """Configuration of a model with fresh weights."""
    changes = {**({} if vocab_size is None else {"vocab_size": vocab_size}), **config.changes()}
    if config.model_type is not None:
        return architecture(config.model_type, changes, special_tokens=special_tokens)
    return preset(config.preset, **{**(special_tokens or {}), **changes})


def carries_sheets(command: Recipe) -> bool:
    """Whether the model is our decoder with sheets of its own, whose layout has a seed."""
    if command.counted == "images" or command.model.pretrained is not None:
        return False
    return getattr(shape_of(command.model), "sheet_point", "none") != "none"
