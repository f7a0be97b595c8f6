"""What decides a sweep beside its recipes; read by help and wrong words, so that it loads no torch."""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from topographic.evaluation.choices import ContrastChoices, MapChoices
from topographic.objectives.config import expect

__all__ = ["CONTROL", "CellMaps"]

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
