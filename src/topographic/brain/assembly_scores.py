"""How well features predict an assembly of responses, whole groups held out, beside features without meaning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from tqdm.auto import tqdm

from topographic.brain.assemblies import ResponseAssembly
from topographic.brain.controls import orthogonal_autocorrelated_features
from topographic.brain.folds import Folds, run_folds
from topographic.brain.scores import group_sign_flip
from topographic.brain.word_scores import grouped_gain, grouped_ridge, held_out_words, without_controls
from topographic.maps.nulls import check_draws, stream

__all__ = ["LENGTH", "NEIGHBOURS", "AssemblyScores", "score_assembly"]

LENGTH, NEIGHBOURS = "length and position", "neighbours in time (OASM)"
DEFAULT_ALPHAS = tuple(float(10**power) for power in range(9))
_LEVEL = (2.5, 97.5)


@dataclass(frozen=True, eq=False)
class AssemblyScores:
    """Scores of features on an assembly.

    Parameters
    ----------
    table : DataFrame
        One row per features: "r" with its interval over groups ("low", "high"); "mean r" with "p" over subjects; "added
        R2" beside length and position, with interval and p over groups.
    subjects : DataFrame
        One row per features and subject: median ("r") and mean of r over the subject's targets.
    folds : str
        How the parts were divided.
    notes : tuple of str
        What was left out.
    """

    table: pd.DataFrame
    subjects: pd.DataFrame
    folds: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line."""
        best = self.table.loc[self.table["r"].idxmax()]
        return f"AssemblyScores({len(self.table)} features, {best['features']}: r {best['r']:.3f}, {self.folds})"

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table


class _Block(NamedTuple):
    """Targets that have values at the same parts: these parts, their groups and folds, and the values."""

    rows: np.ndarray
    columns: np.ndarray
    runs: np.ndarray
    folds: Folds
    observed: np.ndarray


