"""What driving a place of a sheet changes, at which price, beside other places and random directions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student_t
from torch import nn
from tqdm.auto import tqdm

from topographic.interventions.perturb import drive
from topographic.interventions.replay import replayed
from topographic.interventions.stimulation import as_direction
from topographic.maps import Selection, UnitMap
from topographic.sheets.expectations import expect_number

__all__ = ["SteeringEffect", "steering_curve"]

Direction = UnitMap | Selection | Sequence[UnitMap | Selection]
ContextMeasure = Callable[[nn.Module], Mapping[str, Any]]
_FEWEST_OF_INTERVAL = 39  # draws, of which 2.5 % lie beyond the limit on either side
_TIED = 1e-6  # of a change: controls that come that near reach it


@dataclass(frozen=True)
class SteeringEffect:
    """One line of the table: what one measure was at one strength of one kind of direction.

    Parameters
    ----------
    measure : str
        Name of the measure, for example "nouns - verbs" or "perplexity".
    kind : str
        "target", or the name of a control.
    strength : float
        Factor of the direction.
    value : float
        Mean over contexts; of controls over draws as well.
    change : float
        Its difference from strength 0.
    low, high : float
        Of the target 95 % confidence limits of the change over contexts (Student's t of the paired differences; NaN for
        a measure that is one number). Of controls where 95 % of the draws' changes lie; NaN for fewer than 39.
    p : float
        Of controls: share of draws that change the measure at least as far as the target does at this strength, in
        either direction, ``(1 + #{|c| >= |target|}) / (n + 1)``. NaN at strength 0 and for the target.
    n : int
        Contexts of the target, draws of a control.
    """

    measure: str
    kind: str
    strength: float
    value: float
    change: float
    low: float
    high: float
    p: float
    n: int


def steering_curve(
    model: nn.Module,
    target: Direction,
    strengths: Sequence[float],
    measure: ContextMeasure,
    *,
    controls: Mapping[str, Sequence[Direction]] | None = None,
    relayout: bool = False,
    progress: bool = True,
) -> list[SteeringEffect]:
    """Drive one direction with every strength, and read what the model then does.

    Parameters
    ----------
    model : nn.Module
        Any model; a `rebased` one is driven on the sheets of its adaptors.
    target : UnitMap, Selection, or sequence of them
        As `micro_stimulation` makes it, or units that are driven alike; one per site.
    strengths : sequence of float
        Factors, as of `drive`; negative ones suppress.
    measure : callable
        ``model -> {name: value}``, a value being one number (the perplexity of some prose, as the price) or an array of
        one per context (`topographic.behaviour.next_word_preference`).
    controls : mapping of str to sequence of directions, optional
        Draws of each kind, such as those of `direction_controls`: the same elsewhere, random directions of equal norm.
    relayout : bool
        As in `ablate`.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    list of SteeringEffect
        For every measure and strength a row of the target and one of every control.

    Raises
    ------
    ValueError
        If there are no strengths, one is not finite or comes twice, a control has no draws, or a measure is not finite
        or changes its contexts; as `drive`.
    TypeError
        If the measure returns no mapping of numbers.
    """
    strengths = [float(strength) for strength in strengths]
    if not strengths or len(set(strengths)) < len(strengths):
        raise ValueError(f"strengths={strengths}; expected different numbers, at least one")
    for strength in strengths:
        expect_number("strength", strength, "a finite factor", least=-np.inf)
    controls = {} if controls is None else controls
    if empty := [kind for kind, draws in controls.items() if kind == "target" or not len(draws)]:
        raise ValueError(f"controls: {empty[0]!r} has no draws, or the name of the target; give at least one draw each")
    of_target, drawn = (
        _directions(target),
        {kind: [_directions(one) for one in draws] for kind, draws in controls.items()},
    )
    moving = [strength for strength in strengths if strength]
    n_runs = 1 + len(moving) * (1 + sum(map(len, drawn.values())))
    with tqdm(total=n_runs, desc="steering", disable=not progress) as bar:

        def read(direction: dict[str, UnitMap], strength: float) -> dict[str, Float[np.ndarray, " contexts"]]:
            bar.update()
            if not strength:
                return _read(measure, model, "undriven")
            with drive(model, direction=direction, strength=strength, relayout=relayout):
                return _read(measure, model, f"at strength {strength:g}")

        sites = {site for one in [of_target, *(one for draws in drawn.values() for one in draws)] for site in one}
        with replayed(model, sorted(sites)):
            before = read(of_target, 0.0)
            at = {strength: read(of_target, strength) if strength else before for strength in strengths}
            beside = {
                (kind, strength): [read(one, strength) if strength else before for one in draws]
                for kind, draws in drawn.items()
                for strength in strengths
            }
    rows = []
    for name, intact in before.items():
        for strength in strengths:
            row = _target_row(name, strength, at[strength], intact)
            rows.append(row)
            rows += [_control_row(row, kind, beside[kind, strength], intact) for kind in drawn]
    return rows


def _directions(target: Direction) -> dict[str, UnitMap]:
    several = [target] if isinstance(target, UnitMap | Selection) else list(target)
    found = {one.site: as_direction(one) for one in several}
    if len(found) < len(several) or not found:
        raise ValueError(f"{len(several)} directions for {len(found)} sites; expected one per site, at least one")
    return found


def _read(measure: ContextMeasure, model: nn.Module, state: str) -> dict[str, Float[np.ndarray, " contexts"]]:
    found: Any = measure(model)
    try:
        read = {str(name): np.atleast_1d(np.asarray(value, dtype=np.float64)) for name, value in found.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise TypeError(
            f"the measure returned a {type(found).__name__} without numbers ({error}); expected {{name: number}}, or "
            "an array of one number per context"
        ) from error
    for name, values in read.items():
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise ValueError(
                f"measure {name!r} has shape {values.shape} and {int((~np.isfinite(values)).sum())} entries that are "
                f"not finite {state}; expected one finite number per context: drive less, or mend the measure"
            )
    return read


def _changes(values: Mapping[str, np.ndarray], name: str, intact: np.ndarray) -> Float[np.ndarray, " contexts"]:
    if name not in values or values[name].shape != intact.shape:
        raise ValueError(f"measure {name!r} gave {len(intact)} contexts of the undriven model and not later; keep them")
    return values[name] - intact


def _target_row(name: str, strength: float, values: Mapping[str, np.ndarray], intact: np.ndarray) -> SteeringEffect:
    changes = _changes(values, name, intact)
    mean, n = float(changes.mean()), len(changes)
    half = float(student_t.ppf(0.975, n - 1) * changes.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    value = float(values[name].mean())
    return SteeringEffect(name, "target", strength, value, mean, mean - half, mean + half, float("nan"), n)


def _control_row(
    target: SteeringEffect, kind: str, draws: Sequence[Mapping[str, np.ndarray]], intact: np.ndarray
) -> SteeringEffect:
    changes = np.array([_changes(values, target.measure, intact).mean() for values in draws])
    n, mean = len(changes), float(changes.mean())
    low, high = np.quantile(changes, [0.025, 0.975]) if n >= _FEWEST_OF_INTERVAL else (np.nan, np.nan)
    reached = np.abs(changes) >= abs(target.change) * (1 - _TIED)
    p = float((1 + reached.sum()) / (n + 1)) if target.strength else float("nan")
    value = float(intact.mean()) + mean
    return SteeringEffect(target.measure, kind, target.strength, value, mean, float(low), float(high), p, n)
