"""Smooth weights as a term of the objective: TopoLoss, for any model, without activations.

Two lines make a model topographic::

    objective = Objective(model, [WeightSmoothness("transformer.h.*.mlp.c_fc", weight=1.0)])
    loss, parts = objective(task_loss)

Several sheets of one layer live side by side, each with a scale of its own; ``None`` only watches::

    WeightSmoothness([WeightSheet("fc*"), WeightSheet("fc1", kind="bias", scale=0.1), WeightSheet("head", scale=None)])
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from topographic.losses.pyramid import laplacian_pyramid_loss
from topographic.losses.weight_sheets import weight_sheets
from topographic.objectives.config import Blur, Kind, Reduction, SmoothnessConfig, WeightSheetConfig, is_weight
from topographic.objectives.objective import Draw
from topographic.recording.sites import modules_by_site, sites_among
from topographic.sheets import Sheet, grid_cells

__all__ = ["SCHEDULES", "WeightSheet", "WeightSmoothness", "cosine_schedule", "linear_schedule"]


@dataclass(frozen=True)
class WeightSheet:
    """Which units of which layers lie on a sheet, and how it is blurred.

    Parameters
    ----------
    sites : str
        Name or wildcard of layers.
    kind : {"output", "input", "bias"}
        Output units with their incoming weights, input units with their outgoing ones, or output units with
        their bias.
    scale : float or None
        Factor of the loss of every such sheet; None watches it: it is logged and not trained.
    factor : float or (float, float)
        Shrinking factor along rows and columns.
    blur : {"toponets", "antialias", "gaussian"}
        How the sheet is blurred.
    shape : (int, int), optional
        Rows and columns, with room for padding; nearly square by default.
    order : tuple of int, optional
        Cell of each unit, counted along the rows; in their own order by default.
    parameters : str
        Wildcard over the parameters of recurrent layers, for example "weight_hh_*".
    sheet : Sheet, optional
        Where the units lie, in place of ``shape`` and ``order``: a lattice with one unit in a place, such as
        ``permuted_grid(36, "fc1")``.

    Raises
    ------
    ValueError
        If the scale is negative or not finite, or the sheet is no such lattice or given beside a shape or an order.
    TypeError
        If the sites are no name, or the sheet is something else, such as a layout function.

    Notes
    -----
    The blur ends at the edges of a sheet. Those of a torus (``wrap=True``) are not joined: a unit in its first row
    is not asked to resemble those in its last.
    """

    sites: str
    kind: Kind = SmoothnessConfig.kind
    scale: float | None = WeightSheetConfig.scale
    factor: float | tuple[float, float] = (3.0, 3.0)
    blur: Blur = SmoothnessConfig.blur
    shape: tuple[int, int] | None = None
    order: tuple[int, ...] | None = None
    parameters: str = WeightSheetConfig.parameters
    sheet: Sheet | None = None

    def __post_init__(self) -> None:
        """Refuse a scale that would push weights apart, and find the cells of a sheet's units."""
        if not isinstance(self.sites, str):
            raise TypeError(
                f"sites is a {type(self.sites).__name__}; give the name of a layer in model.named_modules(), or a "
                "wildcard of names, such as 'transformer.h.*.mlp.c_fc'"
            )
        if self.scale is not None and not is_weight(self.scale):
            raise ValueError(f"sheet {self.sites!r} has scale {self.scale}; expected a number from 0 on, or None")
        if self.sheet is None:
            return
        if self.shape is not None or self.order is not None:
            raise ValueError(f"sheet {self.sites!r} has sheet= beside shape= or order=; it says both: leave those out")
        if not isinstance(self.sheet, Sheet):
            example = f"{getattr(self.sheet, '__name__', 'permuted_grid')}(144, {self.sites!r})"
            raise TypeError(f"sheet {self.sites!r} got a {type(self.sheet).__name__} as sheet=; pass {example}")
        if self.sheet.is_readout:
            raise ValueError(f"sheet {self.sites!r} got the sheet of a readout; give that of the layer's units")
        _cells_of(self.sheet)

    def loss(self, units: Float[Tensor, "units depth"] | Float[Tensor, " units"]) -> Float[Tensor, ""]:
        """Roughness of what lies on one sheet (`laplacian_pyramid_loss`), unscaled, as `weight_sheets` reads it."""
        kind = "bias" if self.kind == "bias" else "output"
        shape, order = (self.shape, self.order) if self.sheet is None else _cells_of(self.sheet)
        if self.sheet is not None and self.sheet.n_units != len(units):
            raise ValueError(
                f"the layer has {len(units)} units and its sheet {self.sheet.name!r} places {self.sheet.n_units}; give "
                "a sheet of that many"
            )
        return laplacian_pyramid_loss(units, self.factor, kind, blur=self.blur, shape=shape, order=order)