def score_assembly(
    features: Mapping[str, Shaped[np.ndarray, "items columns"]],
    assembly: ResponseAssembly,
    *,
    n_folds: int = 10,
    n_draws: int = 1000,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    seed: int = 0,
    progress: bool = True,
) -> AssemblyScores:
    """Ridge regression from features of the parts to every target, whole groups held out.

    ``r`` of a target: the correlation of its held-out values with their predictions in a fold, 0 where predictions do
    not vary there; the mean over folds, by their numbers of parts. Of a subject it is the median over targets, and the
    score the mean over subjects. ``added R2 = R2(length, position, features) - R2(length, position)`` of held-out
    values, a mean over a subject's targets and then over subjects.

    Parameters
    ----------
    features : mapping of str to ndarray, shape (items, columns)
        A model's states, and whatever stands beside them. Length and position of the parts, and features that say only
        which parts are neighbours (OASM), always stand there.
    assembly : ResponseAssembly
        `load_assembly`.
    n_folds : int
        Sets of neighbouring groups, at most as many as there are groups.
    n_draws : int
        Draws of groups: bootstrap of r, bootstrap and sign flips of added R2.
    alphas : sequence of float
        Penalties, chosen for every target by folds of whole groups within the training parts.
    seed : int
        Seed of the draws.
    progress : bool
        Show a bar.

    Returns
    -------
    AssemblyScores
        p flips the signs of whole subjects (`group_sign_flip`, three or more), of their mean r over targets, which is 0
        on average where there is nothing (a median is not): it speaks of other people who read the same texts.
        Intervals, and p of added R2 (`grouped_gain`), are over groups: they speak of other texts.

    Raises
    ------
    ValueError
        If features do not fit the parts or have a name twice, or there are fewer than three groups.

    Notes
    -----
    Length and position are fitted by least squares, features by ridge regression to what these leave, so that no
    penalty falls on the controls; features that say nothing score about 0, and add a little less than nothing. Departs
    from Brain-Score's ridge, which takes one penalty for all targets; nothing is divided by a ceiling. r is taken fold
    by fold, as there: over all parts at once it is below 0 where features say nothing, because the folds whose
    training side promises most predict most widely.

    References
    ----------
    Schrimpf et al. 2021; Hadidi, Feghhi, Song, Blank & Kao 2025 (grouped folds, OASM).

    Examples
    --------
    >>> source = np.random.default_rng(0)
    >>> x, topics = source.normal(size=(60, 3)), [f"topic {row // 5}" for row in range(60)]
    >>> y = x @ source.normal(size=(3, 8)) + source.normal(size=(60, 8))
    >>> texts = [f"sentence {row}" for row in range(60)]
    >>> heard = ResponseAssembly("made up", texts, topics, topics, y, ["a", "b", "c", "d"] * 2)
    >>> table = score_assembly({"layer": x}, heard, n_folds=4, n_draws=19, progress=False).to_frame()
    >>> table["features"][table["r"].argmax()]
    'layer'
    """
    check_draws(n_draws, seed, least=2)
    controls = {
        LENGTH: np.column_stack(list(assembly.controls().values())),
        NEIGHBOURS: orthogonal_autocorrelated_features(np.array(assembly.contexts)),
    }
    if twice := sorted(set(controls) & set(features)):
        raise ValueError(f"features are called {twice[0]!r}, as one of the controls; rename them")
    tables = {name: np.asarray(values, dtype=np.float64) for name, values in {**controls, **features}.items()}
    for name, values in tables.items():
        if values.ndim != 2 or len(values) != len(assembly):
            raise ValueError(f"{name!r} has shape {values.shape} for {len(assembly)} parts; expected a row per part")
    blocks, notes = _blocks(assembly, n_folds)
    _, group = np.unique(np.array(assembly.groups), return_inverse=True)
    n_groups = int(group.max()) + 1
    drawn = stream(seed, "bootstrap").multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_draws)
    counts = np.concatenate([np.ones((1, n_groups), dtype=int), drawn])
    subjects = np.array(assembly.subjects)
    rows, persons = [], []
    for name, values in tqdm(tables.items(), desc="score features", disable=not progress):
        predict = _least_squares if name == LENGTH else _ridge
        predicted = [predict(values[block.rows], block, alphas) for block in blocks]
        medians, means = _over_targets(predicted, blocks, subjects, group, counts)
        score = np.mean(list(medians.values()), axis=0)
        low, high = np.percentile(score[1:], _LEVEL)
        row: dict[str, Any] = {"features": name, "items": len(assembly)}
        row |= {"targets": sum(len(block.columns) for block in blocks), "subjects": len(means)}
        of_subjects = np.array(list(means.values()))
        row |= {"r": score[0], "low": low, "high": high, "mean r": of_subjects.mean(), "p": float("nan")}
        if len(means) > 2:
            row["p"] = float(np.asarray(group_sign_flip(of_subjects[:, None], seed=seed)["p"])[0])
        if name != LENGTH:
            gains = _gains(values, tables[LENGTH], blocks, subjects, len(assembly), alphas)
            seen = np.isfinite(gains)
            added = grouped_gain(gains[seen], group[seen], n_draws=n_draws, seed=seed)
            row |= {"added R2": added.value, "low (R2)": added.low, "high (R2)": added.high, "p (R2)": added.p}
        rows.append(row)
        persons += [
            {"features": name, "subject": subject, "r": one[0], "mean r": means[subject]}
            for subject, one in medians.items()
        ]
    return AssemblyScores(pd.DataFrame(rows), pd.DataFrame(persons), blocks[0].folds.name, (*assembly.notes, *notes))


def _blocks(assembly: ResponseAssembly, n_folds: int) -> tuple[list[_Block], list[str]]:
    """Targets by the parts at which they have values."""
    there = np.isfinite(assembly.responses)
    patterns, which = np.unique(there.T, axis=0, return_inverse=True)
    blocks, n_left_out = [], 0
    for index, pattern in enumerate(patterns):
        rows, columns = np.flatnonzero(pattern), np.flatnonzero(which.ravel() == index)
        runs = np.array(assembly.groups)[rows]
        n_groups = len(np.unique(runs))
        if n_groups < 3:  # of two, the training side would have one, which has no folds of its own
            n_left_out += len(columns)
            continue
        folds = run_folds(runs, min(n_folds, n_groups))
        blocks.append(_Block(rows, columns, runs, folds, assembly.responses[np.ix_(rows, columns)]))
    if not blocks:
        raise ValueError(f"assembly {assembly.name!r}: no target has values in three groups; give more groups")
    notes = [f"{n_left_out} targets have values in fewer than three groups and are left out"] if n_left_out else []
    return blocks, notes


