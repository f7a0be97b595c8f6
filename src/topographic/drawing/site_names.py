"""What the names of sites say about their place in a model."""

import re
from collections.abc import Mapping, Sequence

__all__ = ["arrange_sites", "fold_layers", "site_labels"]


def arrange_sites(sites: Sequence[str]) -> tuple[list[str], list[str], dict[str, tuple[int, int]]]:
    """Places of sites in a table with one row per layer and one column per kind of module.

    The layer is the first whole number between dots in a site's name, the kind is what follows it
    ("transformer.h.3.attn": layer 3, kind "attn").
    """
    found = {site: re.fullmatch(r"(?:.*?\.)??(\d+)\.?(.*)", site) for site in sites}
    pairs = [(match[1], match[2]) for match in found.values() if match]
    if len(pairs) < len(found) or len(set(pairs)) < len(pairs):
        return [], [], {site: divmod(index, 4) for index, site in enumerate(sites)}
    layers = sorted({int(layer) for layer, _ in pairs})
    kinds = list(dict.fromkeys(kind for _, kind in pairs))
    places = {site: (layers.index(int(match[1])), kinds.index(match[2])) for site, match in found.items() if match}
    return [f"layer {layer}" for layer in layers], [kind.removesuffix("_sheet") for kind in kinds], places


def fold_layers(places: Mapping[str, tuple[int, int]], at_most: int = 6) -> dict[str, tuple[int, int]]:
    """The same table lying down, layers to the right and kinds downwards, cut into blocks where it is too long."""
    n_layers, n_kinds = (1 + max(place[axis] for place in places.values()) for axis in (0, 1))
    width = -(-n_layers // -(-n_layers // at_most))
    return {site: (kind + n_kinds * (layer // width), layer % width) for site, (layer, kind) in places.items()}


def site_labels(sites: Sequence[str]) -> dict[str, str]:
    """Short names of sites for the axis of a figure."""
    numbers = {site: re.findall(r"(?<=\.)\d+(?=\.|$)", site) for site in sites}
    skeletons = {re.sub(r"(?<=\.)\d+(?=\.|$)", "*", site) for site in sites}
    if len(skeletons) == 1 and all(len(some) > 1 for some in numbers.values()):
        return {site: f"layer {'.'.join(some)}" for site, some in numbers.items()}
    row_names, column_names, places = arrange_sites(sites)
    if not row_names:
        return {site: site for site in sites}
    return {site: f"{row_names[row]} {column_names[column]}".strip() for site, (row, column) in places.items()}
