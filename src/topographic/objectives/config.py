"""What a configuration may add to the task loss, a section for each term, and how a value is refused."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

__all__ = [
    "Blur",
    "Contiguity",
    "HasLossConfigs",
    "HasNeighborConfigs",
    "Kind",
    "Metric",
    "NeighborActivationsConfig",
    "NeighborWeightsConfig",
    "Neighborhoods",
    "Norm",
    "Reduction",
    "SmoothnessConfig",
    "SpatialConfig",
    "WeightSheetConfig",
    "WiringConfig",
    "expect",
    "is_weight",
    "spatial_expectations",
]

# The terms take their defaults and checks from here, and not the other way round: the help of a command reads these
# sections and must not load torch.
Neighborhoods = Literal["local", "scattered", "global"]
Norm = Literal["l1", "l2", "linf"]
Kind = Literal["output", "input", "bias"]
Blur = Literal["toponets", "antialias", "gaussian"]
Reduction = Literal["mean", "sum"]
Metric = Literal["euclidean", "cosine", "correlation"]
Contiguity = Literal["queen", "rook"]


def expect(holds: bool, name: str, value: Any, expected: str) -> None:
    """Refuse a value in one line unless a condition holds."""
    if not holds:
        raise ValueError(f"{name}={value}; expected {expected}: change it in the configuration")


def is_weight(value: Any) -> bool:
    """Whether it is a finite number from 0 on."""
    return hasattr(value, "__float__") and math.isfinite(value) and value >= 0


@dataclass
class SpatialConfig:
    """What topography is asked for."""

    weight: float = 2.5
    """Weight alpha of the spatial loss of every sheet; 0 for the non-topographic control."""
    sites: list[str] | None = None
    """Site names or wildcards, for example "transformer.h.*.attn"; by default all sheets the model carries."""
    layout: Literal["permuted_grid", "grid"] = "permuted_grid"
    """How sites are laid out for which the model carries no sheet."""
    neighborhoods: Neighborhoods = "local"
    """Blocks of neighbours, random sets from anywhere on the sheet, or the whole sheet."""
    radius: int = 5
    """Radius of local blocks in lattice steps: 5 gives 9 x 9 units."""
    k: int = 81
    """Units per scattered set."""
    n_neighborhoods: int = 5
    """Neighbourhoods drawn for every sheet in every forward pass."""
    norm: Norm = "l2"
    """Distance on the sheet."""

    def __post_init__(self) -> None:
        """Refuse what no sheet can satisfy."""
        expect(is_weight(self.weight), "spatial.weight", self.weight, "a number from 0 on")
        for holds, name, expected in spatial_expectations(self):
            expect(holds, f"spatial.{name}", getattr(self, name), expected)


def spatial_expectations(chosen: Any) -> Iterator[tuple[bool, str, str]]:
    """What section and term of the spatial loss are held to: whether it holds, of which field, what is expected."""
    yield chosen.sites is None or len(chosen.sites) > 0, "sites", "patterns of names, or null"
    kinds = get_args(Neighborhoods)
    yield callable(chosen.neighborhoods) or chosen.neighborhoods in kinds, "neighborhoods", f"one of {sorted(kinds)}"
    yield chosen.radius >= 1, "radius", "at least 1"
    yield chosen.k >= 3, "k", "at least 3 units"
    yield chosen.n_neighborhoods >= 1, "n_neighborhoods", "at least 1"
    yield chosen.norm in get_args(Norm), "norm", f"one of {sorted(get_args(Norm))}"


@dataclass
class WeightSheetConfig:
    """Layers whose sheets differ from what the section says of all."""

    sites: list[str] | str
    """Name or wildcard of layers, or several in brackets."""
    kind: Kind | None = None
    """As smoothness.kind, which is the default."""
    scale: float | None = 1.0
    """Factor of the loss of each of these sheets, beside smoothness.weight; null to log it and not train it."""
    factor: float | tuple[float, float] | None = None
    """As smoothness.factor, which is the default."""
    blur: Blur | None = None
    """As smoothness.blur, which is the default."""
    shape: tuple[int, int] | None = None
    """Rows and columns, such as [3, 4] for 10 units: the last cells stay empty. Nearly square and full by default."""
    layout: Literal["grid", "permuted_grid"] = "grid"
    """Units along the rows in their own order, or in one that is drawn for every layer."""
    layout_seed: int = 0
    """Seed of the permutations; together with the name of a layer it determines the layer's."""
    parameters: str = "*"
    """Wildcard over the parameters of recurrent layers, for example "weight_hh_*"."""

    def __post_init__(self) -> None:
        """Refuse what no layer can satisfy."""
        where = "smoothness.sheets"
        expect(len(self.sites) > 0, f"{where}: sites", self.sites, "a name or wildcard, or several")
        holds = self.scale is None or is_weight(self.scale)
        expect(holds, f"{where}: scale", self.scale, "a number from 0 on, or null to watch")
        if self.factor is not None:
            _expect_factor(f"{where}: factor", self.factor)
        holds = self.shape is None or min(self.shape) >= 1
        expect(holds, f"{where}: shape", self.shape, "numbers of rows and columns from 1 on")
        holds = self.layout_seed == 0 or self.layout == "permuted_grid"
        expect(holds, f"{where}: layout_seed", self.layout_seed, "0 with layout=grid, which draws nothing")


