"""SyntaxGym: predictions about surprisal, region by region."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import nn

from topographic.behaviour.formulas import Formula, parse_formula
from topographic.behaviour.minimal_pairs import accuracy_interval, expect_confidence
from topographic.behaviour.surprisal import token_log_probabilities
from topographic.sheets.expectations import expect_kind

__all__ = ["REGION_METRICS", "Suite", "SuiteScores", "SyntaxGymScores", "load_suites", "syntaxgym"]


@dataclass(frozen=True, eq=False)
class Suite:
    """Items in several conditions, cut into regions, with the predictions about their surprisal.

    Parameters
    ----------
    name : str
        Name of the suite.
    regions : sequence of str
        Names of the regions; region 1 of a formula is the first.
    items : sequence of mappings of str to sequence of str
        For every item the texts of its regions in each condition; a region may be empty.
    formulas : sequence of str
        Predictions; an item is correct if all of them hold.
    metric : {"sum", "mean", "max", "min"}
        How the surprisals of a region's tokens become one value.

    Raises
    ------
    ValueError
        If items differ in their conditions, a condition lacks regions or has no text at all, or a formula cannot
        be read or names something that is not there.
    """

    name: str
    regions: tuple[str, ...]
    items: tuple[dict[str, tuple[str, ...]], ...]
    formulas: tuple[str, ...]
    metric: str = "sum"
    predictions: tuple[Formula, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Read the formulas and refuse what does not fit together."""
        if self.metric not in REGION_METRICS:
            raise ValueError(f"suite {self.name!r}: metric {self.metric!r}; expected one of {sorted(REGION_METRICS)}")
        if not self.items or not self.formulas:
            raise ValueError(
                f"suite {self.name!r} has {len(self.items)} items and {len(self.formulas)} formulas; give it both"
            )
        for number, item in enumerate(self.items, start=1):
            if set(item) != set(self.conditions):
                raise ValueError(
                    f"suite {self.name!r}: item {number} has conditions {sorted(item)}; the first item has "
                    f"{sorted(self.conditions)}: give every item the same"
                )
            for condition, texts in item.items():
                if len(texts) != len(self.regions) or not "".join(texts).strip():
                    raise ValueError(
                        f"suite {self.name!r}: item {number}, {condition!r} has the regions {texts}; expected "
                        f"{len(self.regions)} texts, not all empty"
                    )
        predictions = tuple(parse_formula(text) for text in self.formulas)
        numbers = {"*", *(str(number + 1) for number in range(len(self.regions)))}
        for prediction in predictions:
            for condition, number in prediction.regions:
                if condition not in self.conditions or number not in numbers:
                    raise ValueError(
                        f"suite {self.name!r}: a formula names region {number} of {condition!r}; it has "
                        f"{len(self.regions)} regions and the conditions {sorted(self.conditions)}"
                    )
        object.__setattr__(self, "predictions", predictions)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Conditions in the order of the first item."""
        return tuple(self.items[0])


@dataclass(frozen=True, eq=False)
class SuiteScores:
    """What a model did on one suite.

    Parameters
    ----------
    suite : Suite
        The suite.
    surprisals_bits : ndarray, shape (items, conditions, regions)
        Surprisal of every region; conditions in the order of ``suite.conditions``.
    held : ndarray of bool, shape (items, predictions)
        Whether each prediction held.
    """

    suite: Suite
    surprisals_bits: Float[np.ndarray, "items conditions regions"]
    held: Bool[np.ndarray, "items predictions"]

    @property
    def correct(self) -> Bool[np.ndarray, " items"]:
        """True for items of which all predictions held."""
        return np.asarray(self.held.all(axis=1))

    @property
    def accuracy(self) -> float:
        """Share of correct items."""
        return float(self.correct.mean())


@dataclass(frozen=True, eq=False)
class SyntaxGymScores:
    """What a model did on several suites.

    Parameters
    ----------
    suites : sequence of SuiteScores
        One entry per suite.
    protocol : str
        How the texts were scored, see `token_log_probabilities`.
    confidence : float
        Level of the intervals in the table.
    """

    suites: tuple[SuiteScores, ...]
    protocol: str = "bos"
    confidence: float = 0.95

    @property
    def accuracy(self) -> float:
        """Mean of the suites' accuracies."""
        return float(np.mean([scores.accuracy for scores in self.suites]))

    def to_rows(self) -> list[dict[str, Any]]:
        """One row for all suites, one per suite, and one per prediction of suites that have several.

        Returns
        -------
        list of dict
            ``level``, ``name``, ``n_items``, ``accuracy``, ``low``, ``high``; the interval is
            `accuracy_interval` over the items.
        """
        rows = [self._row("all", "all", [scores.correct for scores in self.suites])]
        for scores in self.suites:
            rows.append(self._row("suite", scores.suite.name, [scores.correct]))
            if len(scores.suite.formulas) > 1:
                rows += [
                    self._row("prediction", f"{scores.suite.name}: {formula.strip()}", [held])
                    for formula, held in zip(scores.suite.formulas, scores.held.T, strict=True)
                ]
        return rows

    def __repr__(self) -> str:
        """Accuracy with its interval, and what it was measured on."""
        row = self.to_rows()[0]
        return (
            f"SyntaxGymScores(accuracy {row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}] over "
            f"{len(self.suites)} suites, {row['n_items']} items, protocol {self.protocol!r})"
        )

    def _row(self, level: str, name: str, correct: list[Bool[np.ndarray, " _items"]]) -> dict[str, Any]:
        counts = np.array([(suite.sum(), suite.size) for suite in correct])
        low, high = accuracy_interval(counts[:, 0], counts[:, 1], confidence=self.confidence)
        return {
            "level": level,
            "name": name,
            "n_items": int(counts[:, 1].sum()),
            "accuracy": float(np.mean([suite.mean() for suite in correct])),
            "low": low,
            "high": high,
        }