def _ridge(values: np.ndarray, block: _Block, alphas: Sequence[float]) -> np.ndarray:
    return grouped_ridge(values, block.observed, block.runs, block.folds, alphas)


def _least_squares(values: np.ndarray, block: _Block, _: Sequence[float]) -> np.ndarray:
    found = np.full(block.observed.shape, np.nan)
    for train, test in block.folds.pairs:
        found[test] = (block.observed - without_controls(values, block.observed, train))[test]
    return found


def _over_targets(
    predicted: Sequence[np.ndarray],
    blocks: Sequence[_Block],
    subjects: np.ndarray,
    group: np.ndarray,
    counts: np.ndarray,
) -> tuple[dict[str, Float[np.ndarray, " draws"]], dict[str, float]]:
    """Of every subject the median of r over targets, for the groups as they are and as they are drawn; and its mean."""
    found: dict[str, list[np.ndarray]] = {}
    for values, block in zip(predicted, blocks, strict=True):
        owners = subjects[block.columns]
        for subject in dict.fromkeys(owners.tolist()):
            own = owners == subject
            found.setdefault(subject, []).append(_drawn_r(block, values[:, own], block.observed[:, own], group, counts))
    whole = {subject: np.hstack(found[subject]) for subject in sorted(found)}
    medians = {subject: np.median(one, axis=1) for subject, one in whole.items()}
    return medians, {subject: float(one[0].mean()) for subject, one in whole.items()}


def _drawn_r(
    block: _Block, predicted: np.ndarray, observed: np.ndarray, group: np.ndarray, counts: np.ndarray
) -> Float[np.ndarray, "draws targets"]:
    """Mean over folds of the correlation within the fold, each as often as its parts are drawn."""
    total, size = np.zeros((len(counts), observed.shape[1])), np.zeros((len(counts), 1))
    for _, test in block.folds.pairs:
        x, y = observed[test] - observed[test].mean(axis=0), predicted[test] - predicted[test].mean(axis=0)
        y[:, np.linalg.norm(y, axis=0) <= 1e-9 * np.linalg.norm(observed, axis=0)] = 0.0  # rounding
        members = np.zeros((counts.shape[1], len(test)))
        members[group[block.rows[test]], np.arange(len(test))] = 1.0
        xy, xx, yy = (counts @ (members @ product) for product in (x * y, x * x, y * y))
        weight, norm = counts @ members.sum(axis=1, keepdims=True), np.sqrt(xx * yy)
        # predictions that do not vary say nothing
        total += weight * np.divide(xy, norm, out=np.zeros_like(xy), where=norm > 0)
        size += weight
    return total / np.maximum(size, 1)  # a draw without any group that the subject saw says nothing of it


def _gains(
    values: np.ndarray,
    length: np.ndarray,
    blocks: Sequence[_Block],
    subjects: np.ndarray,
    n_items: int,
    alphas: Sequence[float],
) -> Float[np.ndarray, " items"]:
    """Of every part, how much less of the variance is left with the features, over targets and subjects."""
    names = sorted(set(subjects.tolist()))
    sums, sizes = np.zeros((n_items, len(names))), np.zeros((n_items, len(names)))
    for block in blocks:
        own, control = values[block.rows], length[block.rows]
        beside = {"controls": control, "groups": block.runs, "alphas": alphas}
        both = held_out_words(own, block.observed, block.folds, **beside)
        length_alone = _least_squares(control, block, alphas)
        gains = np.square(block.observed - length_alone) - np.square(block.observed - both)
        gains /= block.observed.var(axis=0)
        owners = subjects[block.columns]
        for place, name in enumerate(names):
            sums[block.rows, place] += gains[:, owners == name].sum(axis=1)
            sizes[block.rows, place] += (owners == name).sum()
    of_subjects = np.divide(sums, sizes, out=np.full(sums.shape, np.nan), where=sizes > 0)
    seen = np.isfinite(of_subjects)
    total = np.where(seen, of_subjects, 0.0).sum(axis=1)
    return np.divide(total, seen.sum(axis=1), out=np.full(n_items, np.nan), where=seen.any(axis=1))
