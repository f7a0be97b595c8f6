"""What to add to a sheet: a Gaussian spread as of an electrode, and directions of equal norm to compare it with."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from topographic.interventions.controls import connected_control
from topographic.layouts import Adaptor
from topographic.maps import Selection, UnitMap
from topographic.sheets import Sheet, distances
from topographic.sheets.expectations import expect_number, expect_whole

__all__ = ["as_direction", "direction_controls", "micro_stimulation"]


def micro_stimulation(
    site: str, sheet: Sheet, centre: int | Sequence[float], *, sigma_mm: float, strength: float = 1.0
) -> UnitMap:
    """A Gaussian spread over a sheet, as a direction for `drive`.

    ``v_u = strength * exp(-d_u^2 / (2 sigma^2))``, d the distance of unit u from the centre, the short way round on a
    torus.

    Parameters
    ----------
    site : str
        Module whose units lie on the sheet.
    sheet : Sheet
        Where they lie.
    centre : int or sequence of float
        A unit, or a place in mm.
    sigma_mm : float
        Width, above 0.
    strength : float
        At the centre, in units of activation.

    Returns
    -------
    UnitMap
        Its provenance names centre and width.

    Raises
    ------
    ValueError
        If there is no such unit or place, or a number is out of range.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> micro_stimulation("h.0", grid((1, 4)), 1, sigma_mm=1.0, strength=2.0).values.round(2).tolist()
    [1.2100000381469727, 2.0, 1.2100000381469727, 0.27000001072883606]
    """
    expect_number("sigma_mm", sigma_mm, "a width in mm, above 0", least=1e-9)
    expect_number("strength", strength, "a finite number", least=-math.inf)
    if isinstance(centre, int | np.integer):
        if not 0 <= centre < sheet.n_units:
            raise ValueError(f"centre={centre}; expected one of the units 0 to {sheet.n_units - 1}, or a place in mm")
        place = sheet.positions_mm[int(centre)]
    else:
        place = torch.as_tensor(centre, dtype=torch.float64)
        if place.shape != sheet.positions_mm[0].shape or not place.isfinite().all():
            raise ValueError(
                f"centre={centre}; expected a unit, or {sheet.positions_mm.shape[1]} finite coordinates in mm"
            )
    far = distances(sheet.positions_mm, place.unsqueeze(0), period_mm=sheet.period_mm).squeeze(1)
    values = strength * torch.exp(-(far**2) / (2 * sigma_mm**2))
    spread = {"centre_mm": place.tolist(), "sigma_mm": float(sigma_mm), "strength": float(strength)}
    return UnitMap(site, values.numpy(), sheet, "gaussian spread", provenance=spread)


def direction_controls(
    target: UnitMap | Selection, n_draws: int, *, seed: int = 0, adaptor: Adaptor | None = None
) -> dict[str, list[UnitMap]]:
    """Directions of equal norm: the same elsewhere on the sheet, and random ones.

    Parameters
    ----------
    target : UnitMap or Selection
        What `micro_stimulation` made, or units that are driven alike.
    n_draws : int
        Directions of each kind.
    seed : int
        Seed of the draws.
    adaptor : Adaptor, optional
        Of the site: the norm that is equal is then that of ``v Q^-1 S``, of what is added to the stream of the model,
        in place of that of v on the sheet.

    Returns
    -------
    dict of str to list of UnitMap
        "elsewhere": the spread around a random unit, or connected patches as large and as compact
        (`connected_control`), which may overlap the target as random places do. "random": independent normal
        numbers at all units.

    Raises
    ------
    ValueError
        If the target is a map that is no Gaussian spread, has no norm, or is on another sheet than the adaptor.
    NotMeasurable
        If there is no room for a patch.
    """
    expect_whole("n_draws", n_draws, 1)
    direction = as_direction(target)
    norm = _norm_through(direction, adaptor)
    wanted = norm(direction.values)
    if wanted == 0:
        raise ValueError(f"the direction at {direction.site!r} is 0 everywhere; there is nothing to compare")
    elsewhere, random = (np.random.default_rng([seed, index]) for index in range(2))
    drawn = [_elsewhere(target, elsewhere) for _ in range(n_draws)]
    noise = [random.standard_normal(direction.sheet.n_units) for _ in range(n_draws)]

    def scaled(values: Float[np.ndarray, " units"], what: str) -> UnitMap:
        return UnitMap(direction.site, values * (wanted / norm(values)), direction.sheet, what)

    return {
        "elsewhere": [scaled(values, f"{direction.statistic} elsewhere") for values in drawn],
        "random": [scaled(values, "random direction") for values in noise],
    }


def as_direction(target: UnitMap | Selection) -> UnitMap:
    """A direction; of chosen units 1 at each of them."""
    if isinstance(target, Selection):
        return UnitMap(target.site, target.mask.astype(np.float32), target.sheet, target.rule)
    if not np.isfinite(target.values).all():
        raise ValueError(
            f"the direction map of {target.site!r} has no value at {int(np.isnan(target.values).sum())} of its "
            f"{target.sheet.n_units} units (NaN); give each a number, 0 where nothing is added"
        )
    return target


def _norm_through(direction: UnitMap, adaptor: Adaptor | None) -> Callable[[np.ndarray], float]:
    if adaptor is None:
        return lambda values: float(np.linalg.norm(values))
    if adaptor.sheet_site != direction.site or adaptor.sheet.checksum != direction.sheet.checksum:
        raise ValueError(
            f"the direction at {direction.site!r} lies on another sheet than the adaptor shows at "
            f"{adaptor.sheet_site!r}; give the adaptor of that site"
        )
    return lambda values: float(adaptor.to_stream(torch.from_numpy(values).float()).norm())


def _elsewhere(target: UnitMap | Selection, generator: np.random.Generator) -> Float[np.ndarray, " units"]:
    if isinstance(target, Selection):
        [patch] = connected_control([target], generator=generator)
        return patch.mask.astype(np.float64)
    if "sigma_mm" not in target.provenance:
        raise ValueError(
            f"the direction at {target.site!r} ({target.statistic}) is no Gaussian spread that could lie elsewhere; "
            "make it with micro_stimulation, give a Selection, or pass controls of your own"
        )
    unit = int(generator.integers(target.sheet.n_units))
    return micro_stimulation(target.site, target.sheet, unit, sigma_mm=target.provenance["sigma_mm"]).values.astype(
        np.float64
    )
