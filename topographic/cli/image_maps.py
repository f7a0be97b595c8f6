"""`topo map` of a vision model: category selectivity, beside what the images themselves differ in."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from topographic.cli.map import MapCommand, check_words, sites_and_layout
from topographic.maps import ClusterTest, MapSummary, UnitMap, cluster_mass_test, summarize
from topographic.recording import Preparation, low_level_responses, record_images, vision_layers
from topographic.stimuli import CATEGORY_CONTRASTS, category_images
from topographic.storage import save_json

__all__ = ["DEFAULT_CONTRASTS", "is_vision_model", "load_vision_model", "map_images"]

DEFAULT_CONTRASTS = ("faces", "animate-inanimate", "scrambled faces", "scrambled animate-inanimate")
_CLUSTER_T = 3.0  # forms clusters; chosen before anything was looked at


def map_images(command: MapCommand, folder: Path) -> list[MapSummary]:
    """Show a vision model the category images; contrast, test and store.

    Parameters
    ----------
    command : MapCommand
        What to map.
    folder : Path
        The ``maps`` folder.

    Returns
    -------
    list of MapSummary
        One per contrast, also written to ``folder/<contrast>/``, and there beside it: ``clusters.json``, clusters of
        either sign with their family-wise p, and ``low_level/``, the same contrast of pixels and of power spectra.

    Raises
    ------
    ValueError
        As `check_words`, `category_images`, `record_images` and `summarize` say.
    """
    check_words(command, "vision")
    images = category_images(command.n_images, folders=command.image_folders, seed=command.seed)
    model, prepare = load_vision_model(command.run)
    sites, layout = sites_and_layout(model, command, default=vision_layers)
    shown = {"pooling": command.pooling, "prepare": prepare, "batch_size": command.batch_size}
    responses, low_level = record_images(model, images, sites, layout, **shown), low_level_responses(images)
    options = {"n_draws": command.n_draws, "exchangeable": command.exchangeable, "seed": command.seed}
    summaries = []
    for name in command.contrasts or DEFAULT_CONTRASTS:
        sides = CATEGORY_CONTRASTS[name]
        summary = summarize(responses, *sides, fwhm_mm=command.fwhm_mm, **options)
        before_any_model = summarize(low_level, *sides, **options)
        kept = summary.save(folder, nulls=command.nulls)
        images.stimuli.save(kept / "stimuli.json")
        before_any_model.save(kept / "low_level", nulls=command.nulls)
        if command.n_draws:
            save_json(kept / "clusters.json", _clusters(summary.maps))
        pixels, power = (row.mean_abs_t.value for row in before_any_model.rows)
        mean_t = summary.mean_abs_t.value
        print(
            f"{summary.contrast}: mean |t| {mean_t:.1f}, of pixels {pixels:.1f}, of power spectra {power:.1f}: {kept}"
        )
        summaries.append(summary)
    return summaries


def is_vision_model(run: str | Path) -> bool:
    """Whether it is a vision model.

    Parameters
    ----------
    run : str or Path
        Run folder, model folder or hub name.

    Returns
    -------
    bool
        True where ``preprocessor_config.json`` lies beside the weights, and for a name on the hub where the
        configuration there names a classifier of images.
    """
    folder = _model_folder(run)
    return (folder / "preprocessor_config.json").is_file() if folder.exists() else _is_classifier_on_hub(str(run))


def _is_classifier_on_hub(name: str) -> bool:
    from transformers import AutoConfig

    try:
        architectures = AutoConfig.from_pretrained(name).architectures
    except (OSError, ValueError):  # what loads the model says what is wrong with the name
        return False
    return any(one.endswith("ForImageClassification") for one in architectures or ())


def load_vision_model(run: str | Path) -> tuple[Any, Callable[[np.ndarray], Any]]:
    """Model of a run folder, or any classifier of images that transformers can read, and how it takes images.

    Parameters
    ----------
    run : str or Path
        Run folder, model folder or hub name.

    Returns
    -------
    model : PreTrainedModel
        In float32 and evaluation mode, on the accelerator if there is one.
    prepare : callable
        A `Preparation`, or the model's own image processor where that does more.
    """
    import torch
    from torch import nn
    from transformers import AutoModelForImageClassification

    from topographic.models import register_pixel_mlp

    register_pixel_mlp()
    folder = _model_folder(run)
    source = str(folder) if folder.is_dir() else str(run)
    model = AutoModelForImageClassification.from_pretrained(source, dtype=torch.float32).eval()
    try:
        prepare: Callable[[np.ndarray], Any] = Preparation.from_pretrained(source)
    except (FileNotFoundError, ValueError):
        prepare = _own_processor(source)
    return nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu"), prepare


def _own_processor(source: str) -> Callable[[np.ndarray], Any]:
    """The image processor that comes with a model, which crops or resizes in ways of its own."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(source, backend="pil")

    def prepare(pixels: np.ndarray) -> Any:
        coloured = [image.repeat(3, axis=2) if image.shape[2] == 1 else image for image in pixels]
        return processor(coloured, return_tensors="pt", input_data_format="channels_last")["pixel_values"]

    return prepare


def _model_folder(run: str | Path) -> Path:
    return Path(run) / "model" if (Path(run) / "model").is_dir() else Path(run)


def _clusters(maps: Mapping[str, UnitMap]) -> dict[str, Any]:
    found = {sign: cluster_mass_test(maps, threshold=_CLUSTER_T, sign=sign) for sign in ("positive", "negative")}
    return {"threshold": _CLUSTER_T, **{sign: [_plain(one) for one in tests] for sign, tests in found.items()}}


def _plain(test: ClusterTest) -> dict[str, Any]:
    numbers = ("n_units", "mass", "peak_unit", "peak_value", "p_mass", "p_size")
    units = np.flatnonzero(test.selection.mask).tolist()
    return {"site": test.selection.site, **{name: getattr(test, name) for name in numbers}, "units": units}
