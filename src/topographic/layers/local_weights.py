"""Locally connected maps: a linear map whose weights reach no further than the receptive fields of its units."""

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from topographic.layers.fields import SharedFields, local_map
from topographic.layers.receptive_fields import check_fields

__all__ = ["LocalWeights", "locally_connected"]


class LocalWeights(nn.Module):
    """Parametrization ``|W| o B`` of a weight, or ``W o B`` where signs are free.

    Parameters
    ----------
    fields : Tensor of bool or SharedFields, shape (units, units)
        Receptive field of every output unit; shared ones are kept once for all layers that are given them.
    non_negative : bool
        Whether weights are absolute.

    Examples
    --------
    >>> import torch
    >>> LocalWeights(torch.eye(2, dtype=torch.bool))(torch.tensor([[-1.0, 2.0], [3.0, 4.0]]))
    tensor([[1., 0.],
            [0., 4.]])
    """

    def __init__(self, fields: Bool[Tensor, "units units"] | SharedFields, *, non_negative: bool = True) -> None:
        super().__init__()
        self.non_negative, self.shared = non_negative, SharedFields.of(fields)

    @property
    def fields(self) -> Bool[Tensor, "units units"]:
        """The receptive fields."""
        return self.shared.inside

    def forward(self, weight: Float[Tensor, "units units"]) -> Float[Tensor, "units units"]:
        """Weight that is used; the fields come last, so that nothing but the weight is kept for the way back."""
        return (weight.abs() if self.non_negative else weight) * self.fields.to(weight.device)

    def right_inverse(self, weight: Float[Tensor, "units units"]) -> Float[Tensor, "units units"]:
        """A weight that gives the one set: itself."""
        return weight


class LocalLinear(nn.Linear):
    """A locally connected map, which keeps its trained weights alone for the way back, not those made of them."""

    def forward(self, input: Tensor) -> Tensor:
        """``y = (|W| o B) x + b``."""
        made: Any = getattr(getattr(self, "parametrizations", None), "weight", ())
        if len(made) != 1 or not isinstance(made[0], LocalWeights):  # taken away, or something else put upon it
            return super().forward(input)
        local, fields = made[0], made[0].fields.to(input.device)
        return local_map(input, made.original, self.bias, fields, non_negative=local.non_negative)


def locally_connected(
    linear: nn.Linear, fields: Bool[Tensor, "units units"] | SharedFields, *, non_negative: bool = True
) -> nn.Linear:
    """Make a linear map reach no further than receptive fields (spatial reweighting).

    ``y = (|W| o B) x + b``

    Parameters
    ----------
    linear : nn.Linear
        Map from units of a sheet to as many units; changed in place.
    fields : Tensor of bool or SharedFields, shape (units, units)
        As `receptive_fields` returns them: row i says of which input units output unit i is made.
    non_negative : bool
        Whether weights are absolute, as published.

    Returns
    -------
    nn.Linear
        The same. Its ``weight`` is what is used, ``parametrizations.weight.original`` what is trained and saved.

    Raises
    ------
    ValueError
        If the map is not square, the fields do not fit it, or one holds no unit.

    References
    ----------
    Topoformer: brain-like topographic organization in Transformer language models through spatial querying and
    reweighting, Re-Align workshop at ICLR 2024.

    Notes
    -----
    The published code overwrites the weights with ``|W o B|`` in every forward pass. Outputs and the gradients of what
    enters are the same here; the trained weight keeps its sign, and its gradient has that sign, so an optimiser with
    momentum goes another way after a weight has crossed zero.

    Examples
    --------
    >>> from topographic.layers import receptive_fields
    >>> from topographic.sheets import grid
    >>> linear = locally_connected(nn.Linear(16, 16), receptive_fields(grid(16, wrap=True), 0.2))
    >>> (linear.weight > 0).sum(-1).unique()
    tensor([5])
    """
    if linear.in_features != linear.out_features:
        raise ValueError(
            f"a map of {linear.in_features} to {linear.out_features} units; expected as many out as in, on one sheet"
        )
    shared = SharedFields.of(fields)
    if not shared.inside.is_meta:
        check_fields(shared.inside, linear.out_features)
    if type(linear) is nn.Linear:  # a map of another class keeps its own way of computing
        linear.__class__ = LocalLinear
    # unsafe: nothing is computed yet, as weights may be on the meta device
    parametrize.register_parametrization(linear, "weight", LocalWeights(shared, non_negative=non_negative), unsafe=True)
    return linear
