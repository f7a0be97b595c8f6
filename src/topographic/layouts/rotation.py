"""Re-bases found, not trained: the rotation, or the free linear map, that lays a population out on a sheet."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from scipy.linalg import helmert
from torch import Tensor
from tqdm.auto import tqdm

from topographic.layouts.blocks import fitting_neighborhoods
from topographic.layouts.population import Scale, Values, check_population, covariance, spread
from topographic.losses import spatial_correlation_loss
from topographic.sheets import Sheet, sample_neighborhoods
from topographic.sheets.expectations import expect_number, expect_whole

__all__ = ["Turn", "check_better", "few_rows", "fit_linear", "fit_rotation", "fit_rotations", "losses", "turned"]

_NEIGHBORHOODS_A_STEP = 16
_LEAST_GAIN = 0.01


def fit_rotation(
    values: Values,
    sheet: Sheet,
    *,
    seed: int = 0,
    steps: int = 100,
    scale: Scale = "unit",
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Float[Tensor, "units units"]:
    """Orthogonal matrix that lays a population out on a sheet, so that places close together respond alike.

    ``Q = argmin SL(X_s Q)`` over orthogonal matrices, with ``X_s = (X - m) / s`` and ``SL`` the
    `spatial_correlation_loss` of 16 neighbourhoods of radius 5 a step. Column ``j`` of ``Q`` is place ``j`` of the
    sheet, and ``Z = ((X - m) / s) Q`` lies on it (`moments` gives ``m`` and ``s``); the model's own values come back
    as ``X = Z Q^T s + m``.

    Parameters
    ----------
    values : ndarray or Tensor, shape (samples, units)
        Activations of any origin, at least twice as many samples as units; more make a map that holds better on
        other samples (Notes).
    sheet : Sheet
        Where the places lie: a grid of any shape, a torus, or a mesh. A sheet smaller than a block of radius 5 gets
        smaller blocks; off a lattice a neighbourhood is the 81 places nearest to one.
    seed : int
        Seed of the random start and of the neighbourhoods.
    steps : int
        Steps of Adam.
    scale : {"unit", "overall"}
        Divide every unit by its own standard deviation, or all by one. With one, which is the same as none, since
        correlations do not know it, the few units of enormous variance that language models have decide everything.
    device : str or torch.device
        Where the fit runs.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Tensor of float32, shape (units, units)
        ``Q`` on the CPU, with ``|| Q^T Q - I || < 1e-5``.

    Raises
    ------
    ValueError
        If there are too few samples, a unit is constant, values are not finite, or the widths differ.
    RuntimeError
        If the loss of the result is not at least 0.01 below that of the random start, as for whitened values, of
        which every rotation is uncorrelated.

    Warns
    -----
    UserWarning
        If two units do the same in all samples.

    Notes
    -----
    The loss on the samples it was fitted on tells nothing: with 14 samples a unit, samples shuffled within units give
    .001 as well, and .50 on others. Judge a rotation on samples it has not seen: with 2, 5, 10 and 14 samples a unit
    the residual stream of block 14 of SmolLM2-135M has .18, .12, .08 and .07 on other tokens, and .50 before.

    The loss knows values by their covariance ``C`` alone. So the fit reads ``units + 1`` rows that have exactly ``C``
    in place of all samples, and costs the same for any number of them. Steps are taken in the tangent space and
    brought back by Cayley's transform, ``Q <- Q (I - K/2)^-1 (I + K/2)`` with skew ``K``: for 576 units on one thread
    8 ms, against 27 for the matrix exponential, 9 for QR, 44 for the polar form by SVD; a polar step by Newton and
    Schulz takes 8 as well and diverges with long steps. A site of 576 units takes some seconds.

    References
    ----------
    TopoTransform (Rathi et al. 2026) re-bases with an orthogonal matrix under the same loss, by QR of a free one.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> values = torch.randn(400, 36, generator=torch.Generator().manual_seed(0)).cumsum(1)
    >>> rotation = fit_rotation(values, grid(36), steps=20)
    >>> torch.dist(rotation.T @ rotation, torch.eye(36)) < 1e-5
    tensor(True)
    """
    found = fit_rotations(
        {"values": values}, sheet, seed=seed, steps=steps, scale=scale, device=device, progress=progress
    )
    return found["values"]


def fit_rotations(
    values: Mapping[str, Values],
    sheet: Sheet,
    *,
    seed: int = 0,
    steps: int = 100,
    scale: Scale = "unit",
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> dict[str, Float[Tensor, "units units"]]:
    """Rotations of several sites of one width, fitted side by side: one loss call a step.

    Parameters
    ----------
    values : mapping of str to ndarray or Tensor, shape (samples, units)
        Activations of each site; numbers of samples may differ.
    sheet, seed, steps, scale, device, progress
        As in `fit_rotation`.

    Returns
    -------
    dict of str to Tensor of float32, shape (units, units)
        For each site what `fit_rotation` finds for it alone: all have one start and one order of neighbourhoods.

    Raises
    ------
    ValueError, RuntimeError
        As `fit_rotation`; the message names the site.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> values = torch.randn(400, 36, generator=torch.Generator().manual_seed(0)).cumsum(1)
    >>> {site: tuple(q.shape) for site, q in fit_rotations({"a": values, "b": values[:200]}, grid(36), steps=9).items()}
    {'a': (36, 36), 'b': (36, 36)}
    """
    rows = torch.stack([_named(site, lambda own=own: _rows(own, sheet, scale)) for site, own in values.items()])
    turn = Turn(rows.shape[0], sheet.n_units, seed=seed, device=device)
    rows = rows.to(device)

    def step(neighborhoods: Tensor) -> tuple[Tensor, Tensor]:
        return _descent(rows, turn.rotation, sheet, neighborhoods)

    start = losses(rows @ turn.rotation, sheet)
    turned(turn, step, sheet, seed=seed, steps=steps, progress=progress)
    rotations = turn.settled()
    for site, before, after in zip(values, start, losses(rows @ rotations, sheet), strict=True):
        _named(site, lambda before=before, after=after: check_better(float(before), float(after), steps))
    return dict(zip(values, rotations.cpu().unbind(0), strict=True))


def fit_linear(
    values: Values,
    sheet: Sheet,
    *,
    seed: int = 0,
    steps: int = 100,
    scale: Scale = "unit",
    max_condition: float = 100.0,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Float[Tensor, "units units"]:
    """Invertible matrix of bounded condition number that lays a population out on a sheet.

    ``W = U diag(s) V^T`` with ``U`` and ``V`` orthogonal and ``s`` between ``max_condition ** -1/2`` and
    ``max_condition ** 1/2``, so that ``max s / min s`` can never exceed ``max_condition``; otherwise as `fit_rotation`.

    Parameters
    ----------
    values, sheet, seed, steps, scale, device, progress
        As in `fit_rotation`.
    max_condition : float
        Largest ratio of singular values. The model's values come back through the inverse with rounding errors of
        so many times those of ``Z``; free matrices reach 190 to 350 after 400 steps. With 1 it is a rotation.

    Returns
    -------
    Tensor of float32, shape (units, units)
        ``W`` on the CPU.

    Raises
    ------
    ValueError, RuntimeError
        As `fit_rotation`, or if ``max_condition`` is below 1.

    Notes
    -----
    Published adaptors (Topo-Omni) are square matrices without a bound.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> values = torch.randn(400, 36, generator=torch.Generator().manual_seed(0)).cumsum(1)
    >>> bool(torch.linalg.cond(fit_linear(values, grid(36), steps=20, max_condition=10.0)) < 10.01)
    True
    """
    expect_number("max_condition", max_condition, "a number from 1 to 1e6", least=1.0, most=1e6)
    rows = _rows(values, sheet, scale).unsqueeze(0).to(device)
    n_units = sheet.n_units
    right, left = (Turn(1, n_units, seed=seed + offset, device=device) for offset in (0, 1))
    bend = torch.zeros(n_units, device=device, requires_grad=True)
    adam = torch.optim.Adam([bend], lr=0.02)
    reach = math.log(max_condition) / 2

    def step(neighborhoods: Tensor) -> tuple[Tensor, Tensor]:
        lefts, rights = left.rotation.requires_grad_(), right.rotation.requires_grad_()
        z = (rows @ lefts * (reach * bend.tanh()).exp()) @ rights
        loss = spatial_correlation_loss(z, sheet.positions_mm, neighborhoods, period_mm=sheet.period_mm)
        gradients = torch.autograd.grad(loss, [lefts, rights, bend])
        left.rotation, right.rotation = lefts.detach(), rights.detach()
        bend.grad = gradients[2]
        adam.step()
        left.step(left.rotation.mT @ gradients[0], rate=0.5)
        return loss.detach(), right.rotation.mT @ gradients[1]

    before = losses(rows @ left.rotation @ right.rotation, sheet)
    turned(right, step, sheet, seed=seed, steps=steps, progress=progress)
    matrix = (left.settled() * (reach * bend.detach().tanh()).exp()) @ right.settled()
    check_better(float(before), float(losses(rows @ matrix, sheet)), steps)
    return matrix[0].cpu()


class Turn:
    """Rotations on their way: Adam on the skew part of the gradient, brought back by Cayley's transform."""

    def __init__(self, n_sites: int, n_units: int, *, seed: int, device: str | torch.device = "cpu") -> None:
        expect_whole("seed", seed)
        normal = torch.randn(n_units, n_units, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        self.rotation = _orthogonal(normal).float().to(device).repeat(n_sites, 1, 1)
        self.identity = torch.eye(n_units, device=device)
        self.mean, self.power = torch.zeros_like(self.rotation), torch.zeros_like(self.rotation)
        self.n_steps = 0
        # every entry moves by about the rate, so that the angle of a step grows with the root of the width
        self.rate = 0.24 / math.sqrt(n_units)

    def step(self, gradient: Float[Tensor, "sites units units"], rate: float = 1.0) -> None:
        """One step against ``Q^T dL/dQ``, at so much of the full rate."""
        self.n_steps += 1
        skew = gradient - gradient.mT
        self.mean.mul_(0.9).add_(skew, alpha=0.1)
        self.power.mul_(0.999).addcmul_(skew, skew, value=0.001)
        power = self.power / (1 - 0.999**self.n_steps)
        # the smallest normal number: losses of good maps have gradients far below the usual 1e-8
        half = self.mean / (1 - 0.9**self.n_steps) / (power.sqrt() + 1e-30) * (-rate * self.rate / 2)
        self.rotation = self.rotation @ torch.linalg.solve(self.identity - half, self.identity + half)

    def settled(self) -> Float[Tensor, "sites units units"]:
        """The rotations, orthogonal to the rounding of float32."""
        return _orthogonal(self.rotation.double()).float()


def turned(
    turn: Turn,
    step: Callable[[Tensor], tuple[Tensor, Tensor]],
    sheet: Sheet,
    *,
    seed: int,
    steps: int,
    progress: bool,
) -> None:
    """Turn for so many steps; ``step(neighborhoods)`` gives the loss and ``Q^T dL/dQ``."""
    expect_whole("steps", steps, 1)
    every = fitting_neighborhoods(sheet).to(turn.rotation.device)
    n_chosen = min(_NEIGHBORHOODS_A_STEP, len(every))
    generator = torch.Generator().manual_seed(seed)
    with tqdm(range(steps), desc="fit rotation", disable=not progress) as bar:
        for number in bar:
            loss, gradient = step(sample_neighborhoods(every, n_chosen, generator=generator))
            if progress and number % 10 == 0:
                bar.set_postfix(loss=f"{float(loss):.3f}")
            warm_up = min(1.0, (number + 1) / 10)
            turn.step(gradient, warm_up * (1 + math.cos(math.pi * number / steps)) / 2)


def losses(z: Float[Tensor, "sites rows units"], sheet: Sheet) -> Float[Tensor, " sites"]:
    """Loss of each site over all neighbourhoods of a sheet."""
    every = fitting_neighborhoods(sheet)
    each = [spatial_correlation_loss(own, sheet.positions_mm, every, period_mm=sheet.period_mm) for own in z]
    return torch.stack(each)


def few_rows(shared: Float[Tensor, "units units"]) -> Float[Tensor, "rows units"]:
    """``units + 1`` rows of mean zero with ``rows^T rows`` a given covariance."""
    power, directions = torch.linalg.eigh(shared)
    factor = directions * power.clamp(min=0).sqrt()
    return (torch.from_numpy(helmert(len(shared) + 1)).T @ factor.T).float()


def check_better(before: float, after: float, steps: int) -> None:
    """Refuse a fit that found nothing."""
    if not after < before - _LEAST_GAIN:
        raise RuntimeError(
            f"the rotation did not converge: spatial loss {after:.3f} after {steps} steps, {before:.3f} at the random "
            "start; take more steps, or values that are correlated (whitened ones are not)"
        )


def _descent(rows: Tensor, rotation: Tensor, sheet: Sheet, neighborhoods: Tensor) -> tuple[Tensor, Tensor]:
    z = (rows @ rotation).requires_grad_()
    loss = spatial_correlation_loss(z, sheet.positions_mm, neighborhoods, period_mm=sheet.period_mm)
    (gradient,) = torch.autograd.grad(loss, z)
    return loss.detach(), z.detach().mT @ gradient


def _rows(values: Values, sheet: Sheet, scale: Scale) -> Tensor:
    check_population(values, sheet)
    _, shared = covariance(values)
    own = spread(shared, scale)
    return few_rows(shared / torch.outer(own, own))


def _named(site: str, function: Callable[[], Any]) -> Any:
    """What the function gives; its errors begin with the site."""
    try:
        return function()
    except (ValueError, RuntimeError) as error:
        if site == "values":
            raise
        raise type(error)(f"site {site!r}: {error}") from error


def _orthogonal(matrices: Float[Tensor, "*sites units units"]) -> Float[Tensor, "*sites units units"]:
    """The nearly orthogonal matrix itself, made orthogonal; the factor Q with a positive diagonal of R."""
    q, r = torch.linalg.qr(matrices)
    return q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
