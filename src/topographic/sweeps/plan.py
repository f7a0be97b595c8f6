"""Cells of a sweep: which models it trains, what they are called, where each is kept, and whether each can be built."""

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from torch import Tensor

from topographic.models import fresh_model
from topographic.objectives.terms import configured_objective
from topographic.objectives.weight_terms import WeightSmoothness
from topographic.recording import find_sites, vision_layers
from topographic.runs.building import build_vision_model, carries_sheets, shape_of
from topographic.runs.own_sheets import OwnSections, own_weight_sheets, trained_sites
from topographic.runs.parsing import parse_mapping, read_yaml
from topographic.runs.recipe import ModelConfig, Recipe
from topographic.training.config import plain
from topographic.training.images import blank_images
from topographic.training.run import EXAMPLE_TOKENS, rehearse, unit_swaps

__all__ = [
    "Cell",
    "check_folder",
    "find_reference",
    "level_of",
    "plan_cells",
    "planned_exposure",
    "rehearse_cells",
    "short_name",
]

# one "seed" stands for the seeds of a replicate: initial weights, permutations, and order of windows, images and
# neighbourhoods
_SEEDS = ("model.seed", "model.layout_seed", "training.seed")
_SECTIONS = ("model", "spatial", "smoothness", "neighbor_weights", "neighbor_activations", "wiring", "training")
_SHOWN = {"data": "the text and its tokens are the same in all cells", "images": "the images are the same in all cells"}
_NAMES = {
    "spatial.weight": "alpha",
    "smoothness.weight": "tau",
    "neighbor_weights.weight": "neighbor_weights",
    "neighbor_activations.weight": "neighbor_activations",
    "wiring.weight": "wiring",
    "spatial.neighborhoods": "neighborhoods",
    "spatial.radius": "radius",
    "spatial.k": "k",
    "spatial.n_neighborhoods": "n_neighborhoods",
    "spatial.norm": "norm",
    "model.layout": "layout",
    "model.sheet_point": "sheet_point",
}
# keys that do nothing beside another key; cells that differ in these alone would be one model trained twice
_IDLE = {
    "control": ("neighborhoods", "radius", "k", "n_neighborhoods", "norm"),
    "local": ("k",),
    "scattered": ("radius",),
    "global": ("radius", "k", "n_neighborhoods"),
}
_LONGEST_NAME = 120
# there is no tokenizer in a rehearsal; the tokens of published models lie beyond a small vocabulary
_NO_TOKENS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}


@dataclass(frozen=True)
class Cell:
    """One model of a sweep."""

    name: str
    """What differs from the base, then the seed; also the name of its run folder."""
    levels: Mapping[str, Any]
    """By key (``spatial.weight``): the cell's value of everything the sweep varies but the seed."""
    seed: int | None
    """The replicate; None where no seed is varied."""
    recipe: Recipe
    """What trains it, the run folder included."""
    label: str = ""
    """Name of its block, where the block has one; its cells are then called by it."""
    origin: str = ""
    """Its name by what differs from the base, where it is called otherwise."""

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return Path(self.recipe.run)

    @property
    def setting(self) -> str:
        """Its name without the seed: what replicates have in common."""
        return self.name if self.seed is None else self.name.removesuffix(f"-seed_{self.seed}")


