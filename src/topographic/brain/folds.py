"""Which samples a model of the brain is fitted on and which it is tested on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from topographic.maps.nulls import stream

__all__ = ["Folds", "contiguous_folds", "run_folds", "shuffled_folds"]


@dataclass(frozen=True, eq=False)
class Folds:
    """Pairs of training and test samples, what they are called, and what speaks against them."""

    name: str
    pairs: tuple[tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"]], ...]
    warning: str = ""

    def __post_init__(self) -> None:
        """Refuse folds that cannot be used."""
        for train, test in self.pairs:
            if not len(train) or not len(test):
                raise ValueError(
                    f"{self.name}: a fold has {len(train)} training and {len(test)} test samples; use fewer"
                )
            if np.intersect1d(train, test).size:
                raise ValueError(f"{self.name}: a fold tests samples that it is fitted on; make them disjoint")

    def __len__(self) -> int:
        """Number of folds."""
        return len(self.pairs)

    def __repr__(self) -> str:
        """One line."""
        return f"Folds({self.name!r}, {len(self)} folds)"


def run_folds(runs: Shaped[np.ndarray, " samples"], n_folds: int | None = None) -> Folds:
    """Folds of whole runs or stories.

    Parameters
    ----------
    runs : ndarray, shape (samples,)
        The run, story or topic of each sample.
    n_folds : int, optional
        Number of folds, of neighbouring runs where fewer than there are runs; one per run unless given.

    Returns
    -------
    Folds
        Each run is tested once, by a model that saw none of it.

    Raises
    ------
    ValueError
        If there is one run only, or fewer runs than folds.

    Examples
    --------
    >>> run_folds(np.array(["a", "a", "b", "b", "c"]), 2)
    Folds('whole runs', 2 folds)
    """
    names, run = np.unique(np.asarray(runs), return_inverse=True)
    first = np.array([np.flatnonzero(run == index)[0] for index in range(len(names))])
    order = np.argsort(first)
    if len(names) < 2:
        raise ValueError(f"{len(names)} run only; folds by run need two or more: use contiguous_folds within the run")
    n_folds = len(names) if n_folds is None else n_folds
    if not 2 <= n_folds <= len(names):
        raise ValueError(f"n_folds={n_folds} for {len(names)} runs; expected from 2 to {len(names)}")
    pairs = []
    for members in np.array_split(order, n_folds):
        tested = np.isin(run, members)
        pairs.append((np.flatnonzero(~tested), np.flatnonzero(tested)))
    return Folds("whole runs", tuple(pairs))


def contiguous_folds(n_samples: int, n_folds: int = 5, *, gap: int = 10, trim: int = 0) -> Folds:
    """Folds of neighbouring samples, with a gap between what is fitted and what is tested.

    Parameters
    ----------
    n_samples : int
        Number of samples, in order of time.
    n_folds : int
        Number of folds, as equal as can be; the first are the longer ones.
    gap : int
        Samples left out of the training side on each side of the test samples.
    trim : int
        Samples left out of the test side at each of its ends (LITcoder's "trimmed" folds: gap 0, trim 5).

    Returns
    -------
    Folds
        Named with gap and trim.

    Raises
    ------
    ValueError
        If nothing is left to fit or test.

    Examples
    --------
    >>> contiguous_folds(20, 4, gap=2).pairs[1][0].tolist()
    [0, 1, 2, 12, 13, 14, 15, 16, 17, 18, 19]
    """
    if not 2 <= n_folds <= n_samples or gap < 0 or trim < 0:
        raise ValueError(
            f"n_folds={n_folds}, gap={gap}, trim={trim} for {n_samples} samples; expected 2 folds or more, "
            "gaps of 0 or more"
        )
    pairs = []
    for test in np.array_split(np.arange(n_samples), n_folds):
        train = np.r_[0 : max(0, test[0] - gap), min(n_samples, test[-1] + 1 + gap) : n_samples]
        pairs.append((train, test[trim : len(test) - trim]))
    return Folds(f"contiguous, gap {gap}" + (f", test trimmed by {trim}" if trim else ""), tuple(pairs))


def shuffled_folds(n_samples: int, n_folds: int = 5, *, seed: int) -> Folds:
    """Folds of samples drawn at random: only for data without order in time, and always with a warning.

    Parameters
    ----------
    n_samples, n_folds : int
        Numbers of samples and folds.
    seed : int
        Seed of the shuffle.

    Returns
    -------
    Folds
        Its warning goes into every result.
    """
    order = stream(seed, "shuffled folds").permutation(n_samples)
    pairs = tuple((np.sort(np.setdiff1d(order, test)), np.sort(test)) for test in np.array_split(order, n_folds))
    return Folds(
        f"shuffled, seed {seed}",
        pairs,
        "shuffled folds: neighbours in time lie on both sides, so that a model without content scores as well; use "
        "run_folds or contiguous_folds",
    )
