"""Spatial querying: attention in which a unit's query is that of its neighbourhood."""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from topographic.layers.fields import SharedFields, pooled_over
from topographic.layers.receptive_fields import check_fields

__all__ = ["NORMALIZATIONS", "SpatialQuerying", "normalised_fields", "spatial_querying_attention", "written_out"]

_WIDE = 256  # units of a head


class SpatialQuerying(nn.Module):
    """Queries pooled over the receptive fields of their units, ``Q B^``.

    Parameters
    ----------
    fields : Tensor of bool or SharedFields, shape (units, units) or (units per head, units per head)
        Receptive fields, of one sheet of all units or of a sheet that every head has; shared ones are kept once for
        all layers that are given them.
    normalization : {"frobenius", "row"}
        What the fields are divided by: ``||B||_F`` as published, or the number of units in each.
    column_gains : bool
        Whether the columns of ``B^`` are multiplied by learned numbers, 1 at first.

    Raises
    ------
    ValueError
        If the fields are not square, one holds no unit, or the normalization is unknown.

    Notes
    -----
    ``B^`` is made of the fields in every pass and not kept for the way back, unless its columns have gains; the fields
    are a buffer that is not kept in checkpoints.

    Examples
    --------
    >>> SpatialQuerying(torch.eye(4, dtype=torch.bool))(torch.ones(1, 1, 4))
    tensor([[[0.5000, 0.5000, 0.5000, 0.5000]]])
    """

    def __init__(
        self,
        fields: Bool[Tensor, "rows columns"] | SharedFields,
        *,
        normalization: str = "frobenius",
        column_gains: bool = False,
    ) -> None:
        super().__init__()
        self.shared, self.normalization = SharedFields.of(fields), normalization
        if not self.fields.is_meta:
            normalised_fields(self.fields, normalization)
        self.column_gains = nn.Parameter(torch.ones(len(self.fields))) if column_gains else None

    @property
    def fields(self) -> Bool[Tensor, "rows columns"]:
        """The receptive fields."""
        return self.shared.inside

    def forward(self, query: Float[Tensor, "batch tokens units"]) -> Float[Tensor, "batch tokens units"]:
        """``Q B^``, head by head where the fields are those of a head."""
        fields = self.fields.to(query.device)
        if self.column_gains is not None:
            weights = normalised_fields(fields, self.normalization).to(query.dtype) * self.column_gains
            return _by_head(query, len(fields), lambda heads: heads @ weights.to(query.dtype))
        scale = SCALES[self.normalization](fields)
        return _by_head(query, len(fields), lambda heads: pooled_over(heads, fields, scale))


