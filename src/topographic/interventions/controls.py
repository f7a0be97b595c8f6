"""What a lesion is compared with: other units, matched in number, in layer, in contiguity.

Controls are drawn without regard to the lesion and may overlap it: only then is a lesion that is itself a random draw
one of them. Controls outside the lesion are drawn from what the lesion left, and reject the more often the larger it
is: .069 at 25 % of a sheet and .190 at 45 %, at a level of .05.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from tqdm.auto import tqdm

from topographic.maps import NotMeasurable, Selection
from topographic.recording import Responses
from topographic.sheets import Sheet, adjacency
from topographic.sheets.expectations import expect_kind, expect_number

__all__ = [
    "CONTROLS",
    "Selections",
    "connected_control",
    "is_contiguous",
    "layer_control",
    "matched_controls",
    "model_control",
    "one_per_site",
    "removed_size",
]

Selections = Selection | Sequence[Selection] | Mapping[str, Selection]
_CANDIDATES = 20  # patches grown for one, of which the first that is as compact is taken, or else the nearest
_COMPACT = 0.05  # how far the boundaries of two patches that are as compact may differ
_PREFERENCES = (-4.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 4.0)  # for neighbours of many units of a patch: threads to discs
_TRIED = 200  # candidates for one control that is matched in size of what it removes
_FEWEST_ON_A_SIDE = 0.1  # of matched controls, that remove no less variance than the lesion, and no more
_PLACINGS = 50  # of all patches of a sheet, before there is said to be no room


def model_control(
    selections: Sequence[Selection], sheets: Mapping[str, Sheet], *, generator: np.random.Generator
) -> list[Selection]:
    """As many random units from anywhere in the model, those of the lesion among them.

    Parameters
    ----------
    selections : sequence of Selection
        The lesion; several selections of one site are joined.
    sheets : mapping of str to Sheet
        Every sheet of the model; units are drawn from all of them.
    generator : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    list of Selection
        Selections with the same total number of units.

    Raises
    ------
    ValueError
        If a site of the lesion has no sheet.
    """
    chosen = one_per_site(selections)
    missing = next((one.site for one in chosen if one.site not in sheets), None)
    if missing is not None:
        raise ValueError(f"the lesion has units at {missing!r}, which has no sheet; add it to sheets")
    sizes = [sheet.n_units for sheet in sheets.values()]
    drawn = _draw(sum(sizes), sum(one.n_selected for one in chosen), generator)
    parts = np.split(drawn, np.cumsum(sizes)[:-1])
    return [
        Selection(site, part, sheet, "random units of the model")
        for (site, sheet), part in zip(sheets.items(), parts, strict=True)
        if part.any()
    ]


def layer_control(
    selections: Sequence[Selection], sheets: Mapping[str, Sheet] | None = None, *, generator: np.random.Generator
) -> list[Selection]:
    """As many random units of the same sheets, those of the lesion among them.

    Parameters
    ----------
    selections : sequence of Selection
        The lesion; several selections of one site are joined.
    sheets : mapping of str to Sheet, optional
        Not needed; taken so that every control is called alike.
    generator : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    list of Selection
        One per site, of the size of its lesion.
    """
    return [
        replace(
            one,
            mask=_draw(one.sheet.n_units, one.n_selected, generator),
            rule="random units of the same sheet",
            provenance={},
        )
        for one in one_per_site(selections)
    ]


def connected_control(
    selections: Sequence[Selection], sheets: Mapping[str, Sheet] | None = None, *, generator: np.random.Generator
) -> list[Selection]:
    """Patches of the same sizes, as compact, anywhere on the same sheets.

    Each connected component of the lesion is matched by a patch of as many units with about as many pairs of
    neighbours inside it, and so about as long a boundary, wherever the sheet's edge lies. Patches grow from random
    seeds by random neighbours, with more or less preference for those that touch many units of the patch.

    Parameters
    ----------
    selections : sequence of Selection
        The lesion; several selections of one site are joined.
    sheets : mapping of str to Sheet, optional
        Not needed; taken so that every control is called alike.
    generator : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    list of Selection
        One per site, with the same component sizes; it may overlap the lesion.

    Raises
    ------
    NotMeasurable
        If no room is found for a patch beside the others.
    """
    return [
        replace(one, mask=_patches(one, generator), rule="connected patches of the same sheet", provenance={})
        for one in one_per_site(selections)
    ]


def matched_controls(
    kind: str,
    selections: Sequence[Selection],
    sheets: Mapping[str, Sheet],
    removed: Mapping[str, Responses],
    n_draws: int,
    *,
    generator: np.random.Generator,
    tolerance: float = 0.1,
) -> list[list[Selection]]:
    """Controls that take as much activity away as the lesion, in norm and in variance.

    Candidates are drawn as controls of their kind and kept if ``|N_c / N - 1|`` and ``|V_c / V - 1|`` are at most the
    tolerance: N the mean over rows of ``||a_S||``, V the sum over the silenced units S of their variances over rows.
    Half of those kept have N_c below N and half above, so that a measure that follows the norm alone puts the lesion
    in their middle. At every sheet by itself; of kind "model", over all of them.

    Parameters
    ----------
    kind : {"model", "layer", "connected"}
        As in `CONTROLS`.
    selections : sequence of Selection
        The lesion; several selections of one site are joined.
    sheets : mapping of str to Sheet
        As in `model_control`.
    removed : mapping of str to Responses
        Activity a of every sheet, rows alike; of tokens rather than pooled (`record_tokens`), since it is at tokens
        that activity is taken away.
    n_draws : int
        Controls to find.
    generator : numpy.random.Generator
        Source of randomness.
    tolerance : float
        Largest relative difference, above 0.

    Returns
    -------
    list of list of Selection
        Draw by draw.

    Raises
    ------
    NotMeasurable
        If among 200 candidates a draw too few match, on either side, or nearly all of them differ from the lesion in
        variance to one side.
    ValueError
        If responses are missing, of a readout, or do not fit.

    Notes
    -----
    Where few places on a sheet hold as much activity as the lesion, controls lie near it and overlap it, and the test
    is conservative.
    """
    expect_number("tolerance", tolerance, "the largest relative difference of norm and variance, above 0", least=1e-9)
    chosen = one_per_site(selections)
    groups = [chosen] if kind == "model" else [[one] for one in chosen]
    kept = [_matched(kind, group, sheets, removed, n_draws, generator, tolerance) for group in groups]
    return [[one for part in parts for one in part] for parts in zip(*kept, strict=True)]


def removed_size(selections: Sequence[Selection], removed: Mapping[str, Responses]) -> tuple[float, float]:
    """Mean over rows of the norm of the activity of some units, and the sum of their variances."""
    squares: np.ndarray | None = None
    variance = 0.0
    for one in selections:
        if one.site not in removed:
            raise ValueError(f"no responses at {one.site!r}, of which units are silenced; record it too for removed=")
        responses = removed[one.site]
        if responses.sheet.is_readout or responses.values.shape[1] != one.sheet.n_units:
            raise ValueError(
                f"responses at {one.site!r} have {responses.values.shape[1]} columns; expected the {one.sheet.n_units} "
                "units of the sheet, before readout(): pass what record_tokens() returned"
            )
        values = responses.values[:, one.mask].astype(np.float64)
        if squares is not None and len(squares) != len(values):
            raise ValueError("responses of different sites have different numbers of rows; record all of them together")
        norms = (values**2).sum(axis=1)
        squares = norms if squares is None else squares + norms
        variance += float(values.var(axis=0).sum())
    return (0.0 if squares is None else float(np.sqrt(squares).mean())), variance


def _matched(
    kind: str,
    lesion: list[Selection],
    sheets: Mapping[str, Sheet],
    removed: Mapping[str, Responses],
    n_draws: int,
    generator: np.random.Generator,
    tolerance: float,
) -> list[list[Selection]]:
    norm, variance = removed_size(lesion, removed)
    wanted = {True: n_draws // 2, False: n_draws - n_draws // 2}  # by whether they remove more
    kept: list[list[Selection]] = []
    variances = []
    n_near = tried = 0
    with tqdm(total=n_draws, desc=f"matched {kind} controls", leave=False) as bar:
        while len(kept) < n_draws and tried < _TRIED * n_draws:
            tried += 1
            candidate = CONTROLS[kind](lesion, sheets, generator=generator)
            its_norm, its_variance = removed_size(candidate, removed)
            if abs(its_norm - norm) > tolerance * norm or abs(its_variance - variance) > tolerance * variance:
                continue
            n_near += 1
            if wanted[its_norm > norm]:
                wanted[its_norm > norm] -= 1
                kept.append(candidate)
                variances.append(its_variance)
                bar.update()
    sites = ", ".join(repr(one.site) for one in lesion)
    said = f"(mean norm {norm:.3g}, variance {variance:.3g}, within {100 * tolerance:g} %)"
    advice = "widen the tolerance, draw fewer, or take a lesion that is less extreme in what it removes"
    if len(kept) < n_draws:
        side = "more" if wanted[True] else "less"
        raise NotMeasurable(
            f"{n_near} of {tried} {kind} controls at {sites} remove as much as the lesion {said}, too few of them "
            f"{side} than it for {n_draws} draws; {advice}"
        )
    low, high = (float(np.mean(side)) for side in (np.array(variances) <= variance, np.array(variances) >= variance))
    if min(low, high) < _FEWEST_ON_A_SIDE:
        raise NotMeasurable(
            f"{100 * max(low, high):.0f} % of the matched {kind} controls at {sites} differ from the lesion {said} in "
            f"variance to one side, so that they are no match; {advice}"
        )
    order = generator.permutation(n_draws)
    return [kept[index] for index in order]


def is_contiguous(selections: Sequence[Selection]) -> bool:
    """Whether more of the units are neighbours than in most random draws of as many units of the same sheets.

    More than ``mean + 1.645 sd`` of the number of neighbouring pairs under such draws (join counts, without
    replacement), over all sheets together.
    """
    found = mean = variance = 0.0
    for one in one_per_site(selections):
        graph, n, k = _graph(one.sheet, "queen"), one.sheet.n_units, one.n_selected
        degrees = np.diff(graph.indptr).astype(float)
        pairs, touching = degrees.sum() / 2, (degrees * (degrees - 1)).sum()
        # that 2, 3, 4 given units are all drawn
        both, three, four = (np.prod([(k - i) / (n - i) if n > i else 0.0 for i in range(j)]) for j in (2, 3, 4))
        found += _inner_pairs(graph, one.mask)
        mean += pairs * both
        variance += pairs * both + touching * three + (pairs * (pairs - 1) - touching) * four - (pairs * both) ** 2
    # where all or one of a sheet are chosen the variance is 0, but for its last bits
    return bool(found - mean > 1.645 * np.sqrt(max(variance, 0.0)) + 1e-6 * (1 + mean))


def one_per_site(selections: Any) -> list[Selection]:
    """One selection, several, or a mapping of sites, as a list: those of one site joined."""
    if isinstance(selections, Mapping):
        selections = list(selections.values())
    is_several = isinstance(selections, Iterable) and not isinstance(selections, str)
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


def _draw(n_units: int, n: int, generator: np.random.Generator) -> np.ndarray:
    mask = np.zeros(n_units, bool)
    mask[generator.choice(n_units, n, replace=False)] = True
    return mask


@functools.lru_cache(maxsize=256)  # a hundred draws on every sheet of a model, and the graph takes longer than a draw
def _graph(sheet: Sheet, contiguity: str) -> csr_array:
    return adjacency(sheet, contiguity)


def _inner_pairs(graph: csr_array, mask: np.ndarray) -> int:
    """Pairs of neighbours inside a mask: with the number of units they give the length of its boundary."""
    return int((graph @ mask.astype(np.int64))[mask].sum()) // 2


def _components(graph: csr_array, mask: np.ndarray) -> list[np.ndarray]:
    """Units of each connected part of a mask, the largest first."""
    inside = np.flatnonzero(mask)
    n, labels = connected_components(graph[inside][:, inside], directed=False) if len(inside) else (0, inside)
    return sorted((inside[labels == part] for part in range(n)), key=len, reverse=True)


def _patches(lesion: Selection, generator: np.random.Generator) -> np.ndarray:
    """Patches like the components of one sheet's lesion, apart from each other."""
    rook, queen = _graph(lesion.sheet, "rook"), _graph(lesion.sheet, "queen")
    wanted = []
    for component in _components(rook, lesion.mask):
        alone = np.zeros_like(lesion.mask)
        alone[component] = True
        wanted.append((len(component), _inner_pairs(queen, alone)))
    for _ in range(_PLACINGS):
        mask, free = np.zeros_like(lesion.mask), np.ones_like(lesion.mask)
        for size, pairs in wanted:
            patch = _patch(rook, queen, free, size, pairs, generator)
            if patch is None:
                break
            mask |= patch
            # keep a border, or two patches might touch and count as one
            free &= ~patch & ~(rook @ patch.astype(np.int64)).astype(bool)
        else:
            return mask
    raise NotMeasurable(
        f"sheet {lesion.site!r} has no room for {len(wanted)} separate patches of {lesion.n_selected} units in all; "
        "choose a smaller lesion"
    )


