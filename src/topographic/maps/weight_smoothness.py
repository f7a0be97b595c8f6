"""How alike the weights of neighbouring units are, beside the same weights elsewhere on the sheet."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from topographic.losses.blurs import Blur
from topographic.losses.pyramid import laplacian_pyramid_loss
from topographic.maps.nulls import check_draws, stream
from topographic.maps.references import Referenced, compare
from topographic.sheets import Sheet, grid_cells

__all__ = ["weight_smoothness"]


@torch.no_grad()
def weight_smoothness(
    weights: Float[Tensor, "units depth"] | Float[Tensor, " units"],
    sheet: Sheet,
    *,
    factor: float | tuple[float, float] = (3.0, 3.0),
    blur: Blur = "toponets",
    shape: tuple[int, int] | None = None,
    order: Sequence[int] | None = None,
    n_draws: int = 0,
    seed: int = 0,
) -> Referenced:
    """Mean cosine between the weights of a unit and those of its surroundings.

    ``s = (1 / N) sum_u cos(C_u, C'_u)`` with ``C'`` the blurred sheet: 1 less the loss of TopoNets. Of a bias, whose
    sheet is one vector, ``s = cos(C, C')``.

    The null hypothesis of its p: it does not matter which unit lies in which place.

    Parameters
    ----------
    weights : Tensor, shape (units, depth), or (units,) for a bias
        One row per unit, as `weight_sheets` reads them from a layer.
    sheet : Sheet
        Where the units lie: a lattice, one unit in a place.
    factor, blur
        As in `laplacian_pyramid_loss`.
    shape, order : optional
        As there; the smallest rectangle that holds the units of the sheet by default. Give them where the sheet was
        trained with rows or columns that are empty from end to end.
    n_draws : int
        Permutations of the units over the sheet; 0 for none, otherwise at least 2.
    seed : int
        Seed of the permutations; together with the name of the sheet it determines them.

    Returns
    -------
    Referenced
        Smoothness from -1 to 1 and its unit null. `random_weights_loss` gives what independent weights have.

    Raises
    ------
    ValueError
        If sheet and weights do not fit, or as `laplacian_pyramid_loss`.

    References
    ----------
    Deb et al. 2025, TopoNets, ICLR, arXiv:2501.16396.
    """
    check_draws(n_draws, seed)
    if len(weights) != sheet.n_units:
        raise ValueError(
            f"{len(weights)} units have weights and sheet {sheet.name!r} places {sheet.n_units}; expected one row of "
            "weights per unit: give the sheet of this layer"
        )
    if shape is None:
        shape, cells = grid_cells(sheet)
        order = None if torch.equal(cells, torch.arange(len(cells))) else tuple(cells.tolist())
    kind = "bias" if weights.ndim == 1 else "output"

    def smoothness(some: Tensor) -> float:
        return 1 - laplacian_pyramid_loss(some, factor, kind, blur=blur, shape=shape, order=order).item()

    value = smoothness(weights)
    if not n_draws:
        return Referenced(value)
    generator = stream(seed, "unit", sheet.name)
    permutations = (torch.from_numpy(generator.permutation(len(weights))) for _ in range(n_draws))
    draws = [smoothness(weights[permutation.to(weights.device)]) for permutation in permutations]
    return Referenced(value, {"unit": compare(value, np.array(draws))})
