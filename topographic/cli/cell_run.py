"""One cell of a sweep: train it, map it, measure its grammar; whatever is there already is left as it is."""

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from topographic.cli.cells import Cell
from topographic.cli.map import CONTRASTS, MapCommand, load_model, map_model
from topographic.cli.train import carries_sheets, train_model
from topographic.maps import MapSummary, contrast_name
from topographic.storage import load_json, save_json
from topographic.training.folders import one_process_at_a_time

__all__ = ["CellMaps", "is_finished", "is_trained", "load_pairs", "load_summary", "maps_folder", "run_cell"]


@dataclass(frozen=True)
class CellMaps:
    """Which maps are made of every cell."""

    contrasts: list[str] = field(default_factory=lambda: ["language", "nouns_verbs"])
    """Which contrasts, as for topo map."""
    fwhm_mm: list[float] = field(default_factory=lambda: [0.0, 2.0])
    """Gaussian readouts before the contrasts, full widths at half maximum; 0 for none, 2 in the TopoLM paper."""
    n_draws: int = 200
    """Draws of each of the three nulls."""
    exchangeable: list[str] = field(default_factory=lambda: ["run"])
    """Labels are permuted only among items that agree in these: run, length, or a label column."""
    pooling: Literal["mean", "last", "sum"] = "mean"
    """How an item's tokens become one response."""
    batch_size: int = 32
    """Items per forward pass."""
    seed: int = 0
    """Seed of the nulls, equal in all cells."""
    nulls: bool = False
    """Keep the null maps too: 3 x n_draws maps per site, contrast and readout."""

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
        self.command("", 0.0)

    def command(self, run: str | Path, fwhm_mm: float) -> MapCommand:
        """The same as words of `topo map`.

        Parameters
        ----------
        run : str or Path
            Run folder.
        fwhm_mm : float
            One of the readouts.

        Returns
        -------
        MapCommand
            With all contrasts.
        """
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
            out=str(maps_folder(run, fwhm_mm)),
        )


def run_cell(cell: Cell, maps: CellMaps, pairs: str | None) -> None:
    """Train, map and measure one cell in this process.

    Parameters
    ----------
    cell : Cell
        The cell.
    maps : CellMaps
        Which maps.
    pairs : str or None
        Minimal pairs as for `topo evaluate`; None for none.
    """
    if "RANK" in os.environ:  # torchrun trains with several processes, one of them measures
        if not is_trained(cell):
            train_model(cell.recipe)
        if os.environ["RANK"] == "0":
            _measure(cell, maps, pairs)
        return
    # a second sweep in the same folder waits here, and then finds nothing left to do
    with one_process_at_a_time(cell.folder / ".lock"):
        if not is_trained(cell):
            train_model(cell.recipe)
        _measure(cell, maps, pairs)


def _measure(cell: Cell, maps: CellMaps, pairs: str | None) -> None:
    for fwhm_mm in maps.fwhm_mm:
        missing = missing_maps(cell, maps, fwhm_mm)
        if missing:
            _map(cell, maps, fwhm_mm, missing)
    if pairs is not None and load_pairs(cell, pairs) is None:
        _measure_pairs(cell, pairs, maps.batch_size)


def is_trained(cell: Cell) -> bool:
    """Whether a cell's training is finished.

    Parameters
    ----------
    cell : Cell
        The cell.

    Returns
    -------
    bool
        True if its ``run.json`` says so.
    """
    record = cell.folder / "run.json"
    return record.is_file() and load_json(record).get("status") == "finished"


def maps_folder(run: str | Path, fwhm_mm: float) -> Path:
    """Where the maps of one readout are kept.

    Parameters
    ----------
    run : str or Path
        Run folder.
    fwhm_mm : float
        Width of the readout.

    Returns
    -------
    Path
        ``maps`` without readout, as `topo map` and `topo report` have it; else ``maps/fwhm_<width>``.
    """
    folder = Path(run) / "maps"
    return folder / f"fwhm_{fwhm_mm:g}" if fwhm_mm else folder