@functools.lru_cache(maxsize=256)
def _cells_of(sheet: Sheet) -> tuple[tuple[int, int], tuple[int, ...]]:
    shape, cells = grid_cells(sheet)
    return shape, tuple(cells.tolist())


@dataclass
class WeightSmoothness:
    """Mean over sheets of the distance between weights and their blurred selves, once per optimiser step.

    ``L = sum_k scale_k loss_k / n`` over the ``n`` sheets that are trained; without ``/ n`` for a sum.

    Parameters
    ----------
    sheets : str, WeightSheet or a sequence of these
        What lies on sheets; a name or wildcard stands for the output units of these layers at factor 3.
    weight : float or callable
        The paper's tau, or a function of the optimiser step such as `linear_schedule`.
    reduction : {"mean", "sum"}
        How sheets are joined.
    name : str
        Name in the log. A layer's output sheet is logged as ``<name>/<site>``, others as ``<name>/<site>.inputs``
        and ``<name>/<site>.bias``; those of recurrent layers carry the names that `weight_sheets` gives them.

    Notes
    -----
    TopoNets (Deb et al., ICLR 2025), section 3, whose package takes the mean. Losses are kept apart by layer and
    kind, where the package keeps the last of several on one layer.

    Half-precision weights are compared in float32; `Objective` refuses to train parameters that are kept so. Weights
    that need no gradient are refused unless they are only watched.
    """

    sheets: str | WeightSheet | Sequence[str | WeightSheet]
    weight: float | Callable[[int], float] = 1.0
    reduction: Reduction = SmoothnessConfig.reduction
    name: str = "weights"
    per_step: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        """Refuse an unknown reduction and an empty list."""
        given: Any = self.sheets
        given = given if isinstance(given, Iterable) and not isinstance(given, (str, nn.Module)) else [given]
        self._choices = [choice if isinstance(choice, WeightSheet) else WeightSheet(choice) for choice in given]
        if not self._choices:
            raise ValueError("no sheets given; expected at least one, for example 'transformer.h.*.mlp.c_fc'")
        if self.reduction not in get_args(Reduction):
            raise ValueError(f"reduction={self.reduction!r}; expected one of {get_args(Reduction)}")
        self._scales: dict[str, float] = {}

    @property
    def watches(self) -> bool:
        """Whether a sheet is only watched, so that there is something to log even if the weight is 0."""
        return any(choice.scale is None for choice in self._choices)

    def taps(self, model: nn.Module) -> list[str]:
        """None, as no activations are needed; a sheet that is not there or does not fit is refused (`Term.taps`)."""
        frozen = []
        with torch.enable_grad():
            for key, choice, units in self._laid_out(model):
                with _naming(key):
                    choice.loss(units.new_zeros(units.shape[:1] if units.ndim == 1 else (units.shape[0], 1)))
                if choice.scale is not None and not units.requires_grad:
                    frozen.append(key)
        _refuse_frozen(frozen)
        return []

    def losses(
        self,
        model: nn.Module,
        activations: Mapping[str, Tensor] | None = None,
        draw: Draw | None = None,
        token_mask: Tensor | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Loss of every sheet, trained or watched, unscaled, as `Term.losses`; watched ones carry no gradient."""
        losses, scales, frozen = {}, {}, []
        for key, choice, units in self._laid_out(model):
            with torch.set_grad_enabled(torch.is_grad_enabled() and choice.scale is not None):
                losses[key] = choice.loss(units)
            if choice.scale is not None:
                scales[key] = choice.scale
                frozen += [key] if torch.is_grad_enabled() and not units.requires_grad else []
        _refuse_frozen(frozen)
        self._scales = scales
        return losses

    def total(self, losses: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """Scaled mean or sum over trained sheets, as `Term.total`; 0 if all are only watched."""
        if not self._scales:
            return torch.zeros_like(next(iter(losses.values())))
        scaled = torch.stack([scale * losses[key] for key, scale in self._scales.items()])
        return scaled.mean() if self.reduction == "mean" else scaled.sum()

    def _laid_out(self, model: nn.Module) -> Iterator[tuple[str, WeightSheet, Tensor]]:
        """Every sheet with its name in the log."""
        modules = modules_by_site(model)
        named_by: dict[str, str] = {}
        for choice in self._choices:
            for site in sites_among(modules, [choice.sites], type(model).__name__):
                with _naming(site):
                    _refuse_absent(modules[site])
                    sheets = weight_sheets(modules[site], choice.kind, parameters=choice.parameters)
                    if choice.scale is not None and torch.is_grad_enabled():
                        _refuse_computed(modules[site], sheets)
                for parameter, units in sheets.items():
                    key = site if parameter == "weight" else f"{site}.{parameter}"
                    key = f"{key}.inputs" if choice.kind == "input" else key
                    if key in named_by:
                        raise ValueError(
                            f"sheet {key!r} is named twice, by {named_by[key]!r} and {choice.sites!r}; leave one out"
                        )
                    named_by[key] = choice.sites
                    yield key, choice, units


def _refuse_absent(module: nn.Module) -> None:
    if any(nn.parameter.is_lazy(parameter) for parameter in module.parameters()):
        raise ValueError(f"{type(module).__name__} has no weights before its first pass; run the model once first")
    if any(parameter.is_meta for parameter in module.parameters()):
        raise ValueError(
            f"{type(module).__name__} is on the meta device and has no weights; load them, or call "
            "model.to_empty(device=...) and initialise them, first"
        )


def _refuse_computed(module: nn.Module, sheets: Mapping[str, Tensor]) -> None:
    """Refuse a weight without gradient that a hook computes from a parameter with one."""
    named = dict(module.named_parameters(recurse=False))
    sources = [name for name, one in named.items() if name.endswith("_orig") and one.requires_grad]
    if sources and not all(units.requires_grad for units in sheets.values()):
        raise ValueError(
            f"its weight is computed from {sources[0]} and carries no gradient, as with the old "
            "torch.nn.utils.spectral_norm; use torch.nn.utils.parametrizations.spectral_norm"
        )


def _refuse_frozen(keys: Sequence[str]) -> None:
    if keys:
        raise ValueError(
            f"weights of {_some(keys)} carry no gradient, so that their loss would train nothing; unfreeze them, leave "
            "them out, or only watch them: WeightSheet(..., scale=None)"
        )


def _some(keys: Sequence[str]) -> str:
    return ", ".join(map(repr, keys[:4])) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")


@contextlib.contextmanager
def _naming(site: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        raise type(error)(f"site {site!r}: {error}") from error


def linear_schedule(start: float, end: float, n_steps: int) -> Callable[[int], float]:
    """Weight that goes from one value to another in a straight line and stays there.

    ``w(t) = start + (end - start) min(t / n_steps, 1)``.

    Parameters
    ----------
    start, end : float
        Weight at step 0, and from step ``n_steps`` on; either may be the larger.
    n_steps : int
        Optimiser steps in between.

    Returns
    -------
    callable
        Weight of a term as a function of the optimiser step.

    Raises
    ------
    ValueError
        If there are no steps or a weight is negative or not finite.
    """
    _check_schedule(start, end, n_steps)
    return lambda step: start + (end - start) * min(step / n_steps, 1.0)


def cosine_schedule(start: float, end: float, n_steps: int) -> Callable[[int], float]:
    """Weight that goes from one value to another along half a cosine and stays there.

    ``w(t) = end + (start - end) (1 + cos(pi min(t / n_steps, 1))) / 2``.

    Parameters
    ----------
    start, end, n_steps
        As in `linear_schedule`.

    Returns
    -------
    callable
        Weight of a term as a function of the optimiser step.

    Raises
    ------
    ValueError
        As in `linear_schedule`.
    """
    _check_schedule(start, end, n_steps)
    return lambda step: end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(step / n_steps, 1.0)))


def _check_schedule(start: float, end: float, n_steps: int) -> None:
    if n_steps < 1:
        raise ValueError(f"n_steps={n_steps}; expected at least 1 step, or a plain number as weight")
    if not (is_weight(start) and is_weight(end)):
        raise ValueError(f"the schedule goes from {start} to {end}; expected finite weights from 0 on")


SCHEDULES: dict[str, Callable[[float, float, int], Callable[[int], float]]] = {
    "linear": linear_schedule,
    "cosine": cosine_schedule,
}
