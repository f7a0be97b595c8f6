"""Clusters: connected pieces of tissue that respond alike, and whether chance makes pieces that large."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import csr_array, triu
from scipy.sparse.csgraph import connected_components

from topographic.maps.selection import Selection
from topographic.maps.unit_map import UnitMap
from topographic.maps.wording import p_value
from topographic.recording.by_site import by_site
from topographic.sheets import adjacency

__all__ = ["CLUSTER_METHODS", "ClusterTest", "cluster_mass_test", "clusters", "largest_above", "patches_above"]


def _largest_first(found: Mapping[str, list[Selection]]) -> list[Selection]:
    return sorted((cluster for some in found.values() for cluster in some), key=lambda one: -one.provenance["mass"])


@by_site(_largest_first)
def clusters(
    unit_map: UnitMap,
    *,
    q: float = 0.05,
    threshold: float | None = None,
    method: str = "components",
    contiguity: str = "rook",
    min_units: int = 10,
    min_prominence: float = 0.0,
) -> list[Selection]:
    """Clusters of positive units, the one of largest mass first.

    Parameters
    ----------
    unit_map : UnitMap or mapping of site to UnitMap
        Map with q (`control_fdr`), or any map when ``threshold`` is given; of several, the clusters of all.
    q : float
        Units with an adjusted p below this and a positive value belong to clusters.
    threshold : float, optional
        Use ``value > threshold`` in place of q.
    method : {"components", "watershed", "published"}
        "components": connected components. The rule in the text of TopoLM (grow from the most
        selective unit by its best neighbour until the best one fails) gives just these.
        "watershed": each component divided among its local maxima; a maximum that rises less than
        ``min_prominence`` above the saddle to a higher one is part of that one.
        "published": the rule in the code of TopoLM: units that fail count as 0, a cluster holds a
        unit of at least 1, and it grows over everything that is not negative, failed units too.
    contiguity : {"rook", "queen"}
        Which units touch.
    min_units : int
        Smaller clusters are dropped (the paper says 10, its code 25).
    min_prominence : float
        See "watershed"; in units of the map.

    Returns
    -------
    list of Selection
        Sorted by mass, the sum of the values; provenance holds ``mass``, ``peak_unit`` and ``peak_value``.

    Raises
    ------
    ValueError
        If the map has no q and no threshold is given, or the method is unknown.

    References
    ----------
    TopoLM, section 4.2.
    """
    if method not in CLUSTER_METHODS:
        raise ValueError(f"method={method!r}; expected one of {sorted(CLUSTER_METHODS)}")
    if not min_prominence >= 0 or not (threshold is None or np.isfinite(threshold)) or not 0 < q <= 1:
        raise ValueError(
            f"q={q}, threshold={threshold}, min_prominence={min_prominence}; expected a rate above 0 and at most 1, a "
            "finite value or None, and 0 or more"
        )
    if threshold is None:
        if unit_map.q is None:
            raise ValueError(f"the map at {unit_map.site!r} has no q; call control_fdr first or give a threshold")
        passing, rule = unit_map.q < q, f"q < {q:g} and {unit_map.statistic} > 0"
    else:
        passing, rule = np.abs(unit_map.values) > threshold, f"{unit_map.statistic} > {threshold:g}"
    # units that fail count as 0; those without a value stop every kind of growth
    values = np.where(np.isnan(unit_map.values), -np.inf, np.where(passing, unit_map.values, 0.0))
    labels = CLUSTER_METHODS[method](adjacency(unit_map.sheet, contiguity), values, min_prominence)
    found = [np.flatnonzero(labels == label) for label in range(labels.max(initial=-1) + 1)]
    kept = [members for members in found if len(members) >= min_units]
    kept.sort(key=lambda members: -unit_map.values[members].sum())
    return [_selection(unit_map, members, f"{method} cluster ({contiguity}) of {rule}") for members in kept]


def _selection(unit_map: UnitMap, members: np.ndarray, rule: str) -> Selection:
    values = unit_map.values[members]
    mask = np.zeros(unit_map.sheet.n_units, bool)
    mask[members] = True
    peak = int(members[values.argmax()])
    description = {"mass": float(values.sum()), "peak_unit": peak, "peak_value": float(values.max())}
    return Selection(unit_map.site, mask, unit_map.sheet, rule, {**unit_map.provenance, **description})


@dataclass(frozen=True, eq=False)
class ClusterTest:
    """A cluster with its family-wise p values.

    Parameters
    ----------
    selection : Selection
        The units.
    n_units : int
        Size.
    mass : float
        Sum of what the values, without their sign, are beyond the threshold.
    peak_unit : int
        Unit with the largest value, of a cluster of negative values the most negative.
    peak_value : float
        Its value, whose sign is that of the cluster.
    p_mass, p_size : float
        ``(1 + #{draws whose largest cluster over all sheets is at least as large}) / (n_draws + 1)``.
    """

    selection: Selection
    n_units: int
    mass: float
    peak_unit: int
    peak_value: float
    p_mass: float
    p_size: float


def cluster_mass_test(
    maps: Mapping[str, UnitMap], *, threshold: float, contiguity: str = "rook", sign: str = "both"
) -> list[ClusterTest]:
    """Clusters over all sheets, with family-wise correction by permutation of the labels.

    ``mass(C) = sum over u in C of (|v_u| - threshold)``; the null is the largest mass (and size) over
    all sheets of the same relabelling, and over clusters of either sign where both are shown. Its null hypothesis is
    that both sides have the same distribution of responses; with the null "wild", the same means (see `t_map`).

    Parameters
    ----------
    maps : mapping of site to UnitMap
        Maps with "label" nulls of equally many draws, as `t_map` makes them; where all have a null "wild" as well,
        that is used.
    threshold : float
        Cluster-forming threshold, above 0, in units of the map.
    contiguity : {"rook", "queen"}
        Which units touch.
    sign : {"both", "positive", "negative"}
        Clusters of values above the threshold, below its negative, or of either kind, which then are one family.
        One sign alone has to be chosen before looking.

    Returns
    -------
    list of ClusterTest
        Every cluster, the one of largest mass first, whatever its p.

    Raises
    ------
    ValueError
        If a map carries no label null, draws differ in number, or the threshold is not above 0.

    Notes
    -----
    The threshold has to be chosen before looking; the family-wise error holds for any choice.

    References
    ----------
    Maris & Oostenveld 2007; Nichols & Holmes 2002.
    """
    if sign not in _DIRECTIONS:
        raise ValueError(f"sign={sign!r}; expected 'both', 'positive' or 'negative'")
    if not (threshold > 0 and np.isfinite(threshold)):
        raise ValueError(f"threshold={threshold}; expected a value above 0, for example 3 for a map of t")
    bare = [site for site, unit_map in maps.items() if "label" not in unit_map.nulls]
    if bare or not maps:
        raise ValueError(f"the map at {(bare or ['?'])[0]!r} has no label null; make it with t_map(..., n_draws=1000)")
    null = "wild" if all("wild" in unit_map.nulls for unit_map in maps.values()) else "label"
    n_draws = {len(unit_map.nulls[null]) for unit_map in maps.values()}
    if len(n_draws) > 1:
        raise ValueError(f"maps have {sorted(n_draws)} label draws; make all with the same n_draws and seed")
    largest = np.zeros((n_draws.pop(), 2))
    found: list[tuple[str, np.ndarray, float, float]] = []
    for site, unit_map in maps.items():
        graph = adjacency(unit_map.sheet, contiguity)
        for direction in _DIRECTIONS[sign]:
            above = patches_above(graph, direction * unit_map.values, threshold)
            found += [(site, *cluster, direction) for cluster in above]
            largest = np.maximum(largest, largest_above(graph, direction * unit_map.nulls[null], threshold))
    tests = [_tested(maps[site], members, mass, largest, direction) for site, members, mass, direction in found]
    return sorted(tests, key=lambda test: -test.mass)


_DIRECTIONS = {"both": (1.0, -1.0), "positive": (1.0,), "negative": (-1.0,)}


def patches_above(graph: csr_array, values: np.ndarray, threshold: float) -> list[tuple[np.ndarray, float]]:
    """Units and mass of every connected patch of values above a threshold."""
    labels = _connected(graph, values > threshold)
    clusters_of_map = [np.flatnonzero(labels == label) for label in range(labels.max(initial=-1) + 1)]
    return [(members, float((values[members] - threshold).sum())) for members in clusters_of_map]


def largest_above(
    graph: csr_array, maps: Float[np.ndarray, "draws units"], threshold: float
) -> Float[np.ndarray, "draws 2"]:
    """Largest mass and largest size of a cluster in every map: all maps are one graph of as many pieces."""
    largest, above = np.zeros((len(maps), 2)), maps > threshold
    one, other = triu(graph, k=1).coords
    draw, pair = np.nonzero(above[:, one] & above[:, other])
    number = np.cumsum(above.ravel()) - 1  # of each unit above the threshold, counted over all maps
    first, second = (number[draw * maps.shape[1] + units[pair]] for units in (one, other))
    n_above = int(above.sum())
    joined = csr_array((np.ones(len(first), bool), (first, second)), shape=(n_above, n_above))
    n_clusters, cluster = connected_components(joined, directed=False)
    draw_of_cluster = np.empty(n_clusters, np.int64)
    draw_of_cluster[cluster] = np.nonzero(above)[0]
    mass = np.bincount(cluster, maps[above].astype(np.float64) - threshold, n_clusters)
    np.maximum.at(largest, draw_of_cluster, np.stack([mass, np.bincount(cluster, minlength=n_clusters)], axis=1))
    return largest


def _tested(
    unit_map: UnitMap, members: np.ndarray, mass: float, largest: Float[np.ndarray, "draws 2"], direction: float
) -> ClusterTest:
    values = direction * unit_map.values
    mask = np.zeros(len(values), bool)
    mask[members] = True
    peak = int(members[values[members].argmax()])
    # a millionth of slack: the draw that is the observed labelling counts whatever its last bits are
    reached = largest >= np.array([mass, len(members)]) * (1 - 1e-6)
    p_mass, p_size = ((1 + reached.sum(0)) / (len(largest) + 1)).tolist()
    rule = f"cluster with family-wise p {p_value(p_mass, sign=True)}"
    selection = Selection(unit_map.site, mask, unit_map.sheet, rule, {**unit_map.provenance, "mass": mass})
    return ClusterTest(selection, len(members), mass, peak, float(unit_map.values[peak]), p_mass, p_size)


def _connected(graph: csr_array, inside: Bool[np.ndarray, " units"]) -> np.ndarray:
    """Label of each unit from 0, -1 outside."""
    labels, members = np.full(len(inside), -1), np.flatnonzero(inside)
    if len(members):
        labels[members] = connected_components(graph[members][:, members], directed=False)[1]
    return labels


def _components(graph: csr_array, values: np.ndarray, min_prominence: float) -> np.ndarray:
    return _connected(graph, values > 0)


def _published(graph: csr_array, values: np.ndarray, min_prominence: float) -> np.ndarray:
    labels = _connected(graph, values >= 0)
    strong = [label for label in range(labels.max(initial=-1) + 1) if values[labels == label].max() >= 1]
    return _renumbered(np.where(np.isin(labels, strong), labels, -1))


def _watershed(graph: csr_array, values: np.ndarray, min_prominence: float) -> np.ndarray:
    """Flood from the top: each unit joins the basin of its highest labelled neighbour; low peaks are absorbed."""
    basin = [-1] * len(values)
    parent: list[int] = []
    peaks: list[float] = []

    def root(label: int) -> int:
        while parent[label] != label:
            label = parent[label]
        return label

    inside = np.flatnonzero(values > 0)
    for unit in inside[np.argsort(-values[inside], kind="stable")]:
        neighbours = graph.indices[graph.indptr[unit] : graph.indptr[unit + 1]].tolist()
        touched = [n for n in neighbours if basin[n] >= 0]
        if not touched:
            basin[unit] = len(parent)
            parent.append(len(parent))
            peaks.append(float(values[unit]))
            continue
        basin[unit] = basin[max(touched, key=lambda n: values[n])]
        roots = sorted({root(basin[n]) for n in touched}, key=lambda label: -peaks[label])
        for lower in roots[1:]:
            if peaks[lower] - values[unit] < min_prominence:
                parent[lower] = roots[0]
    return _renumbered(np.array([root(label) if label >= 0 else -1 for label in basin]))


def _renumbered(labels: np.ndarray) -> np.ndarray:
    """The same labels without gaps, -1 kept."""
    new, renumbered = np.unique(labels, return_inverse=True)
    return renumbered - int(new[0] == -1)


CLUSTER_METHODS = {"components": _components, "watershed": _watershed, "published": _published}
