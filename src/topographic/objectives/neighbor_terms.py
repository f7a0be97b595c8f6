"""Terms on neighbours: alike in weights, alike in activations, and connected by short wires."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from topographic.losses import neighbor_dissimilarity, weight_sheets, wiring_cost
from topographic.losses.wrappers import unwrapped
from topographic.objectives.objective import Draw
from topographic.recording.placement import AnyLayout, settled_layout
from topographic.recording.sites import modules_by_site, sites_among
from topographic.sheets import Sheet, adjacent_pairs, distances, grid

__all__ = ["NeighborActivations", "NeighborWeights", "WiringCost"]

_Pairs = dict[tuple[str, int], Tensor]


class _MeanOverLayers:
    def total(self, losses: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Mean over layers or sites, as `Term.total`."""
        return torch.stack(list(losses.values())).mean()


@dataclass
class NeighborWeights(_MeanOverLayers):
    """Adjacent output units shall have like weights: mean `neighbor_dissimilarity` of the rows of each layer.

    Parameters
    ----------
    sites : str or sequence of str
        Names or wildcards of layers with weights.
    layout : callable or mapping
        Where output units lie, as in `record`; the sheets that the model carries and `grid` elsewhere by default.
    weight : float or callable
        Weight of the mean over layers, or a function of the optimiser step.
    metric : {"euclidean", "cosine", "correlation"}
        As in `neighbor_dissimilarity`.
    contiguity : {"queen", "rook"}
        Which units are adjacent.
    name : str
        Name in the log.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 4))
    >>> sorted(NeighborWeights("0").losses(model))
    ['0']
    """

    sites: str | Sequence[str]
    _: KW_ONLY
    layout: AnyLayout = None
    weight: float | Callable[[int], float] = 1.0
    metric: str = "euclidean"
    contiguity: str = "queen"
    name: str = "neighbor_weights"
    per_step: bool = field(default=True, init=False)
    _pairs: _Pairs = field(default_factory=dict, init=False, repr=False, compare=False)

    def taps(self, model: nn.Module) -> list[str]:
        """None; a layer without weights is refused (`Term.taps`)."""
        self._pairs.clear()  # another model may carry other sheets
        with torch.no_grad():
            self.losses(model)
        return []

    def losses(
        self,
        model: nn.Module,
        activations: Mapping[str, Tensor] | None = None,
        draw: Draw | None = None,
        token_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Dissimilarity of every layer, as `Term.losses`."""
        found = {}
        for key, site, units in _weights(model, self.sites):
            pairs = _pairs_at(site, len(units), model, self.layout, self.contiguity, self._pairs)
            found[key] = neighbor_dissimilarity(units, pairs, metric=self.metric)
        return found


@dataclass
class NeighborActivations(_MeanOverLayers):
    """Adjacent units shall respond alike: mean `neighbor_dissimilarity` of what they do over the samples of a pass.

    Parameters
    ----------
    sites, layout, weight, contiguity, name
        As in `NeighborWeights`, of modules whose outputs have units on the last axis.
    metric : {"euclidean", "cosine", "correlation"}
        As in `neighbor_dissimilarity`. The Euclidean one is divided by the root of the number of samples, so that it
        does not grow with the batch.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(3, 4))
    >>> term = NeighborActivations("0")
    >>> term.taps(model)
    ['0']
    """

    sites: str | Sequence[str]
    _: KW_ONLY
    layout: AnyLayout = None
    weight: float | Callable[[int], float] = 1.0
    metric: str = "euclidean"
    contiguity: str = "queen"
    name: str = "neighbor_activations"
    per_step: bool = field(default=False, init=False)
    _pairs: _Pairs = field(default_factory=dict, init=False, repr=False, compare=False)

    def taps(self, model: nn.Module) -> list[str]:
        """Sites that are heard, as `Term.taps`."""
        self._pairs.clear()  # another model may carry other sheets
        return [site for site, _ in _layers(model, self.sites)]

    def losses(
        self, model: nn.Module, activations: Mapping[str, Tensor], draw: Draw, token_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Dissimilarity of every site, as `Term.losses`; samples that must not count are left out."""
        found = {}
        for site, heard in activations.items():
            samples = heard.flatten(0, -2)
            if token_mask is not None:
                samples = samples[token_mask.flatten().bool()]
            pairs = _pairs_at(site, heard.shape[-1], model, self.layout, self.contiguity, self._pairs)
            loss = neighbor_dissimilarity(samples.T.float(), pairs, metric=self.metric)
            found[site] = loss / len(samples) ** 0.5 if self.metric == "euclidean" else loss
        return found


