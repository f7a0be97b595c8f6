"""What a lesion is compared with: other units, matched in number, in layer, in contiguity."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from topographic.maps import NotMeasurable, Selection
from topographic.sheets import Sheet, adjacency
from topographic.sheets.expectations import expect_kind

__all__ = ["CONTROLS", "connected_control", "layer_control", "model_control", "one_per_site"]


def model_control(
    selections: Sequence[Selection], sheets: Mapping[str, Sheet], *, generator: np.random.Generator
) -> list[Selection]:
    """As many random units from anywhere in the model.

    Parameters
    ----------
    selections : sequence of Selection
        The lesion.
    sheets : mapping of str to Sheet
        Every sheet of the model; units are drawn from all of them.
    generator : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    list of Selection
        Selections with the same total number of units, none of them in the lesion.

    Raises
    ------
    NotMeasurable
        If too few units are left outside the lesion.
    ValueError
        If a site of the lesion has no sheet.
    """
    lesioned = {selection.site: selection.mask for selection in one_per_site(selections)}
    if not lesioned.keys() <= sheets.keys():
        missing = next(site for site in lesioned if site not in sheets)
        raise ValueError(f"the lesion has units at {missing!r}, which has no sheet; add it to sheets")
    sizes = [sheet.n_units for sheet in sheets.values()]
    taken = [lesioned.get(site, np.zeros(sheet.n_units, bool)) for site, sheet in sheets.items()]
    chosen = _draw(np.concatenate(taken), int(sum(mask.sum() for mask in taken)), "the model", generator)
    parts = np.split(chosen, np.cumsum(sizes)[:-1])
    return [
        Selection(site, part, sheet, "random units of the model")
        for (site, sheet), part in zip(sheets.items(), parts, strict=True)
        if part.any()
    ]


def layer_control(
    selections: Sequence[Selection], sheets: Mapping[str, Sheet] | None = None, *, generator: np.random.Generator
) -> list[Selection]:
    """As many random units of the same sheets.

    Parameters
    ----------
    selections : sequence of Selection
        The lesion.
    sheets : mapping of str to Sheet, optional
        Not needed; taken so that every control is called alike.
    generator : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    list of Selection
        One per selection, disjoint from it and of its size.

    Raises
    ------
    NotMeasurable
        If a lesion covers more than half of a sheet.
    """
    return [
        Selection(
            selection.site,
            _draw(selection.mask, selection.n_selected, f"sheet {selection.site!r}", generator),
            selection.sheet,
            "random units of the same sheet",
        )
        for selection in one_per_site(selections)
    ]


def connected_control(
    selections: Sequence[Selection], sheets: Mapping[str, Sheet] | None = None, *, generator: np.random.Generator
) -> list[Selection]:
    """Patches of the same sizes elsewhere on the same sheets.

    Each connected component of the lesion is matched by a patch of as many units, grown from a
    random seed by adding random neighbours. Where the free tissue has no room for a patch of that size
    (it may be cut into pieces by the lesion) a new seed is tried.

    Parameters
    ----------
    selections : sequence of Selection
        The lesion.
    sheets : mapping of str to Sheet, optional
        Not needed; taken so that every control is called alike.
    generator : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    list of Selection
        One per selection, disjoint from it, with the same component sizes.

    Raises
    ------
    NotMeasurable
        If no room is found for a patch.
    """
    controls = []
    for selection in one_per_site(selections):
        graph = adjacency(selection.sheet, "rook")
        free = ~selection.mask
        mask = np.zeros_like(free)
        for size in _component_sizes(graph, selection.mask):
            patch = _grow(graph, free, size, selection.site, generator)
            mask |= patch
            # keep a border, or two patches might touch and count as one
            free &= ~patch & ~(graph @ patch.astype(np.int64)).astype(bool)
        controls.append(Selection(selection.site, mask, selection.sheet, "connected patches of the same sheet"))
    return controls


def one_per_site(selections: Any) -> list[Selection]:
    """One selection or several as a list, those of one site joined."""
    is_several = isinstance(selections, Iterable) and not isinstance(selections, Mapping | str)
    chosen: list[Any] = list(selections) if is_several else [selections]
    joined: dict[str, Selection] = {}
    for selection in chosen:
        expect_kind("selections", selection, Selection, "as select(unit_map) or clusters(unit_map) make it; or several")
        known = joined.setdefault(selection.site, selection)
        if known.sheet.checksum != selection.sheet.checksum:
            raise ValueError(
                f"two selections at {selection.site!r} were made on different sheets, of {known.sheet.n_units} and "
                f"{selection.sheet.n_units} units; make both on one"
            )
        joined[selection.site] = replace(known, mask=known.mask | selection.mask)
    return list(joined.values())


def _draw(taken: np.ndarray, n: int, where: str, generator: np.random.Generator) -> np.ndarray:
    free = np.flatnonzero(~taken)
    if len(free) < n:
        raise NotMeasurable(f"{where} has {len(free)} units outside the lesion of {n}; choose a smaller lesion")
    mask = np.zeros(len(taken), bool)
    mask[generator.choice(free, n, replace=False)] = True
    return mask


def _component_sizes(graph: csr_array, mask: np.ndarray) -> list[int]:
    inside = np.flatnonzero(mask)
    _, labels = connected_components(graph[inside][:, inside], directed=False)
    return sorted(np.bincount(labels).tolist(), reverse=True) if len(inside) else []


def _grow(graph: csr_array, free: np.ndarray, size: int, site: str, generator: np.random.Generator) -> np.ndarray:
    for seed in generator.permutation(np.flatnonzero(free)):
        patch, border = np.zeros_like(free), [int(seed)]
        for _ in range(size):
            if not border:
                break
            unit = border.pop(int(generator.integers(len(border))))
            patch[unit] = True
            neighbours = graph.indices[graph.indptr[unit] : graph.indptr[unit + 1]]
            border += [int(n) for n in neighbours if free[n] and not patch[n] and int(n) not in border]
        if patch.sum() == size:
            return patch
    raise NotMeasurable(
        f"sheet {site!r} has no room for a patch of {size} units outside the lesion; choose a smaller one"
    )


CONTROLS = {"model": model_control, "layer": layer_control, "connected": connected_control}
