"""Where sheets meet cortex: which units predict a measure, and from where on a sheet cortex is predicted.

Both directions keep smoothness in their nulls. Spectral surrogates (`spectral_surrogates`) move what lies on a sheet,
the spin moves what lies on the surface.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist
from scipy.spatial.transform import Rotation

from topographic.brain.encoding import Encoding
from topographic.brain.word_scores import without_controls
from topographic.maps import Referenced, UnitMap, spectral_surrogates
from topographic.maps.nulls import check_draws, stream
from topographic.maps.references import compare
from topographic.sheets import Sheet

__all__ = [
    "prediction_map",
    "preferred_position_maps",
    "preferred_positions_mm",
    "sheet_cortex_distances",
    "weight_maps",
]


def prediction_map(
    values: Shaped[np.ndarray, "samples units"],
    target: Shaped[np.ndarray, " rows"],
    sheet: Sheet,
    site: str,
    *,
    controls: Shaped[np.ndarray, "others controls"] | None = None,
    name: str = "",
    n_draws: int = 200,
    seed: int = 0,
) -> UnitMap:
    """Which units follow a measure: correlation of every unit with it, beyond controls, on the sheet.

    ``r_u = corr(x_u - C a_u, y - C b)`` with least squares ``a_u, b``.

    The null hypothesis of the null "shift": where in time the target lies beside the responses does not matter.

    Parameters
    ----------
    values : ndarray, shape (samples, units)
        Responses of a site to words or at scans, in their order.
    target : ndarray, shape (samples,)
        Of the same samples: a potential, a voxel, the mean of a parcel.
    sheet : Sheet
        Of the units.
    site : str
        Name of the recorded module.
    controls : ndarray, shape (samples, controls), optional
        What is taken out of both; a constant always is.
    name : str
        What the target is, for the provenance.
    n_draws : int
        Draws of the null "shift": the target moved around by a random number of samples, which keeps its
        autocorrelation, and what the units share; 0 for none.
    seed : int
        Seed of the shifts, which are those of every site with that seed.

    Returns
    -------
    UnitMap
        Statistic "r", with two-sided p and ``nulls["shift"]`` where there are draws.

    Raises
    ------
    ValueError
        If lengths differ, or something is not finite.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(80, 9))
    >>> found = prediction_map(x, x[:, 4] + rng.normal(size=80), grid(9), "h.0", name="N400")
    >>> int(found.values.argmax())
    4
    """
    check_draws(n_draws, seed)
    if not len(values) == len(target) or (controls is not None and len(controls) != len(target)):
        raise ValueError(
            f"{len(values)} samples of {site!r} for {len(target)} of the measure; expected as many, and of the controls"
        )
    fixed = np.empty((len(target), 0)) if controls is None else controls.astype(np.float64)
    given = np.column_stack([target, values]).astype(np.float64)
    if not (np.isfinite(given).all() and np.isfinite(fixed).all()):
        raise ValueError(f"responses of {site!r}, measure or controls are not finite; leave those samples out")
    residual = without_controls(fixed, given)
    size = np.linalg.norm(residual, axis=0)
    small = size < 1e-6 * np.linalg.norm(given, axis=0)
    residual = residual / np.where(small, np.inf, size)
    units, measure = residual[:, 1:], residual[:, 0]
    r = np.where(small[1:], np.nan, measure @ units)
    provenance = {"target": name, "n_samples": len(target), "n_controls": fixed.shape[1], "seed": seed}
    if not n_draws:
        return UnitMap(site, r, sheet, "r", provenance=provenance)
    shifts = stream(seed, "prediction shift").integers(1, len(target), n_draws)
    moved = np.stack([np.roll(measure, shift) for shift in shifts])
    drawn = np.where(small[1:], np.nan, moved @ units)
    with np.errstate(invalid="ignore"):
        p = (1 + (np.abs(drawn) >= np.abs(r) - 1e-9).sum(axis=0)) / (n_draws + 1)
    p = np.where(small[1:], np.nan, p)
    return UnitMap(site, r, sheet, "r", p=p, nulls={"shift": drawn}, provenance=provenance)


def weight_maps(
    encoding: Encoding,
    sheets: Mapping[str, Sheet],
    target: int,
    *,
    scale: Shaped[np.ndarray, " features"] | None = None,
) -> dict[str, UnitMap]:
    """Weights of an encoding model back on the sheets their features came from.

    Parameters
    ----------
    encoding : Encoding
        Fitted with ``keep_weights=True`` to the units of the sites side by side, in the order of ``sheets``; delayed
        features are as many copies of that, whose weights are added up.
    sheets : mapping of str to Sheet
        Of every site.
    target : int
        Of which voxel, vertex or measure.
    scale : ndarray, shape (features,), optional
        Standard deviation of the features: weights times it compare units of different sizes.

    Returns
    -------
    dict of str to UnitMap
        Statistic "encoding_weight".

    Raises
    ------
    ValueError
        If the encoding has no weights, the sheets have other numbers of units, or there is no such target.
    """
    if encoding.weights is None:
        raise ValueError("this encoding has no weights; fit it with keep_weights=True")
    weights, n_units = encoding.weights, sum(sheet.n_units for sheet in sheets.values())
    if not 0 <= target < weights.shape[1]:
        raise ValueError(f"target={target} of {weights.shape[1]}; expected a number from 0")
    if not n_units or len(weights) % n_units:
        raise ValueError(
            f"{len(weights)} features for sheets of {n_units} units in all; expected as many, or that many per delay"
        )
    column = weights[:, target] if scale is None else weights[:, target] * scale
    summed = column.reshape(-1, n_units).sum(axis=0)
    edges = np.cumsum([sheet.n_units for sheet in sheets.values()])[:-1]
    provenance = {"target": target, "n_delays": len(weights) // n_units, "folds": encoding.folds}
    return {
        site: UnitMap(site, part, sheets[site], "encoding_weight", provenance=provenance)
        for site, part in zip(sheets, np.split(summed, edges), strict=True)
    }


def preferred_positions_mm(
    scores: Shaped[np.ndarray, "targets units"], sheet: Sheet
) -> Float[np.ndarray, "targets axes"]:
    """Where on a sheet each target is predicted from: the centre of its units with positive scores, weighted by these.

    Around a torus the centre is that of angles. NaN where no unit has a positive score.

    Parameters
    ----------
    scores : ndarray, shape (targets, units)
        Of every parcel, vertex or measure, what each unit predicts of it (`prediction_map`).
    sheet : Sheet
        Of the units.

    Returns
    -------
    ndarray, shape (targets, axes)
        In mm.

    Raises
    ------
    ValueError
        If there is not one score per unit.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape[1] != sheet.n_units:
        raise ValueError(f"{scores.shape[1]} scores for the {sheet.n_units} units of {sheet.name!r}; expected as many")
    weight = np.maximum(np.nan_to_num(scores), 0.0)
    total = weight.sum(axis=1, keepdims=True)
    share = np.divide(weight, total, out=np.full(weight.shape, np.nan), where=total > 0)
    positions = sheet.positions_mm.numpy().astype(np.float64)
    if not sheet.wrap:
        return share @ positions
    period = np.asarray(sheet.extent_mm, dtype=np.float64)
    mean = share @ np.exp(2j * np.pi * positions / period)
    return np.mod(np.angle(mean) / (2 * np.pi), 1.0) * period