def plan_cells(base: Recipe, blocks: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """All cells of a sweep, each validated as a recipe of `topo train`; nothing is trained or written."""
    if not blocks:
        raise ValueError(
            "blocks is empty; expected at least one block of lists, such as - {spatial.weight: [0, 0.25], seed: [0, 1]}"
        )
    known = _leaves(base)
    cells: dict[str, Cell] = {}
    for number, block in enumerate(blocks, start=1):
        where = f"block {number}"
        _check_block(where, block, known)
        label = block.get("name", "")
        varied = {key: values for key, values in block.items() if key != "name"}
        if label:
            _check_label(where, label, varied, [cell.label for cell in cells.values()])
        for values in itertools.product(*varied.values()):
            cell = _cell(where, base, dict(zip(varied, values, strict=True)))
            if label and cell.name in cells:
                raise ValueError(f"{where} is called {label!r} and makes the cells of an earlier block; leave it out")
            cells.setdefault(cell.name, _called(cell, label, base) if label else cell)
    varied = [key for key in dict.fromkeys(itertools.chain(*blocks)) if key not in ("seed", "name")]
    found = [
        dataclasses.replace(cell, levels={key: _leaves(cell.recipe)[key] for key in varied}) for cell in cells.values()
    ]
    _check_equal_exposure(found)
    return found


def _called(cell: Cell, label: str, base: Recipe) -> Cell:
    """The cell under the name of its block."""
    seed = "" if cell.seed is None else f"-seed_{cell.seed}"
    name = re.sub(r"[^\w.+-]+", "_", label).strip("_") + seed
    recipe = dataclasses.replace(cell.recipe, run=str(Path(base.run) / name))
    return dataclasses.replace(cell, name=name, recipe=recipe, label=label, origin=cell.name)


def _check_label(where: str, label: Any, varied: Mapping[str, list[Any]], labels: Sequence[str]) -> None:
    """Refuse the name of a block that does not tell its cells from all others."""
    if not isinstance(label, str) or not re.search(r"\w", label):
        raise ValueError(f"{where}: name is {label!r}; expected words, such as name: spatial loss")
    if label in labels:
        raise ValueError(f"{where}: name {label!r} is that of an earlier block; choose another")
    several = [key for key, values in varied.items() if key != "seed" and len(values) > 1]
    if several:
        raise ValueError(
            f"{where} is called {label!r} and varies {several[0]}; expected one value of everything but seed: give "
            "every value a block of its own, or leave the name out"
        )


def check_folder(cell: Cell) -> None:
    """Refuse a folder that holds a run with another configuration."""
    path = cell.folder / "config.yaml"
    if not path.is_file():
        return
    try:
        earlier = _leaves(_explicit(parse_mapping("train", Recipe, read_yaml(path))))
    except (ValueError, yaml.YAMLError) as error:
        raise FileExistsError(
            f"{path} cannot be read ({' '.join(str(error).split())}); remove the folder or choose another run="
        ) from error
    now = _leaves(cell.recipe)
    differing = [f"{key} was {earlier[key]} and is {now[key]}" for key in now if earlier[key] != now[key]]
    if differing:
        raise FileExistsError(
            f"{cell.folder} holds a run with another configuration ({differing[0]}); go on with the same one, choose "
            "another run= for the sweep, or remove the folder"
        )


def rehearse_cells(cells: Sequence[Cell]) -> None:
    """Refuse cells whose models cannot be built or lack what they are trained for or mapped at; no text is opened."""
    # neither seeds nor vocabulary decide whether a neighbourhood fits
    different = {
        str((
            cell.recipe.spatial,
            cell.recipe.smoothness,
            cell.recipe.neighbor_weights,
            cell.recipe.neighbor_activations,
            cell.recipe.wiring,
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
            unit_swaps(model, cell.recipe, example)
            _check_measured(model, cell.recipe)
        except (ValueError, TypeError) as error:
            raise ValueError(f"cell {cell.name}: {error}") from None


def short_name(key: str) -> str:
    """What a key is called in names of cells, tables and figures."""
    return _NAMES.get(key, key)


def find_reference(cell: Cell, base: Recipe, reference: Mapping[str, Any], cells: Sequence[Cell]) -> str | None:
    """The cell that another is compared with, of the same seed."""
    if "name" in reference:
        named = [one for one in cells if one.label == reference["name"]]
        if len(reference) > 1 or not named:
            labels = ", ".join(dict.fromkeys(one.label for one in cells if one.label)) or "none has any"
            raise ValueError(f"reference={dict(reference)}; expected the name of a block alone: {labels}")
        return next((one.name for one in named if one.seed == cell.seed), None)
    _check_block("reference", {key: [value] for key, value in reference.items()}, _leaves(base))
    names = {one.origin or one.name: one.name for one in cells}
    seed = {} if cell.seed is None else {"seed": cell.seed}
    for otherwise in (cell.levels, {}):
        name = _cell("reference", base, {**otherwise, **reference, **seed}).name
        if name in names:
            return names[name]
    return None


def level_of(recipe: Recipe, key: str) -> Any:
    """Value of a key, that of its preset where the recipe leaves it out."""
    return _leaves(_explicit(recipe))[key]


def _cell(where: str, base: Recipe, chosen: Mapping[str, Any]) -> Cell:
    content = plain(base)
    given = {key: value for key, value in chosen.items() if key != "seed"}
    seed = chosen.get("seed")
    words = ", ".join(f"{key}={value}" for key, value in chosen.items())
    try:
        if seed is not None:
            changed = {key.split(".")[1]: value for key, value in given.items() if key.startswith("model.")}
            changed_base = dataclasses.replace(base, model=dataclasses.replace(base.model, **changed))
            given |= dict.fromkeys(_seeds_of(changed_base), seed)
        for key, value in given.items():
            section, name = key.split(".")
            content[section][name] = value
        recipe = _without_idle(_explicit(parse_mapping("train", Recipe, content)), base)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}, cell {words}: {' '.join(str(error).split())}") from None
    name = _name(recipe, _explicit(base), seed)
    return Cell(name, {}, seed, dataclasses.replace(recipe, run=str(Path(base.run) / name), overwrite=False))


def _seeds_of(recipe: Recipe) -> tuple[str, ...]:
    """Seeds that matter: a pretrained language model has its weights already, and only sheets of ours are permuted."""
    if recipe.model.pretrained is not None and recipe.counted == "tokens":
        return _SEEDS[-1:]  # of a vision model the last layer may be fresh
    return _SEEDS if carries_sheets(recipe) else (_SEEDS[0], _SEEDS[-1])


def _check_block(where: str, block: Any, known: Mapping[str, Any]) -> None:
    if not isinstance(block, Mapping) or not block:
        raise ValueError(f"{where} is {block!r}; expected keys with lists, such as spatial.weight: [0, 0.25]")
    for key, values in block.items():
        if key == "name":
            continue
        if key != "seed" and (key not in known or key.split(".")[0] not in _SECTIONS):
            reason = _SHOWN.get(str(key).split(".")[0], "unknown")
            raise ValueError(
                f"{where} varies {key} ({reason}); expected name, seed or a key of {', '.join(_SECTIONS)}, such as "
                "spatial.weight: see topo train --help"
            )
        if not isinstance(values, list) or not values:
            raise ValueError(
                f"{where}: {key} is {values!r}; expected a list of values, also for a single one: [{values}]"
            )
    if "seed" in block:
        wrong = [seed for seed in block["seed"] if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0]
        if wrong:
            raise ValueError(f"{where}: seed {wrong[0]!r}; expected whole numbers from 0 on, such as [0, 1, 2]")
        also = [key for key in _SEEDS if key in block]
        if also:
            raise ValueError(f"{where} varies seed and {also[0]}, which seed sets as well; vary either")


def _check_equal_exposure(cells: Sequence[Cell]) -> None:
    """Models are compared at equal numbers of tokens or images, or not at all."""
    seen: dict[int, Cell] = {}
    for cell in cells:
        if cell.recipe.training.early_stopping_patience is not None:
            raise ValueError(
                f"training.early_stopping_patience={cell.recipe.training.early_stopping_patience}; expected null in a "
                "sweep, because cells that stop at different steps have seen different numbers of "
                f"{cell.recipe.counted}"
            )
        seen.setdefault(planned_exposure(cell.recipe), cell)
    if len(seen) > 1:
        (fewer, first), (more, second) = sorted(seen.items(), key=lambda entry: entry[0])[:2]
        raise ValueError(
            f"cell {first.name} sees {fewer} {first.recipe.counted} and cell {second.name} {more}; expected equal "
            "numbers: vary neither max_steps nor batches alone"
        )


def planned_exposure(recipe: Recipe) -> int:
    """Tokens or images that a process sees until its training ends."""
    training = recipe.training
    items = training.max_steps * training.batch_size * training.gradient_accumulation_steps
    return items * recipe.data.sequence_length if recipe.counted == "tokens" else items


def _explicit(recipe: Recipe) -> Recipe:
    """The recipe with what its preset says spelt out, so that saying it and leaving it out are the same cell."""
    if recipe.model.pretrained is not None:
        if recipe.model.changes():
            raise ValueError(
                f"model.pretrained={recipe.model.pretrained!r} with {sorted(recipe.model.changes())}; give either"
            )
        return recipe
    if recipe.counted == "images":
        return recipe
    config = shape_of(recipe.model)
    if config.model_type != "topolm" or recipe.model.config:
        return recipe  # other architectures have names of their own for their fields
    own = {"pretrained", "model_type", "config", "vocab_size"}
    unsaid = [entry.name for entry in dataclasses.fields(ModelConfig) if getattr(recipe.model, entry.name) is None]
    said = {name: getattr(config, name) for name in unsaid if name not in own}
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, **said))


def _without_idle(recipe: Recipe, base: Recipe) -> Recipe:
    spatial = recipe.spatial
    idle = _IDLE["control" if spatial.weight == 0 else spatial.neighborhoods]
    as_base = {name: getattr(base.spatial, name) for name in idle}
    return dataclasses.replace(recipe, spatial=dataclasses.replace(spatial, **as_base))


def _leaves(recipe: Recipe) -> dict[str, Any]:
    """Every setting by its dotted key, but folder and overwrite."""
    content = plain(recipe)
    return {
        f"{section}.{name}": value
        for section, entries in content.items()
        if isinstance(entries, dict)
        for name, value in entries.items()
    }


def _name(recipe: Recipe, base: Recipe, seed: int | None) -> str:
    ours, theirs = _leaves(recipe), _leaves(base)
    skipped = _SEEDS if seed is not None else ()
    differing = [key for key in ours if ours[key] != theirs[key] and key not in skipped]
    parts = [f"{short_name(key)}_{_word(ours[key])}" for key in differing] or ["base"]
    name = "-".join([*parts, *([f"seed_{seed}"] if seed is not None else [])])
    if len(name) > _LONGEST_NAME:
        return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name


def _word(value: Any) -> str:
    """A value as part of a file name."""
    if isinstance(value, list):
        return "+".join(map(_word, value))
    if isinstance(value, float):
        return f"{value:g}"
    return quote(str(value).lower() if value is None or isinstance(value, bool) else str(value), safe="")


def _language_model(recipe: Recipe) -> tuple[Any, Mapping[str, Tensor]]:
    """The model with a small vocabulary, and the smallest text."""
    wanted = recipe.model
    if carries_sheets(recipe) and recipe.spatial.sites is None and not recipe.smoothness.names_layers:
        wanted = dataclasses.replace(wanted, n_layer=1)  # all blocks are alike, and one is sooner built
    return fresh_model(
        shape_of(wanted, vocab_size=64, special_tokens=_NO_TOKENS), seed=0, objective=recipe.data.objective
    ), EXAMPLE_TOKENS


def _vision_model(recipe: Recipe) -> tuple[Any, Mapping[str, Tensor]]:
    """The model, and blank images of the set's size."""
    classes, blank = blank_images(recipe.images)
    channels, side, _ = blank.shape[1:]
    model = build_vision_model(recipe.model, classes, image_size=side, num_channels=channels)
    return model, {"pixel_values": blank}


def _check_measured(model: Any, recipe: Recipe) -> None:
    """What is mapped and whose weights are measured must be there in a control too, which is trained for neither."""
    if not (hasattr(model, "sheets") and model.sheets()):
        neighbors = (recipe.neighbor_activations, recipe.neighbor_weights)
        own = OwnSections(recipe.spatial, recipe.smoothness, None, *neighbors)
        named = trained_sites(model, own)
        if named is not None:
            find_sites(model, named[0])
        elif recipe.counted == "images":
            find_sites(model, vision_layers(model))
    sheets = own_weight_sheets(model, recipe.smoothness)
    if sheets:
        WeightSmoothness(sheets).taps(model)


_MODELS = {"tokens": _language_model, "images": _vision_model}