def spatial_querying_attention(
    query: Float[Tensor, "batch tokens units"],
    key: Float[Tensor, "batch others units"],
    value: Float[Tensor, "batch others units"],
    fields: Bool[Tensor, "rows columns"],
    *,
    n_heads: int = 1,
    normalization: str = "frobenius",
    column_gains: Float[Tensor, " columns"] | None = None,
    mask: Bool[Tensor, "*shape others"] | None = None,
    is_causal: bool = False,
    with_probabilities: bool = True,
) -> tuple[Float[Tensor, "batch tokens units"], Float[Tensor, "batch *heads tokens others"] | None]:
    """Attention with queries pooled over receptive fields on a sheet.

    ``softmax((Q B^) K' / sqrt(N)) V`` with ``B^ = B / ||B||_F``, where N is the number of units, of each head.

    Parameters
    ----------
    query, key, value : Tensor, shape (batch, tokens, units)
        Queries, keys and values, a unit in a place of its sheet.
    fields : Tensor of bool
        As `receptive_fields` returns them: of shape (units, units), one sheet of all units, of which heads are tiles;
        or with several heads of shape (units per head, units per head), a sheet for every head.
    n_heads : int
        Heads; their units follow one another.
    normalization : {"frobenius", "row"}
        What the fields are divided by: ``||B||_F`` as published, or the number of units in each.
    column_gains : Tensor, shape (columns of the fields,), optional
        Factors of the columns of ``B^``.
    mask : Tensor of bool, shape (batch, tokens) or (batch, tokens, tokens), optional
        Tokens that are attended to: all but pads; or by which token.
    is_causal : bool
        Attend to earlier tokens and oneself only.
    with_probabilities : bool
        Without them the fused attention of torch is used, which never holds all of them, unless `written_out`.

    Returns
    -------
    attended : Tensor, shape (batch, tokens, units)
        What every token gathers.
    probabilities : Tensor, shape (batch, tokens, tokens), with several heads (batch, heads, tokens, tokens), or None
        How much of each other token.

    Raises
    ------
    ValueError
        If heads do not divide the units, the fields do not fit them, one holds no unit, or the normalization is
        unknown.

    References
    ----------
    Topoformer: brain-like topographic organization in Transformer language models through spatial querying and
    reweighting, Re-Align workshop at ICLR 2024.

    Notes
    -----
    The fields are applied to the queries, N x N products a token, where the published code has the same. That code has
    one head only and cannot mask pads.

    Examples
    --------
    >>> from topographic.layers import receptive_fields
    >>> from topographic.sheets import grid
    >>> tokens = torch.ones(1, 3, 16)
    >>> attended, probabilities = spatial_querying_attention(
    ...     tokens, tokens, tokens, receptive_fields(grid(16, wrap=True), 0.3), is_causal=True
    ... )
    >>> probabilities[0, 1]
    tensor([0.5000, 0.5000, 0.0000])
    """
    n_units = query.shape[-1]
    if n_heads < 1 or n_units % n_heads:
        raise ValueError(f"n_heads={n_heads} does not divide {n_units} units; choose a divisor of the width")
    per_head = n_heads > 1 and len(fields) == n_units // n_heads
    check_fields(fields, n_units // n_heads if per_head else n_units)
    weights = normalised_fields(fields, normalization).to(query)
    weights = weights if column_gains is None else weights * column_gains
    pooled = _by_head(query, len(weights), lambda heads: heads @ weights)
    heads = [rearrange(one, "b t (h d) -> b h t d", h=n_heads) for one in (pooled, key, value)]
    allowed = None if mask is None else mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
    if not with_probabilities and not written_out(heads[0], heads[1]):
        if allowed is not None and is_causal:
            allowed, is_causal = allowed & _earlier(heads[0], heads[1]), False
        attended = nn.functional.scaled_dot_product_attention(*heads, attn_mask=allowed, is_causal=is_causal)
        return rearrange(attended, "b h t d -> b t (h d)"), None
    scores = heads[0] @ heads[1].transpose(-1, -2) * heads[0].shape[-1] ** -0.5
    for one in (allowed, _earlier(heads[0], heads[1]) if is_causal else None):
        if one is not None:
            scores = scores.masked_fill(~one, float("-inf"))
    probabilities = scores.softmax(-1)
    attended = rearrange(probabilities @ heads[2], "b h t d -> b t (h d)")
    if not with_probabilities:
        return attended, None
    return attended, probabilities[:, 0] if n_heads == 1 else probabilities


def written_out(query: Tensor, key: Tensor) -> bool:
    """Whether attention is faster with all scores in memory than fused, and they are fewer than what is attended to.

    On a CPU fused attention is made for narrow heads; of 400 or 784 units it takes 1.1 to 2 times as long.
    """
    width, n_scores = query.shape[-1], query.shape[-2] * key.shape[-2]
    return query.device.type == "cpu" and width >= _WIDE and n_scores <= (query.shape[-2] + 2 * key.shape[-2]) * width


def _by_head(query: Tensor, n_fields: int, pool: Callable[[Tensor], Tensor]) -> Tensor:
    """Pool all units, or those of every head where there are as many fields."""
    n_heads = query.shape[-1] // n_fields
    if n_heads == 1:
        return pool(query)
    return rearrange(pool(rearrange(query, "b t (h d) -> b t h d", h=n_heads)), "b t h d -> b t (h d)")


def _earlier(query: Tensor, key: Tensor) -> Tensor:
    shape = (query.shape[-2], key.shape[-2])
    return torch.ones(shape, dtype=torch.bool, device=query.device).tril()


def normalised_fields(
    fields: Bool[Tensor, "rows columns"], normalization: str = "frobenius"
) -> Float[Tensor, "rows columns"]:
    """``B^``: fields of one length together, or of one sum each, in float64."""
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization={normalization!r}; expected one of {sorted(NORMALIZATIONS)}")
    check_fields(fields, len(fields))
    return NORMALIZATIONS[normalization](fields)


SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "frobenius": lambda fields: fields.sum().double().rsqrt().expand(len(fields)),
    "row": lambda fields: fields.sum(-1).double().reciprocal(),
}
NORMALIZATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    name: lambda fields, of=of: fields * of(fields)[:, None] for name, of in SCALES.items()
}
