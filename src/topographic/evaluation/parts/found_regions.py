"""Regions that nobody asked for, found in the passages of a text that carries no labels."""

from typing import Any

import numpy as np

from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.layout_worth import randomly_rotated
from topographic.evaluation.results import Findings, Picture, Table, under
from topographic.evaluation.subject import LanguageSubject
from topographic.maps import Discovery, UnitMap, discover_regions
from topographic.maps.discovery import N_TOPICS, passage_topics
from topographic.plots.figures import draw_maps

__all__ = ["found_regions"]


def found_regions(subject: LanguageSubject, choices: Choices) -> Findings:
    """Kinds of passages that some patch answers to, found on one half of them and confirmed on the other."""
    responses = subject.recorded("text")
    items = next(iter(responses.values())).stimuli.items
    found = discover_regions(
        responses,
        passage_topics(items, choices.seed),
        threshold=choices.cluster_threshold,
        length="regressed",
        control={site: randomly_rotated(one, choices.seed) for site, one in responses.items()},
        n_draws=choices.n_draws,
        seed=choices.seed,
        progress=subject.progress,
    )
    named = {f"region_{number}": region for number, region in enumerate(found.regions, 1)}
    maps = _maps(found)
    pictures = [Picture("regions", "Regions", draw_maps(maps, colour_label="d (held out)"))] if maps else []
    return Findings(
        "Regions found without labels",
        f"Ward's tree of the {len(items)} different passages of the text proposes kinds of them, by what words they "
        f"hold (TF-IDF, its first {N_TOPICS} singular vectors; the model has no part in it). A patch of connected "
        f"units with t above {choices.cluster_threshold:g} for a kind is chosen on one half of the passages and tested "
        "on the other, against passages in random order, corrected over all candidates of all sheets; numbers of "
        "tokens are regressed out. d elsewhere near d: the kind is no matter of place. mass: of the largest patch of "
        "the held-out map, beside permuted units, and on a random rotation of the same values (control).",
        [
            Table(
                "regions",
                "Regions",
                [{"region": name, **region.to_row()} for name, region in named.items()],
                "A row per kind that replicates, family-wise p of .05 or less.",
                keys=("region",),
                headline=("site", "words", "sentences", "units", "d", "d elsewhere", "p (corrected)"),
            ),
            Table("tested", "Candidates", found.tested.to_dict("records"), keys=("site", "sentences", "units")),
        ],
        pictures,
        maps=under("regions", maps),
        selections={name: region.selection for name, region in named.items()},
    )


def _maps(found: Discovery) -> dict[str, UnitMap]:
    """By site the held-out effect of the region that a unit belongs to, of several the strongest; 0 in none."""
    values: dict[str, Any] = {}
    sheets = {}
    for region in found.regions:
        chosen = region.selection
        before = values.get(chosen.site, np.zeros(chosen.sheet.n_units))
        values[chosen.site] = np.where(chosen.mask & (np.abs(before) < abs(region.d)), region.d, before)
        sheets[chosen.site] = chosen.sheet
    return {site: UnitMap(site, one, sheets[site], "Cohen's d of regions") for site, one in values.items()}
