"""Spatial correlation loss: units that lie close together should respond alike (TopoLM, TDANN)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from topographic.sheets import distances

__all__ = ["spatial_correlation_loss"]


def spatial_correlation_loss(
    activations: Shaped[Tensor, "*sheets samples units"] | Sequence[Shaped[Tensor, "samples units"]],
    positions_mm: Float[Tensor, "*positioned units axes"],
    neighborhoods: Int64[Tensor, "*chosen neighborhoods units_per_neighborhood"],
    *,
    norm: Literal["l1", "l2", "linf"] = "l2",
    period_mm: tuple[float, ...] | None = None,
    reduction: Literal["mean", "none"] = "mean",
    sample_mask: Bool[Tensor, "*masked samples"] | None = None,
) -> Float[Tensor, "..."]:
    """How badly the correlation between units follows their closeness on the sheet.

    For each neighbourhood ``M``, with ``r_ij`` the Pearson correlation over samples of units
    ``i > j`` in ``M`` and ``d_ij = 1 / (1 + || x_i - x_j ||)``,

        SL(M) = 1/2 (1 - corr(r, d)),

    which is 0 for a perfect map, 1/2 for an unordered one and 1 for an inverted one.

    Parameters
    ----------
    activations : Tensor, shape (..., samples, units), or sequence of Tensor, shape (samples, units)
        What the units did; leading axes are sheets. A sequence holds one tensor per sheet and saves the copy of a
        stack.
    positions_mm : Tensor, shape (..., units, axes) or (units, axes)
        Positions in mm; without the leading axes they are shared by all sheets. They are held fixed.
    neighborhoods : Tensor of int64, shape (..., neighborhoods, units_per_neighborhood)
        Unit indices, all from 0 to ``units - 1``; without the leading axes they are shared by all sheets.
    norm : {"l1", "l2", "linf"}
        Distance on the sheet.
    period_mm : tuple of float, optional
        Period per axis of a torus (`Sheet.period_mm`).
    reduction : {"mean", "none"}
        Mean over neighbourhoods and sheets, or one value for each.
    sample_mask : Tensor of bool, shape (..., samples) or (samples,), optional
        False for samples that must not count, such as padding. Shapes stay as they are: left-out samples
        get weight zero in every mean and product, so that nothing waits for the device.

    Returns
    -------
    Tensor, shape () or (..., neighborhoods)
        The loss, in float64 for float64 activations and in float32 for all others, inside autocast too.

    Raises
    ------
    TypeError
        If ``neighborhoods`` does not hold int64 or ``activations`` does not hold floating-point numbers.
    ValueError
        If shapes do not fit together, there are fewer than two samples or fewer than three units in a
        neighbourhood, ``positions_mm`` asks for a gradient, or an option is unknown.

    Notes
    -----
    A unit that does not vary beyond rounding has ``r = 0`` with every other and receives no gradient.
    A neighbourhood whose ``r`` or ``d`` does not vary beyond rounding has the value 1/2 and gives no
    gradient. NaN activations give NaN. The published code yields NaN for constant units and computes in
    bfloat16 under autocast; its paper names Chebyshev distance for ``d`` where its code uses Euclidean
    distance, the default here. Matrix products follow ``torch.set_float32_matmul_precision``; TF32 is safe,
    since columns are centred first: a loss of 0.005 changes by 2e-8.

    References
    ----------
    Rathi et al. (2025), TopoLM: brain-like spatio-functional organization in a topographic language model,
    section 3; Margalit et al. (2024), A unifying framework for functional organization in early and higher
    ventral visual cortex.
    """
    sheets = tuple(activations) if isinstance(activations, Sequence) else (activations,)
    shape = _checked_shape(sheets, stacked=isinstance(activations, Sequence))
    _check_geometry(shape, positions_mm, neighborhoods, sample_mask)
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction={reduction!r}; expected 'mean' or 'none'")
    device, dtype = sheets[0].device, torch.promote_types(sheets[0].dtype, torch.float32)
    # autocast would take the products down to half precision, where r differs by more than the loss of a good map
    with torch.autocast(device.type, enabled=False):
        members = _for_each_sheet(neighborhoods.to(device, non_blocking=True), shape[:-2], n_own=2)
        positions_mm = _for_each_sheet(positions_mm.to(device, dtype, non_blocking=True), shape[:-2], n_own=2)
        of_sheet = torch.arange(members.shape[0], device=device)[:, None, None]
        closeness = 1 / (1 + distances(positions_mm[of_sheet, members], norm=norm, period_mm=period_mm))
        if sample_mask is not None:
            sample_mask = _for_each_sheet(sample_mask.to(device, non_blocking=True), shape[:-2], n_own=1)
        losses = _BlockLoss.apply(closeness, members, sample_mask, *sheets)
        losses = losses.reshape(*shape[:-2], members.shape[-2])
        return losses.mean() if reduction == "mean" else losses


class _BlockLoss(torch.autograd.Function):
    """Loss of every neighbourhood, (sheets, neighborhoods), with its derivative written out."""

    @staticmethod
    def forward(ctx: Any, closeness: Tensor, members: Tensor, sample_mask: Tensor | None, *sheets: Tensor) -> Tensor:
        singles = _singles(sheets)
        at_once = _sheets_at_once(members)
        blocks, means, grams = [], [], []
        for first in range(0, len(singles), at_once):
            part = slice(first, first + at_once)
            mask = None if sample_mask is None else sample_mask[part]
            block, mean = _centred_blocks(singles[part], members[part], mask, closeness.dtype)
            blocks.append(block)
            means.append(mean)
            grams.append(_gram(block))
        counts = singles[0].shape[0] if sample_mask is None else sample_mask.sum(-1)[:, None, None]
        losses, weights = _losses_and_weights(torch.cat(grams), torch.cat(means), closeness, counts)
        ctx.save_for_backward(members, weights, *blocks)
        ctx.shapes = [(sheet.shape, sheet.dtype) for sheet in sheets]
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: Tensor) -> tuple[Tensor | None, ...]:
        members, weights, *blocks = ctx.saved_tensors
        gradients = [torch.zeros(shape, dtype=dtype, device=weights.device) for shape, dtype in ctx.shapes]
        singles = _singles(gradients)
        with torch.autocast(weights.device.type, enabled=False):
            weights = weights * grad_losses[..., None, None]
            first = 0
            for block in blocks:
                part = slice(first, first + len(block))
                # the derivative of the centring drops out: the columns of `block` already sum to zero
                deltas = (_in_pieces(block) @ weights[part].unsqueeze(2)).view_as(block).to(singles[0].dtype)
                for single, rows, delta in zip(singles[part], members[part], deltas, strict=True):
                    # one neighbourhood at a time: it holds a unit once, so the sum has one order on a GPU too
                    for neighborhood, change in zip(rows, delta, strict=True):
                        single.index_add_(-1, neighborhood, change)
                first += len(block)
        return None, None, None, *gradients


def _sheets_at_once(members: Tensor) -> int:
    """One sheet's blocks fit the cache of a CPU; a GPU is filled only by all of them."""
    return 1 if members.device.type == "cpu" else len(members)


