"""What a layer loses when weights are taken away: pruning, and shrinking its sheet."""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from topographic.losses.weight_sheets import weight_sheets
from topographic.losses.wrappers import unwrapped
from topographic.recording.placement import AnyLayout, settled_layout
from topographic.recording.sites import find_sites, modules_by_site
from topographic.sheets import Sheet, grid_cells
from topographic.sheets.expectations import expect_number

__all__ = ["SCOPES", "DownsampledLinear", "downsample", "placed_layers", "prunable_weights", "prune"]

Sites = str | Sequence[str]


def prune(model: nn.Module, sites: Sites, fraction: float, *, scope: str = "layer") -> nn.Module:
    """Copy of a model without the smallest weights of some layers.

    ``w -> 0`` for the ``round(fraction * n)`` of ``n`` weights with the smallest ``|w|`` (L1 unstructured).

    Parameters
    ----------
    model : nn.Module
        Any model; it is not touched. Of a wrapped one (DDP, torch.compile) the bare model is copied.
    sites : str or sequence of str
        Layers with a weight matrix or kernel, by name or wildcard. Their biases stay. A weight tied to
        another layer is pruned there as well.
    fraction : float
        Share of the weights to remove, in [0, 1].
    scope : {"layer", "global"}
        Whether weights compete within each layer, or over all sites together.

    Returns
    -------
    nn.Module
        The copy, its pruned weights plain parameters with zeros in them.

    Raises
    ------
    ValueError
        If the fraction is none, the scope is unknown, or a pattern matches nothing.
    TypeError
        If a site has no weight matrix of its own, or the model keeps a computed tensor, as the old
        `torch.nn.utils.weight_norm` does.

    References
    ----------
    Han et al. 2015, NeurIPS 28; as curves in Deb et al. 2025, TopoNets, ICLR, which states neither scope nor sites.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope={scope!r}; expected one of {sorted(SCOPES)}")
    expect_number("fraction", fraction, "the share of weights to remove, from 0 to 1", most=1.0)
    pruned = _copied(model)
    for weights in SCOPES[scope](prunable_weights(pruned, sites)):
        _zero_smallest(weights, fraction)
    return pruned


def downsample(
    model: nn.Module,
    sites: Sites,
    keep: float,
    *,
    layout: AnyLayout = None,
    relayout: bool = False,
    keep_bias: bool = False,
) -> nn.Module:
    """Copy of a model in which the sheets of some layers have fewer units, read between by interpolation.

    ``W' = shrink(W)`` from a sheet of ``h x w`` to one of ``floor(h sqrt(keep)) x floor(w sqrt(keep))`` units;
    then ``z = widen(W' x + b')``. Both are bilinear. The nonlinearity and the next layer see all ``h w`` units.

    Parameters
    ----------
    model : nn.Module
        Any model; it is not touched. Of a wrapped one (DDP, torch.compile) the bare model is copied.
    sites : str or sequence of str
        Linear layers (`torch.nn.Linear`, Conv1D of transformers) by name or wildcard; each becomes a
        `DownsampledLinear`. What was attached to the layer itself (hooks, a parametrisation) is not taken over.
    keep : float
        Share of the units to keep, above 0 and at most 1. Sides are rounded down, so fewer are kept:
        of 48 x 64 units 42 x 57, 33 x 45 and 21 x 28 at 0.8, 0.5 and 0.2.
    layout, relayout
        As in `record`; lattices that the units fill. The edges of a torus are not joined.
    keep_bias : bool
        Add the whole bias after widening instead of shrinking it with the weights.

    Returns
    -------
    nn.Module
        The copy. Its state dict has smaller weights under the same names; to read one back, call
        ``downsample`` with the same arguments on a model of the original configuration and load it there.

    Raises
    ------
    ValueError
        If ``keep`` is out of range or leaves no unit, a sheet does not fit, or a pattern matches nothing.
    TypeError
        If a site is no linear layer, or as `prune`.

    References
    ----------
    Deb et al. 2025, TopoNets, ICLR, arXiv:2501.16396. The rounding and what is left out of the
    shrinking (the next layer's weights) follow from the numbers of parameters it reports.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep={keep}; expected the share of units to keep, above 0 and at most 1")
    small = _copied(model)
    for site, (layer, sheet) in placed_layers(small, sites, layout, relayout=relayout).items():
        _replace(small, layer, _downsampled(layer, keep, site, sheet, keep_bias=keep_bias))
    return small


def placed_layers(
    model: nn.Module, sites: Sites, layout: AnyLayout = None, *, relayout: bool = False
) -> dict[str, tuple[nn.Linear | Conv1D, Sheet]]:
    """Layers that `downsample` can replace, and their sheets."""
    modules, names = modules_by_site(model), find_sites(model, sites)
    settled = settled_layout(model, names, layout, relayout=relayout)
    found = {}
    for site in names:
        layer = modules[site]
        if not isinstance(layer, (nn.Linear, Conv1D)):
            raise TypeError(
                f"site {site!r} is a {type(layer).__name__}; only Linear layers and the Conv1D of transformers can be "
                "downsampled: name such a layer, for example the first of each MLP"
            )
        found[site] = layer, settled(len(weight_sheets(layer)["weight"]), site)
    return found


class DownsampledLinear(nn.Module):
    """A linear layer with few output units that answers for a larger sheet of them.

    ``z = widen(W' x + b')``, or ``widen(W' x) + b`` with a bias as long as the large sheet.

    Parameters
    ----------
    weight : Tensor, shape (small_rows * small_columns, in)
        Incoming weights of the units that are left.
    bias : Tensor, shape (small_rows * small_columns,) or (rows * columns,), or None
        Their bias, or that of all units.
    small_shape, shape : (int, int)
        Rows and columns of the sheet that is left and of the one answered for.
    cells : Tensor of int64, shape (rows * columns,), optional
        Cell of each unit, counted along the rows; unit ``u`` lies in cell ``u`` by default.
    """

    cells: Tensor | None

    def __init__(
        self,
        weight: Float[Tensor, "small in"],
        bias: Float[Tensor, " biases"] | None,
        small_shape: tuple[int, int],
        shape: tuple[int, int],
        cells: Int64[Tensor, " units"] | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.small_shape, self.shape = small_shape, shape
        self.register_buffer("cells", cells, persistent=False)

    def forward(self, inputs: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Activations of the whole sheet, in the unit order of the layer it stands for."""
        before = self.bias if self.bias is not None and len(self.bias) == len(self.weight) else None
        few = functional.linear(inputs, self.weight, before)
        sheets = few.reshape(1, -1, *self.small_shape)
        wide = functional.interpolate(sheets, size=self.shape, mode="bilinear").reshape(*inputs.shape[:-1], -1)
        wide = wide if self.cells is None else wide[..., self.cells]
        return wide if self.bias is None or before is not None else wide + self.bias

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        small, whole = (" x ".join(map(str, shape)) for shape in (self.small_shape, self.shape))
        return f"in_features={self.weight.shape[1]}, units={small} for {whole}, bias={self.bias is not None}"


def _copied(model: nn.Module) -> nn.Module:
    bare = unwrapped(model)
    for name, module in bare.named_modules():
        computed = [key for key, entry in vars(module).items() if isinstance(entry, Tensor) and not entry.is_leaf]
        if computed:
            raise TypeError(
                f"site {name!r} ({type(module).__name__}) keeps {computed[0]!r} as a tensor computed from parameters, "
                "which cannot be copied; undo it first (torch.nn.utils.remove_weight_norm, prune.remove), or use "
                "torch.nn.utils.parametrizations"
            )
    return copy.deepcopy(bare)


def prunable_weights(model: nn.Module, sites: Sites) -> list[Tensor]:
    """Weight parameters of the sites, tied ones once."""
    modules, found = modules_by_site(model), {}
    for site in find_sites(model, sites):
        own = modules[site].named_parameters(recurse=False)
        weights = [weight for name, weight in own if name.startswith("weight") and weight.ndim >= 2]
        if not weights:
            raise TypeError(
                f"site {site!r} ({type(modules[site]).__name__}) has no weight matrix of its own; name the layer that "
                "has one, and remove a parametrisation before pruning"
            )
        found |= {id(weight): weight for weight in weights}
    return list(found.values())


@torch.no_grad()
def _zero_smallest(weights: Sequence[Tensor], fraction: float) -> None:
    sizes = torch.cat([weight.abs().flatten() for weight in weights])
    gone = torch.zeros_like(sizes, dtype=torch.bool)
    gone[sizes.topk(round(fraction * len(sizes)), largest=False).indices] = True
    for weight, part in zip(weights, gone.split([weight.numel() for weight in weights]), strict=True):
        weight.masked_fill_(part.reshape(weight.shape), 0)


def _downsampled(
    layer: nn.Linear | Conv1D, keep: float, site: str, sheet: Sheet, *, keep_bias: bool
) -> DownsampledLinear:
    weight = weight_sheets(layer)["weight"].detach()
    shape, cells = grid_cells(sheet)
    if shape[0] * shape[1] != len(weight):
        raise ValueError(
            f"site {site!r} has {len(weight)} units on {shape[0]} x {shape[1]} places; expected units that fill their "
            "sheet: there is nothing to read between where a unit is missing"
        )
    small_shape = (math.floor(shape[0] * math.sqrt(keep)), math.floor(shape[1] * math.sqrt(keep)))
    if min(small_shape) < 1:
        raise ValueError(
            f"keep={keep} leaves {small_shape[0]} x {small_shape[1]} of the {shape[0]} x {shape[1]} units at {site!r}; "
            "keep more"
        )
    unit_of_cell = cells.argsort().to(weight.device)
    bias = None if layer.bias is None else layer.bias.detach()
    if bias is not None:
        bias = bias.clone() if keep_bias else _shrunk(bias[unit_of_cell].unsqueeze(1), shape, keep).squeeze(1)
    in_place = torch.equal(cells, torch.arange(len(cells)))
    places = None if in_place else cells.to(weight.device)
    small = DownsampledLinear(_shrunk(weight[unit_of_cell], shape, keep), bias, small_shape, shape, places)
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(getattr(layer, name).requires_grad)
    return small.train(layer.training)


def _shrunk(values: Float[Tensor, "units depth"], shape: tuple[int, int], keep: float) -> Float[Tensor, "small depth"]:
    # by scale and not by size, as published: the two place the samples differently where sides are rounded
    sheet = values.T.unflatten(1, shape).unsqueeze(0)
    small = functional.interpolate(sheet, scale_factor=math.sqrt(keep), mode="bilinear")
    return small.squeeze(0).flatten(1).T.contiguous()


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    # everywhere: a module may be shared
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)


# sites whose weights compete with one another
SCOPES: dict[str, Callable[[list[Tensor]], list[list[Tensor]]]] = {
    "layer": lambda weights: [[weight] for weight in weights],
    "global": lambda weights: [weights],
}