def load_summary(cell: Cell, maps: CellMaps, contrast: str, fwhm_mm: float) -> MapSummary | None:
    """Numbers of one contrast, if they were measured as the sweep asks.

    Parameters
    ----------
    cell : Cell
        The cell.
    maps : CellMaps
        How maps are to be made.
    contrast : str
        Name in `CONTRASTS`.
    fwhm_mm : float
        One of the readouts.

    Returns
    -------
    MapSummary or None
        Without maps; None if it is not there or was made with other draws, seed or pooling.
    """
    _, condition, baseline = CONTRASTS[contrast]
    path = maps_folder(cell.folder, fwhm_mm) / contrast_name(condition, baseline) / "summary.json"
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
    same = all(made.get(key) == value for key, value in as_asked.items())
    return summary if same and made["recording"].get("pooling") == maps.pooling else None


def missing_maps(cell: Cell, maps: CellMaps, fwhm_mm: float) -> list[str]:
    """Contrasts that have still to be mapped.

    Parameters
    ----------
    cell : Cell
        The cell.
    maps : CellMaps
        Which maps.
    fwhm_mm : float
        One of the readouts.

    Returns
    -------
    list of str
        Names in `CONTRASTS`.
    """
    return [name for name in maps.contrasts if load_summary(cell, maps, name, fwhm_mm) is None]


def load_pairs(cell: Cell, pairs: str) -> dict[str, Any] | None:
    """Accuracy on minimal pairs, if it was measured.

    Parameters
    ----------
    cell : Cell
        The cell.
    pairs : str
        Which pairs.

    Returns
    -------
    dict or None
        What ``minimal_pairs.json`` holds; None if it is not there or is about other pairs.
    """
    path = pairs_file(cell)
    content = load_json(path) if path.is_file() else {}
    return content if content.get("pairs") == pairs else None


def pairs_file(cell: Cell) -> Path:
    """Where accuracies are kept.

    Parameters
    ----------
    cell : Cell
        The cell.

    Returns
    -------
    Path
        ``minimal_pairs.json`` in its folder.
    """
    return cell.folder / "minimal_pairs.json"


def is_finished(cell: Cell, maps: CellMaps, pairs: str | None) -> bool:
    """Whether nothing is left to do for a cell.

    Parameters
    ----------
    cell : Cell
        The cell.
    maps : CellMaps
        Which maps.
    pairs : str or None
        Which minimal pairs.

    Returns
    -------
    bool
        True if it is trained, mapped and measured.
    """
    mapped = is_trained(cell) and not any(missing_maps(cell, maps, fwhm_mm) for fwhm_mm in maps.fwhm_mm)
    return mapped and (pairs is None or load_pairs(cell, pairs) is not None)


def _map(cell: Cell, maps: CellMaps, fwhm_mm: float, contrasts: list[str]) -> None:
    command = dataclasses.replace(maps.command(cell.folder, fwhm_mm), contrasts=contrasts)
    spatial, smoothness = cell.recipe.spatial, cell.recipe.smoothness
    if not carries_sheets(cell.recipe.model):
        if spatial.sites is not None:
            command = dataclasses.replace(command, sites=spatial.sites, layout=spatial.layout)
        elif smoothness.sites is not None:
            command = dataclasses.replace(command, sites=smoothness.sites)
    map_model(command)


def _measure_pairs(cell: Cell, pairs: str, batch_size: int) -> None:
    from topographic.behaviour import minimal_pairs
    from topographic.stimuli import load_minimal_pairs

    model, tokenizer = load_model(cell.folder)
    shown = load_minimal_pairs(pairs)
    scores = minimal_pairs(model, tokenizer, shown, batch_size=batch_size)
    save_json(
        pairs_file(cell),
        {
            "pairs": pairs,
            "checksum": shown.checksum,
            "overall": scores.overall(),
            "phenomena": scores.by_phenomenon(),
        },
    )