def load_suites(source: str | Path) -> list[Suite]:
    """Suites in SyntaxGym's JSON layout.

    Parameters
    ----------
    source : str or Path
        One ``.json`` file, or a folder of them (read in the order of their names).

    Returns
    -------
    list of Suite
        The suites. Regions are put in the order of their numbers, white space around them is dropped.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file is no suite; the message names it.
    """
    path = Path(source)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise FileNotFoundError(f"no SyntaxGym suite at {str(source)!r}; expected a .json file or a folder of them")
    return [_suite(file) for file in files]


def syntaxgym(
    model: nn.Module,
    tokenizer: Any,
    suites: Sequence[Suite],
    *,
    protocol: str = "bos",
    batch_size: int = 48,
    confidence: float = 0.95,
    progress: bool = True,
) -> SyntaxGymScores:
    """Test the predictions of SyntaxGym suites (Gauthier et al., 2020; Hu et al., 2020).

    The surprisal of a region is ``sum_t -log2 p(w_t | w_<t)`` over its tokens (or another metric of the suite).

    Parameters
    ----------
    model : nn.Module
        Causal language model.
    tokenizer : PreTrainedTokenizerFast
        Its tokenizer, which must tell where in the text its tokens lie.
    suites : sequence of Suite
        As `load_suites` returns them.
    protocol : {"bos", "no_bos"}
        How a text is scored, see `token_log_probabilities`; under "no_bos" the first token counts 0.
    batch_size : int
        Texts per forward.
    confidence : float
        Level of the intervals.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    SyntaxGymScores
        Accuracy per suite and overall, with every region's surprisal.

    Raises
    ------
    ValueError
        If the protocol scores pads, the tokenizer gives no offsets, or a token lies in two regions.

    Notes
    -----
    The regions of a sentence are joined by single spaces, empty ones left out; the space before a region belongs
    to it. An empty region has surprisal 0. Brain-Score's implementation joins empty regions, too, so that their
    sentences contain double spaces; numbers differ slightly where suites have empty regions.

    An item is correct if all predictions of its suite hold. The two predictions of fgd_hierarchy ask for ``<`` and
    for ``=`` between the same two regions, so hardly any item of it can be correct; its row per prediction says
    which one failed.
    """
    if protocol not in ("bos", "no_bos"):
        raise ValueError(f"protocol {protocol!r} has no place in regions; choose 'bos' or 'no_bos'")
    expect_confidence(confidence)
    remedy = "a list of suites, as load_suites(folder) returns it"
    expect_kind("suites", suites, Sequence, remedy)
    for suite in suites:
        expect_kind("suites", suite, Suite, remedy)
    if not len(suites):
        raise ValueError("no suites to test; give at least one")
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{type(tokenizer).__name__} does not tell where its tokens lie; use a fast tokenizer")
    regions = [item[name] for suite in suites for item in suite.items for name in suite.conditions]
    texts = [" ".join(text for text in sentence if text) for sentence in regions]
    scores = token_log_probabilities(
        model, tokenizer, texts, protocol=protocol, batch_size=batch_size, progress=progress
    )
    offsets = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    by_region = iter([
        _tokens_by_region(sentence, spans, -tokens.astype(np.float64) / math.log(2))
        for sentence, spans, tokens in zip(regions, offsets, scores, strict=True)
    ])
    return SyntaxGymScores(
        tuple(_test(suite, [next(by_region) for _ in suite.items for _ in suite.conditions]) for suite in suites),
        protocol=protocol,
        confidence=confidence,
    )


