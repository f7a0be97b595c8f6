"""How well a recording could be predicted: four ceilings, which are never mixed, clipped or left unnamed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from topographic.brain.encoding import encode
from topographic.brain.scores import pearson_r
from topographic.maps.nulls import stream

__all__ = [
    "CEILINGS",
    "cross_subject_prediction",
    "explainable_variance",
    "noise_ceiling_nsd",
    "spearman_brown",
    "split_half_ceiling",
]


def explainable_variance(
    repeats: Float[np.ndarray, "repeats samples targets"], *, correct_bias: bool = True
) -> Float[np.ndarray, " targets"]:
    """Share of one recording's variance that its repeats have in common.

    ``EV = var(mean over repeats) / mean(var)``, less ``(1 - EV) / (R - 1)`` for its bias. May be negative: it is not
    clipped. The largest r with the averaged recording is the root of the averaged recording's own share.
    """
    if repeats.ndim != 3 or len(repeats) < 2:
        raise ValueError(
            f"repeats of shape {repeats.shape}; expected (repeats, samples, targets) with 2 repeats or more"
        )
    share = repeats.mean(axis=0).var(axis=0) / repeats.var(axis=1).mean(axis=0)
    return share - (1 - share) / (len(repeats) - 1) if correct_bias else share


def noise_ceiling_nsd(
    repeats: Float[np.ndarray, "repeats items targets"], n_averaged: int = 1
) -> Float[np.ndarray, " targets"]:
    """Share of variance that is signal, as the Natural Scenes Dataset defines it; its root is in units of r.

    ``ncsnr^2 / (ncsnr^2 + 1 / n)`` with ``ncsnr = sd_signal / sd_noise``, ``sd_noise^2`` the mean variance over
    repeats (ddof 1) and ``sd_signal^2 = max(0, var_total - sd_noise^2)``: 0 by definition where noise exceeds all.
    """
    if repeats.ndim != 3 or len(repeats) < 2:
        raise ValueError(f"repeats of shape {repeats.shape}; expected (repeats, items, targets) with 2 repeats or more")
    noise = repeats.var(axis=0, ddof=1).mean(axis=0)
    total = repeats.reshape(-1, repeats.shape[-1]).var(axis=0, ddof=1)
    ratio = np.maximum(0.0, total - noise) / noise
    return ratio / (ratio + 1 / n_averaged)


def spearman_brown(r: Float[np.ndarray, " targets"] | float) -> Float[np.ndarray, " targets"] | float:
    """Reliability of the whole from the correlation of two halves: ``2 r / (1 + r)``."""
    return 2 * r / (1 + r)


def split_half_ceiling(
    repeats: Float[np.ndarray, "repeats samples targets"], *, n_splits: int = 10, seed: int = 0
) -> Float[np.ndarray, " targets"]:
    """Median over random halves of the repeats of their correlation, stepped up by Spearman-Brown; not clipped."""
    if repeats.ndim != 3 or len(repeats) < 2:
        raise ValueError(
            f"repeats of shape {repeats.shape}; expected (repeats, samples, targets) with 2 repeats or more"
        )
    draw = stream(seed, "halves")
    found = []
    for _ in range(n_splits):
        order = draw.permutation(len(repeats))
        one, other = np.array_split(order, 2)
        found.append(spearman_brown(pearson_r(repeats[one].mean(axis=0), repeats[other].mean(axis=0))))
    return np.median(found, axis=0)


def cross_subject_prediction(
    recordings: Sequence[Shaped[np.ndarray, "_ _"]], **options: Any
) -> list[Float[np.ndarray, "_"]]:
    """How well each subject is predicted from all others: held-out r per target, as `encode` finds it.

    Parameters
    ----------
    recordings : sequence of ndarray, shape (samples, targets of that subject)
        Of the same stimuli, three subjects or more.
    **options
        Of `encode`: runs, folds, alphas ...

    Returns
    -------
    list of ndarray, shape (targets,)
        One per subject. It grows with the number of the others, and a model may exceed it.

    Raises
    ------
    ValueError
        If there are fewer than three subjects or their samples differ.

    References
    ----------
    Schrimpf et al. 2021.
    """
    lengths = sorted({len(one) for one in recordings})
    if len(recordings) < 3 or len(lengths) > 1:
        raise ValueError(
            f"{len(recordings)} recordings of {lengths} samples; expected 3 subjects or more, all of the same stimuli"
        )
    found = []
    for subject, recording in enumerate(recordings):
        others = np.hstack([one for at, one in enumerate(recordings) if at != subject])
        others = others[:, np.isfinite(others).all(axis=0)]
        found.append(encode(others, recording, **options).r)
    return found


CEILINGS = {
    "explainable variance": explainable_variance,
    "NSD noise ceiling": noise_ceiling_nsd,
    "split half, Spearman-Brown": split_half_ceiling,
}
