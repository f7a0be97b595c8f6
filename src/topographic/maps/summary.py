"""Everything measured on the maps of one contrast: what `topo map` writes and the report reads."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from tqdm.auto import tqdm

from topographic.maps.autocorrelation import Contiguity, MoransI, morans_i
from topographic.maps.contrasts import Conditions, contrast_name, effect_size_map, t_map
from topographic.maps.curves import DistanceCurve, correlation_by_distance, difference_by_distance
from topographic.maps.dimensionality import effective_dimensionality
from topographic.maps.references import (
    BesideNulls,
    NullReference,
    Referenced,
    against_nulls,
    mean_over_sheets,
    null_title,
)
from topographic.maps.smoothness import correlation_range, difference_rise
from topographic.maps.thresholds import control_fdr, select
from topographic.maps.unit_map import UnitMap
from topographic.recording.responses import Responses
from topographic.storage import load_json, save_json

__all__ = ["MapSummary", "SiteSummary", "summarize"]

_FDR = 0.05


@dataclass(frozen=True, eq=False)
class SiteSummary:
    """What was measured at one site.

    Parameters
    ----------
    site : str
        Name of the site.
    n_units : int
        Units of its sheet.
    morans_i : MoransI
        Autocorrelation of the t map.
    mean_abs_t : Referenced
        Mean absolute t: how well the contrast separates at all. Compare it with its label null.
    fraction_significant : float
        Share of units with q < .05, corrected over all sites together.
    max_abs_d : float
        Largest absolute Cohen's d.
    effective_dimensionality : float
        Of the recorded responses to all items, before any readout.
    correlation_range : float
        Smoothness as in TopoNets, from ``curve``.
    difference_rise : float
        Smoothness as in TDANN, from the t map.
    curve : DistanceCurve
        Correlation of the recorded responses by distance, before any readout.
    """

    site: str
    n_units: int
    morans_i: MoransI
    mean_abs_t: Referenced
    fraction_significant: float
    max_abs_d: float
    effective_dimensionality: float
    correlation_range: float
    difference_rise: float
    curve: DistanceCurve


@dataclass(frozen=True, eq=False)
class MapSummary:
    """One contrast over all sites of a model.

    Parameters
    ----------
    contrast : str
        Its name (`contrast_name`), also that of its folder.
    rows : tuple of SiteSummary
        One row per site, in the order they were given.
    morans_i : Referenced
        Mean of Moran's I over the sheets, against the mean of the same draw over the sheets.
    mean_abs_t : Referenced
        Mean over the sheets of the mean absolute t, likewise.
    provenance : mapping
        Conditions, numbers of items, readout, draws, seed, stimuli: what `t_map` remembers, and the
        contiguity of Moran's I. Where groups of items were sampled also ``sampled_by``, ``n_groups`` and
        ``smallest_p``, below which no p of the label null can be.
    maps : mapping of site to UnitMap
        The t maps with p, q and nulls. Kept in files of their own, not in the JSON.
    """

    contrast: str
    rows: tuple[SiteSummary, ...]
    morans_i: Referenced
    mean_abs_t: Referenced
    provenance: Mapping[str, Any]
    maps: Mapping[str, UnitMap] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All numbers, as JSON can hold them, NaN as None; neither maps nor single draws."""
        return {key: _plain(getattr(self, key)) for key in _JSON_FIELDS}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "MapSummary":
        """Inverse of `to_json`."""
        missing = sorted(set(_JSON_FIELDS) - set(content))
        if missing:
            raise ValueError(f"a map summary needs {list(_JSON_FIELDS)} and lacks {missing}; make the maps again")
        return cls(
            contrast=content["contrast"],
            rows=tuple(_site_summary(row) for row in content["rows"]),
            morans_i=_referenced(content["morans_i"]),
            mean_abs_t=_referenced(content["mean_abs_t"]),
            provenance=content["provenance"],
        )

    def save(self, folder: str | Path, *, nulls: bool = True) -> Path:
        """Write ``folder/<contrast>/<site>.safetensors`` for every map, then ``summary.json``; return that folder.

        Null maps are draws x units numbers for each null and site; with them anything else can be tested later.
        Characters that a file name cannot hold are percent-encoded.
        """
        folder = Path(folder) / quote(self.contrast, safe=" +")
        for site, unit_map in self.maps.items():
            kept = unit_map if nulls else dataclasses.replace(unit_map, nulls={})
            kept.save(folder / _file_name(site))
        save_json(folder / "summary.json", self.to_json())
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "MapSummary":
        """Read what `save` wrote."""
        summary = cls.from_json(load_json(Path(folder) / "summary.json"))
        files = {row.site: Path(folder) / _file_name(row.site) for row in summary.rows}
        maps = {site: UnitMap.load(file) for site, file in files.items() if file.is_file()}
        return dataclasses.replace(summary, maps=maps)


_JSON_FIELDS = ("contrast", "rows", "morans_i", "mean_abs_t", "provenance")


