"""The maps of a cell: which are made, where they are kept, and whether they are those that the sweep asks for."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from topographic.evaluation import image_mapping, mapping
from topographic.evaluation.mapping import MapCommand, map_model
from topographic.maps import MapSummary, contrast_name
from topographic.runs.recipe import Recipe
from topographic.stimuli import CATEGORY_CONTRASTS
from topographic.storage import load_json
from topographic.sweeps.plan import Cell

__all__ = [
    "CellContrast",
    "CellMaps",
    "check_maps",
    "contrasts_of",
    "load_summary",
    "map_cell",
    "maps_folder",
    "missing_maps",
]


@dataclass(frozen=True)
class CellMaps:
    """Which maps are made of every cell."""

    contrasts: list[str] | None = None
    """Which contrasts, as for topo map; by default language and nouns_verbs, or of vision models faces,
    animate-inanimate, and these two of scrambled images."""
    fwhm_mm: list[float] = field(default_factory=lambda: [0.0, 2.0])
    """Gaussian readouts before the contrasts, full widths at half maximum; 0 for none, 2 in the TopoLM paper."""
    n_draws: int = 200
    """Draws of each of the three nulls."""
    exchangeable: list[str] = field(default_factory=lambda: ["run"])
    """Labels are permuted only among items that agree in these: run, length, or a label column."""
    pooling: Literal["mean", "last", "sum", "max", "class"] = "mean"
    """How an item's tokens become one response: mean, last or sum; of an image's places mean, max, or class token."""
    batch_size: int = 32
    """Items per forward pass."""
    seed: int = 0
    """Seed of the nulls, equal in all cells."""
    nulls: bool = False
    """Keep the null maps too: 3 x n_draws maps per site, contrast and readout."""
    n_images: int = 80
    """Images of each category, for vision models."""
    image_folders: dict[str, str] | None = None
    """For mnist, fashion_mnist, cifar10 and orl_faces, folders of their files in place of the packages."""

    def __post_init__(self) -> None:
        """Refuse what says nothing."""
        if not self.fwhm_mm or len(set(self.fwhm_mm)) < len(self.fwhm_mm) or not all(w >= 0 for w in self.fwhm_mm):
            raise ValueError(
                f"maps.fwhm_mm={self.fwhm_mm}; expected different widths in mm from 0 (no readout) on, such as [0, 2]"
            )
        if self.n_draws < 2:
            raise ValueError(
                f"maps.n_draws={self.n_draws}; expected at least 2 draws of each null (200 give p to .005)"
            )
        if self.n_images < 2:
            raise ValueError(f"maps.n_images={self.n_images}; expected at least 2 images of each category")
        self.command("", 0.0)

    def command(self, run: str | Path, fwhm_mm: float) -> MapCommand:
        """The same as words of `topo map`."""
        return MapCommand(
            run=str(run),
            contrasts=self.contrasts,
            fwhm_mm=fwhm_mm,
            n_draws=self.n_draws,
            exchangeable=self.exchangeable,
            pooling=self.pooling,
            batch_size=self.batch_size,
            seed=self.seed,
            nulls=self.nulls,
            n_images=self.n_images,
            image_folders=self.image_folders,
            out=str(maps_folder(run, fwhm_mm)),
        )


class CellContrast(NamedTuple):
    """A contrast of a sweep: its word on the command line, its name in tables, and what is compared."""

    word: str
    name: str
    condition: str | tuple[str, ...]
    baseline: str | tuple[str, ...]


def contrasts_of(recipe: Recipe, maps: CellMaps) -> list[CellContrast]:
    """Contrasts of which maps are made, those of `topo map` by default."""
    if recipe.counted == "images":
        words = maps.contrasts or image_mapping.DEFAULT_CONTRASTS
        return [CellContrast(word, word, *CATEGORY_CONTRASTS[word]) for word in words]
    sides = [(word, mapping.CONTRASTS[word][1:]) for word in maps.contrasts or mapping.DEFAULT_CONTRASTS]
    return [CellContrast(word, contrast_name(*both), *both) for word, both in sides]


def check_maps(cell: Cell, maps: CellMaps) -> None:
    """Refuse maps that the models of a sweep cannot be asked for, before any is trained."""
    mapping.check_words(maps.command(cell.folder, 0.0), "vision" if cell.recipe.counted == "images" else "language")


def maps_folder(run: str | Path, fwhm_mm: float) -> Path:
    """Where the maps of one readout are kept."""
    folder = Path(run) / "maps"
    return folder / f"fwhm_{fwhm_mm:g}" if fwhm_mm else folder


def load_summary(cell: Cell, maps: CellMaps, contrast: CellContrast, fwhm_mm: float) -> MapSummary | None:
    """Numbers of one contrast, if they were measured as the sweep asks."""
    folder = maps_folder(cell.folder, fwhm_mm)
    path = folder / contrast_name(contrast.condition, contrast.baseline) / "summary.json"
    if not path.is_file():
        return None
    summary = MapSummary.from_json(load_json(path))
    made = summary.provenance
    as_asked = {
        "fwhm_mm": fwhm_mm,
        "n_draws": maps.n_draws,
        "seed": maps.seed,
        "exchangeable": list(maps.exchangeable),
    }
    if cell.recipe.counted == "images":
        as_asked["n_condition"] = maps.n_images * len(contrast.condition)
    same = all(made.get(key) == value for key, value in as_asked.items())
    return summary if same and made["recording"].get("pooling") == maps.pooling else None


def missing_maps(cell: Cell, maps: CellMaps, fwhm_mm: float) -> list[str]:
    """Contrasts that have still to be mapped."""
    contrasts = contrasts_of(cell.recipe, maps)
    return [one.word for one in contrasts if load_summary(cell, maps, one, fwhm_mm) is None]


def map_cell(cell: Cell, maps: CellMaps, fwhm_mm: float, contrasts: Sequence[str]) -> None:
    """Make maps of a trained cell."""
    command = maps.command(cell.folder, fwhm_mm)
    map_model(dataclasses.replace(command, contrasts=list(contrasts)))
