"""One contiguous sheet for all layers of one width: depth runs along an axis, and neighbourhoods cross layers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from topographic.layouts.population import Scale, Values, moments
from topographic.layouts.rotation import Turn, check_better, few_rows, losses, turned
from topographic.losses import spatial_correlation_loss
from topographic.sheets import Sheet, grid_shape
from topographic.sheets.expectations import expect_whole

__all__ = ["contiguous_sheet", "fit_contiguous"]

_ROWS_A_STEP = 2048
_MOST_JOINT_UNITS = 4096  # above, a step reads samples in place of rows of the joint covariance


def contiguous_sheet(sheet: Sheet, n_sites: int, *, axis: int = 1, name: str | None = None) -> Sheet:
    """Sheets of several sites side by side, as one.

    Parameters
    ----------
    sheet : Sheet
        Sheet of one site, a lattice without wrapping.
    n_sites : int
        How many sites.
    axis : {0, 1}
        Along which axis depth runs: 0 stacks sites downwards, 1 to the right.
    name : str, optional
        Name of the new sheet.

    Returns
    -------
    Sheet
        ``n_sites * sheet.n_units`` places; those of site ``k`` are ``k * units`` to ``(k + 1) * units - 1``.

    Raises
    ------
    ValueError
        If the sheet is no lattice or wraps.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> contiguous_sheet(grid(36), 3)
    Sheet('sheet', 108 units, sheet, extent_mm=(6.0, 18.0))
    """
    expect_whole("n_sites", n_sites, 1)
    if grid_shape(sheet) is None or sheet.wrap or sheet.extent_mm is None:
        raise ValueError(f"sheet {sheet.name!r} is no flat lattice, so that nothing joins it; use grid(units)")
    if axis not in (0, 1):
        raise ValueError(f"axis={axis!r}; expected 0, depth runs down, or 1, depth runs to the right")
    step = torch.zeros(2, dtype=torch.float64)
    step[axis] = sheet.extent_mm[axis]
    positions_mm = torch.cat([sheet.positions_mm + number * step for number in range(n_sites)])
    extent_mm = tuple(length * (n_sites if of == axis else 1) for of, length in enumerate(sheet.extent_mm))
    return Sheet(name=name or sheet.name, positions_mm=positions_mm, extent_mm=extent_mm)


def fit_contiguous(
    values: Mapping[str, Values],
    sheet: Sheet,
    *,
    seed: int = 0,
    steps: int = 100,
    scale: Scale = "unit",
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> dict[str, Float[Tensor, "units units"]]:
    """A rotation for every site under one loss, on one sheet whose neighbourhoods cross from site to site.

    Parameters
    ----------
    values : mapping of str to ndarray or Tensor, shape (samples, units)
        Activations of each site, in the order of depth, all of one width and to the same samples.
    sheet : Sheet
        What `contiguous_sheet` makes of the sheet of one site.
    seed, steps, scale, device, progress
        As in `fit_rotation`.

    Returns
    -------
    dict of str to Tensor of float32, shape (units, units)
        Site ``k``'s ``((X - m) / s) Q`` lies on places ``k * units`` to ``(k + 1) * units - 1``.

    Raises
    ------
    ValueError
        If widths or numbers of samples differ between sites, or as `fit_rotation`.
    RuntimeError
        As `fit_rotation`.

    Notes
    -----
    Up to 4,096 units in all, a step reads the joint covariance; above, 2,048 samples drawn anew for each.

    References
    ----------
    Topo-Omni (2606.09770) stacks layers the same way; its strips of permuted rows straddle layers, here each place
    belongs to one.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> x = torch.randn(400, 36, generator=torch.Generator().manual_seed(0)).cumsum(1)
    >>> list(fit_contiguous({"early": x, "late": x.roll(1, 1)}, contiguous_sheet(grid(36), 2), steps=20))
    ['early', 'late']
    """
    shapes = {site: tuple(own.shape) for site, own in values.items()}
    widths = sorted({shape[-1] for shape in shapes.values()})
    if len(widths) != 1:
        raise ValueError(
            f"sites of widths {widths} on one contiguous sheet; choose sites of one width, or fit each width"
        )
    if len(set(shapes.values())) > 1:
        raise ValueError(f"sites hold {sorted(set(shapes.values()))} values; expected the same samples at all of them")
    n_sites, n_units = len(values), widths[0]
    if sheet.n_units != n_sites * n_units:
        raise ValueError(
            f"{n_sites} sites of {n_units} units on a sheet of {sheet.n_units} places; expected {n_sites * n_units}: "
            f"use contiguous_sheet(grid({n_units}), {n_sites})"
        )
    draw = _drawing(values, scale, device, seed)
    turn = Turn(n_sites, n_units, seed=seed, device=device)

    def on_sheet(rows: Tensor, rotation: Tensor) -> Tensor:
        return (rows @ rotation).transpose(0, 1).flatten(1)

    def step(neighborhoods: Tensor) -> tuple[Tensor, Tensor]:
        rows = draw()
        rotation = turn.rotation.requires_grad_()
        loss = spatial_correlation_loss(on_sheet(rows, rotation), sheet.positions_mm, neighborhoods)
        (gradient,) = torch.autograd.grad(loss, rotation)
        turn.rotation = rotation.detach()
        return loss.detach(), turn.rotation.mT @ gradient

    judged = draw()
    before = losses(on_sheet(judged, turn.rotation).unsqueeze(0), sheet)
    turned(turn, step, sheet, seed=seed, steps=steps, progress=progress)
    rotations = turn.settled()
    check_better(float(before), float(losses(on_sheet(judged, rotations).unsqueeze(0), sheet)), steps)
    return dict(zip(values, rotations.cpu().unbind(0), strict=True))


def _drawing(
    values: Mapping[str, Values], scale: Scale, device: str | torch.device, seed: int
) -> Callable[[], Float[Tensor, "sites rows units"]]:
    """Function that gives the rows of a step: those of the joint covariance, or some samples."""
    found = [_named_moments(site, own, scale) for site, own in values.items()]
    n_sites, n_samples, n_units = len(values), len(next(iter(values.values()))), len(found[0][0])
    if n_sites * n_units <= _MOST_JOINT_UNITS:
        shared = torch.zeros(n_sites * n_units, n_sites * n_units, dtype=torch.float64)
        for first in range(0, n_samples, _ROWS_A_STEP):
            part = _standardised(values, found, slice(first, first + _ROWS_A_STEP)).double()
            part = part.transpose(0, 1).flatten(1)
            shared += part.T @ part
        rows = few_rows(shared / n_samples).unflatten(1, (n_sites, n_units)).transpose(0, 1).contiguous().to(device)
        return lambda: rows
    generator = np.random.default_rng(seed)

    def draw() -> Tensor:
        chosen = np.sort(generator.choice(n_samples, min(_ROWS_A_STEP, n_samples), replace=False))
        return _standardised(values, found, chosen).to(device)

    return draw


def _named_moments(site: str, values: Values, scale: Scale) -> tuple[Tensor, Tensor]:
    try:
        return moments(values, scale)
    except ValueError as error:
        raise ValueError(f"site {site!r}: {error}") from error


def _standardised(values: Mapping[str, Values], found: Sequence[tuple[Tensor, Tensor]], chosen: Any) -> Tensor:
    """Chosen samples of all sites, (sites, samples, units), in float32."""
    parts = [
        torch.from_numpy(np.array(own[chosen])) if isinstance(own, np.ndarray) else own[chosen]  # files are read-only
        for own in values.values()
    ]
    return torch.stack([(part.cpu().float() - mean) / own for part, (mean, own) in zip(parts, found, strict=True)])