def _centred_blocks(
    singles: list[Tensor], members: Tensor, sample_mask: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Activations of every neighbourhood, (sheets, neighborhoods, samples, k), less their means."""
    n_samples, n_units = singles[0].shape
    n_sheets, n_neighborhoods, k = members.shape
    blocks = singles[0].new_empty(n_sheets, n_neighborhoods, n_samples, k)
    for single, rows, block in zip(singles, members, blocks, strict=True):
        single = single.expand(n_neighborhoods, n_samples, n_units)
        torch.gather(single, -1, rows[:, None, :].expand(-1, n_samples, -1), out=block)
    count = n_samples
    if sample_mask is not None:
        left_out = ~sample_mask[:, None, :, None]
        # filled rather than multiplied: what a model computes for padding may be NaN
        blocks.masked_fill_(left_out, 0)
        count = sample_mask.sum(-1).clamp(min=1)[:, None, None, None]
    mean = blocks.sum(-2, keepdim=True, dtype=dtype) / count
    blocks = blocks.sub_(mean) if blocks.dtype == dtype else blocks - mean
    return (blocks if sample_mask is None else blocks.masked_fill_(left_out, 0)), mean


def _in_pieces(blocks: Tensor) -> Tensor:
    """The same blocks with samples split in four, so that few neighbourhoods still keep many cores busy."""
    n_samples = blocks.shape[-2]
    return blocks.unflatten(-2, (4, n_samples // 4) if n_samples % 4 == 0 else (1, n_samples))


def _gram(blocks: Tensor) -> Tensor:
    """``Xc^T Xc`` of every block; one corner is mirrored, which saves a quarter of the products."""
    half = blocks.shape[-1] // 2
    pieces = _in_pieces(blocks)
    left = (pieces.mT @ pieces[..., :half]).sum(2)
    corner = (pieces[..., half:].mT @ pieces[..., half:]).sum(2)
    right = torch.cat([left[..., half:, :].mT, corner], dim=-2)
    return torch.cat([left, right], dim=-1)


def _losses_and_weights(
    gram: Tensor, mean: Tensor, closeness: Tensor, n_samples: Tensor | int
) -> tuple[Tensor, Tensor]:
    """Loss of each neighbourhood, and the symmetric ``W`` with which ``dL/dX = Xc W`` for its centred block ``Xc``.

    With ``G = dL/dr`` and ``s`` the inverse norms of the columns of ``Xc``,
    ``W_ij = G_ij s_i s_j`` off the diagonal and ``W_ii = - s_i^2 sum_j G_ij r_ij`` on it.
    """
    k = gram.shape[-1]
    n_pairs = k * (k - 1)  # each pair twice: sums over a symmetric matrix need no triangle
    rounding = 16 * torch.finfo(gram.dtype).eps
    off_diagonal = ~torch.eye(k, dtype=torch.bool, device=gram.device)

    power = gram.diagonal(dim1=-2, dim2=-1)
    scale = _inverse_root(power, n_samples * (rounding * mean.squeeze(-2)).square())
    scales = scale.unsqueeze(-1) * scale.unsqueeze(-2) * off_diagonal
    r = gram * scales
    r_centred = (r - r.sum((-2, -1), keepdim=True) / n_pairs) * off_diagonal
    d = closeness * off_diagonal
    d_mean = d.sum((-2, -1), keepdim=True) / n_pairs
    d_centred = (d - d_mean) * off_diagonal

    r_scale = _inverse_root(r_centred.square().sum((-2, -1), keepdim=True), n_pairs * rounding**2)
    d_scale = _inverse_root(d_centred.square().sum((-2, -1), keepdim=True), n_pairs * (rounding * d_mean).square())
    r_unit, d_unit = r_centred * r_scale, d_centred * d_scale
    correlation = (r_unit * d_unit).sum((-2, -1), keepdim=True)
    # -1/2 from the loss, times 2 because each pair stands at (i, j) and at (j, i)
    slope = (correlation * r_unit - d_unit) * r_scale
    weights = slope * scales
    weights = weights - torch.diag_embed((slope * r).sum(-1) * scale.square())
    return (1 - correlation[..., 0, 0]) / 2, weights


def _inverse_root(power: Tensor, rounding: Tensor | float) -> Tensor:
    """``power ** -1/2``, but 0 where nothing but rounding is left; NaN stays NaN."""
    return torch.where(power <= rounding, 0, power.rsqrt())


def _singles(sheets: Sequence[Tensor]) -> list[Tensor]:
    """The (samples, units) views of one stack, or of several single sheets."""
    return [single for sheet in sheets for single in sheet.reshape(-1, *sheet.shape[-2:]).unbind(0)]


def _for_each_sheet(values: Tensor, lead: Sequence[int], *, n_own: int) -> Tensor:
    """One leading axis over all sheets, for values given per sheet or once."""
    own = values.shape[values.ndim - n_own :]
    return values.expand(*lead, *own).reshape(-1, *own)


def _checked_shape(sheets: tuple[Tensor, ...], *, stacked: bool) -> tuple[int, ...]:
    """Shape (*sheets, samples, units) of the activations."""
    if not sheets:
        raise ValueError("activations is an empty sequence; expected one (samples, units) tensor per sheet")
    if not all(sheet.is_floating_point() for sheet in sheets):
        raise TypeError(f"activations have dtype {sheets[0].dtype}; expected floating-point numbers")
    shapes = {tuple(sheet.shape) for sheet in sheets}
    kinds = {(sheet.dtype, sheet.device) for sheet in sheets}
    shape = tuple(sheets[0].shape)
    if stacked and (len(shapes) > 1 or len(kinds) > 1 or len(shape) != 2):
        raise ValueError(
            f"activations hold shapes {sorted(shapes)} of {len(kinds)} dtypes and devices; "
            "expected one (samples, units) for all sheets: call the loss once for each kind"
        )
    if len(shape) < 2:
        raise ValueError(f"activations have shape {shape}; expected (*sheets, samples, units)")
    if shape[-2] < 2:
        raise ValueError(
            f"activations hold {shape[-2]} samples; a correlation needs at least 2: pass more tokens or images"
        )
    return (len(sheets), *shape) if stacked else shape


def _check_geometry(
    shape: tuple[int, ...], positions_mm: Tensor, neighborhoods: Tensor, sample_mask: Tensor | None
) -> None:
    lead, (n_samples, n_units) = shape[:-2], shape[-2:]
    if neighborhoods.dtype != torch.int64:
        raise TypeError(f"neighborhoods has dtype {neighborhoods.dtype}; expected int64 unit indices: call .long()")
    if positions_mm.requires_grad:
        raise ValueError("positions_mm asks for a gradient; the loss holds positions fixed: pass positions_mm.detach()")
    given = {
        f"positions_mm has shape {tuple(positions_mm.shape)}; expected (*sheets, {n_units}, axes)": (
            positions_mm.ndim >= 2 and positions_mm.shape[-2] == n_units and positions_mm.shape[:-2] in ((), lead)
        ),
        f"neighborhoods has shape {tuple(neighborhoods.shape)}; expected (*sheets, neighborhoods, k)": (
            neighborhoods.ndim >= 2 and neighborhoods.shape[-2] >= 1 and neighborhoods.shape[:-2] in ((), lead)
        ),
    }
    if sample_mask is not None:
        given[f"sample_mask has shape {tuple(sample_mask.shape)}; expected (*sheets, {n_samples})"] = (
            sample_mask.ndim >= 1 and sample_mask.shape[-1] == n_samples and sample_mask.shape[:-1] in ((), lead)
        )
    for message, fits in given.items():
        if not fits:
            raise ValueError(f"{message} for activations of shape {shape}, the leading axes {lead} or none")
    if neighborhoods.shape[-1] < 3:
        raise ValueError(
            f"neighborhoods hold {neighborhoods.shape[-1]} units each; a correlation over pairs needs at least 3"
        )
