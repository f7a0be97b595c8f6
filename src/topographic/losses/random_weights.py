"""What the pyramid loss is when no weight knows of another: the value a trained sheet is compared with."""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from topographic.losses.blurs import Blur
from topographic.losses.pyramid import Chain, sheet_pyramid

__all__ = ["random_weights_loss"]


def random_weights_loss(
    n_units: int,
    factor: float | Sequence[float] = (3.0, 3.0),
    *,
    blur: Blur = "toponets",
    shape: Sequence[int] | None = None,
    order: Sequence[int] | Int64[Tensor, " units"] | None = None,
) -> float:
    r"""Pyramid loss of independent weights of equal variance and mean zero, in closed form.

    ``E[loss] = 1 - (1 / N) sum_u K_uu / sqrt(sum_v K_uv^2)``, where ``K`` blurs the sheet and ``v`` runs over the
    occupied cells: the blurred self of a unit holds ``K_uu`` of the unit itself, and the rest is orthogonal to it.

    Parameters
    ----------
    n_units : int
        Units on the sheet.
    factor, blur, shape, order
        As in `laplacian_pyramid_loss`.

    Returns
    -------
    float
        Loss of output or input units with many weights each: what holds for depth without bounds.

    Raises
    ------
    ValueError
        As `laplacian_pyramid_loss`.

    Notes
    -----
    A trained layer without topography may lie off this value, because its units differ in length and resemble one
    another wherever they lie; the same loss with its units permuted says what that makes of it.
    """
    pyramid = sheet_pyramid(n_units, factor, blur, shape, order)
    occupied = torch.ones_like(pyramid.share)
    if pyramid.cell_of_unit is not None:
        occupied = torch.zeros_like(occupied).flatten().index_fill(0, pyramid.cell_of_unit, 1).view_as(occupied)
    rows, columns = _whole(pyramid.rows), _whole(pyramid.columns)
    own = torch.outer(rows.diagonal(), columns.diagonal())
    length = (rows.square() @ occupied @ columns.square().T).sqrt()
    cosine = torch.where(length > 0, own / torch.where(length > 0, length, 1), 0)
    return 1 - (pyramid.share * cosine).sum().item()


def _whole(chain: Chain) -> Tensor:
    """The blur of one axis as one matrix."""
    matrix = chain[0]
    for following in chain[1:]:
        matrix = following @ matrix
    return matrix
