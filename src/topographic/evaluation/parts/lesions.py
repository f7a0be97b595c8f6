"""What silencing the language network costs, beside silencing as many other units."""

from collections.abc import Sequence
from typing import Any

from topographic.evaluation.choices import Choices
from topographic.evaluation.results import Findings, NotMeasurable, Table
from topographic.evaluation.subject import LanguageSubject
from topographic.evaluation.wording import counted
from topographic.interventions import CONTROLS, LesionEffect, lesion_effects

__all__ = ["lesions"]


def lesions(subject: LanguageSubject, choices: Choices) -> Findings:
    """Effects of lesions of every size on perplexity and minimal pairs."""
    measure = subject.performance(choices.lesion_pairs)
    rows, notes = [], []
    for fraction in choices.lesion_fractions:
        size = f"top {100 * fraction:g} %"
        chosen = [one for one in subject.network(rule="top", level=fraction).values() if one.n_selected]
        if not chosen:
            notes.append(f"{size}: not measured. No unit responds more to sentences than to nonword strings.")
            continue
        try:
            effects = lesion_effects(
                subject.model,
                chosen,
                subject.sheets,
                measure,
                mode=choices.lesion_mode,
                responses=None if choices.lesion_mode == "zero" else subject.recorded("localizer"),
                n_draws=choices.lesion_draws,
                seed=choices.seed,
            )
        except NotMeasurable as reason:  # no room for a control
            notes.append(f"{size}: not measured. {reason}")
            continue
        rows += [{"size": size, **row} for row in _lesion_rows(effects)]
    return Findings(
        "Lesions",
        "The units with the largest t for sentences against nonwords are silenced at their output (mode "
        f"{choices.lesion_mode!r}) and the model is measured again. The same is done to as many other units: random "
        "units of the model, random units of the same sheets, connected patches of the same sizes on the same sheets "
        f"({counted(choices.lesion_draws, 'draw')} each). p: share of control lesions that change the measure at least "
        "as much, in either direction.",
        [
            Table(
                "lesions",
                "Effects with their controls",
                rows,
                "The paper reports no numbers for its lesions.",
                keys=("size", "measure"),
                headline=(
                    "units",
                    "intact",
                    "lesion",
                    *(column for kind in CONTROLS for column in (kind, f"p ({kind})")),
                ),
            )
        ],
        notes=notes,
    )


def _lesion_rows(effects: Sequence[LesionEffect]) -> list[dict[str, Any]]:
    """One row per measure: intact, lesioned, and every control."""
    rows: dict[str, dict[str, Any]] = {}
    for effect in effects:
        row = rows.setdefault(effect.measure, {"measure": effect.measure, "units": 0})
        row["units"] = max(row["units"], effect.n_units)
        row[effect.kind] = effect.value
        if effect.kind not in ("intact", "lesion"):
            row |= {f"sd ({effect.kind})": effect.sd, f"p ({effect.kind})": effect.p}
    return list(rows.values())
