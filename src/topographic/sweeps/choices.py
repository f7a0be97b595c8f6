"""What decides a sweep beside its recipes; read by help and wrong words, so that it loads no torch."""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from topographic.evaluation.choices import ContrastChoices, MapChoices
from topographic.objectives.config import expect

__all__ = ["CONTROL", "CellMaps", "Mechanisms"]

CONTROL: dict[str, Any] = {"spatial.weight": 0, "smoothness.weight": 0}


@dataclass(frozen=True)
class CellMaps(ContrastChoices):
    """Which maps are made of every cell; see the fields, which are also keys of ``maps`` in a sweep's file.

    Raises
    ------
    ValueError
        If a contrast does not exist, or a number is none that maps can be made with.

    Examples
    --------
    >>> CellMaps(n_draws=19).at(2.0).fwhm_mm
    2.0
    """

    fwhm_mm: list[float] = field(default_factory=lambda: [0.0, 2.0])
    """Gaussian readouts before the contrasts, full widths at half maximum; 0 for none, 2 in the TopoLM paper."""
    nulls: bool = False
    """Keep the null maps too: 3 x n_draws maps per site, contrast and readout."""
    section: ClassVar[str] = "maps."

    def __post_init__(self) -> None:
        """Refuse what says nothing."""
        expect(self.n_draws >= 2, "maps.n_draws", self.n_draws, "at least 2 draws of each null (200 give p to .005)")
        super().__post_init__()
        different = 0 < len(self.fwhm_mm) == len(set(self.fwhm_mm)) and all(0 <= w < float("inf") for w in self.fwhm_mm)
        expect(different, "maps.fwhm_mm", self.fwhm_mm, "different widths in mm from 0 (no readout) on, such as [0, 2]")

    def at(self, fwhm_mm: float) -> MapChoices:
        """The same at one readout."""
        shared = {entry.name: getattr(self, entry.name) for entry in fields(ContrastChoices)}
        return MapChoices(**shared, fwhm_mm=fwhm_mm)


@dataclass(frozen=True)
class Mechanisms:
    """What is measured beside the maps where mechanisms of topography are compared; nothing unless sites are named.

    Raises
    ------
    ValueError
        If a number is out of range, or weights are named for a place without sites.

    Examples
    --------
    >>> Mechanisms(sites={"attention": "transformer.h.*.attn"}).is_on
    True
    """

    sites: dict[str, str] = field(default_factory=dict)
    """Places that all models have, by any name, each a wildcard of sites: {MLP: "transformer.h.*.mlp"}. Of their units
    the topography is measured."""
    weights: dict[str, str] = field(default_factory=dict)
    """Of some of these places, the linear layers that make their units: {MLP: "transformer.h.*.mlp.dense_out"}. Their
    rows are measured, pruned and downsampled."""
    laid_out: list[str] = field(default_factory=list)
    """Names of blocks whose models are measured a second time, their units laid out after training."""
    lesioned: list[str] = field(default_factory=list)
    """Places on whose sheets a patch is silenced; all by default."""
    removed: float = 0.5
    """Share of the units that downsampling removes, and of the parameters that pruning does, as many."""
    lesion: float = 0.1
    """Share of the units of every sheet in the patch that is silenced."""
    n_draws: int = 99
    """Draws of the nulls of topography."""
    n_models: int = 9
    """Draws of the nulls of lesions and of downsampling, for each of which a changed model is run."""
    n_windows: int = 32
    """Windows of the validation text on which changed models are run, and four times as many of the training text on
    which units are laid out."""

    def __post_init__(self) -> None:
        """Refuse what says nothing."""
        for name in ("weights", "lesioned"):
            unknown = sorted(set(getattr(self, name)) - set(self.sites))
            expect(not unknown, f"mechanisms.{name}", unknown, f"places among {sorted(self.sites)}, as in sites")
        for name in ("removed", "lesion"):
            value = getattr(self, name)
            expect(0 < value < 1, f"mechanisms.{name}", value, "a share above 0 and below 1")
        for name in ("n_draws", "n_models"):
            expect(getattr(self, name) >= 2, f"mechanisms.{name}", getattr(self, name), "at least 2 draws")
        expect(self.n_windows >= 1, "mechanisms.n_windows", self.n_windows, "at least 1 window")

    @property
    def is_on(self) -> bool:
        """Whether any place is named."""
        return bool(self.sites)
