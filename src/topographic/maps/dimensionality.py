"""Effective dimensionality: over how many directions the responses of a site spread."""

import numpy as np

from topographic.recording.responses import Responses

__all__ = ["effective_dimensionality", "independent_units_dimensionality"]


def effective_dimensionality(responses: Responses) -> float:
    """Participation ratio of the eigenvalues of the covariance between units.

    ``ED = (sum_k lambda_k)^2 / sum_k lambda_k^2 = tr(K)^2 / ||K||_F^2`` with ``K`` the smaller of
    ``X X^T`` and ``X^T X``, ``X`` the responses centred over the stimuli.

    Parameters
    ----------
    responses : Responses
        Responses of one site, values of shape (stimuli, units).

    Returns
    -------
    float
        Between 1 and the smaller of ``n_stimuli - 1`` and ``n_units``.

    Raises
    ------
    ValueError
        If no unit varies over the stimuli.

    Notes
    -----
    Both Gram matrices have the same eigenvalues, so none have to be computed. Numbers of different
    sets of stimuli cannot be compared: the bound grows with their number.

    References
    ----------
    Margalit et al. 2024, Neuron 112 (TDANN); Deb et al. 2025, TopoNets, ICLR.
    """
    centred = responses.values.astype(np.float64)
    centred -= centred.mean(axis=0)
    gram = centred @ centred.T if centred.shape[0] < centred.shape[1] else centred.T @ centred
    size = np.square(gram).sum()
    if size == 0:
        raise ValueError(
            f"responses at {responses.site!r} are the same for every stimulus; dimensionality needs some that vary: "
            "check the site and the stimuli"
        )
    return float(np.trace(gram) ** 2 / size)


def independent_units_dimensionality(n_stimuli: int, n_units: int) -> float:
    """Effective dimensionality of units that are independent and equally variable: what to compare a site with.

    ``ED_0 = (p nu + 2) / (nu + p + 1)`` with ``nu = n_stimuli - 1`` and ``p = n_units``.

    Parameters
    ----------
    n_stimuli, n_units : int
        Size of the responses.

    Returns
    -------
    float
        Ratio of the expectations of numerator and denominator for normal noise: below both bounds, because
        eigenvalues of few samples are unequal even where those of the population are not.

    Raises
    ------
    ValueError
        If there are fewer than two stimuli or no units.

    Notes
    -----
    A null that permutes units says nothing here: the covariance has the same eigenvalues wherever units lie.

    References
    ----------
    Moments of a Wishart matrix, Muirhead 1982, Aspects of Multivariate Statistical Theory, ch. 3.
    """
    if n_stimuli < 2 or n_units < 1:
        raise ValueError(f"n_stimuli={n_stimuli}, n_units={n_units}; expected at least 2 stimuli and 1 unit")
    freedom = n_stimuli - 1
    return (n_units * freedom + 2) / (freedom + n_units + 1)