@dataclass
class SmoothnessConfig:
    """How smooth weights shall be (TopoNets); off unless a weight is given."""

    weight: float = 0.0
    """Weight tau of the mean loss over sheets; 0 for none."""
    sites: list[str] | str | None = None
    """Names or wildcards of layers with weights, for example "transformer.h.*.mlp.c_fc"."""
    kind: Kind = "output"
    """Output units with their incoming weights, input units with their outgoing ones, or output units' biases."""
    factor: float | tuple[float, float] = 3.0
    """Shrinking factor of the blur, or two along rows and columns: [3, 2]."""
    blur: Blur = "toponets"
    """How a sheet is blurred: as published, or without its aliasing."""
    reduction: Reduction = "mean"
    """How the losses of sheets are joined."""
    watched: list[str] | str | None = None
    """Further layers whose loss is logged and not trained."""
    sheets: list[WeightSheetConfig] = field(default_factory=list)
    """Layers whose sheets are unlike those of sites, for example [{sites: head, shape: [3, 4]}]; keys: sites, kind,
    scale (null to watch), factor, blur, shape, layout, layout_seed, parameters."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the weight goes from start_weight to weight."""
    start_weight: float = 0.0
    """Weight at the first step of a linear or cosine schedule."""
    schedule_steps: int = 1000
    """Optimiser steps a schedule takes."""

    def __post_init__(self) -> None:
        """Refuse what no layer can satisfy; one name alone becomes a list of one."""
        for name in ("weight", "start_weight"):
            value = getattr(self, name)
            expect(is_weight(value), f"smoothness.{name}", value, "a number from 0 on")
        for name in ("sites", "watched"):
            value = getattr(self, name)
            expect(value is None or len(value) > 0, f"smoothness.{name}", value, "patterns of names, or null")
            setattr(self, name, [value] if isinstance(value, str) else value)
        holds = self.start_weight == 0 or self.schedule != "constant"
        expect(holds, "smoothness.start_weight", self.start_weight, "0, or schedule=linear or cosine to start from it")
        trained = bool(self.sites) or any(sheet.scale is not None for sheet in self.sheets)
        layers = "layers, since a weight is set (or some in smoothness.sheets whose scale is not null)"
        expect(not self.is_on or trained, "smoothness.sites", self.sites, layers)
        _expect_factor("smoothness.factor", self.factor)
        name, steps, unset = "smoothness.schedule_steps", self.schedule_steps, SmoothnessConfig.schedule_steps
        expect(steps >= 1, name, steps, "at least 1")
        holds = steps == unset or self.schedule != "constant"
        expect(holds, name, steps, f"{unset} with schedule=constant, which takes none, or schedule=linear or cosine")

    @property
    def is_on(self) -> bool:
        """Whether the weight is ever above 0."""
        return self.weight > 0 or (self.schedule != "constant" and self.start_weight > 0)

    @property
    def names_layers(self) -> bool:
        """Whether it names any, trained or only watched."""
        return bool(self.sites or self.sheets or self.watched)

    @property
    def watches(self) -> bool:
        """Whether the loss of some layer is logged and not trained."""
        return bool(self.watched) or any(sheet.scale is None for sheet in self.sheets)


