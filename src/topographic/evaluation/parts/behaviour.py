"""The behaviour parts of a suite: minimal pairs, SyntaxGym and lesions, beside the published numbers."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import nn

from topographic.behaviour import MinimalPairScores, perplexity, syntaxgym, token_log_probabilities
from topographic.evaluation.results import Findings, Table
from topographic.evaluation.subject import Bench, Choices
from topographic.interventions import CONTROLS, LesionEffect, lesion_effects
from topographic.stimuli import StimulusSet

__all__ = ["grammar", "language_performance", "lesions", "syntax"]

# Rathi, Mehrer et al. (ICLR 2025, arXiv:2410.11516): BLiMP, TopoLM and its control, read off the figure
_PUBLISHED = {
    "anaphor_agreement": (0.8135, 0.9040),
    "argument_structure": (0.6541, 0.6836),
    "binding": (0.7410, 0.7717),
    "control_raising": (0.6342, 0.7168),
    "determiner_noun_agreement": (0.8204, 0.8665),
    "ellipsis": (0.5985, 0.6995),
    "filler_gap_dependency": (0.7073, 0.7831),
    "irregular_forms": (0.9040, 0.8675),
    "island_effects": (0.6101, 0.6663),
    "npi_licensing": (0.7399, 0.7076),
    "quantifiers": (0.6510, 0.7913),
    "s-selection": (0.6850, 0.7015),
    "subject_verb_agreement": (0.7093, 0.8423),
    "all": (0.7071, 0.7617),
}


def grammar(bench: Bench, choices: Choices) -> Findings:
    """Minimal pairs per phenomenon and paradigm, and perplexity."""
    pairs = bench.minimal_pairs()
    scores, passages = _read(bench, bench.model, pairs, choices, progress=True)
    rows = [
        {"phenomenon": row["name"], **_accuracy(row), **_published(row["name"])}
        for row in (*scores.by_phenomenon(), scores.overall())
    ]
    paradigms = [
        {"paradigm": row["name"], "phenomenon": row["phenomenon"], **_accuracy(row)} for row in scores.by_paradigm()
    ]
    text = {"text": "good sentences" if bench.text is None else bench.text, "passages": len(passages)}
    text |= {"perplexity": perplexity(passages)}
    return Findings(
        "Minimal pairs",
        "Share of pairs whose grammatical sentence is the more probable one, with 95 % intervals over pairs; chance is "
        "0.5, a tie counts as wrong. Each sentence is scored whole after the beginning-of-text token, pads never.",
        [
            Table(
                "phenomena",
                "By phenomenon",
                rows,
                "Published: BLiMP, its pads scored; other pairs are other numbers.",
                keys=("phenomenon",),
                headline=("pairs", "accuracy", "low", "high", "TopoLM (published)", "control (published)"),
            ),
            Table("perplexity", "Perplexity", [text], keys=("text",), headline=("passages", "perplexity")),
            Table("paradigms", "By paradigm", paradigms),
        ],
        notes=[f"{scores.n_ties} of {len(scores.good)} pairs tie."] if scores.n_ties else [],
    )


def lesions(bench: Bench, choices: Choices) -> Findings:
    """What silencing the language network costs, beside silencing as many other units."""
    measure = language_performance(bench, choices)
    rows, notes = [], []
    for fraction in choices.lesion_fractions:
        size = f"top {100 * fraction:g} %"
        chosen = [one for one in bench.network(rule="top", level=fraction).values() if one.n_selected]
        try:
            effects = lesion_effects(
                bench.model,
                chosen,
                bench.sheets,
                measure,
                mode=choices.lesion_mode,
                responses=None if choices.lesion_mode == "zero" else bench.recorded("localizer"),
                n_draws=choices.lesion_draws,
                seed=choices.seed,
            )
        except ValueError as error:  # such as no room for a control; the page has to say so
            notes.append(f"{size}: not measured. {error}")
            continue
        rows += [{"size": size, **row} for row in _lesion_rows(effects)]
    return Findings(
        "Lesions",
        "The units with the largest t for sentences against nonwords are silenced at their output (mode "
        f"{choices.lesion_mode!r}) and the model is measured again. The same is done to as many other units: random "
        "units of the model, random units of the same sheets, connected patches of the same sizes on the same sheets "
        f"({choices.lesion_draws} draws each). p: share of control lesions that change the measure at least as much, "
        "in either direction.",
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
        (),
        notes,
    )


def language_performance(bench: Bench, choices: Choices) -> Callable[[nn.Module], dict[str, float]]:
    """What a changed model can still do: perplexity, accuracy on minimal pairs and on each of their phenomena."""
    pairs = bench.minimal_pairs(choices.lesion_pairs)

    def measure(model: nn.Module) -> dict[str, float]:
        scores, passages = _read(bench, model, pairs, choices, progress=False)
        phenomena = {f"accuracy: {row['name']}": row["accuracy"] for row in scores.by_phenomenon()}
        return {"perplexity": perplexity(passages), "accuracy": scores.accuracy, **phenomena}

    return measure


def syntax(bench: Bench, choices: Choices) -> Findings:
    """SyntaxGym: whether predictions about the surprisal of regions hold."""
    scores = syntaxgym(bench.model, bench.tokenizer, bench.suites(), batch_size=choices.batch_size)
    rows: dict[str, list[dict[str, Any]]] = {"suite": [], "prediction": []}
    for row in scores.to_rows():
        level = "prediction" if row["level"] == "prediction" else "suite"
        rows[level].append({level: row["name"], "items": row["n_items"], **_interval(row)})
    return Findings(
        "SyntaxGym",
        "Share of items of which all predictions about the surprisal of regions hold, with 95 % intervals over items. "
        "Chance depends on the suite: a half for one comparison, less where several have to hold at once.",
        [
            Table("suites", "By suite", rows["suite"], "", ("suite",), ("items", "accuracy", "low", "high")),
            Table("predictions", "By prediction", rows["prediction"], "Of suites with more than one prediction."),
        ],
    )


def _read(
    bench: Bench, model: nn.Module, pairs: StimulusSet, choices: Choices, *, progress: bool
) -> tuple[MinimalPairScores, list[np.ndarray]]:
    """Score pairs and passages in one pass; good sentences that serve as passages are read once."""
    others = [] if bench.text is None else bench.passages(pairs)
    tokens = token_log_probabilities(
        model, bench.tokenizer, [*pairs.items, *others], batch_size=choices.batch_size, progress=progress
    )
    sums = np.array([text.sum(dtype=np.float64) for text in tokens[: len(pairs)]])
    scores = MinimalPairScores(pairs, good=sums[::2], bad=sums[1::2])
    return scores, tokens[: len(pairs) : 2] if bench.text is None else tokens[len(pairs) :]


def _accuracy(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"pairs": row["n_pairs"], **_interval(row)}


def _interval(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"accuracy": row["accuracy"], "low": row["low"], "high": row["high"]}


def _published(phenomenon: str) -> dict[str, float | None]:
    topolm, control = _PUBLISHED.get(phenomenon, (None, None))
    return {"TopoLM (published)": topolm, "control (published)": control}


def _lesion_rows(effects: list[LesionEffect]) -> list[dict[str, Any]]:
    """One row per measure: intact, lesioned, and every control."""
    rows: dict[str, dict[str, Any]] = {}
    for effect in effects:
        row = rows.setdefault(effect.measure, {"measure": effect.measure, "units": 0})
        row["units"] = max(row["units"], effect.n_units)
        row[effect.kind] = effect.value
        if effect.kind not in ("intact", "lesion"):
            row |= {f"sd ({effect.kind})": effect.sd, f"p ({effect.kind})": effect.p}
    return list(rows.values())