def preferred_position_maps(
    scores: Shaped[np.ndarray, "vertices units"], sheet: Sheet, surface: Sheet
) -> dict[str, UnitMap]:
    """Places of cortex by the position on a sheet that each is predicted from: a map of the surface per axis.

    Parameters
    ----------
    scores : ndarray, shape (vertices, units)
        What each unit predicts of each vertex; NaN rows for vertices without a recording.
    sheet : Sheet
        Of the units.
    surface : Sheet
        Of the vertices (`SurfaceMesh.sheet`).

    Returns
    -------
    dict of str to UnitMap
        By axis, "x" and "y"; statistic "preferred_x_mm" and so on. `map_correlation` with ``null="spin"`` holds one
        against any other map of a spherical surface.

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    if len(scores) != surface.n_units:
        raise ValueError(
            f"scores of {len(scores)} vertices for {surface.n_units} of {surface.name!r}; expected as many"
        )
    places = preferred_positions_mm(scores, sheet)
    return {
        axis: UnitMap(surface.name, places[:, index], surface, f"preferred_{axis}_mm", provenance={"of": sheet.name})
        for index, axis in zip(range(places.shape[1]), "xyz", strict=False)
    }


def sheet_cortex_distances(
    maps: Mapping[str, UnitMap] | Sequence[UnitMap],
    parcel_positions_mm: Float[np.ndarray, "parcels axes"],
    *,
    n_draws: int = 999,
    seed: int = 0,
) -> Referenced:
    """Whether parcels that lie near one another on the cortex have their units near one another on the sheet.

    Pearson's r, over pairs of parcels, of the distance between their preferred positions on the sheet
    (`preferred_positions_mm`) and the distance between their centres on the cortex.

    Null hypotheses: it does not matter where on the sheet smooth maps of parcels lie (spectral), nor where on the
    sphere parcels do (spin).

    Parameters
    ----------
    maps : UnitMap of every parcel
        What each unit of one sheet predicts of it (`prediction_map`).
    parcel_positions_mm : ndarray, shape (parcels, 3)
        Centres of the parcels on a sphere about the origin (as FreeSurfer's ``sphere``), in their order.
    n_draws : int
        Draws of both nulls.
    seed : int
        Seed.

    Returns
    -------
    Referenced
        r with two nulls, p one-sided. "spectral": all maps redrawn with the same signs, which keeps the smoothness of
        each and how alike any two are, and moves where on the sheet they lie: without order on the sheet r is as large.
        "spin": the sphere of parcels turned and parcels matched with the nearest, one to one, which keeps how alike
        neighbours are.

    Raises
    ------
    ValueError
        If there are fewer than 6 parcels, their maps lie on several sheets or have no positive value, or the centres
        are on no sphere.

    References
    ----------
    Wagner & Dray 2015, Methods Ecol. Evol. 6; Alexander-Bloch et al. 2018; Markello & Misic 2021, NeuroImage 236.
    """
    check_draws(n_draws, seed, least=2)
    given = list(maps.values()) if isinstance(maps, Mapping) else list(maps)
    centres = np.asarray(parcel_positions_mm, dtype=np.float64)
    if len(given) < 6 or centres.shape != (len(given), 3):
        raise ValueError(f"{len(given)} maps and centres {centres.shape}; expected 6 parcels or more, and (parcels, 3)")
    sheet = given[0].sheet
    if any(one.sheet.checksum != sheet.checksum for one in given):
        raise ValueError("the maps lie on several sheets; expected those of one: choose a site")
    radius = np.linalg.norm(centres, axis=1)
    if not np.ptp(radius) <= 0.1 * radius.mean():
        raise ValueError(
            f"centres lie {radius.min():.0f} to {radius.max():.0f} mm from the origin; expected places on a sphere, as "
            "on the surface 'sphere_left'"
        )
    cortex = pdist(centres)

    def correlation(places: np.ndarray) -> float:
        return float(np.corrcoef(_sheet_distances(places, sheet), cortex)[0, 1])

    places = preferred_positions_mm(np.stack([one.values for one in given]), sheet)
    if not np.isfinite(places).all():
        raise ValueError("a parcel has no unit of positive score; leave it out")
    value = correlation(places)
    # one site, one seed: the same signs for every parcel
    surrogates = np.stack([
        spectral_surrogates(UnitMap("parcels", one.values, sheet, one.statistic), n_draws, seed=seed) for one in given
    ])
    redrawn = [correlation(preferred_positions_mm(surrogates[:, draw], sheet)) for draw in range(n_draws)]
    turns = Rotation.random(n_draws, rng=stream(seed, "spin of parcels"))
    spun = []
    for turn in turns:
        matched = linear_sum_assignment(cdist(turn.apply(centres), centres))[1]
        spun.append(correlation(places[matched]))
    return Referenced(value, {"spectral": compare(value, np.array(redrawn)), "spin": compare(value, np.array(spun))})


def _sheet_distances(places: np.ndarray, sheet: Sheet) -> Float[np.ndarray, " pairs"]:
    first, second = np.triu_indices(len(places), k=1)
    apart = np.abs(places[first] - places[second])
    if sheet.wrap:
        period = np.asarray(sheet.extent_mm, dtype=np.float64)
        apart = np.minimum(apart, period - apart)
    return np.linalg.norm(apart, axis=1)