@dataclass
class WiringCost(_MeanOverLayers):
    """Connections shall be short: mean `wiring_cost` of layers whose inputs and outputs lie on sheets over one another.

    Parameters
    ----------
    sites : str or sequence of str
        Names or wildcards of layers with weights.
    between_mm : float
        Distance of the two sheets, which every connection has to cross.
    layout : callable
        Layout of both sides; a nearly square grid by default. Each sheet is stretched to sides of 1 mm, so that layers
        of other sizes lie over one another.
    weight : float or callable
        Weight of the mean over layers, or a function of the optimiser step.
    name : str
        Name in the log.

    Notes
    -----
    BIMT adds the cost of biases and swaps neurons as it trains; `topographic.losses.wiring_swaps` says which.

    Examples
    --------
    >>> sorted(WiringCost("0").losses(nn.Sequential(nn.Linear(9, 4))))
    ['0']
    """

    sites: str | Sequence[str]
    _: KW_ONLY
    between_mm: float = 0.0
    layout: Callable[[int, str], Sheet] = grid
    weight: float | Callable[[int], float] = 1.0
    name: str = "wiring"
    per_step: bool = field(default=True, init=False)
    _lengths_mm: dict[tuple[int, int], Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what is no distance."""
        if not 0 <= self.between_mm < float("inf"):
            raise ValueError(f"between_mm={self.between_mm}; expected a distance from 0 mm on")

    def taps(self, model: nn.Module) -> list[str]:
        """None; a layer without weights is refused (`Term.taps`)."""
        with torch.no_grad():
            self.losses(model)
        return []

    def losses(
        self,
        model: nn.Module,
        activations: Mapping[str, Tensor] | None = None,
        draw: Draw | None = None,
        token_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Cost of every layer, as `Term.losses`."""
        return {key: wiring_cost(units, self.lengths_mm(*units.shape)) for key, _, units in _weights(model, self.sites)}

    def lengths_mm(self, n_outputs: int, n_inputs: int) -> Float[Tensor, "outputs inputs"]:
        """Length of every connection of a layer, made when a layer of that shape is first met."""
        shape = n_outputs, n_inputs
        if shape not in self._lengths_mm:
            places = [_stretched(self.layout(n_units, "wiring")) for n_units in shape]
            self._lengths_mm[shape] = (distances(*places).square() + self.between_mm**2).sqrt()
        return self._lengths_mm[shape]


def _layers(model: nn.Module, sites: str | Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    modules = modules_by_site(model)
    patterns = [sites] if isinstance(sites, str) else list(sites)
    for site in sites_among(modules, patterns, type(unwrapped(model)).__name__):
        yield site, modules[site]


def _weights(model: nn.Module, sites: str | Sequence[str]) -> Iterator[tuple[str, str, Tensor]]:
    """Name in the log, layer, and units of every sheet of weights."""
    for site, module in _layers(model, sites):
        for parameter, units in weight_sheets(module).items():
            yield site if parameter == "weight" else f"{site}.{parameter}", site, units


def _pairs_at(
    site: str, n_units: int, model: nn.Module, layout: AnyLayout, contiguity: str, kept: _Pairs
) -> Int64[Tensor, "pairs two"]:
    """Adjacent units of a site, found when it is first met and its width known."""
    if (site, n_units) not in kept:
        sheet = settled_layout(model, [site], layout)(n_units, site)
        both = adjacent_pairs(sheet, contiguity)
        kept[site, n_units] = both[both[:, 0] < both[:, 1]]  # each pair once, which has the same mean
    return kept[site, n_units]


def _stretched(sheet: Sheet) -> Tensor:
    extent_mm = torch.as_tensor(sheet.extent_mm, dtype=sheet.positions_mm.dtype)
    return sheet.positions_mm / extent_mm
