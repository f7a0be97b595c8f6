"""What silencing the language network costs, beside silencing as many other units."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from topographic.evaluation.choices import Choices
from topographic.evaluation.results import Findings, NotMeasurable, Table
from topographic.evaluation.subject import LanguageSubject
from topographic.evaluation.wording import counted
from topographic.interventions import CONTROLS, LesionEffect, corrected_p, lesion_effects

__all__ = ["lesions"]


def lesions(subject: LanguageSubject, choices: Choices) -> Findings:
    """Effects of lesions of every size on perplexity and minimal pairs."""
    measure = subject.performance(choices.lesion_pairs)
    found: dict[str, list[LesionEffect]] = {}
    notes = []
    for fraction in choices.lesion_fractions:
        size = f"top {100 * fraction:g} %"
        chosen = [one for one in subject.network(rule="top", level=fraction).values() if one.n_selected]
        if not chosen:
            notes.append(f"{size}: not measured. No unit responds more to sentences than to nonword strings.")
            continue
        try:
            found[size] = lesion_effects(
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
    together = iter(corrected_p([one for effects in found.values() for one in effects]))
    rows = [{"size": size, **row} for size, effects in found.items() for row in _lesion_rows(effects, together)]
    return Findings(
        "Lesions",
        "The units with the largest t for sentences against nonwords are silenced at their output (mode "
        f"{choices.lesion_mode!r}) and the model is measured again. The same is done to as many other units: random "
        "units of the model, random units of the same sheets, connected patches of the same sizes on the same sheets "
        f"({counted(choices.lesion_draws, 'draw')} each); controls may overlap the lesion. Effect: lesion minus mean "
        "of the controls that judge it, with the limits between which 95 % of the differences lie. p: share of those "
        "controls that move the measure from the intact model at least as far as the lesion, in either direction; "
        "corrected over all measures, sizes and controls of the table (max-T).",
        [
            Table(
                "lesions",
                "Effects with their controls",
                rows,
                "Contiguous lesions are judged by connected patches of the same sizes and compactness; random units of "
                "the model or of the sheets then describe and have no p, because where neighbours are worth about the "
                "same any patch differs from scattered units. Scattered lesions are judged by random units of the same "
                "sheets. The paper reports no numbers for its lesions.",
                keys=("size", "measure"),
                headline=(
                    "units",
                    "intact",
                    "lesion",
                    *CONTROLS,
                    "judged by",
                    "effect",
                    "low",
                    "high",
                    "p",
                    "p (corrected)",
                ),
            )
        ],
        notes=notes,
    )


def _lesion_rows(effects: Sequence[LesionEffect], together: Iterator[float]) -> list[dict[str, Any]]:
    """One row per measure: intact, lesioned, the effect beside the controls that judge it, and every control."""
    judge = "connected" if any(one.kind == "layer" and math.isnan(one.p) for one in effects) else "layer"
    rows: dict[str, dict[str, Any]] = {}
    controls: dict[str, dict[str, Any]] = {}
    for one, joint in zip(effects, together, strict=False):
        row = rows.setdefault(one.measure, {"measure": one.measure, "units": 0})
        row["units"] = max(row["units"], one.n_units)
        if one.kind in ("intact", "lesion"):
            row[one.kind] = one.value
            continue
        if one.kind == judge:
            row |= {"judged by": judge, "effect": one.effect, "low": one.low, "high": one.high}
            row |= {"p": one.p, "p (corrected)": joint}
        control = controls.setdefault(one.measure, {})
        control |= {one.kind: one.value, f"sd ({one.kind})": one.sd}
        control |= {f"p ({one.kind})": one.p, f"p ({one.kind}, corrected)": joint}
    return [row | controls[measure] for measure, row in rows.items()]
