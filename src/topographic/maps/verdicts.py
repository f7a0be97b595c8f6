"""What the numbers of a summary say, in plain words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from topographic.maps.references import BesideNulls, NullReference, passing_sheets
from topographic.maps.summary import MapSummary
from topographic.maps.wording import number, p_value

__all__ = ["Verdict", "verdicts"]


@dataclass(frozen=True)
class Verdict:
    """One question and what the numbers answer.

    Parameters
    ----------
    question : str
        "organised" (is the map smoother than its unit null? evidence for smoothness only), "beyond readout" (than
        its kernel floor?), "separates" (is the mean absolute t above its label null?), "about the contrast" (is
        the map smoother than its label null?) or "caution".
    holds : bool or None
        The answer; None for a caution, or where no nulls were drawn or too few for any p to reach the level.
    sentence : str
        The answer in a sentence.
    """

    question: str
    holds: bool | None
    sentence: str


def verdicts(summary: MapSummary, name: str = "the model", *, alpha: float = 0.05) -> tuple[Verdict, ...]:
    """Plain-word answers to what a map statistic has to survive.

    Parameters
    ----------
    summary : MapSummary
        Measurements of one contrast.
    name : str
        How to call the model in the sentences.
    alpha : float
        Level of the one-sided tests.

    Returns
    -------
    tuple of Verdict
        Smoothness, kernel floor (if there was a readout), separation, whether the smoothness is about the contrast,
        and any cautions. Means over sheets name the sheets that pass on their own, corrected over sheets by the
        procedure of Benjamini and Hochberg.
    """
    index, strength = summary.morans_i, summary.mean_abs_t
    name = name[:1].upper() + name[1:]
    condition, baseline = (" and ".join(summary.provenance[side]) for side in ("condition", "baseline"))
    if index.unit_null is None or index.label_null is None or strength.label_null is None:
        sentence = f"No nulls were drawn: mean I is {number(index.value)} and stands without a reference."
        return (Verdict("organised", None, sentence),)
    found = [_organised(summary, index.unit_null, name, alpha)]
    if summary.provenance["fwhm_mm"] and index.floor is not None:
        found.append(_beyond_readout(summary, index.floor, alpha))
    least = summary.provenance.get("smallest_p", 0.0)
    separates = strength.label_null.p <= alpha
    measured = f"mean |t| is {_beside(strength.value, strength.label_null, 'shuffled labels')}"
    opening = f"The units {'tell' if separates else 'do not reliably tell'} {condition} from {baseline}"
    sheets = _on_their_own({row.site: row.mean_abs_t for row in summary.rows}, "label", alpha)
    found.append(_answer("separates", strength.label_null, alpha, f"{opening}: {measured}{sheets}.", measured, least))
    specific = index.label_null.p <= alpha
    opening, close = (
        ("The smoothness belongs to", "more than chance splits of the same items have")
        if specific
        else ("The smoothness is no evidence for", "so chance splits of the same items give maps as smooth")
    )
    measured = f"mean I is {_beside(index.value, index.label_null, 'shuffled labels')}"
    sheets = _on_their_own({row.site: row.morans_i for row in summary.rows}, "label", alpha)
    sentence = f"{opening} {condition} against {baseline}: {measured}, {close}{sheets}."
    found.append(_answer("about the contrast", index.label_null, alpha, sentence, measured, least))
    return (*found, *_cautions(summary, alpha))


def _answer(
    question: str, null: NullReference, alpha: float, sentence: str, measured: str, least: float = 0.0
) -> Verdict:
    """The sentence, or only what was measured where so few draws or labellings cannot reach the level."""
    if least > alpha:
        return Verdict(question, None, f"There are too few labellings to say (no p below {_least(least)}): {measured}.")
    if 1 / (null.n_draws + 1) <= alpha:
        return Verdict(question, null.p <= alpha, sentence)
    few = f"There are too few draws to say ({null.n_draws}; at least {math.ceil(1 / alpha) - 1})"
    return Verdict(question, None, f"{few}: {measured}.")


def _organised(summary: MapSummary, null: NullReference, name: str, alpha: float) -> Verdict:
    side = "below" if null.p > 1 - alpha / 2 else "inside"
    opening = (
        f"{name} has maps smoother than those of its units shuffled"
        if null.p <= alpha
        else f"{name}'s autocorrelation lies {side} its unit null"
    )
    measured = f"mean I is {_beside(summary.morans_i.value, null, 'shuffled units')}"
    sheets = _on_their_own({row.site: row.morans_i for row in summary.rows}, "unit", alpha)
    sentence = f"{opening}: {measured}{sheets}. This says that neighbours are alike, not what their map is about."
    return _answer("organised", null, alpha, sentence, measured)


def _beyond_readout(summary: MapSummary, floor: NullReference, alpha: float) -> Verdict:
    readout = (
        f"the readout alone (FWHM {summary.provenance['fwhm_mm']:g} mm) makes white noise as smooth as I "
        f"{number(floor.mean)} ± {number(floor.sd)}"
    )
    side = "above" if floor.p <= alpha else "not above"
    value = number(summary.morans_i.value)
    sentence = f"{readout[:1].upper()}{readout[1:]}; the maps' {value} is {side} that floor."
    return _answer("beyond readout", floor, alpha, sentence, f"{readout}, and the maps have {value}")


def _cautions(summary: MapSummary, alpha: float) -> list[Verdict]:
    provenance, found = summary.provenance, []
    lengths = provenance.get("n_tokens")
    if lengths and lengths["p"] <= alpha and "length" not in provenance["exchangeable"]:
        means = " and ".join(number(lengths[side], 1) for side in ("condition", "baseline"))
        found.append(
            f"The conditions differ in length ({means} tokens) and "
            "labels were exchanged regardless of it: length may explain what separates them."
        )
    if provenance.get("smallest_p", 0.0) > 1 / (provenance["n_draws"] + 1):
        found.append(
            f"Labels were exchanged between whole entries of {provenance['sampled_by']} "
            f"({provenance['n_groups']}), which leaves {round(10 ** provenance['log10_relabellings'])} labellings: no "
            f"p against shuffled labels can be below {_least(provenance['smallest_p'])}."
        )
    n_items = provenance["n_condition"] + provenance["n_baseline"]
    if provenance["n_exchangeable"] < n_items / 2:
        found.append(
            f"Only {provenance['n_exchangeable']} of {n_items} labels could be exchanged within "
            f"{' x '.join(provenance['exchangeable'])}: the label null moves little and has little power."
        )
    return [Verdict("caution", None, sentence) for sentence in found]


def _beside(value: float, null: NullReference, shuffled: str) -> str:
    numbers = f"{number(value)} against {number(null.mean)} ± {number(null.sd)} with {shuffled}"
    return f"{numbers} (z = {number(null.z, 1)}, p {p_value(null.p, sign=True)}, {null.n_draws} draws)"


def _least(p: float) -> str:
    return p_value(p).removeprefix("< ")


def _on_their_own(numbers: Mapping[str, BesideNulls], null: str, alpha: float) -> str:
    """Which sheets pass by themselves; nothing where there is one."""
    if len(numbers) == 1:
        return ""
    passing = passing_sheets(numbers, null, alpha=alpha)
    named = f"all {len(numbers)}" if len(passing) == len(numbers) else ", ".join(passing) or f"none of {len(numbers)}"
    level = f"{alpha:g}".removeprefix("0")
    return f"; sheets that pass on their own (q <= {level}, Benjamini-Hochberg over sheets): {named}"
