"""Principal components of responses, laid on the sheet."""

import numpy as np

from topographic.maps.nulls import check_seed
from topographic.maps.unit_map import UnitMap
from topographic.recording.responses import Responses

__all__ = ["principal_components"]


def principal_components(
    responses: Responses, n_components: int = 3, *, n_draws: int = 0, seed: int = 0
) -> list[tuple[UnitMap, float]]:
    """Loadings of the units on the first principal components of their responses.

    ``X = U S V^T`` with ``X`` the responses centred over the stimuli; component k is column k of ``V``, its share of
    the variance ``s_k^2 / sum_j s_j^2``.

    Parameters
    ----------
    responses : Responses
        Responses of one site, values of shape (stimuli, units).
    n_components : int
        How many, the largest first.
    n_draws : int
        Permutations of the units, kept as the null "unit" of every map.
    seed : int
        Decides the permutations.

    Returns
    -------
    list of (UnitMap, float)
        Map of the loadings, of length 1 and with a positive sum, and the share of the variance.

    Raises
    ------
    ValueError
        If there are not as many components, or no unit varies.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> from topographic.stimuli import StimulusSet
    >>> shown = StimulusSet("three", ("a", "b", "c"), ("x", "x", "y"))
    >>> values = np.array([[0.0, 0, 0, 0], [1, 1, 0, 0], [2, 2, 0, 0]])
    >>> ((component, share),) = principal_components(Responses("fc", values, grid(4), shown), 1)
    >>> np.abs(component.values.astype(float)).round(2).tolist(), round(share, 2)
    ([0.71, 0.71, 0.0, 0.0], 1.0)
    """
    check_seed(seed)
    most = min(responses.values.shape[0] - 1, responses.values.shape[1])
    if not 1 <= n_components <= most:
        raise ValueError(
            f"n_components={n_components} of {responses.values.shape[0]} stimuli and {responses.values.shape[1]} "
            f"units; expected 1 to {most}"
        )
    centred = responses.values.astype(np.float64)
    centred -= centred.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    total = np.square(lengths).sum()
    if total == 0:
        raise ValueError(f"responses at {responses.site!r} are the same for every stimulus: check the site and stimuli")
    draw = np.random.default_rng(seed)
    orders = np.array([draw.permutation(axes.shape[1]) for _ in range(n_draws)], int).reshape(n_draws, axes.shape[1])
    found = []
    for number, (axis, length) in enumerate(zip(axes[:n_components], lengths, strict=False), 1):
        loadings = axis if axis.sum() >= 0 else -axis
        unit_map = UnitMap(
            site=responses.site,
            values=loadings,
            sheet=responses.sheet,
            statistic="loading",
            nulls={"unit": loadings[orders]} if n_draws else {},
            provenance={"component": number, "stimuli": responses.stimuli.name},
        )
        found.append((unit_map, float(length**2 / total)))
    return found
