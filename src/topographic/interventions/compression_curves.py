"""Curves of compression: what a model can still do with fewer and fewer weights, and whether topography helps."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from topographic.interventions.compress import Sites, downsample, placed_layers, prunable_weights, prune
from topographic.interventions.measures import Measure, measured
from topographic.maps.nulls import stream
from topographic.maps.references import NullReference, compare
from topographic.recording.placement import AnyLayout
from topographic.sheets import Sheet
from topographic.sheets.expectations import expect_number, expect_whole

__all__ = ["CompressionEffect", "downsampling_curve", "matched_fractions", "pruning_curve"]


@dataclass(frozen=True)
class CompressionEffect:
    """One line of a curve: what one measure was when part of the weights had gone.

    Parameters
    ----------
    measure : str
        Name of the measure, for example "perplexity".
    method : str
        "pruning" or "downsampling".
    fraction : float
        Share of the sites' weights that was to go.
    n_parameters : int
        Parameters that are left: for pruning all of them less the zeros among the sites' weights, so that
        curves of both methods can be compared at equal numbers.
    value : float
        The measure.
    unit_null : NullReference, optional
        The measure with the units of every sheet permuted before it is made smaller. Its z is in the direction of
        the measure; its p is one-sided: the share of permuted sheets that come as near to the whole model,
        ``(1 + #{|c - whole| <= |value - whole|}) / (n + 1)``.
    """

    measure: str
    method: str
    fraction: float
    n_parameters: int
    value: float
    unit_null: NullReference | None = None


def pruning_curve(
    model: nn.Module,
    sites: Sites,
    fractions: Sequence[float],
    measure: Measure,
    *,
    scope: str = "layer",
    progress: bool = True,
) -> list[CompressionEffect]:
    """Measure a model with more and more of its weights pruned.

    Parameters
    ----------
    model : nn.Module
        Any model; it is not touched.
    sites : str or sequence of str
        Layers to prune, as in `prune`.
    fractions : sequence of float
        Shares to remove, from 0 (the model as it is) to 1.
    measure : callable
        ``model -> {name: number}``, or one number.
    scope : {"layer", "global"}
        As in `prune`.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    list of CompressionEffect
        One per fraction and measure.

    Raises
    ------
    ValueError, TypeError
        As `prune`.
    """
    for fraction in fractions:
        expect_number("fraction", fraction, "the share of weights to remove, from 0 to 1", most=1.0)
    rows = []
    for fraction in tqdm(fractions, desc="pruning", disable=not progress):
        pruned = prune(model, sites, fraction, scope=scope)
        n_left = _n_parameters(pruned) - sum(int((weight == 0).sum()) for weight in prunable_weights(pruned, sites))
        rows += _effects("pruning", fraction, n_left, measured(measure, pruned), {})
    return rows


def downsampling_curve(
    model: nn.Module,
    sites: Sites,
    fractions: Sequence[float],
    measure: Measure,
    *,
    layout: AnyLayout = None,
    relayout: bool = False,
    keep_bias: bool = False,
    n_draws: int = 0,
    seed: int = 0,
) -> list[CompressionEffect]:
    """Measure a model with its sheets made smaller and smaller.

    The null hypothesis of a p: units might lie in any other place of their sheet.

    Parameters
    ----------
    model : nn.Module
        Any model; it is not touched.
    sites : str or sequence of str
        Linear layers, as in `downsample`.
    fractions : sequence of float
        Shares of the units to remove, from 0 (the model as it is) to below 1: ``keep = 1 - fraction``.
    measure : callable
        ``model -> {name: number}``, or one number.
    layout, relayout, keep_bias
        As in `downsample`.
    n_draws : int
        Draws of the unit null: how the same model fares when its units lie elsewhere on their sheets, which changes
        nothing in the whole model; 0 for none, otherwise at least 2. A fraction of 0 has no null.
    seed : int
        Seed of the null; with the name of each site it determines the permutations, the same for all fractions.

    Returns
    -------
    list of CompressionEffect
        One per fraction and measure.

    Raises
    ------
    ValueError, TypeError
        As `downsample`.
    """
    below_1 = math.nextafter(1, 0)
    for fraction in fractions:
        expect_number("fraction", fraction, "the share of units to remove, from 0 to below 1", most=below_1)
    expect_whole("seed", seed)
    if n_draws:
        expect_whole("n_draws", n_draws, 2)
    sheets = {site: sheet for site, (_, sheet) in placed_layers(model, sites, layout, relayout=relayout).items()}
    whole = measured(measure, model) if n_draws else {}
    rows = []
    for fraction in tqdm(fractions, desc="downsampling", disable=None):
        keep = round(1 - fraction, 12)  # 1 - 0.51 is just below 0.49, and sides are rounded down
        how = {"relayout": True, "keep_bias": keep_bias}
        small = downsample(model, sites, keep, layout=sheets, **how)
        found = measured(measure, small)
        nulls: dict[str, NullReference] = {}
        if fraction > 0 and n_draws:
            layouts = tqdm(_permuted(sheets, n_draws, seed), "units permuted", n_draws, leave=False, disable=None)
            drawn = [measured(measure, downsample(model, sites, keep, layout=one, **how)) for one in layouts]
            nulls = {
                name: _nearness(whole[name], value, [draw[name] for draw in drawn]) for name, value in found.items()
            }
        rows += _effects("downsampling", fraction, _n_parameters(small), found, nulls)
    return rows


def matched_fractions(model: nn.Module, sites: Sites, curve: Sequence[CompressionEffect]) -> list[float]:
    """Shares of the weights to prune that leave as many parameters as the models of a curve have.

    ``f = (n_model - n_curve) / n_weights`` for every number of parameters in the curve.

    Parameters
    ----------
    model : nn.Module
        The whole model.
    sites : str or sequence of str
        Layers to prune.
    curve : sequence of CompressionEffect
        A downsampling curve of the model.

    Returns
    -------
    list of float
        One fraction per different number of parameters, the largest number first; exact to one weight per
        layer where all layers are of one size or the scope is "global".

    Raises
    ------
    ValueError
        If so many weights are not there.
    """
    n_weights = sum(weight.numel() for weight in prunable_weights(model, sites))
    removed = [_n_parameters(model) - n for n in sorted({row.n_parameters for row in curve}, reverse=True)]
    if any(not 0 <= n <= n_weights for n in removed):
        raise ValueError(
            f"the curve is {max(removed)} parameters below the model, and its sites have {n_weights} weights; expected "
            "a curve of the same model and sites"
        )
    return [n / n_weights for n in removed]


def _n_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _effects(
    method: str, fraction: float, n_left: int, found: Mapping[str, float], nulls: Mapping[str, NullReference]
) -> list[CompressionEffect]:
    return [
        CompressionEffect(name, method, float(fraction), n_left, one, nulls.get(name)) for name, one in found.items()
    ]


def _permuted(sheets: Mapping[str, Sheet], n_draws: int, seed: int) -> Iterator[dict[str, Sheet]]:
    """The same sheets with their units elsewhere, every site permuted by itself."""
    generators = {site: stream(seed, "unit", site) for site in sheets}
    for _ in range(n_draws):
        orders = {site: torch.from_numpy(generators[site].permutation(one.n_units)) for site, one in sheets.items()}
        yield {
            site: dataclasses.replace(one, positions_mm=one.positions_mm[orders[site]]) for site, one in sheets.items()
        }


def _nearness(whole: float, value: float, draws: Sequence[float]) -> NullReference:
    """Draws of a measure, and how seldom they are as near to the whole model as the value is."""
    values = np.array(draws, dtype=np.float64)
    nearer = compare(-abs(value - whole), -np.abs(values - whole))
    return dataclasses.replace(compare(value, values), p=nearer.p)
