"""Which items chose some units, so that nothing is measured on them that the choice itself has made."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from topographic.maps.selection import Selection
from topographic.maps.unit_map import UnitMap
from topographic.recording.responses import Responses

__all__ = ["check_independent", "chosen_by", "item_digest", "item_digests", "items_of_all"]


def item_digest(item: str) -> str:
    """Twelve hexadecimal digits that stand for an item in the provenance of a map or a selection."""
    return hashlib.sha256(item.encode()).hexdigest()[:12]


def item_digests(items: Iterable[str]) -> list[str]:
    """The digests of several items, each once."""
    return sorted({item_digest(item) for item in items})


def items_of_all(maps: Mapping[str, UnitMap]) -> dict[str, list[str]]:
    """For the provenance of what is decided over several maps together: the items of all of them."""
    items = sorted({one for unit_map in maps.values() for one in unit_map.provenance.get("items", ())})
    return {"items": items} if items else {}


def chosen_by(selection: Selection, items: Sequence[str]) -> Bool[np.ndarray, " items"]:
    """Which of some items chose the units."""
    if "items" not in selection.provenance:
        raise ValueError(
            f"the selection at {selection.site!r} does not say by which items it was made; make it from a map of "
            "t_map, effect_size_map or localizer_maps"
        )
    used = set(selection.provenance["items"])
    return np.array([item_digest(item) in used for item in items])


def check_independent(responses: Responses, selection: Selection) -> None:
    """Refuse responses to items by which the units were chosen."""
    stimuli, made_from = responses.stimuli, selection.provenance.get("stimuli", {})
    n_used = 0
    if "items" in selection.provenance:
        n_used = int(chosen_by(selection, stimuli.items).sum())
    elif stimuli.checksum == made_from.get("checksum") or stimuli.name == made_from.get("name"):
        n_used = len(stimuli)  # made before maps remembered their items: it names its set only
    if n_used:
        raise ValueError(
            f"{n_used} of {len(stimuli)} items chose the units at {selection.site!r} themselves, so their responses "
            "say nothing new: profile other items (held_out), choose on each half and profile the other "
            "(cross_fitted_profile), or pass circular=True"
        )
