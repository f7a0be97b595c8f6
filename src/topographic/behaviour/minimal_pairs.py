"""Minimal pairs: whether the model finds the grammatical sentence the more probable one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import nn

from topographic.behaviour.surprisal import token_log_probabilities
from topographic.sheets.expectations import expect_kind, expect_number
from topographic.stimuli import StimulusSet

__all__ = ["MinimalPairScores", "accuracy_interval", "expect_confidence", "minimal_pairs"]


@dataclass(frozen=True, eq=False)
class MinimalPairScores:
    """Log-probabilities of both sentences of every pair, and the accuracies that follow.

    A pair is correct where the good sentence has strictly the higher log-probability.

    Parameters
    ----------
    pairs : StimulusSet
        Good and bad sentences in turn, with the labels ``pair``, ``paradigm`` and ``phenomenon``.
    good, bad : ndarray, shape (pairs,)
        Log-probability of the good and of the bad sentence, in nats.
    protocol : str
        How they were scored, see `token_log_probabilities`.
    confidence : float
        Level of the intervals in the tables.

    Raises
    ------
    ValueError
        If the lengths do not fit, or a value is NaN or infinite.
    """

    pairs: StimulusSet
    good: Float[np.ndarray, " pairs"]
    bad: Float[np.ndarray, " pairs"]
    protocol: str = "bos"
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Refuse misfits."""
        if self.pairs.conditions != ("good", "bad") * (len(self.pairs) // 2):
            raise ValueError(f"{self.pairs!r} is not good and bad sentences in turn; score it with `minimal_pairs`")
        for name in ("good", "bad"):
            values = np.ascontiguousarray(getattr(self, name), dtype=np.float64)
            if 2 * len(values) != len(self.pairs):
                raise ValueError(f"{name} has {len(values)} values for {len(self.pairs) // 2} pairs; give one per pair")
            if not np.isfinite(values).all():
                raise ValueError(
                    f"{int((~np.isfinite(values)).sum())} of {len(values)} {name} sentences have a log-probability "
                    "that is NaN or infinite; check the model's weights, or score in float32"
                )
            object.__setattr__(self, name, values)

    @property
    def correct(self) -> Bool[np.ndarray, " pairs"]:
        """True for pairs whose good sentence is strictly the more probable one."""
        return self.good > self.bad

    @property
    def n_ties(self) -> int:
        """Pairs with equal log-probabilities. They count as wrong; lm-evaluation-harness counts them as correct."""
        return int((self.good == self.bad).sum())

    @property
    def accuracy(self) -> float:
        """Mean of the paradigms' accuracies, as BLiMP reports it."""
        return self.overall()["accuracy"]

    def by_paradigm(self) -> list[dict[str, Any]]:
        """One row per paradigm, in order of first appearance.

        Returns
        -------
        list of dict
            ``level``, ``name``, ``phenomenon``, ``n_paradigms``, ``n_pairs``, ``accuracy``, ``low``, ``high``;
            the interval is `accuracy_interval`.
        """
        phenomena = dict(zip(self._column("paradigm"), self._column("phenomenon"), strict=True))
        return [self._row("paradigm", name, phenomenon, (name,)) for name, phenomenon in phenomena.items()]

    def by_phenomenon(self) -> list[dict[str, Any]]:
        """One row per phenomenon, as in `by_paradigm`: the mean of its paradigms' accuracies."""
        paradigms: dict[str, list[str]] = {}
        for name, phenomenon in dict(zip(self._column("paradigm"), self._column("phenomenon"), strict=True)).items():
            paradigms.setdefault(phenomenon, []).append(name)
        return [self._row("phenomenon", name, name, members) for name, members in paradigms.items()]

    def overall(self) -> dict[str, Any]:
        """One row for the whole set, as in `by_paradigm`: the mean of all paradigms' accuracies."""
        return self._row("all", "all", "", tuple(dict.fromkeys(self._column("paradigm"))))

    def to_rows(self) -> list[dict[str, Any]]:
        """The rows of `overall`, `by_phenomenon` and `by_paradigm`, for a table or a CSV file."""
        return [self.overall(), *self.by_phenomenon(), *self.by_paradigm()]

    def pair_rows(self) -> list[dict[str, Any]]:
        """One row per pair: its labels, both sentences, both log-probabilities in nats, and whether it is correct."""
        columns = {
            **{key: self._column(key) for key in ("pair", "paradigm", "phenomenon")},
            "sentence_good": self.pairs.items[::2],
            "sentence_bad": self.pairs.items[1::2],
            "log_probability_good": self.good.tolist(),
            "log_probability_bad": self.bad.tolist(),
            "correct": self.correct.tolist(),
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def __repr__(self) -> str:
        """Accuracy with its interval, and what it was measured on."""
        row = self.overall()
        return (
            f"MinimalPairScores({self.pairs.name!r}: accuracy {row['accuracy']:.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}] over {row['n_paradigms']} paradigms, {row['n_pairs']} pairs, "
            f"{self.n_ties} ties, protocol {self.protocol!r})"
        )

    def _column(self, label: str) -> tuple[str, ...]:
        return self.pairs.labels[label][::2]

    def _row(self, level: str, name: str, phenomenon: str, paradigms: Sequence[str]) -> dict[str, Any]:
        members = np.array(self._column("paradigm"))
        chosen = [self.correct[members == paradigm] for paradigm in paradigms]
        n_correct, n_pairs = np.array([(paradigm.sum(), paradigm.size) for paradigm in chosen]).T
        low, high = accuracy_interval(n_correct, n_pairs, confidence=self.confidence)
        return {
            "level": level,
            "name": name,
            "phenomenon": phenomenon,
            "n_paradigms": len(paradigms),
            "n_pairs": int(n_pairs.sum()),
            "accuracy": float((n_correct / n_pairs).mean()),
            "low": low,
            "high": high,
        }


def minimal_pairs(
    model: nn.Module,
    tokenizer: Any,
    pairs: StimulusSet,
    *,
    protocol: str = "bos",
    batch_size: int = 48,
    confidence: float = 0.95,
    progress: bool = True,
) -> MinimalPairScores:
    """Compare the log-probabilities of the good and the bad sentence of every pair (Warstadt et al., 2020).

    ``log p(w) = sum_t log p(w_t | w_<t)``; correct where ``log p(good) > log p(bad)``.

    Parameters
    ----------
    model : nn.Module
        Causal language model.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    pairs : StimulusSet
        Minimal pairs: conditions "good" and "bad", labels ``pair``, ``paradigm`` and ``phenomenon``, as
        `topographic.stimuli.load_minimal_pairs` makes them. The items of a pair may stand anywhere.
    protocol : {"bos", "harness", "no_bos", "published"}
        How a sentence is scored, see `token_log_probabilities`.
    batch_size : int
        Sentences per forward; for "published" it changes the numbers (48 in the released script).
    confidence : float
        Level of the intervals.
    progress : bool
        Show progress bars on stderr.

    Returns
    -------
    MinimalPairScores
        Both log-probabilities of every pair, with tables per paradigm and phenomenon.

    Raises
    ------
    ValueError
        If the set lacks a label or another condition is in it, or a pair has not one good and one bad sentence.

    Notes
    -----
    Ties count as wrong, as in the published script. lm-evaluation-harness takes the first of equal choices, the
    good one: the accuracy of its BLiMP tasks is ``(correct + ties) / pairs`` under protocol "harness".
    """
    expect_confidence(confidence)
    pairs = _good_and_bad_in_turn(pairs)
    # the published protocol pads the good and the bad sentences of a group apart, each to their own longest
    sides = (pairs.items[::2], pairs.items[1::2]) if protocol == "published" else (pairs.items,)
    tokens = [
        token_log_probabilities(model, tokenizer, side, protocol=protocol, batch_size=batch_size, progress=progress)
        for side in sides
    ]
    log_probabilities = np.array([text.sum(dtype=np.float64) for side in tokens for text in side])
    good, bad = (
        np.split(log_probabilities, 2) if protocol == "published" else (log_probabilities[::2], log_probabilities[1::2])
    )
    return MinimalPairScores(pairs, good=good, bad=bad, protocol=protocol, confidence=confidence)


def expect_confidence(confidence: Any) -> None:
    """Refuse what is no level of confidence."""
    expected = "a level between 0 and 1, such as 0.95"
    expect_number("confidence", confidence, expected, least=math.nextafter(0, 1), most=math.nextafter(1, 0))


def accuracy_interval(
    n_correct: Int[np.ndarray, " paradigms"], n_pairs: Int[np.ndarray, " paradigms"], *, confidence: float = 0.95
) -> tuple[float, float]:
    """Wilson interval of the mean accuracy of some paradigms, over the pairs within each.

    With ``p_k`` the accuracy of paradigm ``k``, ``p = mean_k p_k`` and ``v = sum_k p_k (1 - p_k) / (n_k - 1) / K^2``
    the variance of ``p``, without bias for any ``n_k``, it is Wilson's score interval for ``p`` and
    ``n = p (1 - p) / v`` pairs, the effective number:
    ``(p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)`` (as for surveys: Dean &
    Pagano, 2015). For one paradigm ``n`` is its number of pairs and the interval Wilson's own.

    Parameters
    ----------
    n_correct, n_pairs : ndarray of int, shape (paradigms,)
        Correct pairs and all pairs of each paradigm.
    confidence : float
        Level.

    Returns
    -------
    low, high : float
        Limits. Unlike those of a bootstrap they are apart even where every pair is correct.

    Raises
    ------
    ValueError
        If a paradigm has no pairs, or more correct ones than pairs, or the level is none.

    Notes
    -----
    The paradigms are taken as given: the interval says how much the accuracy would change with other sentences
    of the same paradigms, not with other paradigms or another seed of the model. Where every paradigm is all right
    or all wrong, so that ``v = 0``, ``n`` is ``K^2 / sum_k 1 / n_k``, the number of pairs if all paradigms have
    the same. ``v`` is not raised above ``sum_k p (1 - p) / n_k / K^2``, what it is where all paradigms are alike, nor
    put below ``sum_k p_k (1 - p_k) / n_k / K^2``; so one paradigm, or several alike, have Wilson's own interval.
    An interval of level .95 covers .93 to .98 of the time for 5 to 50 pairs in each of 3 to 67 unlike paradigms.
    """
    expect_confidence(confidence)
    if not len(n_pairs) or not ((n_correct >= 0) & (n_correct <= n_pairs) & (n_pairs > 0)).all():
        raise ValueError(f"n_correct={n_correct}, n_pairs={n_pairs}; expected at least one pair, all or fewer correct")
    share = n_correct / n_pairs
    p = float(share.mean())
    least = float((share * (1 - share) / n_pairs).sum())
    alike = p * (1 - p) / n_pairs
    # a paradigm of one pair says nothing of its own spread
    unlike = np.where(n_pairs > 1, share * (1 - share) / np.maximum(n_pairs - 1, 1), alike)
    variance = max(least, min(float(unlike.sum()), float(alike.sum()))) / len(share) ** 2
    n = p * (1 - p) / variance if variance > 0 else len(share) ** 2 / float((1 / n_pairs).sum())
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return max(0.0, (centre - half) / (1 + z**2 / n)), min(1.0, (centre + half) / (1 + z**2 / n))


def _good_and_bad_in_turn(pairs: Any) -> StimulusSet:
    """The pairs in order of first appearance, each good sentence directly before its bad one."""
    expect_kind("pairs", pairs, StimulusSet, "load_minimal_pairs('blimp'), or such a set of your own")
    missing = [label for label in ("pair", "paradigm", "phenomenon") if label not in pairs.labels]
    if missing:
        raise ValueError(
            f"stimulus set {pairs.name!r} has no label {', '.join(missing)}; it has {sorted(pairs.labels)}: "
            "use load_minimal_pairs"
        )
    sides: dict[str, dict[str, int]] = {}
    for index, (pair, condition) in enumerate(zip(pairs.labels["pair"], pairs.conditions, strict=True)):
        side = sides.setdefault(pair, {})
        if condition not in ("good", "bad") or condition in side:
            raise ValueError(
                f"pair {pair!r} of {pairs.name!r} has a second or unknown condition {condition!r}; "
                "expected one good and one bad sentence"
            )
        side[condition] = index
    for pair, side in sides.items():
        if len(side) < 2:
            raise ValueError(
                f"pair {pair!r} of {pairs.name!r} has no {'bad' if 'good' in side else 'good'} sentence; "
                "expected one good and one bad"
            )
    phenomena: dict[str, str] = {}
    for paradigm, phenomenon in zip(pairs.labels["paradigm"], pairs.labels["phenomenon"], strict=True):
        if phenomena.setdefault(paradigm, phenomenon) != phenomenon:
            raise ValueError(
                f"paradigm {paradigm!r} of {pairs.name!r} belongs to {phenomena[paradigm]!r} and to {phenomenon!r}; "
                "expected one phenomenon per paradigm"
            )
    return pairs.take([side[condition] for side in sides.values() for condition in ("good", "bad")])