@dataclass
class _NeighborConfig:
    """How alike adjacent units of a sheet shall be; off unless a weight is given."""

    weight: float = 0.0
    """Weight of the mean unlikeness of adjacent units over sites; 0 for none."""
    sites: list[str] | str | None = None
    """Names or wildcards of layers, for example "transformer.h.*.mlp.c_proj"; units lie on the sheets that the model
    carries there, on nearly square grids elsewhere."""
    metric: Metric = "euclidean"
    """How unlike two units are: the norm of their difference, 1 less their cosine, or 1 less their correlation."""
    contiguity: Contiguity = "queen"
    """Eight neighbours, or four."""
    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Refuse what no layer can satisfy; one name alone becomes a list of one."""
        expect(is_weight(self.weight), f"{self.section}.weight", self.weight, "a number from 0 on")
        self.sites = _expect_layers(self.section, self.sites, self.weight)
        for name, allowed in (("metric", Metric), ("contiguity", Contiguity)):
            value = getattr(self, name)
            expect(value in get_args(allowed), f"{self.section}.{name}", value, f"one of {sorted(get_args(allowed))}")


@dataclass
class NeighborWeightsConfig(_NeighborConfig):
    """How alike the incoming weights of adjacent output units shall be; off unless a weight is given."""

    section: ClassVar[str] = "neighbor_weights"


@dataclass
class NeighborActivationsConfig(_NeighborConfig):
    """How alike adjacent units shall respond; off unless a weight is given."""

    section: ClassVar[str] = "neighbor_activations"


@dataclass
class WiringConfig:
    """What connections cost by their length (BIMT); off unless a weight is given."""

    weight: float = 0.0
    """Weight of the mean over layers of the absolute weights times their lengths; 0 for none."""
    sites: list[str] | str | None = None
    """Names or wildcards of layers with weights, whose inputs and outputs lie on sheets over one another."""
    between_mm: float = 0.0
    """Distance of these sheets, whose sides are 1 mm long; every connection has to cross it."""
    swap: list[str] | None = None
    """Two names or wildcards, [transformer.h.*.mlp.c_fc, transformer.h.*.mlp.c_proj]: units that the first layers make
    and the second read change places where that makes the wires of both shorter, which computes the same."""
    swap_steps: int = 200
    """Optimiser steps between two rounds of swaps."""
    swap_candidates: int = 6
    """Units that are tried in each round, those with the largest weights."""

    def __post_init__(self) -> None:
        """Refuse what no layer can satisfy; one name alone becomes a list of one."""
        expect(is_weight(self.weight), "wiring.weight", self.weight, "a number from 0 on")
        self.sites = _expect_layers("wiring", self.sites, self.weight)
        expect(is_weight(self.between_mm), "wiring.between_mm", self.between_mm, "a distance from 0 mm on")
        pair = self.swap is None or (len(self.swap) == 2 and len(set(self.swap)) == 2)
        expect(pair, "wiring.swap", self.swap, "two different patterns, of layers before and after the units, or null")
        on = self.swap is None or self.weight > 0
        expect(on, "wiring.swap", self.swap, "null without wiring.weight, as nothing says which wires are dear")
        for name in ("swap_steps", "swap_candidates"):
            value, unset = getattr(self, name), getattr(WiringConfig, name)
            expect(value >= 1, f"wiring.{name}", value, "at least 1")
            holds = value == unset or self.swap is not None
            expect(holds, f"wiring.{name}", value, f"{unset} without wiring.swap, or patterns there")


def _expect_layers(section: str, sites: list[str] | str | None, weight: float) -> list[str] | None:
    listed = [sites] if isinstance(sites, str) and sites else sites
    expect(listed is None or len(listed) > 0, f"{section}.sites", sites, "patterns of names, or null")
    expect(weight == 0 or listed is not None, f"{section}.sites", sites, "layers, since a weight is set")
    return None if listed is None else list(listed)


def _expect_factor(name: str, factor: float | tuple[float, float]) -> None:
    numbers = (factor,) if isinstance(factor, (int, float)) else factor
    holds = all(math.isfinite(number) and number >= 1 for number in numbers)
    expect(holds, name, factor, "at least 1, or two such numbers for rows and columns, such as [3, 2]")
    expect(max(numbers) > 1, name, factor, "more than 1 along one axis at least, since factor 1 blurs nothing")


@runtime_checkable
class HasLossConfigs(Protocol):
    """Any dataclass with these fields, whatever else it says."""

    @property
    def spatial(self) -> SpatialConfig:
        """The spatial loss."""
        ...

    @property
    def smoothness(self) -> SmoothnessConfig:
        """The smoothness of weights."""
        ...

    @property
    def training(self) -> Any:
        """Whatever has ``seed`` and ``gradient_accumulation_steps``."""
        ...


@runtime_checkable
class HasNeighborConfigs(Protocol):
    """Any dataclass with these fields, which need not be there."""

    @property
    def neighbor_weights(self) -> NeighborWeightsConfig:
        """Likeness of neighbours' weights."""
        ...

    @property
    def neighbor_activations(self) -> NeighborActivationsConfig:
        """Likeness of neighbours' responses."""
        ...

    @property
    def wiring(self) -> WiringConfig:
        """Length of wires."""
        ...
