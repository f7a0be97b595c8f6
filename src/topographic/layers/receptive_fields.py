"""Receptive fields: which units of a sheet a unit is connected with."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from topographic.sheets import Sheet, distances

__all__ = ["RECEPTIVE_FIELDS", "check_fields", "receptive_fields"]


def receptive_fields(
    sheet: Sheet, fraction: float, kind: str = "circular", *, seed: int = 0
) -> Bool[Tensor, "units units"]:
    """Which units lie in the receptive field of each unit.

    ``B_ij = 1 if d_ij <= sqrt(f A / pi)``: a disc of the fraction ``f`` of the area ``A`` of the sheet.

    Parameters
    ----------
    sheet : Sheet
        Sheet on a plane. On a torus (``wrap``) a disc goes on at the opposite edge, elsewhere it is cut off there.
    fraction : float
        Share of the sheet that a field covers, above 0 and at most 1.
    kind : {"circular", "gaussian", "full"}
        A disc; a random field, in which a unit at distance d lies with probability ``exp(-pi d^2 / (f A))``, so that
        it has as many units as the disc on average; or every unit, whatever the fraction.
    seed : int
        Decides what is drawn for "gaussian".

    Returns
    -------
    Tensor of bool, shape (units, units)
        Symmetric; every unit lies in its own field.

    Raises
    ------
    ValueError
        If the fraction is out of range, the kind is unknown, or the sheet is a mesh or has no area.

    References
    ----------
    Topoformer: brain-like topographic organization in Transformer language models through spatial querying and
    reweighting, Re-Align workshop at ICLR 2024.

    Notes
    -----
    On a square wrapped grid the discs are those of the published code, which measures on a unit square. A disc of
    f = 1 leaves out the corners of the sheet; "full" does not.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> receptive_fields(grid(400, wrap=True), 0.1).sum(-1).unique()
    tensor([37])
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction}; expected a share of the sheet above 0 and at most 1, such as 0.3")
    if kind not in RECEPTIVE_FIELDS:
        raise ValueError(f"kind={kind!r}; expected one of {sorted(RECEPTIVE_FIELDS)}")
    extent_mm = sheet.extent_mm or ()
    if len(extent_mm) != 2 or sheet.edges is not None or not math.prod(extent_mm) > 0:
        raise ValueError(
            f"{sheet!r} is no plane with an area, a share of which a receptive field would be; use `grid`, or give the "
            "sheet extent_mm"
        )
    between_mm = distances(sheet.positions_mm, period_mm=sheet.period_mm)
    return RECEPTIVE_FIELDS[kind](between_mm, fraction * math.prod(extent_mm), seed)


def check_fields(fields: Bool[Tensor, "rows columns"], n_units: int) -> None:
    """Refuse fields that do not fit the units, or of which one is empty."""
    if tuple(fields.shape) != (n_units, n_units):
        raise ValueError(
            f"receptive fields of shape {tuple(fields.shape)} for {n_units} units; expected ({n_units}, {n_units}): "
            "make them with receptive_fields on a sheet of these units"
        )
    if (empty := int((~fields.any(-1)).sum())) > 0:
        raise ValueError(
            f"{empty} of {n_units} receptive fields hold no unit; expected at least one in each: widen the fraction"
        )


def _circular(between_mm: Tensor, area_mm2: float, _seed: int) -> Tensor:
    return between_mm <= math.sqrt(area_mm2 / math.pi)


def _gaussian(between_mm: Float[Tensor, "units units"], area_mm2: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    probability = torch.exp(-math.pi * between_mm.square() / area_mm2)
    drawn = torch.rand(probability.shape, generator=generator, dtype=probability.dtype, device="cpu") < probability
    drawn = drawn.tril()
    return drawn | drawn.T | torch.eye(len(drawn), dtype=torch.bool, device="cpu")


def _full(between_mm: Tensor, _area_mm2: float, _seed: int) -> Tensor:
    return torch.ones_like(between_mm, dtype=torch.bool)


RECEPTIVE_FIELDS: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "circular": _circular,
    "gaussian": _gaussian,
    "full": _full,
}
