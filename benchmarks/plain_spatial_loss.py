"""The spatial loss as a reader of the paper would write it: one neighbourhood after the other.

It is the reference for speed and for values: nothing here is clever, and no code is shared with the library.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def plain_spatial_loss(
    activations: Sequence[Tensor], positions_mm: Sequence[Tensor], masks: Sequence[Tensor]
) -> Tensor:
    """Mean over sheets and neighbourhoods of 1/2 (1 - corr(r, 1 / (1 + distance))).

    Parameters
    ----------
    activations : sequence of Tensor, shape (samples, units)
        One tensor per sheet.
    positions_mm : sequence of Tensor, shape (units, 2)
        Positions of each sheet.
    masks : sequence of Tensor of bool, shape (neighborhoods, units)
        Which units belong to each neighbourhood.

    Returns
    -------
    Tensor, shape ()
        The loss.
    """
    losses = []
    for responses, places, sheet_masks in zip(activations, positions_mm, masks, strict=True):
        for mask in sheet_masks:
            correlation = torch.corrcoef(responses[:, mask].T)
            distance = torch.cdist(places[mask], places[mask])
            rows, columns = torch.tril_indices(*correlation.shape, offset=-1, device=correlation.device)
            r = correlation[rows, columns]
            d = 1 / (1 + distance[rows, columns])
            losses.append((1 - torch.corrcoef(torch.stack([r, d]))[0, 1]) / 2)
    return torch.stack(losses).mean()


def as_masks(neighborhoods: Tensor, n_units: int) -> Tensor:
    """Boolean masks (..., neighborhoods, units) of neighbourhoods given as unit indices (..., neighborhoods, k)."""
    masks = torch.zeros(*neighborhoods.shape[:-1], n_units, dtype=torch.bool, device=neighborhoods.device)
    return masks.scatter_(-1, neighborhoods, True)
