"""What a fit reads of a population of units: means, spreads and correlations over samples."""

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from topographic.sheets import Sheet
from topographic.sheets.expectations import expect_whole

__all__ = [
    "Scale",
    "Values",
    "check_population",
    "covariance",
    "least_samples",
    "moments",
    "shuffled_within_units",
    "spread",
]

Values = Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]  # (samples, units), which `covariance` checks
Scale = str  # "unit" or "overall", which `spread` checks
_ROWS_AT_ONCE = 4096  # a memory-mapped file never lies in memory whole
_FEWEST_SAMPLES_PER_UNIT = 2
_ALIKE = 1 - 1e-9


def moments(values: Values, scale: Scale = "unit") -> tuple[Float[Tensor, " units"], Float[Tensor, " units"]]:
    """Mean ``m`` and spread ``s`` of every unit, with which a sheet shows ``Z = ((X - m) / s) Q``.

    Parameters
    ----------
    values : ndarray or Tensor, shape (samples, units)
        Activations of any origin; a memory-mapped file is read piece by piece.
    scale : {"unit", "overall"}
        Standard deviation of each unit, or the one of all of them: the root of the mean variance.

    Returns
    -------
    mean, scale : Tensor of float32, shape (units,)
        On the CPU.

    Raises
    ------
    ValueError
        As `fit_rotation`.

    Examples
    --------
    >>> mean, spread = moments(np.array([[0.0, 1.0], [2.0, 5.0], [1.0, 3.0], [1.0, 3.0]]))
    >>> mean.tolist(), [round(number, 3) for number in spread.tolist()]
    ([1.0, 3.0], [0.707, 1.414])
    """
    mean, shared = covariance(values)
    return mean.float(), spread(shared, scale).float()


def least_samples(n_units: int) -> int:
    """Fewest samples that correlations of so many units are fitted to."""
    return _FEWEST_SAMPLES_PER_UNIT * n_units


def spread(shared: Float[Tensor, "units units"], scale: Scale) -> Float[Tensor, " units"]:
    """Standard deviation that every unit is divided by."""
    if scale not in ("unit", "overall"):
        raise ValueError(f"scale={scale!r}; expected 'unit' or 'overall'")
    variance = shared.diagonal()
    return (variance if scale == "unit" else variance.mean().expand_as(variance)).sqrt()


def covariance(values: Values) -> tuple[Float[Tensor, " units"], Float[Tensor, "units units"]]:
    """Mean and covariance over samples in float64; a population no map can be fitted to is refused."""
    if values.ndim != 2:
        raise ValueError(
            f"values have shape {tuple(values.shape)}; expected (samples, units), one row per token or image"
        )
    n_samples, n_units = values.shape
    if n_samples < least_samples(n_units):
        raise ValueError(
            f"{n_samples} samples of {n_units} units; correlations need at least {_FEWEST_SAMPLES_PER_UNIT} samples a "
            f"unit, {least_samples(n_units)} here, and maps hold better on other samples with 10 and more: record more"
        )
    mean = sum(rows.sum(0) for rows in _pieces(values)) / n_samples
    shared = torch.zeros(n_units, n_units, dtype=torch.float64)
    for rows in _pieces(values):
        rows = rows - mean
        shared += rows.T @ rows
    shared /= n_samples
    _check_units(torch.as_tensor(mean), shared)
    return torch.as_tensor(mean), shared


def _pieces(values: Values) -> Iterator[Tensor]:
    for first in range(0, len(values), _ROWS_AT_ONCE):
        piece = values[first : first + _ROWS_AT_ONCE]
        yield (
            piece.detach().to("cpu", torch.float64)
            if isinstance(piece, Tensor)
            else torch.from_numpy(np.array(piece, np.float64))
        )


def _check_units(mean: Tensor, shared: Tensor) -> None:
    variance = shared.diagonal()
    bad = torch.nonzero(~variance.isfinite()).flatten().tolist()
    if bad:
        raise ValueError(
            f"values of unit {bad[0]} hold NaN or infinity ({len(bad)} such units); record them again in float32"
        )
    constant = torch.nonzero(variance <= (1e-7 * mean).square()).flatten().tolist()
    if constant:
        raise ValueError(
            f"unit {constant[0]} is constant over all samples ({len(constant)} such units); such units correlate with "
            "nothing: leave them out, or give other samples"
        )
    correlation = shared / torch.outer(variance.sqrt(), variance.sqrt())
    twins = torch.nonzero(correlation.triu(1) > _ALIKE).tolist()
    if twins:
        warnings.warn(
            f"units {twins[0][0]} and {twins[0][1]} do the same in all samples ({len(twins)} such pairs); a map "
            "counts them twice: check that no unit was recorded twice",
            stacklevel=3,
        )


def check_population(values: Values, sheet: Sheet) -> None:
    """Refuse values of another width than the sheet's."""
    if values.ndim == 2 and values.shape[1] != sheet.n_units:
        raise ValueError(
            f"values have {values.shape[1]} units and sheet {sheet.name!r} places {sheet.n_units}; give a sheet of "
            f"that width, for example grid({values.shape[1]})"
        )


def shuffled_within_units(values: Values, seed: int = 0) -> Values:
    """The control population: samples in another order within each unit, so that only the units' own spreads are left.

    Parameters
    ----------
    values : ndarray or Tensor, shape (samples, units)
        Activations of any origin.
    seed : int
        Seed of the orders, one for each unit.

    Returns
    -------
    ndarray or Tensor, shape (samples, units)
        As given; every column holds what it held.

    Notes
    -----
    A sheet fitted to it shows what a fit makes of variances alone. With units of unequal variance that is much.

    Examples
    --------
    >>> shuffled = shuffled_within_units(np.arange(12.0).reshape(6, 2))
    >>> sorted(shuffled[:, 0]) == [0, 2, 4, 6, 8, 10]
    True
    """
    expect_whole("seed", seed)
    generator = np.random.default_rng(seed)
    if isinstance(values, Tensor):
        order = generator.permuted(np.tile(np.arange(len(values))[:, None], values.shape[1]), axis=0)
        return values.gather(0, torch.from_numpy(order).to(values.device))
    return generator.permuted(np.asarray(values), axis=0)
