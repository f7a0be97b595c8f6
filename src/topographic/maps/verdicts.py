"""What the numbers of a summary say, in plain words."""

import math
from dataclasses import dataclass

from topographic.maps.references import NullReference
from topographic.maps.summary import MapSummary

__all__ = ["Verdict", "verdicts"]


@dataclass(frozen=True)
class Verdict:
    """One question and what the numbers answer.

    Parameters
    ----------
    question : str
        "organised" (is the map smoother than its unit null?), "beyond readout" (than its kernel
        floor?), "separates" (is the mean absolute t above its label null?), "about the contrast" (is
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
        Organisation, kernel floor (if there was a readout), separation, specificity to the contrast,
        and any cautions.
    """
    index, strength = summary.morans_i, summary.mean_abs_t
    name = name[:1].upper() + name[1:]
    condition, baseline = (" and ".join(summary.provenance[side]) for side in ("condition", "baseline"))
    if index.unit_null is None or index.label_null is None or strength.label_null is None:
        sentence = f"No nulls were drawn: mean I is {index.value:.2f} and stands without a reference."
        return (Verdict("organised", None, sentence),)
    found = [_organised(summary, index.unit_null, name, alpha)]
    if summary.provenance["fwhm_mm"] and index.floor is not None:
        found.append(_beyond_readout(summary, index.floor, alpha))
    least = summary.provenance.get("smallest_p", 0.0)
    separates = strength.label_null.p <= alpha
    measured = f"mean |t| is {_beside(strength.value, strength.label_null, 'shuffled labels')}"
    opening = f"The units {'tell' if separates else 'do not reliably tell'} {condition} from {baseline}"
    found.append(_answer("separates", strength.label_null, alpha, f"{opening}: {measured}.", measured, least))
    specific = index.label_null.p <= alpha
    opening, close = (
        ("The smoothness belongs to", "more than chance splits of the same items have")
        if specific
        else ("The smoothness is no evidence for", "so chance splits of the same items give maps as smooth")
    )
    measured = f"mean I is {_beside(index.value, index.label_null, 'shuffled labels')}"
    sentence = f"{opening} {condition} against {baseline}: {measured}, {close}."
    found.append(_answer("about the contrast", index.label_null, alpha, sentence, measured, least))
    return (*found, *_cautions(summary, alpha))


def _answer(
    question: str, null: NullReference, alpha: float, sentence: str, measured: str, least: float = 0.0
) -> Verdict:
    """The sentence, or only what was measured where so few draws or labellings cannot reach the level."""
    if least > alpha:
        return Verdict(question, None, f"There are too few labellings to say (no p below {least:.2g}): {measured}.")
    if 1 / (null.n_draws + 1) <= alpha:
        return Verdict(question, null.p <= alpha, sentence)
    few = f"There are too few draws to say ({null.n_draws}; at least {math.ceil(1 / alpha) - 1})"
    return Verdict(question, None, f"{few}: {measured}.")


def _organised(summary: MapSummary, null: NullReference, name: str, alpha: float) -> Verdict:
    side = "below" if null.p > 1 - alpha / 2 else "inside"
    alone = sum(row.morans_i.unit_null is not None and row.morans_i.unit_null.p <= alpha for row in summary.rows)
    opening = (
        f"{name} is spatially organised beyond its unit null"
        if null.p <= alpha
        else f"{name}'s autocorrelation lies {side} its unit null"
    )
    measured = f"mean I is {_beside(summary.morans_i.value, null, 'shuffled units')}"
    sheets = "1 sheet" if len(summary.rows) == 1 else f"{len(summary.rows)} sheets"
    sentence = f"{opening}: {measured}; {alone} of {sheets} on their own."
    return _answer("organised", null, alpha, sentence, measured)


def _beyond_readout(summary: MapSummary, floor: NullReference, alpha: float) -> Verdict:
    readout = (
        f"the readout alone (FWHM {summary.provenance['fwhm_mm']:g} mm) makes white noise as smooth as I "
        f"{floor.mean:.2f} ± {floor.sd:.2f}"
    )
    side = "above" if floor.p <= alpha else "not above"
    value = f"{summary.morans_i.value:.2f}"
    sentence = f"{readout[:1].upper()}{readout[1:]}; the maps' {value} is {side} that floor."
    return _answer("beyond readout", floor, alpha, sentence, f"{readout}, and the maps have {value}")


def _cautions(summary: MapSummary, alpha: float) -> list[Verdict]:
    provenance, found = summary.provenance, []
    lengths = provenance.get("n_tokens")
    if lengths and lengths["p"] <= alpha and "length" not in provenance["exchangeable"]:
        found.append(
            f"The conditions differ in length ({lengths['condition']:.1f} and {lengths['baseline']:.1f} tokens) and "
            "labels were exchanged regardless of it: length may explain what separates them."
        )
    if provenance.get("smallest_p", 0.0) > 1 / (provenance["n_draws"] + 1):
        found.append(
            f"Labels were exchanged between whole entries of {provenance['sampled_by']} "
            f"({provenance['n_groups']}), which leaves {round(10 ** provenance['log10_relabellings'])} labellings: no "
            f"p against shuffled labels can be below {provenance['smallest_p']:.2g}."
        )
    n_items = provenance["n_condition"] + provenance["n_baseline"]
    if provenance["n_exchangeable"] < n_items / 2:
        found.append(
            f"Only {provenance['n_exchangeable']} of {n_items} labels could be exchanged within "
            f"{' x '.join(provenance['exchangeable'])}: the label null moves little and has little power."
        )
    return [Verdict("caution", None, sentence) for sentence in found]


def _beside(value: float, null: NullReference, shuffled: str) -> str:
    numbers = f"{value:.2f} against {null.mean:.2f} ± {null.sd:.2f} with {shuffled} "
    return numbers.replace("-0.00", "0.00") + f"(z = {null.z:.1f}, p = {null.p:.3f}, {null.n_draws} draws)"