def _patch(
    rook: csr_array, queen: csr_array, free: np.ndarray, size: int, pairs: int, generator: np.random.Generator
) -> np.ndarray | None:
    """Of patches grown on free tissue the first that is as compact, or the nearest; None without room."""
    rooms = [part for part in _components(rook, free) if len(part) >= size]
    if not rooms:
        return None
    seeds = np.concatenate(rooms)
    nearest, nearest_off = None, np.inf
    for _ in range(_CANDIDATES):
        preference = float(generator.choice(_PREFERENCES)) if size > 2 else 0.0
        patch = _grown(rook, queen, free, size, int(generator.choice(seeds)), preference, generator)
        off = abs(_inner_pairs(queen, patch) - pairs)
        if off < nearest_off:
            nearest, nearest_off = patch, off
        if nearest_off <= _COMPACT * pairs:
            break
    return nearest


def _grown(
    rook: csr_array,
    queen: csr_array,
    free: np.ndarray,
    size: int,
    seed: int,
    preference: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """A patch of free units: each next one with probability in proportion to exp(preference x neighbours in it)."""
    patch, border = np.zeros_like(free), np.zeros_like(free)
    near = np.zeros(len(free), np.int64)
    unit = seed
    for step in range(size):
        if step:
            reached = np.flatnonzero(border)
            unit = int(reached[np.argmax(preference * near[reached] + generator.gumbel(size=len(reached)))])
        patch[unit], border[unit] = True, False
        beside = rook.indices[rook.indptr[unit] : rook.indptr[unit + 1]]
        border[beside] |= free[beside] & ~patch[beside]
        near[queen.indices[queen.indptr[unit] : queen.indptr[unit + 1]]] += 1
    return patch


CONTROLS = {"model": model_control, "layer": layer_control, "connected": connected_control}
