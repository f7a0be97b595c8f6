"""Receptive fields that several layers share, and maps that keep nothing beside them for the way back."""

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

__all__ = ["SharedFields", "local_map", "pooled_over"]


class SharedFields(nn.Module):
    """Receptive fields, one byte a pair of units; a module, so that layers which share it go on sharing when it moves.

    Parameters
    ----------
    fields : Tensor of bool, shape (units, units)
        As `receptive_fields` returns them.

    Notes
    -----
    The fields are a buffer that is not kept in checkpoints: the sheet makes them.

    Examples
    --------
    >>> SharedFields(torch.eye(2, dtype=torch.bool)).inside
    tensor([[ True, False],
            [False,  True]])
    """

    inside: Tensor

    def __init__(self, fields: Bool[Tensor, "rows columns"]) -> None:
        super().__init__()
        self.register_buffer("inside", fields.clone(), persistent=False)

    @classmethod
    def of(cls, fields: "Tensor | SharedFields") -> "SharedFields":
        """The same where they are shared already."""
        return fields if isinstance(fields, SharedFields) else cls(fields)


class _Pooled(torch.autograd.Function):
    """``Q B^``, of which only the fields are kept."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, fields: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(fields, scale)
        return query @ _weights(fields, scale, query.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        fields, scale = ctx.saved_tensors
        return gradient @ _weights(fields, scale, gradient.dtype).T, None, None


class _LocalMap(torch.autograd.Function):
    """``x (|W| o B)' + b``, of which the inputs are kept and not the weights that are made of them."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, fields: Tensor, non_negative: bool
    ) -> Tensor:
        ctx.non_negative = non_negative
        ctx.save_for_backward(inputs, weight, fields)
        used = _local(weight, fields, non_negative).to(inputs.dtype)
        return nn.functional.linear(inputs, used, None if bias is None else bias.to(inputs.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        (gradient,) = gradients
        inputs, weight, fields = ctx.saved_tensors
        to_inputs = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_inputs = gradient @ _local(weight, fields, ctx.non_negative).to(gradient.dtype)
        if ctx.needs_input_grad[1]:
            to_weight = (gradient.reshape(-1, len(weight)).T @ inputs.reshape(-1, weight.shape[1])).to(
                weight.dtype
            ) * fields
            to_weight = to_weight * weight.sign() if ctx.non_negative else to_weight
        if ctx.needs_input_grad[2]:
            to_bias = gradient.reshape(-1, len(weight)).sum(0).to(weight.dtype)
        return to_inputs, to_weight, to_bias, None, None


def pooled_over(query: Tensor, fields: Tensor, scale: Tensor) -> Tensor:
    """``Q B^`` with ``B^ = s B``, a number s for each row of the fields."""
    return _Pooled.apply(query.to(_computed_in(query)), fields, scale)  # pyright: ignore[reportReturnType]


def local_map(inputs: Tensor, weight: Tensor, bias: Tensor | None, fields: Tensor, *, non_negative: bool) -> Tensor:
    """``x (|W| o B)' + b``, or with ``W o B`` where signs are free."""
    return _LocalMap.apply(inputs.to(_computed_in(inputs)), weight, bias, fields, non_negative)  # pyright: ignore[reportReturnType]


def _computed_in(values: Tensor) -> torch.dtype:
    """As autocast has it, which does not look into functions of our own."""
    kind = values.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else values.dtype


def _weights(fields: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return fields * scale.to(dtype)[:, None]


def _local(weight: Tensor, fields: Tensor, non_negative: bool) -> Tensor:
    return (weight.abs() if non_negative else weight) * fields
