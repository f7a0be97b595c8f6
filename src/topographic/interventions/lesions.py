"""What a lesion costs, with its controls in the same table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn
from tqdm.auto import tqdm

from topographic.interventions.controls import CONTROLS, one_per_site
from topographic.interventions.measures import Measure, measured
from topographic.interventions.perturb import ablate
from topographic.maps import Selection
from topographic.recording import Responses, carried_sheets
from topographic.recording.placement import check_places
from topographic.sheets import Sheet
from topographic.sheets.expectations import expect_whole

__all__ = ["LesionEffect", "lesion_effects"]


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
        For controls: two-sided share of draws whose change from the intact model is at least as large as
        the lesion's, ``(1 + #{|c - intact| >= |lesion - intact|}) / (n + 1)``. NaN elsewhere.
    """

    measure: str
    kind: str
    n_units: int
    value: float
    sd: float
    p: float


def lesion_effects(
    model: nn.Module,
    selections: Selection | Sequence[Selection],
    sheets: Mapping[str, Sheet] | None,
    measure: Measure,
    *,
    mode: str = "zero",
    responses: Mapping[str, Responses] | None = None,
    n_draws: int = 20,
    seed: int = 0,
    relayout: bool = False,
) -> list[LesionEffect]:
    """Measure the intact model, the lesioned one, and one with each kind of control lesion.

    Parameters
    ----------
    model : nn.Module
        Any model.
    selections : Selection or sequence of Selection
        The lesion.
    sheets : mapping of str to Sheet, optional
        Every sheet that controls may draw units from; with None those of the selections and all that the model carries.
    measure : callable
        ``model -> {name: number}``, or one number; called with the model in its lesioned state.
    mode : {"zero", "mean", "resample"}
        As in `ablate`.
    responses : mapping of str to Responses, optional
        Needed by "mean" and "resample", for every sheet.
    n_draws : int
        Control lesions of each kind.
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
        If the lesion is empty or no control fits beside it, a number is out of range, or as `ablate`; before anything
        is measured.
    TypeError
        If the measure returns no numbers, or as `ablate`.
    """
    expect_whole("n_draws", n_draws, 1)
    selections = one_per_site(selections)
    sheets = carried_sheets(model) | {one.site: one.sheet for one in selections} if sheets is None else sheets
    how = {"mode": mode, "responses": responses, "relayout": relayout}
    with ablate(model, selections, seed=seed, **how):
        check_places(model, sheets.items(), "sheets=", relayout=relayout)
        generators = [np.random.default_rng([seed, index]) for index in range(len(CONTROLS))]
        drawn = {
            kind: [control(selections, sheets, generator=generator) for _ in range(n_draws)]
            for (kind, control), generator in zip(CONTROLS.items(), generators, strict=True)
        }
        lesioned = measured(measure, model)
    intact = measured(measure, model)
    n_units = sum(selection.n_selected for selection in selections)
    rows = [LesionEffect(name, "intact", 0, value, 0.0, float("nan")) for name, value in intact.items()]
    rows += [LesionEffect(name, "lesion", n_units, value, 0.0, float("nan")) for name, value in lesioned.items()]
    for kind, controls in drawn.items():
        draws = []
        for draw, control in enumerate(tqdm(controls, desc=f"{kind} control", leave=False)):
            with ablate(model, control, seed=seed + draw, **how):
                draws.append(measured(measure, model))
        for name in intact:
            values = np.array([draw[name] for draw in draws])
            larger = np.abs(values - intact[name]) >= abs(lesioned[name] - intact[name])
            p = float((1 + larger.sum()) / (n_draws + 1))
            sd = float(values.std(ddof=1)) if n_draws > 1 else 0.0
            rows.append(LesionEffect(name, kind, n_units, float(values.mean()), sd, p))
    return rows
