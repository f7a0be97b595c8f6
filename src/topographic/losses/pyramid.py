"""TopoLoss: units that lie together on a sheet should have similar weights."""

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from topographic.losses.blurs import BLURS, Blur, shrunk

__all__ = ["Chain", "Pyramid", "laplacian_pyramid_loss", "roomy_shape", "sheet_pyramid", "sheet_shape"]

Kind = Literal["output", "input", "bias"]
Chain = tuple[Tensor, ...]  # matrices to apply one after another
_AXES = ("rows", "columns")
_ZERO_NORM = 1e-8  # a cell whose weights are shorter than this points nowhere


def laplacian_pyramid_loss(
    weight: Float[Tensor, "..."],
    factor: float | Sequence[float] = (3.0, 3.0),
    kind: Kind = "output",
    *,
    blur: Blur = "toponets",
    shape: Sequence[int] | None = None,
    order: Sequence[int] | Int64[Tensor, " units"] | None = None,
) -> Float[Tensor, ""]:
    r"""Distance between a sheet of weights and its blurred self.

    ``loss = 1 - (1 / N) sum_u cos(C_u, C'_u)`` with ``C' = A_rows C A_columns^T``, where ``C_u`` holds the
    weights of unit ``u`` and ``A`` shrinks a sheet by ``factor`` along one axis and widens it again.
    A bias has one number per unit: there the whole sheet is one vector, ``loss = 1 - cos(C, C')``.

    Parameters
    ----------
    weight : Tensor, shape (out, in) or (out, in, \*kernel); (units,) for a bias
        Weights as `torch.nn.Linear` and the convolutions keep them. `weight_sheets` reads them from
        any layer, whatever its own convention.
    factor : float or (float, float)
        Shrinking factor along rows and columns, at least 1 and not 1 along both. TopoNets uses 3.
    kind : {"output", "input", "bias"}
        Which units lie on the sheet: output units with their incoming weights, input units with their
        outgoing weights, or output units with their bias.
    blur : {"toponets", "antialias", "gaussian"}
        How the sheet is blurred, see `BLURS`.
    shape : (int, int), optional
        Rows and columns; `sheet_shape` by default. It may hold more cells than there are units: the
        last cells (or those not named in ``order``) are padding.
    order : sequence of int, shape (units,), optional
        Cell of each unit, counted along the rows (``row * columns + column``); unit ``u`` lies in
        cell ``u`` by default. Give a tuple where the call is compiled.

    Returns
    -------
    Tensor, shape ()
        Loss from 0 (every unit equals its blurred self) to 2; float32, or float64 for float64 weights.

    Raises
    ------
    ValueError
        If the weight, the factor, the shape or the order do not fit one another, or a name is unknown.
    TypeError
        If the weight holds integers or complex numbers.

    Notes
    -----
    TopoNets (Deb et al., ICLR 2025), section 3; loss and gradient agree with its package topoloss 0.0.2.
    We depart from it in these:

    - Padding is left out of the blur (``C' = A(m C) / A(m)`` with ``m`` the occupied cells) and of the
      mean, as are units whose blurred self would consist of padding alone. The package has no padding.
    - A unit without weights (norm below 1e-8) has cosine 0 and passes no gradient through its own
      cosine, so that weights that are all zero give loss 1 and gradient 0. The package gives a dead
      unit among living ones a gradient of the order of 1e8.
    - Half-precision weights are compared in float32, also under autocast.

    That makes the loss of a half-precision parameter exact and does not make it train: a step of the optimiser below
    1/512 of a weight (bfloat16; float16: 1/4096) rounds to nothing, without a word, and most steps of this loss are.
    Keep parameters in float32 and let autocast compute in half precision.

    `torch.func.grad`, `jacrev` and `vmap` see through it, forward mode (`jvp`, `jacfwd`, `hessian`) does not.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind={kind!r}; expected one of {sorted(_KINDS)}")
    if weight.ndim == 0 or weight.numel() == 0 or (weight.ndim == 1) != (kind == "bias"):
        expected = "(units,)" if kind == "bias" else "(out, in) or (out, in, *kernel)"
        raise ValueError(f"weight has shape {tuple(weight.shape)}; kind={kind!r} needs {expected} and no empty axis")
    if not weight.is_floating_point():
        raise TypeError(f"weight holds {weight.dtype}; expected real numbers in floating point: pass weight.float()")
    with torch.autocast(weight.device.type, enabled=False):
        cells = _KINDS[kind](weight)
        cells = cells if cells.dtype == torch.float64 else cells.float()
        pyramid = sheet_pyramid(cells.shape[0], factor, blur, shape, order).to(cells)
        sheet = pyramid.lay_out(cells)
        if kind == "bias":
            return 1 - _sheet_cosine(sheet.squeeze(-1), pyramid)
        return 1 - _CellCosine.apply(sheet, pyramid.share, pyramid.rows, pyramid.columns)[0]


def sheet_shape(n_units: int) -> tuple[int, int]:
    """Rows and columns of the most nearly square sheet that the units fill.

    ``rows`` is the largest divisor of ``n_units`` up to its square root.

    Parameters
    ----------
    n_units : int
        Number of units.

    Returns
    -------
    (int, int)
        Rows and columns, ``rows <= columns`` (3072 -> 48 x 64).

    Raises
    ------
    ValueError
        If there is one unit, or only a line would do, as for prime numbers; the message names a shape with room that
        factor 3 can blur.
    """
    if n_units < 2:
        raise ValueError(f"n_units={n_units}; expected a layer of at least 2 units: one has no neighbours")
    return _full_shape(n_units, (3.0, 3.0), "toponets")


class Pyramid(NamedTuple):
    """Where units lie and how their sheet is blurred; float64 on the CPU until `to` is called."""

    cell_of_unit: Tensor | None  # (units,), None when unit u fills cell u of a full sheet
    share: Tensor  # (rows, columns): part of each cell in the mean, 0 for padding
    reach: Tensor  # (rows, columns): blurred occupancy, 1 everywhere on a full sheet
    rows: Chain  # the blur of each axis
    columns: Chain

    def to(self, like: Tensor) -> "Pyramid":
        """The same on another device, in another dtype."""

        def cast(tensor: Tensor) -> Tensor:
            return tensor.to(like.device, like.dtype)

        index = None if self.cell_of_unit is None else self.cell_of_unit.to(like.device)
        rows, columns = (tuple(cast(matrix) for matrix in chain) for chain in (self.rows, self.columns))
        return Pyramid(index, cast(self.share), cast(self.reach), rows, columns)

    def lay_out(self, cells: Float[Tensor, "units depth"]) -> Float[Tensor, "rows columns depth"]:
        """Units in their cells, padding as zeros."""
        if self.cell_of_unit is not None:
            cells = cells.new_zeros(self.share.numel(), cells.shape[1]).index_copy(0, self.cell_of_unit, cells)
        return cells.reshape(*self.share.shape, cells.shape[1])


def sheet_pyramid(
    n_units: int,
    factor: float | Sequence[float],
    blur: str,
    shape: Sequence[int] | None,
    order: Sequence[int] | Tensor | None,
) -> Pyramid:
    """What `laplacian_pyramid_loss` says of its arguments, checked and made once."""
    if shape is not None and len(shape) != 2:
        raise ValueError(f"shape={shape} holds {len(shape)} numbers; expected two, rows and columns")
    shape = None if shape is None else (int(shape[0]), int(shape[1]))
    if order is not None:
        order = tuple(order.tolist() if isinstance(order, Tensor) else order)
    return _constant_pyramid(n_units, shape, order, _both(factor), blur)


def _both(factor: float | Sequence[float]) -> tuple[float, float]:
    """Factors along rows and columns."""
    factors = (factor, factor) if isinstance(factor, (int, float)) else tuple(factor)
    if len(factors) != 2:
        raise ValueError(f"factor={factor} holds {len(factors)} numbers; expected one, or two for rows and columns")
    return float(factors[0]), float(factors[1])


@torch.compiler.assume_constant_result  # keeps the making of the operators out of compiled graphs
def _constant_pyramid(*arguments: Any) -> Pyramid:
    return _cached_pyramid(*arguments)


@functools.lru_cache(maxsize=256)
def _cached_pyramid(
    n_units: int,
    shape: tuple[int, int] | None,
    order: tuple[int, ...] | None,
    factors: tuple[float, float],
    blur: str,
) -> Pyramid:
    if blur not in BLURS:
        raise ValueError(f"blur={blur!r}; expected one of {sorted(BLURS)}")
    for axis, factor in zip(_AXES, factors, strict=True):
        if not 1 <= factor < math.inf:
            raise ValueError(f"factor {factor} along the {axis}; expected a finite number of at least 1")
    if factors == (1, 1):
        raise ValueError("factor 1 along rows and columns blurs nothing; expected more than 1 along one axis at least")
    if n_units == 1:
        raise ValueError("one unit has no neighbours to resemble; expected a layer of several: leave this one out")
    shape = _full_shape(n_units, factors, blur) if shape is None else shape
    if min(shape) < 1 or shape[0] * shape[1] < n_units:
        raise ValueError(
            f"shape={shape} has {shape[0] * shape[1]} cells for {n_units} units; pass a shape with at least as many"
        )
    places = _checked_order(n_units, shape, order)
    for axis, length, factor in zip(_AXES, shape, factors, strict=True):
        if shrunk(length, factor) < 1:
            raise ValueError(
                f"factor {factor:g} is too large for the {length} {axis} of a {shape[0]} x {shape[1]} sheet and leaves "
                "none of them; pass a smaller factor or another shape="
            )
    chains = [
        tuple(torch.from_numpy(matrix) for matrix in BLURS[blur](n, f)) for n, f in zip(shape, factors, strict=True)
    ]
    occupied = torch.zeros(shape[0] * shape[1], dtype=torch.float64)
    occupied[places] = 1
    occupied = occupied.view(*shape, 1)
    reach = _blurred(occupied, *chains)
    counted = (occupied > 0) & (reach > 1e-12)
    if not counted.any():
        raise ValueError(
            f"no unit has a blurred self: {n_units} units on {shape[0]} x {shape[1]} cells at factor {factors}; "
            "pass a shape= with less padding or a smaller factor"
        )
    in_place = order is None and n_units == occupied.numel()
    share = (counted.double() / counted.sum()).squeeze(-1)
    return Pyramid(None if in_place else places, share, reach.squeeze(-1), *chains)


def _full_shape(n_units: int, factors: tuple[float, float], blur: str) -> tuple[int, int]:
    rows = next((rows for rows in range(math.isqrt(n_units), 0, -1) if n_units % rows == 0), 0)
    if rows < 2:
        raise ValueError(f"{n_units} units fill no sheet but 1 x {n_units}; {_advice(n_units, factors, blur)}")
    return rows, n_units // rows


def roomy_shape(n_units: int, factor: float | Sequence[float], blur: str) -> tuple[int, int] | None:
    """The smallest nearly square shape that holds units that fill no sheet, and the blur; None where it is too empty.

    Too empty is a shape of more than four cells per unit, and one of which the blur would read nothing but padding.
    """
    factors = _both(factor)
    # the fewest cells along each axis of which the factor leaves one
    fewest = [math.ceil(factor) if shrunk(math.ceil(factor), factor) else math.ceil(factor) + 1 for factor in factors]
    rows = max(math.isqrt(n_units), fewest[0])
    shape = rows, max(-(-n_units // rows), fewest[1])
    with contextlib.suppress(ValueError):
        if shape[0] * shape[1] <= 4 * n_units:
            _cached_pyramid(n_units, shape, None, factors, blur)
            return shape
    return None


def _advice(n_units: int, factors: tuple[float, float], blur: str) -> str:
    """What to pass for units that fill no sheet: a shape with room or, where there is none, a line."""
    shape = roomy_shape(n_units, factors, blur)
    if shape is not None:
        return f"pass shape=, for example shape={shape}, whose last cells may stay empty"
    longest = n_units if shrunk(n_units, float(n_units)) else n_units - 1
    return f"pass shape=(1, {n_units}) and factor=(1, {min(factors[1] if factors[1] > 1 else factors[0], longest):g})"


def _checked_order(n_units: int, shape: tuple[int, int], order: tuple[int, ...] | None) -> Int64[Tensor, " units"]:
    if order is None:
        return torch.arange(n_units)
    if len(order) != n_units:
        raise ValueError(f"order names {len(order)} cells for {n_units} units; expected one cell per unit")
    if min(order) < 0 or max(order) >= shape[0] * shape[1] or len(set(order)) < n_units:
        raise ValueError(
            f"order holds cells {min(order)} to {max(order)}, {len(set(order))} of them different; expected "
            f"{n_units} different cells from 0 to {shape[0] * shape[1] - 1}"
        )
    return torch.tensor(order, dtype=torch.int64)


class _CellCosine(torch.autograd.Function):
    """``sum_u share_u cos(C_u, C'_u)`` over cells, and what its gradient is made of.

    With ``n = |C_u|``, ``n' = |C'_u|`` and ``K`` the blur, the gradient is
    ``(share / n n') C' - (share cos / n^2) C + K^T [(share / n n') C - (share cos / n'^2) C']``: the blur is
    applied twice in all and only ``C'`` is kept, where autograd keeps or makes each step of the cosine.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(sheet: Tensor, share: Tensor, rows: Chain, columns: Chain) -> tuple[Tensor, ...]:
        blurred = _blurred(sheet, rows, columns)
        cosine, *scales = _cell_cosines(sheet, blurred)
        return (share * cosine).sum(), blurred, *(share * scale for scale in scales)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        sheet, ctx.share, *ctx.chains = inputs
        ctx.save_for_backward(sheet, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None]:
        sheet, blurred, *scales = ctx.saved_tensors
        with torch.autocast(sheet.device.type, enabled=False):
            if torch.is_grad_enabled():  # create_graph=True: made again, so that it can be derived again
                blurred = _blurred(sheet, *ctx.chains)
                scales = [ctx.share * scale for scale in _cell_cosines(sheet, blurred)[1:]]
            cross, own, other = ((upstream * scale).unsqueeze(-1) for scale in scales)
            through_blur = torch.addcmul(cross * sheet, other, blurred, value=-1)
            gradient = _blurred(through_blur, *(tuple(matrix.T for matrix in chain[::-1]) for chain in ctx.chains))
            return gradient.addcmul_(cross, blurred).addcmul_(own, sheet, value=-1), None, None, None


def _cell_cosines(sheet: Tensor, blurred: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # not divided by its reach: a cosine does not see the length
    norms = torch.linalg.vector_norm(sheet, dim=-1), torch.linalg.vector_norm(blurred, dim=-1)
    return _cosine(torch.linalg.vecdot(sheet, blurred), *norms)


def _sheet_cosine(sheet: Float[Tensor, "rows columns"], pyramid: Pyramid) -> Float[Tensor, ""]:
    """Cosine of a sheet of single numbers, taken as one vector, with its blurred self."""
    counted = pyramid.share > 0
    blurred = _blurred(sheet.unsqueeze(-1), pyramid.rows, pyramid.columns).squeeze(-1)
    blurred = torch.where(counted, blurred / torch.where(counted, pyramid.reach, 1), 0)
    sheet = torch.where(counted, sheet, 0)
    norms = torch.linalg.vector_norm(sheet), torch.linalg.vector_norm(blurred)
    return _cosine((sheet * blurred).sum(), *norms)[0]


def _cosine(dot: Tensor, norm: Tensor, blurred_norm: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cosine, and the factors of its gradient: 1 / n n', cos / n^2, cos / n'^2. All 0 where a norm is 0."""
    live = (norm > _ZERO_NORM) & (blurred_norm > _ZERO_NORM)
    inverse, blurred_inverse = (live / torch.where(live, length, 1) for length in (norm, blurred_norm))
    cosine = dot * inverse * blurred_inverse
    return cosine, inverse * blurred_inverse, cosine * inverse**2, cosine * blurred_inverse**2


def _blurred(sheet: Float[Tensor, "rows columns depth"], rows: Chain, columns: Chain) -> Tensor:
    # shrinks both axes before it widens either, so that most of the work is done on a small sheet
    for matrix in rows[:1]:
        sheet = (matrix @ sheet.flatten(1)).unflatten(1, sheet.shape[1:])
    for matrix in columns:
        sheet = matrix @ sheet
    for matrix in rows[1:]:
        sheet = (matrix @ sheet.flatten(1)).unflatten(1, sheet.shape[1:])
    return sheet


_KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "output": lambda weight: weight.flatten(1),
    "input": lambda weight: weight.transpose(0, 1).flatten(1),
    "bias": lambda weight: weight.unsqueeze(1),
}
