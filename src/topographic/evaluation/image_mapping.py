"""`topo map` of a vision model: category selectivity, beside what the images themselves differ in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from topographic.evaluation.mapping import MapCommand, check_words
from topographic.maps import ClusterTest, MapSummary, UnitMap, cluster_mass_test, summarize
from topographic.recording import low_level_responses, record_images, vision_layers
from topographic.runs.loading import load_vision_model, sites_and_layout
from topographic.stimuli import CATEGORY_CONTRASTS, category_images
from topographic.storage import save_json

__all__ = ["DEFAULT_CONTRASTS", "map_images"]

DEFAULT_CONTRASTS = ("faces", "animate-inanimate", "scrambled faces", "scrambled animate-inanimate")
_CLUSTER_T = 3.0  # forms clusters; chosen before anything was looked at


def map_images(command: MapCommand, folder: Path) -> list[MapSummary]:
    """Show a vision model the category images; contrast, test and store."""
    check_words(command, "vision")
    images = category_images(command.n_images, folders=command.image_folders, seed=command.seed)
    model, prepare = load_vision_model(command.run)
    sites, layout = sites_and_layout(model, command.run, command.sites, command.layout, default=vision_layers)
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


def _clusters(maps: Mapping[str, UnitMap]) -> dict[str, Any]:
    found = {sign: cluster_mass_test(maps, threshold=_CLUSTER_T, sign=sign) for sign in ("positive", "negative")}
    return {"threshold": _CLUSTER_T, **{sign: [_plain(one) for one in tests] for sign, tests in found.items()}}


def _plain(test: ClusterTest) -> dict[str, Any]:
    numbers = ("n_units", "mass", "peak_unit", "peak_value", "p_mass", "p_size")
    units = np.flatnonzero(test.selection.mask).tolist()
    return {"site": test.selection.site, **{name: getattr(test, name) for name in numbers}, "units": units}
