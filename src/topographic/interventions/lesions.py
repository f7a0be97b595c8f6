"""What a lesion costs, with its controls in the same table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import nn
from tqdm.auto import tqdm

from topographic.interventions.controls import CONTROLS, Selections, is_contiguous, matched_controls, one_per_site
from topographic.interventions.measures import Measure, measured
from topographic.interventions.perturb import ablate
from topographic.interventions.replay import replayed
from topographic.recording import Responses, carried_sheets
from topographic.recording.placement import check_places
from topographic.sheets import Sheet
from topographic.sheets.expectations import expect_whole

__all__ = ["LesionEffect", "corrected_p", "lesion_effects"]

_FEWEST_OF_INTERVAL = 39  # draws, of which 2.5 % lie beyond the limit on either side
_ROUNDING = 1e-9  # of a measure: a smaller change is none
_TIED = 1e-6  # of a change: controls that come that near reach it


@dataclass(frozen=True)
class LesionEffect:
    """One line of the table: what one measure was under one kind of lesion.

    Parameters
    ----------
    measure : str
        Name of the measure, for example "perplexity".
    kind : str
        "intact", "lesion" or the name of a control.
    n_units : int
        Number of silenced units.
    value : float
        The measure; for controls the mean over draws.
    sd : float
        Standard deviation over draws; 0 where there is one.
    p : float
        For controls: share of draws that change the measure from the intact model at least as far as the lesion does,
        in either direction, ``(1 + #{|c - intact| >= |lesion - intact|}) / (n + 1)``; two-sided, ties within rounding
        count. NaN elsewhere, and for scattered controls of a contiguous lesion (see `lesion_effects`).
    effect : float
        For controls: lesion minus mean of the controls. NaN elsewhere.
    low, high : float
        Where 95 % of the differences lesion minus control lie; NaN for fewer than 39 draws.
    changes : tuple of float
        For controls: how far from the intact model the lesion lies, and then each draw.
    tolerance : float
        For controls that are matched in norm and variance of what they remove: the largest relative difference. NaN
        where they are not matched so.
    """

    measure: str
    kind: str
    n_units: int
    value: float
    sd: float
    p: float
    effect: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    changes: tuple[float, ...] = field(default=(), repr=False)
    tolerance: float = float("nan")

    def to_row(self) -> dict[str, Any]:
        """One row of a table, without every single draw."""
        return {name: value for name, value in asdict(self).items() if name != "changes"}


def lesion_effects(
    model: nn.Module,
    selections: Selections,
    sheets: Mapping[str, Sheet] | None,
    measure: Measure,
    *,
    mode: str = "zero",
    responses: Mapping[str, Responses] | None = None,
    removed: Mapping[str, Responses] | None = None,
    tolerance: float = 0.1,
    n_draws: int = 99,
    seed: int = 0,
    relayout: bool = False,
) -> list[LesionEffect]:
    """Measure the intact model, the lesioned one, and one with each kind of control lesion.

    The null hypothesis of a p: the lesioned units are a random draw of the control's kind, as good as any other of its
    draws, which may overlap the lesion as those do each other.

    Parameters
    ----------
    model : nn.Module
        Any model.
    selections : Selection, sequence of Selection, or mapping of site to Selection
        The lesion.
    sheets : mapping of str to Sheet, optional
        Every sheet that controls may draw units from; with None those of the selections and all that the model carries.
    measure : callable
        ``model -> {name: number}``, or one number; called with the model in its lesioned state.
    mode : {"zero", "mean", "resample"}
        As in `ablate`.
    responses : mapping of str to Responses, optional
        Needed by "mean" and "resample", for every sheet.
    removed : mapping of str to Responses, optional
        Activity of the units at tokens (`record_tokens`), for every sheet that controls draw from. Where it is given
        controls are matched in what they remove as well, see `matched_controls`, and only those that judge are drawn.
    tolerance : float
        Of that match: the largest relative difference of the removed norm and variance.
    n_draws : int
        Control lesions of each kind; no p is below ``1 / (n_draws + 1)``.
    seed : int
        Seed of the controls.
    relayout : bool
        As in `ablate`.

    Returns
    -------
    list of LesionEffect
        Intact, lesion and every control, for each measure.

    Raises
    ------
    ValueError
        If the lesion is empty or no control, or none that is matched, is to be had, a number is out of range, or as
        `ablate`; before anything is measured. Afterwards if the measure is NaN or infinite for one of the models.
    TypeError
        If the measure returns no numbers, or as `ablate`.

    Notes
    -----
    Where what units are worth varies smoothly over the sheet, a patch is worth more or less than scattered units
    whatever it was chosen by: random patches differ from random units of their layer in .46 of cases at p <= .05. A
    contiguous lesion (one with more neighbours among its units than 95 % of random draws have) therefore has a p
    against connected controls only, which are as large and as compact; "model" and "layer" then describe. A scattered
    lesion has all three.
    """
    expect_whole("n_draws", n_draws, 1)
    selections = one_per_site(selections)
    sheets = carried_sheets(model) | {one.site: one.sheet for one in selections} if sheets is None else sheets
    how = {"mode": mode, "responses": responses, "relayout": relayout}
    with ablate(model, selections, seed=seed, **how):
        check_places(model, sheets.items(), "sheets=", relayout=relayout)
        judges = {"connected"} if is_contiguous(selections) else set(CONTROLS)
        generators = {kind: np.random.default_rng([seed, index]) for index, kind in enumerate(CONTROLS)}
        if removed is None:
            drawn = {
                kind: [control(selections, sheets, generator=generators[kind]) for _ in range(n_draws)]
                for kind, control in CONTROLS.items()
            }
        else:
            drawn = {
                kind: matched_controls(
                    kind, selections, sheets, removed, n_draws, generator=generators[kind], tolerance=tolerance
                )
                for kind in CONTROLS
                if kind in judges
            }
    own = frozenset(one.site for one in selections)
    alike: dict[frozenset[str], list[str]] = {own: []}  # kinds by the sites they change: together before any other
    for kind, controls in drawn.items():
        sites = own.union(one.site for control in controls for one in one_per_site(control))
        alike.setdefault(sites, []).append(kind)
    values: dict[str, list[dict[str, float]]] = {}
    lesioned: dict[str, float] = {}
    intact: dict[str, float] = {}
    for sites, kinds in alike.items():
        with replayed(model, sorted(sites)):
            if sites == own:
                with ablate(model, selections, seed=seed, **how):
                    lesioned = _finite(measure, model, "under the lesion")
                intact = _finite(measure, model, "for the intact model")
            for kind in kinds:
                values[kind] = []
                for draw, control in enumerate(tqdm(drawn[kind], desc=f"{kind} control", leave=False)):
                    with ablate(model, control, seed=seed + draw, **how):
                        values[kind].append(_finite(measure, model, f"under draw {draw} of the {kind} control"))
    n_units = sum(selection.n_selected for selection in selections)
    rows = [LesionEffect(name, "intact", 0, value, 0.0, float("nan")) for name, value in intact.items()]
    rows += [LesionEffect(name, "lesion", n_units, value, 0.0, float("nan")) for name, value in lesioned.items()]
    for kind in drawn:
        for name in intact:
            of_draws = np.array([draw[name] for draw in values[kind]])
            row = _compared(name, kind, n_units, intact[name], lesioned[name], of_draws)
            row = row if removed is None else replace(row, tolerance=tolerance)
            rows.append(row if kind in judges else replace(row, p=float("nan")))
    return rows


def corrected_p(effects: Sequence[LesionEffect]) -> list[float]:
    """Correct the p of every row that has one for all of them together; NaN for the others.

    Single-step max-T over one family of measures, controls and lesions: the share of draws whose largest change, each
    in units of its root mean square over lesion and draws, reaches that of the row. Unlike Holm's it can be as small
    as a single p, ``1 / (n_draws + 1)``, however large the family.

    Parameters
    ----------
    effects : sequence of LesionEffect
        Rows of `lesion_effects`, of one lesion or of several with equally many draws.

    Returns
    -------
    list of float
        One per row.

    Examples
    --------
    >>> better, alike = ("a", (3.0, 1.0, 2.0)), ("b", (1.0, 1.0, 0.5))
    >>> rows = [LesionEffect(name, "layer", 5, 0.5, 0.1, 1 / 3, changes=far) for name, far in (better, alike)]
    >>> [round(p, 2) for p in corrected_p(rows)]
    [0.33, 0.67]
    """
    tested = [one for one in effects if not np.isnan(one.p)]
    if not tested:
        return [float("nan")] * len(effects)
    changes = np.array([one.changes for one in tested])
    scale = np.sqrt((changes**2).mean(axis=1, keepdims=True))
    scaled = np.divide(changes, scale, out=np.zeros_like(changes), where=scale > 0)
    largest = scaled[:, 1:].max(axis=0)
    found = iter(_share_that_reaches(one, largest) for one in scaled[:, 0])
    return [float("nan") if np.isnan(one.p) else next(found) for one in effects]


def _finite(measure: Measure, model: nn.Module, state: str) -> dict[str, float]:
    """What a measure says, if all of it can be compared."""
    found = measured(measure, model)
    for name, value in found.items():
        if not np.isfinite(value):
            raise ValueError(
                f"measure {name!r} is {value} {state}; expected a finite number: "
                "mend the measure, or lesion fewer units"
            )
    return found


def _compared(
    name: str, kind: str, n_units: int, intact: float, lesion: float, values: Float[np.ndarray, " draws"]
) -> LesionEffect:
    """Lesion beside the draws of one control."""
    both = np.array([lesion, *values])
    changes = np.abs(both - intact)
    changes[changes <= _ROUNDING * np.maximum(np.abs(both), abs(intact))] = 0
    enough = len(values) >= _FEWEST_OF_INTERVAL
    low, high = np.quantile(lesion - values, [0.025, 0.975]) if enough else (np.nan, np.nan)
    mean = float(values.mean())
    return LesionEffect(
        name,
        kind,
        n_units,
        mean,
        float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        _share_that_reaches(changes[0], changes[1:]),
        lesion - mean,
        float(low),
        float(high),
        tuple(changes.tolist()),
    )


def _share_that_reaches(change: float, draws: Float[np.ndarray, " draws"]) -> float:
    """``(1 + #{draw >= change}) / (n + 1)``, with ties."""
    return float((1 + (draws >= change * (1 - _TIED)).sum()) / (len(draws) + 1))
