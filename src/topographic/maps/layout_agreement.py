"""Whether two layouts of one population, such as those of two halves of a text, put the same things side by side."""

from dataclasses import dataclass

import numpy as np

from topographic.maps.curves import unit_length
from topographic.maps.distance_decay import block_orders
from topographic.maps.nulls import check_draws, stream
from topographic.maps.references import Referenced, compare
from topographic.recording.responses import Responses
from topographic.sheets import distances

__all__ = ["LayoutAgreement", "layout_agreement"]


@dataclass(frozen=True, eq=False)
class LayoutAgreement:
    """How far two sheets of one population agree.

    Parameters
    ----------
    match : float
        Mean over places of the first sheet of the largest ``|r|`` with a place of the second.
    arrangement : Referenced
        Correlation, over pairs of places of the first sheet, of their distance there with that of their matches on the
        second; beside the second sheet's places permuted ("unit") and its blocks in another order ("block").
    """

    match: float
    arrangement: Referenced


def layout_agreement(
    first: Responses, second: Responses, *, block: int = 6, n_draws: int = 199, seed: int = 0
) -> LayoutAgreement:
    """Agreement of two layouts of one population, whatever way round they lie.

    ``j(i) = argmax_j |r(first_i, second_j)``, and ``arrangement = corr(d_1(i, k), d_2(j(i), j(k)))``, which does not
    change when a sheet is turned or mirrored, or its values change their sign.

    The null hypothesis: places of the second sheet, or its blocks, might as well lie in any other order.

    Parameters
    ----------
    first, second : Responses
        Of the same stimuli, best ones that neither layout was fitted on: recorded through adaptors that were fitted
        on two halves of a text, this is the reliability of the layout.
    block : int
        As in `distance_decay`.
    n_draws, seed
        Of each null.

    Returns
    -------
    LayoutAgreement
        How well places find a match, and whether matches lie alike.

    Raises
    ------
    ValueError
        If the stimuli differ, a place never varies, or the second sheet is no lattice.
    NotMeasurable
        If fewer than 4 blocks fit.

    Notes
    -----
    Two fits from one start agree by that in places that say little: give them different seeds, and show the same for
    two fits on tokens shuffled within units.
    """
    check_draws(n_draws, seed, least=2)
    if first.stimuli.checksum != second.stimuli.checksum:
        raise ValueError(
            f"responses to {first.stimuli!r} and to {second.stimuli!r}; expected the same stimuli in one order"
        )
    columns = []
    for one in (first, second):
        values = one.values.astype(np.float64)
        if n_flat := int((np.ptp(values, axis=0) == 0).sum()):
            raise ValueError(f"{n_flat} places at {one.site!r} never vary; give stimuli to which all do")
        columns.append(unit_length(values))
    r = np.abs(columns[0].T @ columns[1])
    matched = r.argmax(1)
    between = [
        distances(one.sheet.positions_mm, period_mm=one.sheet.period_mm).numpy().astype(np.float64)
        for one in (first, second)
    ]
    pairs = np.triu_indices(len(matched), 1)
    own = between[0][pairs]

    def arrangement(places: np.ndarray) -> float:
        apart = between[1][places[pairs[0]], places[pairs[1]]]
        return float(np.corrcoef(own, apart)[0, 1]) if apart.std() else 0.0

    value = arrangement(matched)
    n_units, site = second.sheet.n_units, second.site
    orders = {
        "unit": stream(seed, "unit", site).permuted(np.tile(np.arange(n_units), (n_draws, 1)), axis=1),
        "block": block_orders(second.sheet, block, n_draws, stream(seed, "block", site)),
    }
    nulls = {
        name: compare(value, np.array([arrangement(order[matched]) for order in drawn]))
        for name, drawn in orders.items()
    }
    return LayoutAgreement(float(r.max(1).mean()), Referenced(value, nulls))
