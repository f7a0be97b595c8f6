"""A rehearsal of a sweep: every kind of model is built and its objective tried, before any is trained."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from topographic.objectives.weight_terms import WeightSmoothness
from topographic.recording import find_sites, vision_layers
from topographic.runs.building import build_vision_model, carries_sheets, shape_of
from topographic.runs.own_sheets import OwnSections, own_weight_sheets, trained_sites
from topographic.runs.recipe import Recipe
from topographic.sweeps.plan import Cell

__all__ = ["rehearse_cells"]

# there is no tokenizer here; the tokens of published models lie beyond a small vocabulary
_NO_TOKENS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}


def rehearse_cells(cells: Sequence[Cell]) -> None:
    """Refuse cells whose models cannot be built, or have no place for what they are trained for or mapped at.

    Neither texts nor images are opened.
    """
    from topographic.objectives.terms import configured_objective
    from topographic.training.run import rehearse

    # neither seeds nor vocabulary decide whether a neighbourhood fits
    different = {
        str((
            cell.recipe.spatial,
            cell.recipe.smoothness,
            dataclasses.replace(cell.recipe.model, seed=0, layout_seed=0),
        )): cell
        for cell in cells
    }
    for cell in different.values():
        if cell.recipe.model.pretrained is not None:
            continue
        try:
            model, example = _MODELS[cell.recipe.counted](cell.recipe)
            rehearse(model, configured_objective(model, cell.recipe), example)
            _check_measured(model, cell.recipe)
        except (ValueError, TypeError) as error:
            raise ValueError(f"cell {cell.name}: {error}") from None


def _language_model(recipe: Recipe) -> tuple[Any, Mapping[str, Tensor]]:
    """The model with a small vocabulary, and the smallest text."""
    from topographic.models import fresh_model
    from topographic.training.run import EXAMPLE_TOKENS

    wanted = recipe.model
    if carries_sheets(recipe) and recipe.spatial.sites is None and not recipe.smoothness.names_layers:
        wanted = dataclasses.replace(wanted, n_layer=1)  # all blocks are alike, and one is sooner built
    return fresh_model(shape_of(wanted, vocab_size=64, special_tokens=_NO_TOKENS), seed=0), EXAMPLE_TOKENS


def _vision_model(recipe: Recipe) -> tuple[Any, Mapping[str, Tensor]]:
    """The model, and blank images of the set's size."""
    from topographic.training.images import blank_images

    classes, blank = blank_images(recipe.images)
    channels, side, _ = blank.shape[1:]
    model = build_vision_model(recipe.model, classes, image_size=side, num_channels=channels)
    return model, {"pixel_values": blank}


def _check_measured(model: Any, recipe: Recipe) -> None:
    """What is mapped and whose weights are measured must be there in a control too, which is trained for neither."""
    if not (hasattr(model, "sheets") and model.sheets()):
        named = trained_sites(model, OwnSections(recipe.spatial, recipe.smoothness))
        if named is not None:
            find_sites(model, named[0])
        elif recipe.counted == "images":
            find_sites(model, vision_layers(model))
    sheets = own_weight_sheets(model, recipe.smoothness)
    if sheets:
        WeightSmoothness(sheets).taps(model)


_MODELS = {"tokens": _language_model, "images": _vision_model}
