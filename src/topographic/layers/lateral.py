"""Fixed lateral connections: every unit hears its neighbours, less the farther they lie."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from topographic.sheets import Sheet, distances

__all__ = ["LateralSmoothing"]


class LateralSmoothing(nn.Module):
    """Fixed lateral connections on a sheet, which are not trained.

    ``y = (1 - s) x + s K x`` with ``K_uv = exp(-d_uv^2 / 2 sigma^2) / sum_w exp(-d_uw^2 / 2 sigma^2)``

    Parameters
    ----------
    sheet : Sheet
        Where the units lie.
    sigma_mm : float
        Reach of the connections.
    strength : float
        s, from 0, which changes nothing, to 1.

    Raises
    ------
    ValueError
        If the reach is not above 0 or the strength is no share.

    References
    ----------
    Lateral connections that decay with distance, in place of a loss: LLCNN (Qian et al.); its kernel is not this one.

    Notes
    -----
    The kernel is a buffer that is not kept in checkpoints: the sheet makes it. Units are on the last axis.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> LateralSmoothing(grid(4), sigma_mm=100.0)(torch.tensor([[4.0, 0, 0, 0]])).round(decimals=2)
    tensor([[1., 1., 1., 1.]])
    """

    kernel: Tensor

    def __init__(self, sheet: Sheet, *, sigma_mm: float = 1.0, strength: float = 1.0) -> None:
        super().__init__()
        if not 0 < sigma_mm < float("inf"):
            raise ValueError(f"sigma_mm={sigma_mm}; expected a reach above 0 mm")
        if not 0 <= strength <= 1:
            raise ValueError(f"strength={strength}; expected a share from 0 to 1")
        between_mm = distances(sheet.positions_mm, period_mm=sheet.period_mm)
        near = torch.exp(-between_mm.square() / (2 * sigma_mm**2))
        mixed = strength * near / near.sum(1, keepdim=True)
        mixed.diagonal().add_(1 - strength)
        self.register_buffer("kernel", mixed.float(), persistent=False)

    def forward(self, activations: Float[Tensor, "*samples units"]) -> Float[Tensor, "*samples units"]:
        """What every unit is after hearing its neighbours."""
        return activations @ self.kernel.T.to(activations.dtype)
