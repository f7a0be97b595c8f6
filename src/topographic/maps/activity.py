"""Smoothness of activity itself, stimulus by stimulus, in a model and in cortex."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from topographic.maps.autocorrelation import each_morans_i
from topographic.maps.nulls import check_draws, stream
from topographic.maps.references import Referenced, compare
from topographic.recording.responses import Responses

__all__ = ["ActivitySmoothness", "activity_smoothness", "spatial_alignment"]


@dataclass(frozen=True, eq=False)
class ActivitySmoothness:
    """Moran's I of what every stimulus evokes.

    Parameters
    ----------
    each : ndarray, shape (stimuli,)
        I of the activity to each stimulus.
    mean : Referenced
        Their mean, beside the same with the units permuted, alike for all stimuli ("unit").
    """

    each: Float[np.ndarray, " stimuli"]
    mean: Referenced


def activity_smoothness(responses: Responses, *, n_draws: int = 199, seed: int = 0) -> ActivitySmoothness:
    """Moran's I of the activity to every stimulus, each unit in standard deviations from its mean over the stimuli.

    The null hypothesis of its p: it does not matter which unit lies in which place.

    Parameters
    ----------
    responses : Responses
        Of any sheet, a cortical mesh included; units that never vary count as at their mean. Judge a layout on stimuli
        it was not fitted on.
    n_draws : int
        Permutations of the units.
    seed : int
        Of these.

    Returns
    -------
    ActivitySmoothness
        I of each stimulus, and their mean.

    Raises
    ------
    NotMeasurable
        If no two units are neighbours.
    ValueError
        If there are fewer than 2 stimuli or draws.

    Notes
    -----
    Beside this belongs the same on a control sheet, such as that of a rotation fitted on tokens shuffled within units:
    a permutation says that there is order, not that the content of the fit made it.

    References
    ----------
    TopoTransform (Rathi et al. 2026) compares I of single stimuli between model and cortex.
    """
    check_draws(n_draws, seed, least=2)
    values = _standardised(responses)
    each = each_morans_i(values, responses.sheet)
    generator = stream(seed, "unit", responses.site)
    draws = [
        float(each_morans_i(values[:, generator.permutation(values.shape[1])], responses.sheet).mean())
        for _ in range(n_draws)
    ]
    value = float(each.mean())
    return ActivitySmoothness(each, Referenced(value, {"unit": compare(value, np.array(draws))}))


def spatial_alignment(first: Responses, second: Responses, *, n_draws: int = 999, seed: int = 0) -> Referenced:
    """Whether stimuli that evoke smooth activity on one sheet do so on another, such as a cortex.

    Pearson's r over stimuli of Moran's I on the two sheets, beside the same with stimuli exchanged ("stimulus").

    The null hypothesis: how smooth a stimulus is on one sheet says nothing of the other.

    Parameters
    ----------
    first, second : Responses
        Responses to the same stimuli, on any two sheets.
    n_draws : int
        Permutations of the stimuli.
    seed : int
        Of these.

    Returns
    -------
    Referenced
        r with its null, p one-sided (greater).

    Raises
    ------
    ValueError
        If the stimuli differ, or I does not vary over them.
    """
    check_draws(n_draws, seed, least=2)
    if first.stimuli.checksum != second.stimuli.checksum:
        raise ValueError(
            f"responses to {first.stimuli!r} and to {second.stimuli!r}; expected the same stimuli in one order"
        )
    one, other = (each_morans_i(_standardised(responses), responses.sheet) for responses in (first, second))
    if len(one) < 3 or not one.std() or not other.std():
        raise ValueError(f"Moran's I does not vary over {len(one)} stimuli; give at least 3 that differ")
    value = float(np.corrcoef(one, other)[0, 1])
    generator = stream(seed, "stimulus")
    draws = np.array([np.corrcoef(one, generator.permutation(other))[0, 1] for _ in range(n_draws)])
    return Referenced(value, {"stimulus": compare(value, draws)})


def _standardised(responses: Responses) -> Float[np.ndarray, "stimuli units"]:
    values = responses.values.astype(np.float64)
    if len(values) < 2:
        raise ValueError(f"{len(values)} stimulus at {responses.site!r}; expected at least 2, whose mean is taken away")
    spread = values.std(0)
    return (values - values.mean(0)) / np.where(spread > 0, spread, 1.0)