def summarize(
    responses: Mapping[str, Responses],
    condition: Conditions,
    baseline: Conditions,
    *,
    fwhm_mm: float = 0.0,
    n_draws: int = 200,
    exchangeable: Sequence[str] = ("run",),
    null: str | None = None,
    contiguity: Contiguity = "queen",
    seed: int = 0,
) -> MapSummary:
    """Map a contrast at every site and measure the maps, each number beside its nulls.

    Parameters
    ----------
    responses : mapping of site to Responses
        What `record` returns: several sites, one stimulus set.
    condition, baseline : str or sequence of str
        Names of the conditions to compare.
    fwhm_mm : float
        Full width at half maximum of the readout before the contrast; 0 for none.
    n_draws : int
        Draws of each null; 0 for none, and then nothing is tested.
    exchangeable : sequence of str
        Within which columns the label null permutes; see `t_map`.
    null : {"labels", "wild"}, optional
        Whether a wild null is drawn for the clusters; see `t_map`. The numbers here stand beside the other nulls.
    contiguity : {"queen", "rook"}
        Neighbours for Moran's I.
    seed : int
        Seed of the nulls.

    Returns
    -------
    MapSummary
        A row per site, the means over sheets with their test, and the maps.

    Raises
    ------
    ValueError
        If there are no sites, they saw different stimuli, or as `t_map` and `morans_i` say.
    """
    if not responses:
        raise ValueError("no sites to map; expected {site: Responses}: give at least one")
    shown = {one.stimuli.checksum for one in responses.values()}
    if len(shown) > 1:
        raise ValueError(
            f"the sites saw {len(shown)} different stimulus sets; expected one, so that one relabelling serves all "
            "sites: record them together"
        )
    options = {"fwhm_mm": fwhm_mm, "exchangeable": exchangeable, "null": null, "seed": seed}
    maps, rows = {}, []
    for site, one in tqdm(responses.items(), desc="maps", unit="site", disable=None):
        maps[site] = t_map(one, condition, baseline, n_draws=n_draws, **options)
        effects = effect_size_map(one, condition, baseline, **options)
        rows.append(_measure(one, maps[site], effects, contiguity))
    maps = control_fdr(maps)
    rows = [
        dataclasses.replace(row, fraction_significant=float(select(unit_map, q=_FDR, sign="both").mask.mean()))
        for row, unit_map in zip(rows, maps.values(), strict=True)
    ]
    first = next(iter(maps.values())).provenance
    given = {key: entry for key, entry in first.items() if key != "items"}  # those stay with the maps
    return MapSummary(
        contrast=contrast_name(condition, baseline),
        rows=tuple(rows),
        morans_i=mean_over_sheets([row.morans_i for row in rows]),
        mean_abs_t=mean_over_sheets([row.mean_abs_t for row in rows]),
        provenance={**given, "contiguity": contiguity, "n_sites": len(rows)},
        maps=maps,
    )


def _measure(responses: Responses, unit_map: UnitMap, effects: UnitMap, contiguity: Contiguity) -> SiteSummary:
    curve = correlation_by_distance(responses)
    # Moran's I of residuals with random signs is a little too low, since these span one dimension less
    unit_map = dataclasses.replace(unit_map, nulls={k: maps for k, maps in unit_map.nulls.items() if k != "wild"})
    return SiteSummary(
        site=responses.site,
        n_units=responses.sheet.n_units,
        morans_i=morans_i(unit_map, contiguity),
        mean_abs_t=against_nulls(unit_map, lambda maps: np.nanmean(np.abs(maps), axis=1)),
        fraction_significant=float("nan"),  # known when all sites are
        max_abs_d=float(np.nanmax(np.abs(effects.values))),
        effective_dimensionality=effective_dimensionality(responses),
        correlation_range=correlation_range(curve),
        difference_rise=difference_rise(difference_by_distance(unit_map)),
        curve=curve,
    )


def _file_name(site: str) -> str:
    return f"{quote(site, safe='')}.safetensors"


def _plain(value: Any) -> Any:
    """The value as JSON can hold it; the draws of a null stay out."""
    if dataclasses.is_dataclass(value):
        content = {key.name: getattr(value, key.name) for key in dataclasses.fields(value) if key.name != "draws"}
        if isinstance(value, BesideNulls):  # each null by a key of its own, and their order, which JSON does not keep
            content |= {_null_key(name): null for name, null in value.nulls.items()} | {"nulls": list(value.nulls)}
        return {key: _plain(entry) for key, entry in content.items()}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _null_key(name: str) -> str:
    return null_title(name).replace(" ", "_")


def _nulls(content: Mapping[str, Any]) -> dict[str, NullReference]:
    """The nulls of a number; files of before give no order, and hold null for those that were not drawn."""
    found = [key.removesuffix("_null") for key in content if key == "floor" or key.endswith("_null")]
    known = {name: content[_null_key(name)] for name in content.get("nulls", found)}
    return {name: _reference(one) for name, one in known.items() if one is not None}


def _reference(content: Mapping[str, Any]) -> NullReference:
    mean, sd, z, p = (_number(content[key]) for key in ("mean", "sd", "z", "p"))
    return NullReference(mean, sd, z, p, content["n_draws"])


def _referenced(content: Mapping[str, Any]) -> Referenced:
    return Referenced(_number(content["value"]), _nulls(content))


def _site_summary(content: Mapping[str, Any]) -> SiteSummary:
    index, curve = content["morans_i"], content["curve"]
    value, expected, z, p = (_number(index[key]) for key in ("value", "expected", "z_normal", "p_normal"))
    nested = {
        "morans_i": MoransI(value, expected, z, p, _nulls(index)),
        "mean_abs_t": _referenced(content["mean_abs_t"]),
        "curve": DistanceCurve(
            np.asarray(curve["edges_mm"], dtype=np.float64),
            np.asarray([_number(value) for value in curve["values"]], dtype=np.float64),
            np.asarray(curve["n_pairs"], dtype=np.int64),
        ),
    }
    plain = {key.name: content[key.name] for key in dataclasses.fields(SiteSummary) if key.name not in nested}
    return SiteSummary(**plain, **nested)
