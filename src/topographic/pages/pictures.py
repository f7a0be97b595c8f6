"""Pictures that a page carries; maps of t all on one colour scale, with lines around units that pass a test."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from topographic.drawing.style import data_uri
from topographic.evaluation.results import Findings
from topographic.maps import UnitMap
from topographic.plots import draw_maps, symmetric_limit

__all__ = ["common_limit", "drawn_clusters", "embedded", "flat_maps", "map_picture", "one_null_draw", "pictured_maps"]

_PIXELS_PER_INCH = 112  # of the page, so that letters in figures are nearly as large as those of the text
_LEVEL = 0.05


def embedded(figure: Any, kind: Literal["svg", "png"] = "svg") -> dict[str, Any]:
    """A figure as its address and its width on the page."""
    return {"src": data_uri(figure, kind), "width": round(_PIXELS_PER_INCH * figure.get_figwidth())}


def flat_maps(maps: Mapping[str, UnitMap]) -> dict[str, UnitMap]:
    """Those that can be drawn as pictures of flat sheets."""
    return {site: one for site, one in maps.items() if one.sheet.positions_mm.shape[1] == 2}


def common_limit(maps: Iterable[Mapping[str, UnitMap]]) -> float:
    """Limit of the one colour scale of everything that a page shows."""
    return symmetric_limit([one for of_site in maps for one in flat_maps(of_site).values()])


def one_null_draw(maps: Mapping[str, UnitMap]) -> dict[str, UnitMap]:
    """The maps of the first draw of the label null, the same shuffled labels at every site; none if not kept.

    These are rows of the very null maps that the numbers were tested against.
    """
    drawn = {site: one.nulls["label"] for site, one in maps.items() if len(one.nulls.get("label", ()))}
    if set(drawn) != set(maps):
        return {}
    return {site: UnitMap(site, drawn[site][0], one.sheet, one.statistic) for site, one in maps.items()}


def map_picture(
    maps: Mapping[str, UnitMap], limit: float, label: str, clusters: Mapping[str, np.ndarray] | None = None
) -> dict[str, Any]:
    """All sheets in one picture; a thin line around units with q < .05, a thick one around clusters."""
    significant = {site: one.q < _LEVEL for site, one in maps.items() if one.q is not None}
    outlines = [significant, clusters] if clusters else [significant]
    return embedded(draw_maps(maps, limit=limit, colour_label=label, is_rooted=True, outlines=outlines), "png")


def pictured_maps(findings: Findings, name: str) -> dict[str, UnitMap]:
    """The maps of t that a picture of an evaluation shows, which lie under its name; none if it shows another thing."""
    below = {own: own.removeprefix(f"{name}/") for own in findings.maps if own.startswith(f"{name}/")}
    maps = flat_maps({site: findings.maps[own] for own, site in below.items()})
    return maps if all(one.statistic == "welch_t" for one in maps.values()) else {}


def drawn_clusters(parts: Iterable[Findings], name: str) -> dict[str, np.ndarray]:
    """Units of clusters that passed their test, for the maps of this name; none where no part kept them."""
    contrast, _, width = name.rpartition("_fwhm_")
    numbered = f"clusters_significant_fwhm_{width}/"
    for findings in parts:
        if contrast and any(own.startswith(f"{name}/") for own in findings.maps):
            found = {own.removeprefix(numbered): own for own in findings.maps if own.startswith(numbered)}
            if found:
                return {site: findings.maps[own].values > 0 for site, own in found.items()}
    return {}