def _suite(file: Path) -> Suite:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {int(number): name for number, name in content["region_meta"].items()}
        return Suite(
            name=content["meta"]["name"],
            metric=content["meta"].get("metric", "sum"),
            regions=tuple(names[number] for number in sorted(names)),
            formulas=tuple(prediction["formula"] for prediction in content["predictions"]),
            items=tuple(
                {
                    condition["condition_name"]: tuple(
                        region["content"].strip()
                        for region in sorted(condition["regions"], key=lambda region: int(region["region_number"]))
                    )
                    for condition in item["conditions"]
                }
                for item in content["items"]
            ),
        )
    except KeyError as error:
        raise ValueError(f"{file} has no {error.args[0]!r}; expected a suite in SyntaxGym's JSON layout") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is no suite in SyntaxGym's JSON layout: {error}") from error


def _tokens_by_region(
    regions: Sequence[str], spans: Sequence[tuple[int, int]], bits: Float[np.ndarray, " scored"]
) -> list[Float[np.ndarray, " _tokens"]]:
    """Surprisals of the tokens in each region; a token belongs where it begins, and must end there."""
    ends, place = [], 0
    for text in regions:
        # the space before a region's text is its own, so a region begins where the one before it ends
        place += len(text) + (1 if text and place else 0)
        ends.append(place)
    # the first token is not scored under "no_bos"
    bits = np.concatenate([np.zeros(len(spans) - len(bits)), bits])
    chosen: list[list[float]] = [[] for _ in regions]
    for (start, end), value in zip(spans, bits, strict=True):
        index = int(np.searchsorted(ends, start, side="right"))
        if index == len(ends) or end > ends[index]:
            raise ValueError(
                f"a token covers characters {start} to {end} of {' '.join(filter(None, regions))!r}, across the end "
                "of a region; choose a tokenizer that keeps words apart"
            )
        chosen[index].append(float(value))
    return [np.array(values) for values in chosen]


def _test(suite: Suite, tokens: list[list[Float[np.ndarray, " _tokens"]]]) -> SuiteScores:
    metric = REGION_METRICS[suite.metric]
    shape = (len(suite.items), len(suite.conditions), len(suite.regions))
    bits = np.array([[metric(region) if len(region) else 0.0 for region in sentence] for sentence in tokens])
    bits = bits.reshape(shape)
    held = [
        [
            prediction.holds({
                (condition, number + 1): float(item[index, number])
                for index, condition in enumerate(suite.conditions)
                for number in range(len(suite.regions))
            })
            for prediction in suite.predictions
        ]
        for item in bits
    ]
    return SuiteScores(suite, bits, np.array(held, dtype=bool))


REGION_METRICS: dict[str, Callable[[np.ndarray], float]] = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
}
